"""The embedded profile: KServe predictors behind our router process on this machine, asked over mTLS."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import httpx

from services.core.calls import call, client
from services.core.errors import NotFound, Unavailable
from services.core.tls import Identity
from services.serving.canary import Counts
from services.serving.domain import DeploymentHealth, Pair, Probe, Reference

PRODUCTION = False
TIMEOUT_S = 5.0
DEFAULT_ROUTER = "https://127.0.0.1:8444"


def open_backend(environ: Mapping[str, str], identity: Identity) -> "LocalBackend":
    """Reads AI_INFRA_ROUTER_URL. identity: of the API process, which alone may ask."""
    return LocalBackend(client(environ.get("AI_INFRA_ROUTER_URL", DEFAULT_ROUTER), identity, timeout_s=TIMEOUT_S))


class LocalBackend:
    """ServingBackend over the router's control plane. Thread-safe, as httpx.Client is."""

    mirrors = True

    def __init__(self, router: httpx.Client) -> None:
        self._router = router

    def follow(self, desired: Callable[[], dict[str, Any]]) -> None:
        """Nothing: the router asks the API for the desired state."""

    def close(self) -> None:
        self._router.close()

    def health(self, deployment: str) -> DeploymentHealth:
        found = call(self._router, "GET", f"/v1/deployments/{deployment}/health")
        return DeploymentHealth(ready=found["ready"], refused=found["refused"], detail=tuple(found["replicas"]))

    def reference(self, deployment: str) -> Reference:
        found = call(self._router, "GET", f"/v1/deployments/{deployment}/reference")["latencies"]
        shared = tuple((latency, replica) for latency, replica in found if replica is not None)
        return Reference(latencies=tuple(latency for latency, _ in found), replicas=shared)

    def counts(self, rollout: str) -> Counts:
        return Counts.from_json(self._ask("GET", f"/v1/rollouts/{rollout}/counts"))

    def answer(self, rollout: str, probes: Sequence[Probe]) -> list[Pair]:
        body = {"probes": [probe.id for probe in probes], "rows": [list(probe.row) for probe in probes]}
        found = self._ask("POST", f"/v1/rollouts/{rollout}/answers", json=body)
        if silent := [version for version in ("stable", "canary") if found[version] is None]:
            raise Unavailable(f"{silent[0]} did not answer the probes")
        return [Pair(probe.id, s, c) for probe, s, c in zip(probes, found["stable"], found["canary"], strict=True)]

    def prediction(self, prediction: str) -> dict[str, Any]:
        """A prediction record with its proof; see router.records. Raises NotFound, Unavailable."""
        found: dict[str, Any] = call(self._router, "GET", f"/v1/predictions/{prediction}")
        return found

    def _ask(self, method: str, path: str, **options: Any) -> Any:
        """A rollout that the router has not heard of yet is a matter of a moment."""
        try:
            return call(self._router, method, path, **options)
        except NotFound as error:
            raise Unavailable(f"the router does not know the rollout yet: {error}") from error
