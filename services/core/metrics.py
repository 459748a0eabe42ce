"""What a service tells Prometheus: requests by route, and values that are read when somebody looks.

Names follow Prometheus' conventions (base units, `_total` for counters). No label has a value that a caller chooses.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Receive, Scope, Send

from services.core.asgi import Noted
from services.core.errors import AiInfraError

PATH = "/metrics"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Of the text exposition format."""
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"})
BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

requests = Counter(
    "ai_infra_http_requests_total", "Answered requests; status 500 also where none was sent.", ["method", "route", "status"]
)
seconds = Histogram(
    "ai_infra_http_request_seconds", "Seconds until the last byte of an answer.", ["method", "route"], buckets=BOUNDS_S
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Gauge:
    """A value of now. read: called for each scrape; when it raises, the scrape goes on without this sample."""

    name: str
    text: str
    read: Callable[[], float | None]


class _Gauges(Collector):
    def __init__(self, gauges: Sequence[Gauge]) -> None:
        self._gauges = gauges

    def describe(self) -> list[Metric]:
        """Else the registry would read them all when it takes this collector."""
        return [GaugeMetricFamily(gauge.name, gauge.text) for gauge in self._gauges]

    def collect(self) -> Iterator[Metric]:
        for gauge in self._gauges:
            try:
                value = gauge.read()
            except AiInfraError as error:
                log.warning("%s cannot be read now: %s", gauge.name, error)
                continue
            if value is not None:
                yield GaugeMetricFamily(gauge.name, gauge.text, value)


def exposition(gauges: Sequence[Gauge]) -> Callable[[], bytes]:
    """Reads all counters of the process and these gauges, in the text format."""
    own = CollectorRegistry()
    own.register(_Gauges(gauges))
    return lambda: generate_latest(REGISTRY) + generate_latest(own)


class Measured:
    """Counts and times around an application. A route is its template, never a path; what matches none is `unmatched`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        noted, begun = Noted(send), time.perf_counter()
        try:
            await self._app(scope, receive, noted)
        finally:
            method = scope["method"] if scope["method"] in METHODS else "other"
            route = getattr(scope.get("route"), "path", "unmatched")
            requests.labels(method, route, str(noted.status)).inc()
            seconds.labels(method, route).observe(time.perf_counter() - begun)
