"""A collector for tests: it takes OTLP over HTTP as OpenTelemetry's own protocol buffers define it, and keeps what it was told."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse
from opentelemetry.proto.trace.v1.trace_pb2 import Status

PROTOBUF = "application/x-protobuf"


@dataclass(frozen=True)
class Span:
    """trace, id, parent: hex; parent is empty for a root. failed: its status is an error."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    attributes: dict[str, str | int]
    failed: bool


@dataclass
class Collector:
    """url: its base; raw: the bodies as they came. stalled: it takes requests and answers none until the event is set."""

    url: str
    answers: threading.Event
    spans: list[Span] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)

    def take(self, body: bytes) -> None:
        self.raw.append(body)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            service = next(item.value.string_value for item in resource.resource.attributes if item.key == "service.name")
            for scope in resource.scope_spans:
                for span in scope.spans:
                    told = {a.key: a.value.string_value if a.value.HasField("string_value") else a.value.int_value
                            for a in span.attributes}  # fmt: skip
                    self.spans.append(
                        Span(
                            service, span.name, span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex(), told,
                            span.status.code == Status.STATUS_CODE_ERROR,
                        )
                    )  # fmt: skip

    def trace(self, trace: str) -> list[Span]:
        return [span for span in self.spans if span.trace == trace]


@contextmanager
def collector() -> Iterator[Collector]:
    """One that listens, and answers until its event is cleared."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            assert (self.path, self.headers["content-type"]) == ("/v1/traces", PROTOBUF)
            made.answers.wait()
            made.take(body)
            self.send_response(200)
            self.send_header("content-type", PROTOBUF)
            self.end_headers()
            self.wfile.write(ExportTraceServiceResponse().SerializeToString())

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        made = Collector(f"http://127.0.0.1:{server.server_port}", threading.Event())
        made.answers.set()
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield made
        finally:
            made.answers.set()
            server.shutdown()
            thread.join()
