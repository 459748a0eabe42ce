"""What the router says of itself (OpenAPI 3.1), at /openapi.json: written by hand, as aiohttp derives nothing from its routes."""

from typing import Any

from services.core.problems import PROBLEM, problem_response

NUMBERS = {"type": "array", "items": {"type": "number"}}
LABELS = {"type": ["array", "null"], "items": {"type": "string"}}
TENSOR = {
    "type": "object",
    "required": ["name", "datatype", "shape"],
    "properties": {
        "name": {"type": "string"},
        "datatype": {"type": "string"},
        "shape": {"type": "array", "items": {"type": "integer"}},
        "data": {},
    },
}
INFER = {"type": "object", "required": ["inputs"], "properties": {"inputs": {"type": "array", "items": TENSOR}}}
PROBES = {
    "type": "object",
    "required": ["probes", "rows"],
    "additionalProperties": False,
    "properties": {
        "probes": {"type": "array", "minItems": 1, "items": {"type": "string"}},
        "rows": {"type": "array", "minItems": 1, "items": NUMBERS},
    },
}


def document() -> dict[str, Any]:
    """The whole document."""
    v2 = "/env/{environment}/v2"
    found: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "ai-infra router", "version": "0.1.0"},
        "security": [{"certificate": []}],
        "paths": {
            "/healthz": {"get": _answers("Whether it answers, and how many records its predecessor lost", ["live", "lost"])},
            "/v1/predictions/{id}": {"get": _answers("A prediction's record, and the batch that it was sealed in", [], 404, 503)},
            "/v1/deployments/{id}/health": {"get": _answers("Its predictors; the API asks", ["ready", "refused", "replicas"], 403)},
            "/v1/deployments/{id}/reference": {"get": _answers("Latencies of stable; the API asks", ["latencies"], 403, 404, 503)},
            "/v1/rollouts/{id}/counts": {"get": _answers("Events by arm; the API asks", ["phases", "pairs"], 403, 404)},
            "/v1/rollouts/{id}/answers": {
                "post": _answers("Labels of both versions; the API asks", [], 400, 403, 404, 413, 429, 503)
                | {"requestBody": _body(PROBES)}
            },
            v2: {"get": _answers("Server metadata", ["name", "version", "extensions"])},
            f"{v2}/health/live": {"get": _answers("Open Inference Protocol", ["live"])},
            f"{v2}/health/ready": {"get": _answers("Open Inference Protocol", ["ready"])},
            f"{v2}/models": {"get": _answers("Models that serve in the environment", ["models"])},
            f"{v2}/models/{{model}}": {"get": _answers("Model metadata", ["name"], 403, 404, 503)},
            f"{v2}/models/{{model}}/ready": {"get": _answers("Whether a predictor is ready", ["name", "ready"], 403, 404, 503)},
            f"{v2}/models/{{model}}/infer": {
                "post": _of_predictors(_answers("Open Inference Protocol v2", ["outputs"], 400, 403, 404, 413, 429, 503))
                | {"requestBody": _body(INFER)}
            },
        },
        "components": {
            "schemas": {"Problem": PROBLEM},
            "securitySchemes": {"certificate": {"type": "mutualTLS"}},
        },
    }
    for path, item in found["paths"].items():
        names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
        item["parameters"] = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]
    return found


def _answers(summary: str, required: list[str], *problems: int) -> dict[str, Any]:
    schema = {"type": "object", "required": required}
    found = {"200": {"description": summary, "content": {"application/json": {"schema": schema}}}}
    return {"summary": summary, "responses": found | {str(status): problem_response(status) for status in problems}}


def _of_predictors(operation: dict[str, Any]) -> dict[str, Any]:
    """A predictor's own answer to a bad tensor is passed on, in the protocol's form."""
    error = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
    operation["responses"]["400"]["content"]["application/json"] = {"schema": error}
    detail = {"type": "object", "required": ["detail"], "properties": {"detail": {"type": "array"}}}
    content = {"application/json": {"schema": detail}}
    operation["responses"]["422"] = {"description": "Not the protocol's form; the predictor says where", "content": content}
    return operation


def _body(schema: dict[str, Any]) -> dict[str, Any]:
    return {"required": True, "content": {"application/json": {"schema": schema}}}
