"""How the router answers errors: problem+json (RFC 9457) with the `error` member that Open Inference Protocol clients read."""

import json

from aiohttp import web

from services.core.errors import AiInfraError
from services.core.http import status_of

RETRY_AFTER_S = 1


def problem(error: AiInfraError, headers: dict[str, str], kind: str | None = None) -> web.Response:
    """The answer to an error of ours."""
    status, name = status_of(error), kind or type(error).__name__
    body = {
        "type": f"urn:ai-infra:error:{name}",
        "title": name,
        "status": status,
        "detail": str(error),
        "retryable": error.retryable,
        "error": str(error),
    }
    if status == 503:
        headers = headers | {"Retry-After": str(RETRY_AFTER_S)}
    return web.Response(
        body=json.dumps(body).encode("utf-8"), status=status, headers=headers, content_type="application/problem+json"
    )
