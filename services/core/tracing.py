"""Traces: how long a request took, and each named step of it, across our processes. OpenTelemetry itself is in `otlp`.

Off unless OTEL_EXPORTER_OTLP_ENDPOINT names a collector: then no SDK is imported, and each call here is one comparison.
Names of steps and their attributes are written in our code: no caller chooses one, and nothing signed, secret or personal is
in a span.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from starlette.types import ASGIApp

from services.core.errors import BadSetting
from services.core.objects import ObjectStore


class Traces(Protocol):
    """Traces that go somewhere. None of its methods waits for the collector."""

    def step(self, name: str, attributes: Mapping[str, str]) -> AbstractContextManager[None]: ...

    def trace_id(self) -> str: ...

    def headers(self) -> dict[str, str]: ...

    def around(self, app: ASGIApp) -> ASGIApp: ...

    def store(self, store: ObjectStore) -> ObjectStore: ...


_traces: Traces | None = None
_UNTIMED = nullcontext()


def start(service: str, env: str, collector: str) -> None:
    """Traces from here on, unless no collector is named. Once in a process, before its app is built.

    collector: base URL of OTLP over HTTP.
    Raises:
        BadSetting: the packages are not installed.
    """
    global _traces
    if not collector:
        return
    try:
        from services.core import otlp
    except ImportError as error:
        raise BadSetting(
            f"OTEL_EXPORTER_OTLP_ENDPOINT={collector} asks for traces, and {error.name} is not installed: "
            "install ai-infra[traces], or take the variable away"
        ) from error
    _traces = otlp.open_traces(service, env, collector)


def step(name: str, **attributes: str) -> AbstractContextManager[None]:
    """Times a step of the request that this thread answers; outside a request it is not told, for loops would drown it.

    attributes: told as `ai_infra.NAME`.
    """
    return _UNTIMED if _traces is None else _traces.step(name, attributes)


def trace_id() -> str:
    """32 hex digits; empty outside a trace."""
    return "" if _traces is None else _traces.trace_id()


def headers() -> dict[str, str]:
    """What carries the trace to another process of ours (W3C Trace Context)."""
    return {} if _traces is None else _traces.headers()


def traced(app: ASGIApp) -> ASGIApp:
    """The app, with a span for each request. Outermost, so that errors which nobody expected are within it too."""
    return app if _traces is None else _traces.around(app)


def traced_store(store: ObjectStore) -> ObjectStore:
    """The store, with a step for each read and write."""
    return store if _traces is None else _traces.store(store)
