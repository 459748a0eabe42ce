"""The caller's side of HTTP between us: mTLS, and problem+json turned back into our errors. It imports no server."""

import json
import ssl
from typing import Any, NamedTuple

import httpx
import orjson
import urllib3

from services.core import errors, tracing
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


JSON = {"content-type": "application/json"}
KEPT = 40
"""Connections to one server that stay open: as many as threads that answer requests."""


class Answer(NamedTuple):
    """content: the body, JSON as a rule."""

    status: int
    content: bytes

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300


class Peer:
    """One server of ours, asked with JSON. context: of `tls.client_context`. Safe in threads.

    For what a signature waits for: httpx, with which everybody else is called, takes twice the processor time for a call.
    """

    def __init__(self, base_url: str, context: ssl.SSLContext, *, timeout_s: float) -> None:
        self._url, pools = base_url, urllib3.PoolManager(ssl_context=context)
        self._pool = pools.connection_from_url(base_url, {"timeout": timeout_s, "maxsize": KEPT})

    def ask(self, method: str, path: str, body: Any = None) -> Answer:
        """The answer, whatever it says. Raises Unavailable: no connection, or a timeout."""
        content = None if body is None else orjson.dumps(body)
        try:
            # One attempt: whoever calls knows whether the call may be repeated.
            got = self._pool.urlopen(method, path, content, JSON | tracing.headers(), retries=False, redirect=False)
        except urllib3.exceptions.HTTPError as error:
            raise errors.Unavailable(f"{self._url} did not answer: {type(error).__name__} {error}") from error
        return Answer(got.status, got.data)

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """The JSON of an answer. Raises as `call`."""
        answer = self.ask(method, path, body)
        if answer.is_success:
            return orjson.loads(answer.content)
        raise error_in(answer.status, answer.content, path)

    def close(self) -> None:
        self._pool.close()


def error_of(response: httpx.Response) -> errors.AiInfraError:
    """The error that a problem+json answer stands for."""
    return error_in(response.status_code, response.content, response.url.path)


def error_in(status: int, content: bytes, path: str) -> errors.AiInfraError:
    """As `error_of`."""
    try:
        body = json.loads(content)
        # Predictors answer as the Open Inference Protocol says: {"error": …}.
        detail, rules = str(body["detail"] if "detail" in body else body["error"]), body.get("rules", [])
    except (ValueError, KeyError, TypeError):
        detail, rules = f"HTTP {status} from {path}", []
    if status == 403:
        return errors.Refused(detail, rules)
    return BY_STATUS.get(status, errors.AiInfraError)(detail)
