"""Brings serving's desired state about in a Kubernetes cluster: one InferenceService a route, what the gateway needs to reach its
predictors, and the list of what may be served.

Each look compares all that is wanted with all that is there, so a look that broke off anywhere is finished by the next one, in this
process or another. It decides nothing: weights, promotion, rollback and quarantine are in the desired state already.
"""

import logging
from collections.abc import Iterable
from typing import Any

from services.core.clock import Clock
from services.core.errors import AiInfraError, Unavailable
from services.core.kube import FieldConflict, Kube, Object, Resource
from services.core.kubewatch import Key, Mirror, key_of
from services.serving.gateway import POLICIES, SERVICE, backend_policies
from services.serving.inference import CONFIG_MAPS, SERVICES, Place, Predictor, Split, allowed, inference_service
from services.serving.predictor.order import Order

MANAGER = "ai-infra-serving"
"""Our name as a field manager."""

log = logging.getLogger(__name__)


class Cluster:
    """environment: the one that this cluster serves; services, lists, policies: what is in its namespace of ours. One of it at a
    time writes; two for a moment agree, as both do the same."""

    def __init__(
        self, kube: Kube, place: Place, environment: str, clock: Clock, services: Mirror, lists: Mirror, policies: Mirror
    ) -> None:
        self._kube, self._place, self._environment, self._clock = kube, place, environment, clock
        self._services, self._lists, self._policies = services, lists, policies
        self._applied: dict[tuple[str, Key], Object] = {}
        """What this process applied last, by (plural, key)."""

    def follow(self, desired: dict[str, Any]) -> None:
        """One look at everything.

        Raises:
            Unavailable: the cluster did not answer, or refused some of it; the rest is done, and the next look tries again.
        """
        services, lists, policies = self._services.objects(), self._lists.objects(), self._policies.objects()
        orders = {item["deployment"]: _predictor(item) for item in desired["deployments"]}
        routes = [route for route in desired["routes"] if route["environment"] == self._environment]
        wanted = {key_of(item): item for item in self._wanted(routes, orders, services)}
        troubles = [
            f"{route['model']} is for {route['environment']}, and this cluster serves {self._environment}: undeploy it here"
            for route in desired["routes"]
            if route not in routes
        ]
        # 1. What may be served. What was withdrawn is off the list before anything else: a crash from here on leaves it running,
        #    but nobody can start it, not even we. Admission lets a service be that does not change.
        if wanted or services or lists:
            served = [found.order for found in orders.values() if found.order.environment == self._environment]
            self._put(CONFIG_MAPS, allowed(self._place.of(self._environment), served), lists, troubles)
        # 2. What is served. A crash in between leaves some routes at their new weights and some at their old ones, and none that
        #    leads to where the gateway would speak plain HTTP.
        for item in wanted.values():
            if self._reachable(item, policies, troubles):
                self._put(SERVICES, item, services, troubles)
        # 3. What is no longer served, or is under quarantine. By uid: what somebody made anew under the name is looked at first.
        for key in services.keys() - wanted.keys():
            self._remove(SERVICES, key, services[key], troubles)
        # 4. What the gateway no longer needs: mostly a later look's, as KServe changes routes after us.
        needed = {key_of(policy) for item in wanted.values() for policy in backend_policies(self._place, item)}
        for key in policies.keys() - needed:
            if not _in_use(policies[key], services, wanted):
                self._remove(POLICIES, key, policies[key], troubles)
        if troubles:
            raise Unavailable(f"{len(troubles)} objects of the cluster wait: {'; '.join(troubles)[:1000]}")

    def split_of(self, rollout: str) -> Split | None:
        """The weights that a rollout has had in the cluster. Raises Unavailable."""
        found = (Split.of(service) for service in self._services.objects().values())
        return next((split for split in found if split is not None and split.rollout == rollout), None)

    def _wanted(self, routes: list[dict[str, Any]], orders: dict[str, Predictor], services: dict[Key, Object]) -> Iterable[Object]:
        for route in routes:
            stable = orders.get(route["stable"])
            if stable is None:  # under quarantine
                continue
            side = (route["environment"], route["model"])
            others = [found for found in orders.values() if (found.order.environment, found.order.model) == side]
            canary = next((found for found in others if found is not stable), None)
            plain = inference_service(self._place, stable, canary)
            rollout = route["rollout"]
            if rollout is None or canary is None:
                yield plain
            else:
                yield inference_service(self._place, stable, canary, self._split(key_of(plain), rollout, services))

    def _split(self, key: Key, rollout: dict[str, Any], services: dict[Key, Object]) -> Split:
        """The rollout's weights so far and the one that it has now. What stands in the cluster comes before what this process
        wrote, so that two of us do not correct each other's times for ever."""
        found = (services.get(key), self._applied.get((SERVICES.plural, key)))
        splits = [Split.of(service) for service in found if service is not None]
        same = [split for split in splits if split is not None and split.rollout == rollout["id"]]
        for split in same:
            if split.weight == rollout["weight"]:
                return split
        now = self._clock()
        longest = max(same, key=lambda split: len(split.phases), default=None)
        if longest is None:
            return Split(rollout=rollout["id"], phases=((rollout["weight"], now),))
        return longest.at(rollout["weight"], now)

    def _reachable(self, service: Object, there: dict[Key, Object], troubles: list[str]) -> bool:
        """Writes the policies of a service. Whether each is there: if it was before, a rollback does not wait for its repair."""
        needed = backend_policies(self._place, service)
        for policy in needed:
            self._put(POLICIES, policy, there, troubles)
        return all(key in there or (POLICIES.plural, key) in self._applied for key in map(key_of, needed))

    def _put(self, resource: Resource, wanted: Object, there: dict[Key, Object], troubles: list[str]) -> None:
        key = key_of(wanted)
        if self._applied.get((resource.plural, key)) == wanted and covers(there.get(key), wanted):
            return
        try:
            self._apply(resource, wanted)
        except AiInfraError as error:
            troubles.append(f"{resource.plural} {'/'.join(key)}: {error}")
            return
        self._applied[resource.plural, key] = wanted

    def _apply(self, resource: Resource, wanted: Object) -> None:
        try:
            self._kube.apply(resource, wanted)
        except FieldConflict as error:
            name = "/".join(key_of(wanted))
            log.warning("%s %s: somebody else changed what is ours, and it is taken back: %s", resource.plural, name, error)
            self._kube.apply(resource, wanted, force=True)

    def _remove(self, resource: Resource, key: Key, found: Object, troubles: list[str]) -> None:
        if "deletionTimestamp" in found["metadata"]:
            return
        try:
            self._kube.delete(resource, key[1], key[0], uid=found["metadata"]["uid"])
        except AiInfraError as error:
            troubles.append(f"{resource.plural} {'/'.join(key)}: {error}")
            return
        self._applied.pop((resource.plural, key), None)


def _in_use(policy: Object, services: dict[Key, Object], wanted: dict[Key, Object]) -> bool:
    """Whether a route may still lead to what a surplus policy is for: until its service is gone, or is as wanted and KServe has
    seen that, which it says after it has changed the routes."""
    meta = policy["metadata"]
    key = (meta["namespace"], meta["labels"].get(SERVICE, ""))
    service = services.get(key)
    if service is None:
        return False
    seen = service.get("status", {}).get("observedGeneration") == service["metadata"]["generation"]
    return not (seen and key in wanted and covers(service, wanted[key]))


def _predictor(item: dict[str, Any]) -> Predictor:
    return Predictor(order=Order.from_json(item), replicas=item["replicas"])


def covers(found: Any, wanted: Any) -> bool:
    """Whether all that we apply stands in an object, whatever else there is. Lists are compared whole."""
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(key in found and covers(found[key], value) for key, value in wanted.items())
    if isinstance(wanted, list):
        return isinstance(found, list) and len(found) == len(wanted) and all(map(covers, found, wanted))
    return bool(found == wanted)
