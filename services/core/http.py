"""The HTTP side that every service shares: problem+json (RFC 9457), request ids, body limits, mTLS identity. It knows no route."""

import asyncio
import logging
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import uvicorn
from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.telemetry import TelemetryConfig
from pydantic.alias_generators import to_camel
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from services.core import errors, tracing
from services.core.canonical import parse
from services.core.ids import new_id
from services.core.metrics import CONTENT_TYPE, PATH, Gauge, Measured, exposition
from services.core.openapi import describe
from services.core.problems import status_of
from services.core.renewal import renew
from services.core.tls import Identity, server_context, spiffe_id

log = logging.getLogger(__name__)

MAX_BODY = 4 << 20
"""Bytes of a JSON body. Object uploads have a route of their own, which streams."""

NO_TELEMETRY: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}
"""Of FastAPI: once a library or a variable turned it on, it would tell whole URLs, and messages of exceptions. See `tracing`."""


def problem(status: int, kind: str, detail: str, **more: Any) -> JSONResponse:
    """RFC 9457 problem details. `retryable` is ours: the same call may succeed later."""
    body = {"type": f"urn:ai-infra:error:{kind}", "title": kind, "status": status, "detail": detail, **more}
    headers = {"Retry-After": "1"} if status in (429, 503) else {}
    return JSONResponse(body, status, headers, media_type="application/problem+json")


def create_app(
    title: str,
    *,
    version: str = "0.1.0",
    unlimited: tuple[str, ...] = (),
    idempotent: bool = False,
    gauges: Sequence[Gauge] = (),
    **options: Any,
) -> FastAPI:
    """An app whose every error is problem+json, and which tells its metrics to whoever has a certificate of ours.

    unlimited: path prefixes to which PUT streams a body that its route limits; idempotent: its middleware takes Idempotency-Key;
    options: FastAPI's own (lifespan…).
    """
    # No /docs, no /redoc: those pages load other people's script, which could then call us with the certificate of who opened them.
    app = FastAPI(title=title, version=version, telemetry=NO_TELEMETRY, docs_url=None, redoc_url=None, **options)
    describe(app, idempotent=idempotent)
    app.add_middleware(_Envelope, unlimited=unlimited)
    app.add_middleware(Measured)
    _tell_metrics(app, exposition(gauges))
    app.add_exception_handler(errors.AiInfraError, _known)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unknown)
    return app


async def identity(request: Request) -> str:
    """SPIFFE URI of the client's certificate: the actor of every event. Never a header."""
    found = request.scope.get("spiffe_id")
    if not isinstance(found, str):
        raise errors.Unauthenticated("no client certificate with one SPIFFE URI: call with the certificate of a person or service")
    return found


Actor = Annotated[str, Depends(identity)]


