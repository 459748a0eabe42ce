"""The Kubernetes objects of serving, as pure functions: InferenceService, ServingRuntime, and the list of what may be served.

One InferenceService stands for one route: a model in one environment. Its predictor is stable, its one canary the other side of a
rollout. Weights go into `spec.canary`, which raw deployments obey; `canaryTrafficPercent` works in serverless mode only.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from services.core.kube import Object, Resource
from services.serving.predictor.order import Order
from services.serving.predictor.source import Source

SERVICES = Resource("serving.kserve.io", "v1beta1", "inferenceservices")
RUNTIMES = Resource("serving.kserve.io", "v1alpha1", "servingruntimes")
CONFIG_MAPS = Resource("", "v1", "configmaps")

MANAGED = {"app.kubernetes.io/managed-by": "ai-infra"}
SELECTOR = "app.kubernetes.io/managed-by=ai-infra"
DEPLOYMENT = "ai-infra/deployment"
"""Label of a predictor's pods: the deployment that they serve."""
POD_LABELS = MANAGED | {"app.kubernetes.io/name": "predictor"}
"""Labels of all predictors' pods, by which Prometheus finds them."""
ROLLOUT = "ai-infra/rollout"
"""Annotation: the rollout and the weights that it has had, see `Split`."""
MODE = "serving.kserve.io/deploymentMode"
"""Annotation: who brings pods about. We want plain deployments."""
FORMAT = "ai-infra"
ALLOWED = "servable-models"
"""Name of the ConfigMap that admission compares with: deployment → storage URI."""
PORT = 8080
CONTAINER = "kserve-container"
"""The name that KServe looks for in a runtime."""
MODELS = "/mnt/models"
"""Where KServe mounts the folder that the storage initialiser fills."""
RECORDS = "/tmp/predictions"  # noqa: S108  # the container's own
"""Where a predictor keeps its records until the API has them: on the pod's scratch volume, which a container's end leaves."""
COMMAND = ("python3", "-m", "services.serving.predictor.mounted", MODELS, "--port", str(PORT), "--records", RECORDS)
IDENTITY, TRUST = "/identity", "/trust"
USER = 65532
"""Of the image. A number: `runAsNonRoot` is judged by it."""
CLOSED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}
IDENTITY_MOUNTS = [
    {"name": "identity", "mountPath": f"{IDENTITY}/predictor", "readOnly": True},
    {"name": "trust", "mountPath": TRUST, "readOnly": True},
    {"name": "scratch", "mountPath": "/tmp"},  # noqa: S108  # the container's own
]
"""Of the predictor and of its storage initialiser; the volumes are the runtime's."""
_NAME = re.compile(r"[a-z]([-a-z0-9]{0,34}[a-z0-9])?")
_HASHED = re.compile(r".*-([0-9a-f]{10}|v[0-9]+-[0-9a-f]{8}|predictor)")
"""How names end that are made here or by KServe: of a hash, of a canary (`_variant`), and of each Service."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where predictors run, and who they are.

    namespace: their namespaces are this, "-" and the environment; runtime: a ServingRuntime there; account: their service account,
    which is not `default`; identity: the secret there with their certificate and its authority's; host: the name in it.
    """

    namespace: str = "models"
    runtime: str = "ai-infra"
    account: str = "predictor"
    identity: str = "predictor-tls"
    host: str = "predictor"

    def of(self, environment: str) -> str:
        return f"{self.namespace}-{environment}"


@dataclass(frozen=True, kw_only=True)
class Predictor:
    """One version. replicas: pods, 1 or more."""

    order: Order
    replicas: int

    def __post_init__(self) -> None:
        if self.replicas < 1:
            raise ValueError(f"replicas must be 1 or more, got {self.replicas}")


