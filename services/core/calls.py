"""The caller's side of HTTP between us: mTLS, and problem+json turned back into our errors. It imports no server."""

import json
from typing import Any

import httpx

from services.core import errors
from services.core.tls import Identity, client_context


def client(base_url: str, identity: Identity, *, timeout_s: float = 10.0) -> httpx.Client:
    """An HTTP client with mTLS; `call` turns its answers into values and errors."""
    return httpx.Client(base_url=base_url, verify=client_context(identity), timeout=timeout_s)


BY_STATUS: dict[int, type[errors.AiInfraError]] = {
    400: errors.BadInput,
    401: errors.Unauthenticated,
    404: errors.NotFound,
    409: errors.Conflict,
    413: errors.TooLarge,
    429: errors.Unavailable,
    502: errors.Unavailable,
    503: errors.Unavailable,
    504: errors.Unavailable,
}


def call(client: httpx.Client, method: str, path: str, **options: Any) -> Any:
    """The JSON of an answer.

    Raises:
        Unavailable: no connection, a timeout, or a retryable answer.
        Refused, BadInput, Conflict, NotFound…: what the problem+json says.
    """
    try:
        response = client.request(method, path, **options)
    except httpx.TransportError as error:
        raise errors.Unavailable(f"{client.base_url} did not answer: {type(error).__name__} {error}") from error
    if response.is_success:
        return response.json() if response.content else None
    raise error_of(response)


def error_of(response: httpx.Response) -> errors.AiInfraError:
    """The error that a problem+json answer stands for."""
    try:
        body = response.json()
        # Predictors answer as the Open Inference Protocol says: {"error": …}.
        detail, rules = str(body["detail"] if "detail" in body else body["error"]), body.get("rules", [])
    except (json.JSONDecodeError, KeyError, TypeError):
        detail, rules = f"HTTP {response.status_code} from {response.url.path}", []
    if response.status_code == 403:
        return errors.Refused(detail, rules)
    return BY_STATUS.get(response.status_code, errors.AiInfraError)(detail)
