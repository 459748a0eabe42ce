"""Routes that a signature waits for: one JSON body, the caller's identity, and a finished answer, without FastAPI's way to them.

FastAPI finds out anew for each call what the function of a route asks for, which takes as long as an append. What the app's
document says of these routes is derived from their signatures, as of all others.
"""

from collections.abc import Awaitable, Callable, Coroutine
from inspect import iscoroutinefunction
from typing import Any, get_type_hints

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.concurrency import run_in_threadpool

from services.core.canonical import parse
from services.core.errors import BadInput
from services.core.http import identity


class DirectRoute(APIRoute):
    """endpoint: a function of `body`, a model, and `actor`, an Actor, and nothing else, that answers a Response. It runs in a
    thread unless it is a coroutine."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        model: type[BaseModel] = get_type_hints(self.endpoint)["body"]
        called = self.endpoint if iscoroutinefunction(self.endpoint) else _threaded(self.endpoint)

        async def handle(request: Request) -> Response:
            actor = await identity(request)
            return await called(_decoded(model, request, await request.body()), actor)

        return handle


def _threaded(endpoint: Callable[..., Response]) -> Callable[..., Awaitable[Response]]:
    async def called(body: BaseModel, actor: str) -> Response:
        return await run_in_threadpool(endpoint, body, actor)

    return called


def _decoded(model: type[BaseModel], request: Request, body: bytes) -> BaseModel:
    # A page of somebody else can have a browser send any form or text with its owner's certificate, but no JSON.
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise BadInput("send JSON, with the content type application/json")
    value = parse(body)
    try:
        return model.model_validate(value)
    except ValidationError as error:
        found = [{**item, "loc": ("body", *item["loc"])} for item in error.errors(include_url=False)]
        raise RequestValidationError(found) from error
