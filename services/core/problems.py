"""Problems over HTTP (RFC 9457): which status an error has, and how an OpenAPI document describes the answer.

Apart from `http` and `openapi`, so that the router, which is no FastAPI app, need not load FastAPI for it.
"""

from typing import Any

from services.core import errors

STATUS: dict[type[errors.AiInfraError], int] = {
    errors.TooLarge: 413,
    errors.BadInput: 400,
    errors.Unauthenticated: 401,
    errors.Refused: 403,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.Unavailable: 503,
}

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


def status_of(error: errors.AiInfraError) -> int:
    """The status of the nearest base class; 500 for one that is not listed."""
    return next((STATUS[base] for base in type(error).__mro__ if base in STATUS), 500)


def problem_response(status: int) -> dict[str, Any]:
    """The documented answer with this status."""
    body = {"schema": {"$ref": "#/components/schemas/Problem"}}
    answer = {"description": MEANINGS[status], "content": {"application/problem+json": body}}
    return answer | ({"headers": {"Retry-After": RETRY_AFTER}} if status in (429, 503) else {})
