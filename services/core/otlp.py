"""Traces through OpenTelemetry's SDK: sent in batches by a thread of its own, to a collector, as OTLP over HTTP.

A collector that is away or slow costs spans and no request anything: a queue of limited length holds them, and what is over it
is dropped. The SDK's own variables (OTEL_TRACES_SAMPLER, OTEL_BSP_…, OTEL_EXPORTER_OTLP_HEADERS…) hold too.

Spans of requests are our own: FastAPI's, and those of OpenTelemetry's instrumentation of ASGI, tell whole URLs with what callers
put into them, and the latter also clients' addresses.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.core.asgi import Noted
from services.core.metrics import METHODS, PATH
from services.core.objects import ObjectStore

UNTRACED = frozenset({PATH, "/healthz"})
"""Paths that are asked every few seconds, by machines."""
END_S = 2.0
"""How long an orderly end waits for the last spans to go."""
READ, WRITE = "object store read", "object store write"

_w3c = TraceContextTextMapPropagator()


def open_traces(service: str, env: str, collector: str) -> "OtlpTraces":
    """See tracing.start."""
    # Else each failed batch is four lines: three for what is tried again, and one for what is lost.
    logging.getLogger("opentelemetry.exporter").setLevel(logging.ERROR)
    told = {"service.namespace": "ai-infra", "service.name": service, "deployment.environment.name": env}
    # The end is ours (`close`): the SDK's own would wait for half a minute.
    provider = TracerProvider(resource=Resource.create(told), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{collector.rstrip('/')}/v1/traces")))
    return OtlpTraces(provider)


class OtlpTraces:
    """Implements tracing.Traces."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider, self._tracer = provider, provider.get_tracer("ai-infra")

    @contextmanager
    def step(self, name: str, attributes: Mapping[str, str]) -> Iterator[None]:
        if not get_current_span().get_span_context().is_valid:
            yield
            return
        told = {f"ai_infra.{key}": value for key, value in attributes.items()}
        # An exception's message may hold what somebody sent: its class is told, and no more.
        with self._tracer.start_as_current_span(
            name, attributes=told, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield
            except Exception as error:
                _failed(span, type(error).__name__)
                raise

    def trace_id(self) -> str:
        context = get_current_span().get_span_context()
        return f"{context.trace_id:032x}" if context.is_valid else ""

    def headers(self) -> dict[str, str]:
        carrier: dict[str, str] = {}
        _w3c.inject(carrier)
        return carrier

    def around(self, app: ASGIApp) -> ASGIApp:
        return _Traced(app, self._tracer, self.close)

    def store(self, store: ObjectStore) -> ObjectStore:
        return _TracedStore(store, self)

    def close(self) -> None:
        """Sends what is left, for END_S at most."""
        ending = threading.Thread(target=self._provider.shutdown, daemon=True)
        ending.start()
        ending.join(END_S)


class _Traced:
    """One span for each request: method, route template, status, and the request id that the caller was told.

    It follows the semantic conventions of OpenTelemetry for HTTP servers.
    """

    def __init__(self, app: ASGIApp, tracer: Tracer, close: Callable[[], None]) -> None:
        self._app, self._tracer, self._close = app, tracer, close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, self._closing(send))
        elif scope["type"] != "http" or scope["path"] in UNTRACED:
            await self._app(scope, receive, send)
        else:
            await self._request(scope, receive, send)

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        method, noted = scope["method"] if scope["method"] in METHODS else "_OTHER", Noted(send)
        with self._tracer.start_as_current_span(
            method, _caller(scope), SpanKind.SERVER, {"http.request.method": method},
            record_exception=False, set_status_on_exception=False,
        ) as span:  # fmt: skip
            try:
                await self._app(scope, receive, noted)
            finally:
                if route := getattr(scope.get("route"), "path", None):
                    span.update_name(f"{method} {route}")
                    span.set_attribute("http.route", route)
                span.set_attribute("http.response.status_code", noted.status)
                span.set_attribute("ai_infra.request_id", scope.get("state", {}).get("request_id", ""))
                if noted.status >= 500:
                    _failed(span, str(noted.status))

    def _closing(self, send: Send) -> Send:
        """Before the server hears that all is over: the signal that ended it kills the process then."""

        async def last(message: Message) -> None:
            if message["type"] == "lifespan.shutdown.complete":
                await asyncio.to_thread(self._close)
            await send(message)

        return last


class _TracedStore:
    """An ObjectStore whose reads and writes are steps."""

    def __init__(self, store: ObjectStore, traces: OtlpTraces) -> None:
        self._store, self._traces = store, traces

    def put(self, data: bytes) -> str:
        with self._traces.step(WRITE, {}):
            return self._store.put(data)

    def put_file(self, path: Path, expected: str | None = None) -> str:
        with self._traces.step(WRITE, {}):
            return self._store.put_file(path, expected)

    def get(self, digest: str) -> bytes:
        with self._traces.step(READ, {}):
            return self._store.get(digest)

    def open(self, digest: str) -> BinaryIO:
        with self._traces.step(READ, {}):
            return self._store.open(digest)

    def copy_to(self, digest: str, path: Path) -> None:
        with self._traces.step(READ, {}):
            self._store.copy_to(digest, path)

    def has(self, digest: str) -> bool:
        with self._traces.step(READ, {}):
            return self._store.has(digest)

    def size(self, digest: str) -> int:
        with self._traces.step(READ, {}):
            return self._store.size(digest)


def _caller(scope: Scope) -> Context:
    """The caller's place in its trace. Its tracestate is not taken over: whoever calls chooses what is in it."""
    found = next((value for name, value in scope["headers"] if name == b"traceparent"), b"")
    return _w3c.extract({"traceparent": found.decode("latin-1")}, Context())


def _failed(span: Span, kind: str) -> None:
    span.set_attribute("error.type", kind)
    span.set_status(Status(StatusCode.ERROR))
