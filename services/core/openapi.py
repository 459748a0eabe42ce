"""What an app says of itself (OpenAPI 3.1): problems as they are sent (RFC 9457), the client certificate, Idempotency-Key.

FastAPI derives the rest from the routes. It knows no route by name but /healthz, which every process has.
"""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from services.core.problems import MEANINGS, PROBLEM, problem_response

BYTES = {"type": "string", "contentMediaType": "application/octet-stream"}

KEY_HEADER = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "A repetition gets the first answer, for a week; it runs after an error. Another request is a conflict.",
    "schema": {"type": "string", "pattern": "^[!-~]{1,200}$"},
}


def content(*kinds: str) -> dict[int | str, dict[str, Any]]:
    """For a route's `responses`: it answers with bytes or text of these media types, not with JSON."""
    return {200: {"content": {kind: {"schema": BYTES if kind.startswith("application") else {"type": "string"}} for kind in kinds}}}


def describe(app: FastAPI, *, idempotent: bool) -> None:
    """Makes the app's OpenAPI document say what its middleware and error handlers do. idempotent: POST takes Idempotency-Key."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            found = get_openapi(title=app.title, version=app.version, routes=app.routes)
            app.openapi_schema = _mended(found, idempotent)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def _mended(found: dict[str, Any], idempotent: bool) -> dict[str, Any]:
    components = found.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    # FastAPI documents its own answer to malformed input, which no route of ours gives.
    schemas.pop("HTTPValidationError", None)
    schemas.pop("ValidationError", None)
    schemas["Problem"] = PROBLEM
    components["responses"] = {f"Problem{status}": problem_response(status) for status in MEANINGS}
    components["securitySchemes"] = {"certificate": {"type": "mutualTLS"}}
    found["security"] = [{"certificate": []}]
    for path, item in found["paths"].items():
        for method, operation in item.items():
            responses = operation["responses"]
            responses.pop("422", None)
            for status in _problems(path, method):
                responses.setdefault(str(status), {"$ref": f"#/components/responses/Problem{status}"})
            if idempotent and method == "post":
                operation.setdefault("parameters", []).append(KEY_HEADER)
    return found


def _problems(path: str, method: str) -> list[int]:
    """The problems that an operation may answer with. Every body is parsed and bounded, whether the route reads it or not."""
    found = [400, 413]
    if path != "/healthz":
        found += [401, 403, 503]
    if "{" in path or method == "post":
        found.append(404)
    if method in ("post", "put", "delete"):
        found.append(409)
    return sorted(found)