@dataclass(frozen=True, kw_only=True)
class Split:
    """A running rollout. phases: (weight, epoch milliseconds since when), oldest first; the last one is in force."""

    rollout: str
    phases: tuple[tuple[float, int], ...]

    @property
    def weight(self) -> float:
        return self.phases[-1][0]

    def at(self, weight: float, now: int) -> "Split":
        """The same rollout with this weight from now on, or unchanged if it has it already."""
        return self if self.weight == weight else Split(rollout=self.rollout, phases=(*self.phases, (weight, now)))

    def to_text(self) -> str:
        return json.dumps({"id": self.rollout, "phases": self.phases}, separators=(",", ":"))

    @classmethod
    def of(cls, service: Object) -> "Split | None":
        """What an InferenceService says of its rollout; None if it has none."""
        text = service["metadata"].get("annotations", {}).get(ROLLOUT)
        if text is None:
            return None
        value = json.loads(text)
        return cls(rollout=value["id"], phases=tuple((weight, since) for weight, since in value["phases"]))


def service_name(model: str) -> str:
    """A DNS label of at most 36 characters: KServe's names of a canary's objects are longer by up to 27, and may have 63. A model's
    name that is none, or reads like one that is made of another, gets a hash, so that no two models share a Service."""
    if _NAME.fullmatch(model) and not _HASHED.fullmatch(model):
        return model
    plain = re.sub(r"[^a-z0-9]+", "-", f"m-{model}" if not model[0].isalpha() else model)[:25].strip("-")
    return f"{plain}-{hashlib.sha256(model.encode()).hexdigest()[:10]}"


def storage_uri(order: Order) -> str:
    """Names deployment, artifact, manifest and OMS bundle by digest: all that a predictor needs to verify what it loads."""
    return str(Source.of(order))


def inference_service(place: Place, stable: Predictor, canary: Predictor | None = None, split: Split | None = None) -> Object:
    """The InferenceService of one route. A canary without a split runs and gets no traffic (it starts, or is calibrated against).

    `canary` is always there, empty without one: so its emptiness is ours too, and nobody else can add a canary unnoticed.
    """
    order, pods = stable.order, stable.replicas
    canaries = []
    if canary is not None:
        # KServe (v0.21, adjustStableMinReplicasForCanaries) takes the pods of a canary that is ready off stable's, down to one,
        # while stable still has nearly all traffic. So stable asks for them on top: it has them until then, and then its own.
        pods += canary.replicas
        percent = round(split.weight * 100) if split is not None else 0
        canaries = [{"predictor": _predictor(place, canary) | {"name": _variant(canary.order)}, "trafficPercent": percent}]
    # KServe refuses a canary that says maxReplicas, and one with more replicas than stable.
    predictor = _predictor(place, stable) | {"minReplicas": pods, "maxReplicas": pods}
    return {
        "apiVersion": f"{SERVICES.group}/{SERVICES.version}",
        "kind": "InferenceService",
        "metadata": {
            "name": service_name(order.model),
            "namespace": place.of(order.environment),
            "labels": dict(MANAGED),
            "annotations": {MODE: "RawDeployment"} | ({} if split is None else {ROLLOUT: split.to_text()}),
        },
        "spec": {"predictor": predictor, "canary": canaries},
    }


