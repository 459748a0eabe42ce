"""Counts of a rollout and latencies of a deployment, from what predictors tell Prometheus; see `predictor.measure`.

The gateway's split is a coin too, but one that nobody can recompute. A request counts for the weight in whose time it was scraped:
what ran while a new weight was still on its way through controller and gateway (`settle`) counts for neither side. Prometheus
scrapes pods at different moments; each pod's window is as long as the others', so the expected shares are the weights.
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import httpx

from services.core.errors import Unavailable
from services.serving.canary import Counts, Phase, latency_bin
from services.serving.domain import Reference
from services.serving.inference import Split
from services.serving.predictor.measure import BOUNDS_US, ERROR, OUTCOMES, SECONDS, STEP

BEFORE_S = 600
"""Seconds before a window in which a process must have been scraped to be known: far longer than any interval of scraping."""
REFERENCE_S, REFERENCE_MAX = 3600, 2000
SLACK = 1 - 1e-9
"""Bounds divided by a tolerance meet bounds, but for rounding."""

Buckets = Counter[int]
"""Good answers by bucket: an index into BOUNDS_US, or one more than the last for what took longer."""


@dataclass(frozen=True, kw_only=True)
class Arms:
    """edges, tolerance: of the rollout's rule, as the router gets them."""

    stable: str
    canary: str
    edges: tuple[float, ...]
    tolerance: float


@dataclass(frozen=True)
class _Tally:
    """Of one deployment up to a moment."""

    outcomes: Mapping[str, int]
    latency: Buckets

    def since(self, earlier: "_Tally") -> "_Tally":
        outcomes = {name: count - earlier.outcomes.get(name, 0) for name, count in self.outcomes.items()}
        return _Tally(outcomes, self.latency - earlier.latency)

    @property
    def requests(self) -> int:
        return sum(self.outcomes.values())

    @property
    def errors(self) -> int:
        return self.outcomes.get(ERROR, 0)


class Metrics:
    """Asks Prometheus. settle_s: seconds until a new weight is in force and its first requests were scraped."""

    def __init__(self, client: httpx.Client, settle_s: float) -> None:
        self._client, self._settle_s = client, settle_s

    def counts(self, split: Split, arms: Arms, now: int) -> Counts:
        """now: epoch milliseconds. Raises Unavailable."""
        ends = [since for _, since in split.phases[1:]] + [now]
        phases = []
        for (weight, since), end in zip(split.phases, ends, strict=True):
            start_s, end_s = since / 1000 + self._settle_s, end / 1000
            if start_s < end_s:
                first_s = split.phases[0][1] / 1000 - BEFORE_S
                canary, stable = (self._between(name, first_s, start_s, end_s) for name in (arms.canary, arms.stable))
                phases.append(_phase(weight, canary, stable, arms))
        return Counts(tuple(phases))

    def reference(self, deployment: str, now: int) -> Reference:
        """The last hour's good answers, as many as 2,000, each as slow as its bucket's bound. In no order: how slow spells cluster
        cannot be told from it, so `replicas` stays empty. Raises Unavailable."""
        end_s = now / 1000
        seen = self._between(deployment, end_s - REFERENCE_S - BEFORE_S, end_s - REFERENCE_S, end_s).latency
        share = min(1.0, REFERENCE_MAX / max(1, seen.total()))
        return Reference(latencies=tuple(_bound(slot) for slot in sorted(seen) for _ in range(round(seen[slot] * share))))

    def _between(self, deployment: str, first_s: float, start_s: float, end_s: float) -> _Tally:
        return self._until(deployment, first_s, end_s).since(self._until(deployment, first_s, start_s))

    def _until(self, deployment: str, first_s: float, end_s: float) -> _Tally:
        found = self._ask(outcomes_query(deployment, end_s - first_s), end_s)
        outcomes = {labels["outcome"]: int(value) for labels, value in found}
        buckets = self._ask(buckets_query(deployment, end_s - first_s), end_s)
        cumulative = sorted((float(labels["le"]), int(value)) for labels, value in buckets)
        latency: Buckets = Counter()
        below = 0
        for slot, (_, count) in enumerate(cumulative):
            latency[slot], below = count - below, count
        return _Tally(outcomes, latency)

    def _ask(self, query: str, at_s: float) -> list[tuple[dict[str, str], float]]:
        """(labels, value) of an instant query's vector."""
        try:
            response = self._client.get("/api/v1/query", params={"query": query, "time": f"{at_s:.3f}"})
            body = response.json()
        except (httpx.TransportError, json.JSONDecodeError) as error:
            raise Unavailable(f"Prometheus at {self._client.base_url} did not answer: {type(error).__name__} {error}") from error
        if body.get("status") != "success":
            raise Unavailable(f"Prometheus refuses a query: {body.get('error', f'HTTP {response.status_code}')}")
        return [(item["metric"], float(item["value"][1])) for item in body["data"]["result"]]


def outcomes_query(deployment: str, seconds: float) -> str:
    """Answered requests by outcome. The maximum over a series is its last value, also of a process that is gone."""
    return f'sum by (outcome) (max_over_time({OUTCOMES}{{deployment="{deployment}"}}[{seconds:.0f}s]))'


def buckets_query(deployment: str, seconds: float) -> str:
    """Good answers by upper bound, each with all below it."""
    return f'sum by (le) (max_over_time({SECONDS}_bucket{{deployment="{deployment}"}}[{seconds:.0f}s]))'


def _phase(weight: float, canary: _Tally, stable: _Tally, arms: Arms) -> Phase:
    cells = [[0, 0] for _ in range(len(arms.edges) + 1)]
    for arm, (tally, tolerance) in enumerate(((canary, arms.tolerance), (stable, 1.0))):
        for slot, count in tally.latency.items():
            cells[latency_bin(arms.edges, _bound(slot) / tolerance * SLACK)][arm] += count
    latency = tuple((cell[0], cell[1]) for cell in cells) if arms.edges else ()
    return Phase(weight, canary.requests + stable.requests, canary.requests, (canary.errors, stable.errors), latency)


def _bound(slot: int) -> float:
    return BOUNDS_US[slot] if slot < len(BOUNDS_US) else BOUNDS_US[-1] * STEP
