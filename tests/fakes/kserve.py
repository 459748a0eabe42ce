"""A stand-in for KServe's controller: it is *not* KServe. It makes a pod for each replica and writes the status that we read.

What a gateway does with weights, and when KServe calls a model failed, cannot be learned from it.
"""

import logging
from dataclasses import dataclass, field
from typing import Any

from services.core.errors import NotFound
from services.core.kube import PODS, Kube, Object, Resource
from services.core.kubewatch import key_of
from services.serving.inference import DEPLOYMENT, SERVICES
from tests.fakes.controller import StandIn

log = logging.getLogger(__name__)


class _StatusOf(Resource):
    def one(self, name: str, namespace: str = "") -> str:
        return f"{super().one(name, namespace)}/status"


SERVICE_STATUS = _StatusOf(SERVICES.group, SERVICES.version, SERVICES.plural)
POD_STATUS = _StatusOf("", "v1", "pods")


@dataclass
class KServeStandIn(StandIn):
    """broken: deployment → the message with which its model does not load; port: on 127.0.0.1, of all its pods."""

    kube: Kube
    broken: dict[str, str] = field(default_factory=dict)
    port: int = 8080

    def look(self) -> None:
        """One look at all services and pods."""
        services = self.kube.list(SERVICES)["items"]
        wanted: dict[tuple[str, str], Object] = {}
        for service in services:
            for predictor, pods in _predictors(service):
                if predictor["labels"][DEPLOYMENT] not in self.broken:
                    wanted |= {key_of(pod): pod for pod in self._pods(service, predictor, pods)}
        there = {key_of(pod) for pod in self.kube.list(PODS, labels=DEPLOYMENT)["items"]}
        for namespace, name in there - wanted.keys():
            self.kube.delete(PODS, name, namespace)
        for key in wanted.keys() - there:
            self.kube.apply(PODS, wanted[key])
            self.kube.apply(POD_STATUS, _ready(wanted[key]))
        for service in services:
            self._say(service)

    def _pods(self, service: Object, predictor: Object, count: int) -> list[Object]:
        deployment = predictor["labels"][DEPLOYMENT]
        container = {"name": "kserve-container", "image": "none", "ports": [{"containerPort": self.port}]}
        return [
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {
                    "name": f"{deployment}-{index}",
                    "namespace": service["metadata"]["namespace"],
                    "labels": predictor["labels"],
                },
                "spec": {"containers": [container]},
            }
            for index in range(count)
        ]

    def _say(self, service: Object) -> None:
        canaries = service["spec"].get("canary", [])
        status: dict[str, Any] = {
            "observedGeneration": service["metadata"]["generation"],
            "modelStatus": self._model(service["spec"]["predictor"]),
            "canaryStatuses": [
                {
                    "name": canary["predictor"]["name"],
                    "ready": canary["predictor"]["labels"][DEPLOYMENT] not in self.broken,
                    "trafficPercent": canary["trafficPercent"],
                    "modelStatus": self._model(canary["predictor"]),
                }
                for canary in canaries
            ],
        }
        if service.get("status") == status:
            return
        meta = {"name": service["metadata"]["name"], "namespace": service["metadata"]["namespace"]}
        said = {"apiVersion": service["apiVersion"], "kind": service["kind"], "metadata": meta, "status": status}
        try:
            self.kube.apply(SERVICE_STATUS, said, force=True)
        except NotFound:
            log.info("%s is gone meanwhile", meta["name"])

    def _model(self, predictor: Object) -> Object:
        message = self.broken.get(predictor["labels"][DEPLOYMENT])
        if message is None:
            return {"transitionStatus": "UpToDate", "copies": {"failedCopies": 0}}
        failure = {"message": message, "reason": "ModelLoadFailed"}
        return {"transitionStatus": "BlockedByFailedLoad", "copies": {"failedCopies": 1}, "lastFailureInfo": failure}


def _predictors(service: Object) -> list[tuple[Object, int]]:
    """With their pods. As KServe v0.21 counts: stable has less by those of each canary that the last look found ready, but one."""
    stable, canaries = service["spec"]["predictor"], [canary["predictor"] for canary in service["spec"].get("canary", [])]
    ready = {found["name"] for found in service.get("status", {}).get("canaryStatuses", []) if found["ready"]}
    taken = sum(canary["minReplicas"] for canary in canaries if canary["name"] in ready)
    return [(stable, max(stable["minReplicas"] - taken, 1)), *((canary, canary["minReplicas"]) for canary in canaries)]


def _ready(pod: Object) -> Object:
    meta = {"name": pod["metadata"]["name"], "namespace": pod["metadata"]["namespace"]}
    condition = {"type": "Ready", "status": "True"}
    status = {"phase": "Running", "podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}], "conditions": [condition]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "status": status}
