"""Keeps as many predictors running as the desired state says: starts, restarts with growing pauses, stops. It verifies nothing."""

import logging
import time
from dataclasses import dataclass
from typing import Any

from services.core.ids import new_id
from services.serving.router.launcher import Launcher
from services.serving.router.pool import Backend, Pool

STARTING, READY, REFUSED, WAITING = "starting", "ready", "refused", "waiting"
HUNG_S = 10.0
PAUSES_S = (0.2, 0.5, 1.0, 2.0, 5.0)

log = logging.getLogger(__name__)


@dataclass
class Replica:
    """retry_at: monotonic seconds; failures: starts that failed since it was last ready."""

    id: str
    deployment: str
    slot: int
    state: str = STARTING
    pid: int = 0
    message: str = ""
    failures: int = 0
    retry_at: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return {"replica": self.id, "slot": self.slot, "state": self.state, "pid": self.pid, "message": self.message}


class Fleet:
    """Replicas by (deployment, slot)."""

    def __init__(self, launcher: Launcher, pool: Pool, scheme: str = "https") -> None:
        self._launcher, self._pool, self._scheme = launcher, pool, scheme
        self._orders: dict[str, dict[str, Any]] = {}
        self._replicas: dict[tuple[str, int], Replica] = {}

    def apply(self, orders: list[dict[str, Any]]) -> None:
        """Brings about the desired deployments; a deployment's order never changes but in its replicas."""
        self._orders = {order["deployment"]: order for order in orders}
        wanted = {(order["deployment"], slot) for order in orders for slot in range(order["replicas"])}
        for key in set(self._replicas) - wanted:
            self._stop(key)
        for key in sorted(wanted - set(self._replicas)):
            self._replicas[key] = Replica("", *key)
            self._start(self._replicas[key])
        self._pool.forget(set(self._orders))

    def tick(self) -> None:
        """Starts again what waits long enough."""
        now = time.monotonic()
        for replica in self._replicas.values():
            if replica.state == WAITING and now >= replica.retry_at:
                self._start(replica)
            elif replica.state == READY:
                self._end_hung(replica, now)

    def _end_hung(self, replica: Replica, now: float) -> None:
        """A process that lives and answers nothing for long is replaced; the fork server ends it by force if it must."""
        backend = self._pool.of(replica.id)
        if backend is not None and not backend.healthy and now - backend.ejected >= HUNG_S:
            self._launcher.stop(replica.id)
            self._lost(replica, f"answered no health probe for {HUNG_S:g} s and was ended")

    def on_event(self, event: dict[str, Any]) -> None:
        """What the launcher tells."""
        kind = event["event"]
        if kind == "gone":
            for replica in self._replicas.values():
                self._lost(replica, "the fork server ended")
            return
        found = next((replica for replica in self._replicas.values() if replica.id == event.get("replica")), None)
        if found is None:
            return
        if kind == "ready":
            self._ready(found, event)
        elif kind == "refused":
            self._refused(found, event)
        elif kind == "exited" and found.state != REFUSED:
            self._lost(found, f"exited with status {event['status']}")

    def of(self, deployment: str) -> list[Replica]:
        return [replica for (name, _), replica in sorted(self._replicas.items()) if name == deployment]

    def refusal(self, deployment: str) -> str:
        """Why no replica of the deployment will ever load; empty while one may."""
        replicas = self.of(deployment)
        refused = [replica for replica in replicas if replica.state == REFUSED]
        return refused[0].message if refused and len(refused) == len(replicas) else ""

    def _start(self, replica: Replica) -> None:
        # A new id each time: events of an earlier process of this slot are then nobody's.
        replica.id, replica.state, replica.pid = new_id("rep"), STARTING, 0
        order = {key: value for key, value in self._orders[replica.deployment].items() if key != "replicas"}
        self._launcher.start(replica.id, order)

    def _stop(self, key: tuple[str, int]) -> None:
        replica = self._replicas.pop(key)
        self._pool.remove(replica.id)
        self._launcher.stop(replica.id)

    def _ready(self, replica: Replica, event: dict[str, Any]) -> None:
        replica.state, replica.pid, replica.message, replica.failures = READY, event["pid"], "", 0
        url = f"{self._scheme}://127.0.0.1:{event['port']}"
        self._pool.add(Backend(replica.id, replica.deployment, url, replica.slot))

    def _refused(self, replica: Replica, event: dict[str, Any]) -> None:
        log.warning("deployment %s: %s", replica.deployment, event["message"])
        replica.message = event["message"]
        if event["retryable"]:
            self._pause(replica)
        else:
            replica.state = REFUSED

    def _lost(self, replica: Replica, how: str) -> None:
        self._pool.remove(replica.id)
        if replica.state in (STARTING, READY):
            log.warning("deployment %s: predictor %s %s", replica.deployment, replica.pid or "", how)
            replica.message = how
            self._pause(replica)

    def _pause(self, replica: Replica) -> None:
        pause = PAUSES_S[min(replica.failures, len(PAUSES_S) - 1)]
        replica.failures += 1
        replica.state, replica.pid, replica.retry_at = WAITING, 0, time.monotonic() + pause
