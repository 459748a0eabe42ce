"""Which predictors take requests: health probes, ejection after consecutive failures, re-admission after good probes."""

import asyncio
import hashlib
import time
from collections import deque
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import urlsplit

import aiohttp

from services.serving.errors import Overloaded

EJECT_AFTER = 3
ADMIT_AFTER = 2
PROBE_S = 0.5
PROBE_TIMEOUT_S = 1.0
REFERENCE = 2000
REPLICA_WARM_UP = 20
"""First answers of a replica, whose latencies stand for nothing."""


@dataclass
class Backend:
    """One predictor. url: without a path; slot: its number among the replicas of its deployment; ejected: monotonic seconds of
    the moment from which it is not healthy."""

    replica: str
    deployment: str
    url: str
    slot: int
    healthy: bool = True
    failures: int = 0
    good_probes: int = 0
    answered: int = 0
    in_flight: int = 0
    ejected: float = 0.0

    @cached_property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or 0

    def failed(self) -> None:
        """A request or a probe got no answer."""
        self.failures += 1
        self.good_probes = 0
        if self.failures >= EJECT_AFTER and self.healthy:
            self.healthy, self.ejected = False, time.monotonic()

    def answered_request(self) -> None:
        self.failures = 0
        self.answered += 1

    def answered_probe(self) -> None:
        self.good_probes += 1
        if self.healthy or self.good_probes >= ADMIT_AFTER:
            self.healthy = True
            self.failures = 0


class Pool:
    """The backends of every deployment, and the latest latencies of each deployment.

    max_in_flight: requests that one predictor has at once; it answers one after the other, so more of them only wait longer.
    """

    def __init__(self, session: aiohttp.ClientSession, max_in_flight: int) -> None:
        self._session, self._max_in_flight = session, max_in_flight
        self._backends: dict[str, Backend] = {}
        self._latencies: dict[str, deque[tuple[float, int | None]]] = {}

    def add(self, backend: Backend) -> None:
        self._backends[backend.replica] = backend

    def remove(self, replica: str) -> None:
        self._backends.pop(replica, None)

    def healthy(self, deployment: str) -> list[Backend]:
        """In order of their slots."""
        found = [b for b in self._backends.values() if b.deployment == deployment and b.healthy]
        return sorted(found, key=lambda backend: backend.slot)

    def of(self, replica: str) -> Backend | None:
        return self._backends.get(replica)

    def choose(self, deployment: str, request_id: str, without: Backend | None = None) -> Backend | None:
        """By a coin of the request's id: independent between requests, which calibration relies on. without: tried already.

        Raises:
            Overloaded: each that could answer has as many requests as it may have.
        """
        healthy = [backend for backend in self.healthy(deployment) if backend is not without]
        found = [backend for backend in healthy if backend.in_flight < self._max_in_flight]
        if not found:
            if healthy:
                raise Overloaded(f"each predictor has {self._max_in_flight} requests already: try again in a moment, more slowly")
            return None
        return found[int.from_bytes(hashlib.sha256(request_id.encode("ascii")).digest()[:8], "big") % len(found)]

    def note(self, backend: Backend, latency_us: int) -> None:
        """Keeps the latency of an answer, and which of two replicas gave it."""
        if backend.answered <= REPLICA_WARM_UP:
            return
        peers = self.healthy(backend.deployment)
        replica = peers.index(backend) if len(peers) == 2 and backend in peers else None
        self._latencies.setdefault(backend.deployment, deque(maxlen=REFERENCE)).append((latency_us, replica))

    def latencies(self, deployment: str) -> list[tuple[float, int | None]]:
        """Microseconds, and the replica (0 or 1) where two shared the traffic; oldest first."""
        return list(self._latencies.get(deployment, ()))

    def forget(self, deployments: set[str]) -> None:
        """Drops the latencies of deployments that are no longer wanted."""
        for deployment in set(self._latencies) - deployments:
            del self._latencies[deployment]

    async def probe_forever(self) -> None:
        while True:
            await asyncio.sleep(PROBE_S)
            await asyncio.gather(*(self._probe(backend) for backend in list(self._backends.values())))

    async def _probe(self, backend: Backend) -> None:
        limit = aiohttp.ClientTimeout(total=PROBE_TIMEOUT_S)
        try:
            async with self._session.get(f"{backend.url}/v2/health/ready", timeout=limit) as response:
                good = response.status == 200
        except (aiohttp.ClientError, TimeoutError):
            good = False
        if good:
            backend.answered_probe()
        else:
            backend.failed()
