"""The coin of each request, and the counts of a rollout. Both can be recomputed from the seed and the prediction records."""

import hashlib
import hmac
from typing import Any

from services.serving.canary import Counts, Phase, latency_bin

OK, ERROR, TIMEOUT, UNAVAILABLE = "ok", "error", "timeout", "unavailable"
"""Outcomes of a prediction: answered below status 400; answered otherwise; not in time; no predictor took it."""
UNCOUNTED = ("mirror", "probe")
"""Arms that no coin chose: their records count for nothing but their own pairs."""


def coin(seed: str, request_id: str) -> float:
    """In [0, 1), uniform: HMAC-SHA256(seed, request id). Independent between requests, so no client keeps to one arm."""
    digest = hmac.digest(bytes.fromhex(seed), request_id.encode("ascii"), hashlib.sha256)
    return int.from_bytes(digest[:8], "big") / 2**64


class RolloutCounter:
    """Counts of one rollout. edges: microseconds; tolerance: canary latencies are divided by it; warm_up: answers of the canary
    until which nothing of either arm is counted."""

    def __init__(self, edges: list[float], tolerance: float, warm_up: int) -> None:
        self._edges, self._tolerance, self._warm_up = edges, tolerance, warm_up
        self._canary_seen = self._mirrors_seen = 0
        self._phases: dict[float, _Cells] = {}
        self._mirrored = [0, 0]
        self._mirrored_errors = [0, 0]

    def add(self, weight: float, canary: bool, outcome: str, latency_us: int) -> dict[str, Any]:
        """Counts a finished request of a weight that was set before it; what the record says of it: {"bin", "counted"}."""
        slot = self._bin(canary, outcome, latency_us)
        counted = self._canary_seen >= self._warm_up
        self._canary_seen += canary
        if counted:
            self._count(weight, canary, outcome, slot)
        return {"bin": slot, "counted": counted}

    def add_mirrored(self, stable: str, canary: str, agree: bool | None) -> None:
        """A mirrored request: both outcomes, and whether the answers have the same label; None if one has no label.

        The first ones, as many as the warm-up has answers, are not counted: a cold canary fails more.
        """
        self._mirrors_seen += 1
        if self._mirrors_seen <= self._warm_up:
            return
        if agree is not None:
            self._mirrored[0] += 1
            self._mirrored[1] += not agree
        if (stable == OK) != (canary == OK):
            self._mirrored_errors[stable != OK] += 1

    def restore(self, record: dict[str, Any]) -> None:
        """Counts a record of this rollout again, after a restart."""
        place = record["rollout"]
        if place["arm"] == "mirror":
            self.add_mirrored(place["stable"], record["outcome"], place["agree"])
        if place["arm"] in UNCOUNTED:
            return
        canary = place["arm"] == "canary"
        self._canary_seen += canary
        if place["counted"]:
            self._count(place["weight"], canary, record["outcome"], place["bin"])

    def counts(self) -> Counts:
        phases = tuple(cells.phase(weight) for weight, cells in sorted(self._phases.items()))
        mirrored, errors = self._mirrored, self._mirrored_errors
        return Counts(phases, (), (mirrored[0], mirrored[1]), (errors[0], errors[1]))

    def _bin(self, canary: bool, outcome: str, latency_us: int) -> int | None:
        """A failure that came fast says nothing of latency; one that ran into the limit is as slow as can be."""
        if not self._edges or outcome in (ERROR, UNAVAILABLE):
            return None
        if outcome == TIMEOUT:
            return len(self._edges)
        return latency_bin(self._edges, latency_us / self._tolerance if canary else latency_us)

    def _count(self, weight: float, canary: bool, outcome: str, slot: int | None) -> None:
        cells = self._phases.setdefault(weight, _Cells(len(self._edges) + 1))
        cells.requests[canary] += 1
        cells.errors[canary] += outcome != OK
        if slot is not None:
            cells.latency[slot][canary] += 1


class _Cells:
    """[stable, canary] everywhere: indexed by the arm."""

    def __init__(self, bins: int) -> None:
        self.requests, self.errors = [0, 0], [0, 0]
        self.latency = [[0, 0] for _ in range(bins)]

    def phase(self, weight: float) -> Phase:
        latency = tuple((canary, stable) for stable, canary in self.latency)
        return Phase(weight, sum(self.requests), self.requests[1], (self.errors[1], self.errors[0]), latency)
