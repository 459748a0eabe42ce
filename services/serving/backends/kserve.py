"""KServe on Kubernetes: raw deployments behind the cluster's gateway, which splits the traffic. ADR 16 says what that costs."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import httpx

from services.core import settings
from services.core.clock import Clock, system_clock
from services.core.errors import AiInfraError, BadSetting, Unavailable
from services.core.kube import PODS, Access, Kube, Object
from services.core.kubewatch import Mirror
from services.core.tls import Identity, client_context
from services.serving.canary import Counts
from services.serving.cluster import MANAGER, Cluster
from services.serving.domain import DeploymentHealth, Pair, Probe, Reference
from services.serving.errors import UnknownPrediction
from services.serving.gateway import POLICIES
from services.serving.inference import CONFIG_MAPS, DEPLOYMENT, SELECTOR, SERVICES, Place, variant_of
from services.serving.predictor.client import ask
from services.serving.prometheus import Arms, Metrics
from services.serving.records import made_at

PRODUCTION = True
TIMEOUT_S = 5.0
ON_ITS_WAY_MS = 30_000
"""How long a prediction that nobody has a record of may still be on its way from its predictor."""
FAILED = ("BlockedByFailedLoad", "InvalidSpec")
"""States of a model that KServe does not get out of by itself."""


def open_backend(environ: Mapping[str, str], identity: Identity) -> "KServeBackend":
    """Reads AI_INFRA_ENV (what this cluster serves), AI_INFRA_KUBE_* (see core.kube), AI_INFRA_KUBE_NAMESPACE (of predictors,
    without the environment), AI_INFRA_PROMETHEUS_URL, AI_INFRA_PROMETHEUS_SETTLE_S, AI_INFRA_PREDICTOR_HOST (the name in the
    predictors' certificate).

    identity: of the API process, which asks predictors. Opening it starts threads that follow the cluster.
    Raises:
        BadSetting: no Prometheus is named, or the service account's files are not there.
    """
    if not (url := environ.get("AI_INFRA_PROMETHEUS_URL", "")):
        raise BadSetting("AI_INFRA_PROMETHEUS_URL is not set: the backend kserve judges canaries by Prometheus")
    settle_s = settings.number(environ, "AI_INFRA_PROMETHEUS_SETTLE_S", 60, 0, 3600)
    namespace, host = environ.get("AI_INFRA_KUBE_NAMESPACE", Place.namespace), environ.get("AI_INFRA_PREDICTOR_HOST", Place.host)
    metrics = Metrics(httpx.Client(base_url=url, timeout=TIMEOUT_S), settle_s)
    predictors = httpx.Client(verify=client_context(identity), timeout=TIMEOUT_S)
    access = Access.from_env(environ)
    environment = settings.environment(environ)
    place = Place(namespace=namespace, host=host)
    return KServeBackend(lambda: Kube(access, MANAGER), place, environment, metrics, predictors, system_clock)


class KServeBackend:
    """Implements ServingBackend. Thread-safe but for `follow`, which one thread calls.

    connect: a client of the API server, for each thread its own; environment: the one that this cluster serves; predictors: a
    client with the API's certificate.
    """

    mirrors = False

    def __init__(
        self,
        connect: Callable[[], Kube],
        place: Place,
        environment: str,
        metrics: Metrics,
        predictors: httpx.Client,
        clock: Clock,
    ) -> None:
        self._metrics, self._predictors, self._host, self._clock = metrics, predictors, place.host, clock
        kinds, namespace = (SERVICES, PODS, CONFIG_MAPS, POLICIES), place.of(environment)
        self._mirrors = [Mirror(connect(), kind, SELECTOR, namespace) for kind in kinds]
        self._services, self._pods, lists, policies = self._mirrors
        self._cluster = Cluster(connect(), place, environment, clock, self._services, lists, policies)
        self._desired: dict[str, Any] = {"deployments": [], "routes": []}
        for mirror in self._mirrors:
            mirror.start()

    def follow(self, desired: Callable[[], dict[str, Any]]) -> None:
        self._desired = desired()
        self._cluster.follow(self._desired)

    def close(self) -> None:
        for mirror in self._mirrors:
            mirror.stop()

    def health(self, deployment: str) -> DeploymentHealth:
        pods = self._pods_of(deployment)
        detail = tuple({"pod": pod["metadata"]["name"], "phase": pod.get("status", {}).get("phase", "")} for pod in pods)
        return DeploymentHealth(ready=len([pod for pod in pods if _ready(pod)]), refused=self._refusal(deployment), detail=detail)

    def reference(self, deployment: str) -> Reference:
        return self._metrics.reference(deployment, self._clock())

    def counts(self, rollout: str) -> Counts:
        route = self._route(rollout)
        split = self._cluster.split_of(rollout)
        if split is None:
            raise Unavailable(f"rollout {rollout} is not in the cluster yet")
        rule = route["rollout"]
        arms = Arms(stable=route["stable"], canary=rule["canary"], edges=tuple(rule["edges"]), tolerance=rule["tolerance"])
        return self._metrics.counts(split, arms, self._clock())

    def answer(self, rollout: str, probes: Sequence[Probe]) -> list[Pair]:
        route = self._route(rollout)
        rows = [list(probe.row) for probe in probes]
        stable, canary = (self._labels(route["model"], name, rows) for name in (route["stable"], route["rollout"]["canary"]))
        return [Pair(probe.id, s, c) for probe, s, c in zip(probes, stable, canary, strict=True)]

    def prediction(self, prediction: str) -> dict[str, Any]:
        """Nothing: predictors hand their records on to the API by themselves. Raises Unavailable for one that may be on its way."""
        made = made_at(prediction)
        if made is not None and abs(self._clock() - made) < ON_ITS_WAY_MS:
            raise Unavailable(f"prediction {prediction} is not here yet: predictors hand their records on within seconds; retry")
        raise UnknownPrediction(f"no record of prediction {prediction[:100]!r}")

    def _labels(self, model: str, deployment: str, rows: list[list[float]]) -> list[str]:
        """Labels from the first ready pod. Raises Unavailable: there is none, or it did not answer."""
        ready = [pod for pod in self._pods_of(deployment) if _ready(pod)]
        if not ready:
            raise Unavailable(f"no healthy predictor of deployment {deployment}")
        try:
            return ask(self._predictors, _address(ready[0]), self._host, model, rows)
        except AiInfraError as error:
            raise Unavailable(f"deployment {deployment} did not answer the probes: {error}") from error

    def _route(self, rollout: str) -> dict[str, Any]:
        for route in self._desired["routes"]:
            if route["rollout"] is not None and route["rollout"]["id"] == rollout:
                found: dict[str, Any] = route
                return found
        raise Unavailable(f"rollout {rollout} does not split traffic yet")

    def _pods_of(self, deployment: str) -> list[Object]:
        return [pod for pod in self._pods.objects().values() if pod["metadata"]["labels"].get(DEPLOYMENT) == deployment]

    def _refusal(self, deployment: str) -> str:
        """Why KServe does not load a deployment; empty while it tries or once it serves."""
        for service in self._services.objects().values():
            status = service.get("status", {})
            if service["spec"]["predictor"].get("labels", {}).get(DEPLOYMENT) == deployment:
                return refusal_of(status.get("modelStatus", {}))
            variant = variant_of(service, deployment)
            for found in status.get("canaryStatuses", []):
                if variant and found.get("name") == variant:
                    return refusal_of(found.get("modelStatus", {}))
        return ""


def refusal_of(model: Object) -> str:
    """Why a model is not loaded, by its `modelStatus`; empty while it may still be.

    KServe calls each failed start blocked. Ours say by their exit status whether the next one may succeed: nobody rolls a canary
    back because the API was away for a moment.
    """
    if model.get("transitionStatus") not in FAILED:
        return ""
    last = model.get("lastFailureInfo", {})
    if last.get("exitCode") == os.EX_TEMPFAIL:
        return ""
    return last.get("message") or last.get("reason") or str(model["transitionStatus"])


def _ready(pod: Object) -> bool:
    if "deletionTimestamp" in pod["metadata"]:
        return False
    conditions = pod.get("status", {}).get("conditions") or []
    return any(found["type"] == "Ready" and found["status"] == "True" for found in conditions)


def _address(pod: Object) -> str:
    port = pod["spec"]["containers"][0]["ports"][0]["containerPort"]
    return f"https://{pod['status']['podIP']}:{port}"
