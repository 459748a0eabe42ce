"""The router's view of the desired state: routes, and a counter for each running rollout."""

import asyncio
from dataclasses import dataclass
from typing import Any

from services.core.errors import NotFound
from services.serving.errors import UnknownRollout
from services.serving.router.counts import RolloutCounter
from services.serving.router.fleet import Fleet
from services.serving.router.records import RecordLog


@dataclass(frozen=True)
class Split:
    """Traffic shared by a rollout. mirror: share of stable's requests that the canary answers too."""

    id: str
    canary: str
    weight: float
    seed: str
    mirror: float


@dataclass(frozen=True)
class Route:
    """state: serving or quarantined; reason: of the quarantine."""

    environment: str
    model: str
    state: str
    reason: str
    stable: str
    split: Split | None


class UnknownRoute(NotFound):
    """No such model is deployed in this environment."""


class State:
    """The last desired state that the API gave; it stays in force while the API is away."""

    def __init__(self, fleet: Fleet, records: RecordLog) -> None:
        self._fleet, self._records = fleet, records
        self._routes: dict[tuple[str, str], Route] = {}
        self._orders: dict[str, dict[str, Any]] = {}
        self._counters: dict[str, RolloutCounter] = {}

    async def apply(self, desired: dict[str, Any]) -> None:
        """Takes a new desired state into force, once a new rollout has its counter. One call at a time."""
        splits = [route["rollout"] for route in desired["routes"] if route["rollout"] is not None]
        for split in splits:
            if split["id"] not in self._counters:
                # In a thread: predictions are answered meanwhile, by the old state as a whole.
                self._counters[split["id"]] = await asyncio.to_thread(self._counter, split)
        # From here nothing waits: no request sees half of a state, and one that sees a split finds its counter.
        self._orders = {order["deployment"]: order for order in desired["deployments"]}
        self._routes = {(route["environment"], route["model"]): _route(route) for route in desired["routes"]}
        self._fleet.apply(desired["deployments"])

    def route(self, environment: str, model: str) -> Route:
        """Raises UnknownRoute."""
        found = self._routes.get((environment, model))
        if found is None:
            raise UnknownRoute(f"no model {model[:100]!r} serves in {environment[:100]!r}: `ai-infra deployments` shows what does")
        return found

    def routes(self, environment: str) -> list[Route]:
        return [route for route in self._routes.values() if route.environment == environment]

    def split_of(self, rollout: str) -> Route:
        """The route that a rollout splits. Raises UnknownRollout."""
        for route in self._routes.values():
            if route.split is not None and route.split.id == rollout:
                return route
        raise UnknownRollout(f"no rollout {rollout[:100]!r} splits traffic here")

    def order(self, deployment: str) -> dict[str, Any]:
        """The order of a deployment; empty when it has just been withdrawn."""
        return self._orders.get(deployment, {})

    def counter(self, rollout: str) -> RolloutCounter:
        """Raises UnknownRollout."""
        if rollout not in self._counters:
            raise UnknownRollout(f"no rollout {rollout[:100]!r} has begun here")
        return self._counters[rollout]

    def _counter(self, split: dict[str, Any]) -> RolloutCounter:
        """A new counter, which counts again what an earlier life of this router recorded."""
        counter = RolloutCounter(split["edges"], split["tolerance"], split["warmUp"])
        for record in self._records.of_rollout(split["id"]):
            counter.restore(record)
        return counter


def _route(value: dict[str, Any]) -> Route:
    split = value["rollout"]
    return Route(
        value["environment"], value["model"], value["state"], value["reason"], value["stable"],
        None if split is None else Split(split["id"], split["canary"], split["weight"], split["seed"], split["mirror"]),
    )