def _predictor(place: Place, predictor: Predictor) -> Object:
    order = predictor.order
    return {
        "labels": POD_LABELS | {DEPLOYMENT: order.deployment},
        "serviceAccountName": place.account,
        "automountServiceAccountToken": False,
        # Of the group, so that it can read its certificate. A runtime has no such field.
        "securityContext": {
            "fsGroup": USER,
            "runAsGroup": USER,
            "runAsNonRoot": True,
            "runAsUser": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        # Where it can be had: replicas that go down with one node, or zone, are one.
        "topologySpreadConstraints": [_spread(order, key) for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")],
        "minReplicas": predictor.replicas,
        "model": {
            # The definition wants a canary's container named; KServe's own default is this.
            "name": CONTAINER,
            "modelFormat": {"name": FORMAT},
            "protocolVersion": "v2",
            "runtime": place.runtime,
            "storageUri": storage_uri(order),
        },
    }


def _spread(order: Order, key: str) -> Object:
    same = {"matchLabels": {DEPLOYMENT: order.deployment}}
    return {"maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": same}


def _variant(order: Order) -> str:
    return f"v{order.number}-{order.deployment[-8:]}"


def variant_of(service: Object, deployment: str) -> str:
    """Name of the canary of an InferenceService that is this deployment; empty if none is."""
    for canary in service["spec"].get("canary", []):
        if canary["predictor"].get("labels", {}).get(DEPLOYMENT) == deployment:
            return str(canary["predictor"].get("name", ""))
    return ""


def allowed(namespace: str, orders: Iterable[Order]) -> Object:
    """The list of what may be served in a namespace."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": ALLOWED, "namespace": namespace, "labels": dict(MANAGED)},
        "data": {order.deployment: storage_uri(order) for order in orders},
    }


@dataclass(frozen=True, kw_only=True)
class RuntimeArgs:
    """image: with its digest; environment: dev, staging or prod; api: URL of the API, asked about quarantine; requests, limits:
    quantities by resource; identity: name of the secret with the predictor's certificate (tls.crt, tls.key, ca.crt); trust: name
    of the ConfigMap with trust.json."""

    name: str
    namespace: str
    image: str
    environment: str
    api: str
    requests: Mapping[str, str]
    limits: Mapping[str, str]
    identity: str
    trust: str

    def __post_init__(self) -> None:
        require_pinned(self.image)
        require_memory(self.limits)


def require_pinned(image: str) -> None:
    """Raises ValueError."""
    if not re.fullmatch(r"[^@\s]+@sha256:[0-9a-f]{64}", image):
        raise ValueError(f"image {image!r} has no digest: pin it as NAME@sha256:…")


def require_memory(limits: Mapping[str, str]) -> None:
    """Raises ValueError."""
    if "memory" not in limits:
        raise ValueError("limits: name memory, or one model can take a node's")


def verifying(environment: str, api: str) -> dict[str, str]:
    """Environment variables of what verifies a model in a cluster, as `services.serving.settings` reads them."""
    return {
        "AI_INFRA_ENV": environment,
        "AI_INFRA_API_URL": api,
        "AI_INFRA_CERTS": IDENTITY,
        "AI_INFRA_TRUST": f"{TRUST}/trust.json",
    }


def serving_runtime(args: RuntimeArgs) -> Object:
    """The ServingRuntime that predictors name. It selects nothing by itself: only services that name it get it."""
    container: dict[str, Any] = {
        "name": CONTAINER,
        "image": args.image,
        "command": list(COMMAND),
        "env": [{"name": name, "value": value} for name, value in verifying(args.environment, args.api).items()],
        "ports": [{"name": "http1", "containerPort": PORT, "protocol": "TCP"}],
        "resources": {"requests": dict(args.requests), "limits": dict(args.limits)},
        "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 2, "failureThreshold": 3},
        "livenessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 10, "failureThreshold": 3},
        # It verifies and imports first: 10 minutes, until it takes connections.
        "startupProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 2, "failureThreshold": 300},
        # Requests still arrive until every proxy has heard that the pod leaves.
        "lifecycle": {"preStop": {"sleep": {"seconds": 5}}},
        "securityContext": CLOSED,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": IDENTITY_MOUNTS,
    }
    return {
        "apiVersion": f"{RUNTIMES.group}/{RUNTIMES.version}",
        "kind": "ServingRuntime",
        "metadata": {"name": args.name, "namespace": args.namespace, "labels": dict(MANAGED)},
        "spec": {
            "supportedModelFormats": [{"name": FORMAT, "version": "1", "autoSelect": False}],
            "protocolVersions": ["v2"],
            "multiModel": False,
            "containers": [container],
            "volumes": [
                {"name": "identity", "secret": {"secretName": args.identity, "defaultMode": 0o440}},
                {"name": "trust", "configMap": {"name": args.trust}},
                {"name": "scratch", "emptyDir": {"sizeLimit": "1Gi"}},
            ],
        },
    }
