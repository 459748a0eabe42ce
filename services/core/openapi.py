"""What an app says of itself (OpenAPI 3.1): problems as they are sent (RFC 9457), the client certificate, Idempotency-Key.

FastAPI derives the rest from the routes. It knows no route by name but /healthz, which every process has.
"""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

BYTES = {"type": "string", "contentMediaType": "application/octet-stream"}

PROBLEM = {
    "type": "object",
    "title": "Problem",
    "description": "RFC 9457. type: urn:ai-infra:error:NAME; retryable: the same call may succeed later; rules: which refused.",
    "required": ["type", "title", "status", "detail", "retryable"],
    "properties": {
        "type": {"type": "string", "pattern": "^urn:ai-infra:error:[A-Za-z]+$"},
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string"},
        "retryable": {"type": "boolean"},
        "rules": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["rule", "verdict", "reasons"],
                "properties": {
                    "rule": {"type": "string"},
                    "verdict": {"enum": ["remediate", "quarantine", "deny"]},
                    "reasons": {"type": "array", "items": {"type": "string"}},
                },
            },
        },
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["where", "what"],
                "properties": {"where": {"type": "string"}, "what": {"type": "string"}},
            },
        },
    },
}

MEANINGS = {
    400: "Malformed; repeating it cannot help",
    401: "No client certificate with one SPIFFE URI",
    403: "A rule or a check says no; nothing was changed",
    404: "No such thing",
    409: "It exists with other content, or changed in between",
    413: "Over a stated limit",
    429: "More than can be answered in time; retry",
    503: "Something did not answer; nothing was changed; retry",
}

RETRY_AFTER = {"description": "Seconds to wait.", "required": True, "schema": {"type": "integer", "minimum": 1}}

KEY_HEADER = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "A repetition gets the first answer; another request under the same key is a conflict.",
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


def problem_response(status: int) -> dict[str, Any]:
    """The documented answer with this status."""
    body = {"schema": {"$ref": "#/components/schemas/Problem"}}
    answer = {"description": MEANINGS[status], "content": {"application/problem+json": body}}
    return answer | ({"headers": {"Retry-After": RETRY_AFTER}} if status in (429, 503) else {})
