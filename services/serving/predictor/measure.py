"""What a predictor counts of itself, for Prometheus: answered inference requests by outcome, and how long good answers took.

A rollout compares errors and latency by these counts: only requests that were split by chance are in them, and no golden probes.

Every process has a label of its own, so that its counters only rise: a restarted one is another series, never a reset.
"""

import time
from uuid import uuid4

from prometheus_client import Counter, Gauge, Histogram
from starlette.types import ASGIApp, Receive, Scope, Send

from services.core.asgi import Noted

OUTCOMES = "ai_infra_predictions_total"
SECONDS = "ai_infra_prediction_seconds"
BEHIND = "ai_infra_predictions_behind_seconds"
OK, ERROR = "ok", "error"
STEP = 1.25
"""Factor between two bounds: that of a rollout's default latency tolerance, by which bounds then move onto bounds."""
BOUNDS_US = tuple(1000 * STEP**power for power in range(42))
"""Upper bounds of the buckets in microseconds: 1 ms to 9.4 s."""

_outcomes = Counter(OUTCOMES, "Inference requests that were answered.", ["deployment", "process", "outcome"])
_seconds = Histogram(
    SECONDS, "Seconds until a good answer.", ["deployment", "process"], buckets=tuple(bound / 1e6 for bound in BOUNDS_US)
)

behind = Gauge(BEHIND, "Seconds since the API took no more prediction records; 0 while it does.")


class Measured:
    """Counts around an application. An answer with status 400 or more, or none at all, is an error. probers: see `Door`."""

    def __init__(self, app: ASGIApp, deployment: str, probers: frozenset[str]) -> None:
        process = uuid4().hex
        self._app, self._probers = app, probers
        self._outcomes = {outcome: _outcomes.labels(deployment, process, outcome) for outcome in (OK, ERROR)}
        self._seconds = _seconds.labels(deployment, process)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        counted = scope["type"] == "http" and scope["path"].endswith("/infer") and scope.get("spiffe_id") not in self._probers
        if not counted:
            await self._app(scope, receive, send)
            return
        noted, begun = Noted(send), time.perf_counter()
        try:
            await self._app(scope, receive, noted)
        finally:
            good = noted.status < 400
            self._outcomes[OK if good else ERROR].inc()
            if good:
                self._seconds.observe(time.perf_counter() - begun)
