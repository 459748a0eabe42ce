"""How the router answers errors: problem+json (RFC 9457) with the `error` member that Open Inference Protocol clients read."""

import json
import logging
from collections.abc import Awaitable, Callable

from aiohttp import web

from services.core.errors import AiInfraError
from services.core.problems import status_of
from services.serving.errors import Overloaded

RETRY_AFTER_S = 1
PROBLEM = "application/problem+json"

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@web.middleware
async def as_problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """What aiohttp refuses by itself (no such path, method, a body that is too large), and a fault of ours, in our own form."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        return _plain(error.status, "Http", error.reason)
    except Exception:
        log.exception("unexpected error in %s %r", request.method, request.path)
        return _plain(500, "Internal", "an unexpected error; the service's log has it")


def _plain(status: int, title: str, detail: str) -> web.Response:
    body = {"type": f"urn:ai-infra:error:{title}", "title": title, "status": status, "detail": detail, "retryable": False}
    return web.Response(body=json.dumps(body | {"error": detail}).encode(), status=status, content_type=PROBLEM)


def problem(error: AiInfraError, headers: dict[str, str], kind: str | None = None) -> web.Response:
    """The answer to an error of ours."""
    status, name = 429 if isinstance(error, Overloaded) else status_of(error), kind or type(error).__name__
    body = {
        "type": f"urn:ai-infra:error:{name}",
        "title": name,
        "status": status,
        "detail": str(error),
        "retryable": error.retryable,
        "error": str(error),
    }
    if status in (429, 503):
        headers = headers | {"Retry-After": str(RETRY_AFTER_S)}
    return web.Response(
        body=json.dumps(body).encode("utf-8"), status=status, headers=headers, content_type=PROBLEM
    )