def told(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record as callers read it: its own names as in requests and statements (`artifactId`), names within its values as they are,
    since those of metrics and hyperparameters are other people's."""
    return {to_camel(name): value for name, value in record.items()}


def _tell_metrics(app: FastAPI, read: Callable[[], bytes]) -> None:
    @app.get(PATH, include_in_schema=False)
    def metrics(actor: Actor) -> Response:
        return Response(read(), media_type=CONTENT_TYPE)


async def service_identity(actor: Actor) -> str:
    """As identity, for routes that only services may call."""
    if "/service/" not in actor:
        raise errors.Refused(f"{actor} is no service: this call is between services")
    return actor


ServiceActor = Annotated[str, Depends(service_identity)]


async def serve(app: ASGIApp, *, host: str, port: int, identity: Identity, ready: Callable[[], None] | None = None) -> None:
    """Serves until SIGTERM or SIGINT, with mTLS. A certificate that is renewed meanwhile is used from then on, by clients too.

    ready: called once, when the port is bound.
    Raises:
        BadSetting: the port is taken.
    """
    # No proxy stands before us, and none could: the client's certificate would end there.
    config = uvicorn.Config(
        tracing.traced(app), http=TlsIdentityProtocol, log_level="warning", access_log=False, timeout_graceful_shutdown=1,
        ssl_certfile=identity.cert, ssl_keyfile=identity.key, proxy_headers=False, server_header=False,
    )  # fmt: skip
    config.load()
    config.ssl = server_context(identity)
    with bound(host, port) as listener:
        server = uvicorn.Server(config)
        serving = asyncio.ensure_future(server.serve([listener]))
        renewing = asyncio.ensure_future(renew(identity))
        try:
            while not server.started and not serving.done():
                await asyncio.sleep(0.01)
            if server.started and ready is not None:
                ready()
            await serving
        finally:
            renewing.cancel()


def bound(host: str, port: int) -> socket.socket:
    """A socket to listen on. port: 0 takes a free one. Raises BadSetting: it is taken."""
    # The protocol is named: asyncio turns Nagle's delay off (40 ms for each answer) only where a socket says that it is TCP.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise errors.BadSetting(f"port {port} on {host} is taken: stop what listens there or choose another one") from error
    return listener


class TlsIdentityProtocol(HttpToolsProtocol):
    """uvicorn's protocol, which also tells the app who the client is (the ASGI TLS extension is not implemented there)."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        secure = transport.get_extra_info("ssl_object")
        certificate = secure.getpeercert(binary_form=True) if secure else None
        found = spiffe_id(certificate) if certificate else None
        inner = self.app

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            scope["spiffe_id"] = found
            await inner(scope, receive, send)

        self.app = app


class _Envelope:
    """Request id on every answer; a body over the limit is refused before it is read to its end."""

    def __init__(self, app: ASGIApp, unlimited: tuple[str, ...]) -> None:
        self._app, self._unlimited = app, unlimited

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = scope.setdefault("state", {})["request_id"] = new_id("req")

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                message.setdefault("headers", []).append((b"x-request-id", request_id.encode()))
            await send(message)

        streamed = scope["method"] == "PUT" and scope["path"].startswith(self._unlimited)
        if not streamed:
            try:
                receive = await _whole(receive)
                _strict(scope, receive.body)
            except errors.AiInfraError as error:
                await _response(error)(scope, receive, answer)
                return
        await self._app(scope, receive, answer)


class _Body:
    """A body read already, given to the app as one message."""

    def __init__(self, body: bytes, then: Receive) -> None:
        self.body, self._then, self._given = body, then, False

    async def __call__(self) -> Message:
        if self._given:
            return await self._then()
        self._given = True
        return {"type": "http.request", "body": self.body, "more_body": False}


async def _whole(receive: Receive) -> _Body:
    chunks, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            break
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        if size > MAX_BODY:
            raise errors.TooLarge(f"the body is over {MAX_BODY} bytes")
        if not message.get("more_body"):
            break
    return _Body(b"".join(chunks), receive)


def _strict(scope: Scope, body: bytes) -> None:
    kind = next((value for name, value in scope["headers"] if name == b"content-type"), b"application/json")
    if body and b"json" in kind.lower():
        parse(body)


def _response(error: errors.AiInfraError) -> JSONResponse:
    more: dict[str, Any] = {"retryable": error.retryable}
    if isinstance(error, errors.Refused):
        more["rules"] = error.rules
    status = status_of(error)
    if status == 500:
        log.error("unlisted error", exc_info=error)
    return problem(status, type(error).__name__, str(error), **more)


async def _known(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, errors.AiInfraError)
    return _response(error)


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    found = [{"where": ".".join(str(part) for part in item["loc"]), "what": item["msg"]} for item in error.errors()]
    detail = "; ".join(f"{item['where']}: {item['what']}" for item in found[:5])
    return problem(400, "BadInput", detail, errors=found, retryable=False)


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return problem(error.status_code, "Http", str(error.detail), retryable=False)


async def _unknown(request: Request, error: Exception) -> JSONResponse:
    # With %r: a path may hold control characters, which steer the terminal that shows the log.
    request_id = request.state.request_id
    log.error("unexpected error in %s %r, request %s", request.method, request.url.path, request_id, exc_info=error)
    answer = problem(500, "Internal", "an unexpected error; the service's log names it by the request id", retryable=False)
    # This answer is made outside of the envelope.
    answer.headers["x-request-id"] = request_id
    return answer
