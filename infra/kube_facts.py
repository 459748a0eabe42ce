"""The input of the rules about what runs in a cluster: pods, what guards them, nodes and charts. It judges nothing.

    {"action": "apply", "environment", "layer",
     "pods": [{"id", "kind", "part", "namespace", "spec"}],
     "policies": [{"id", "namespace", "spec"}],
     "services": [{"id", "namespace", "spec"}],
     "pools": [{"id", "capacity": ["on-demand" | "spot"], "instanceTypes", "taints": [{"key", "value", "effect"}]}],
     "releases": [{"id", "chart", "version", "repository", "tolerations": [{"path", "items"}]}]}

An id is KIND/NAMESPACE/NAME, of a part of an object with the part after it; what has no namespace leaves it out. `part` says
which of an object's pods it is: `head`, `worker` and `submitter` of a Ray job, `predictor` of an InferenceService, which has its
runtime's containers; empty for an object's only ones. `policies` are NetworkPolicies, `services` InferenceServices. `pools` are
those of the layers before too, managed ones and Karpenter's. `tolerations` are all lists of this name within a chart's values.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from infra.graph import Graph
from infra.kubernetes import RELEASE, objects
from services.core.errors import BadInput
from services.core.kube import Object

Json = dict[str, Any]

NODE_GROUP: Final = "aws:eks/nodeGroup:NodeGroup"
TEMPLATES: Final[Mapping[str, tuple[str, ...]]] = {
    "Pod": ("spec",),
    "Deployment": ("spec", "template", "spec"),
    "StatefulSet": ("spec", "template", "spec"),
    "DaemonSet": ("spec", "template", "spec"),
    "Job": ("spec", "template", "spec"),
    "CronJob": ("spec", "jobTemplate", "spec", "template", "spec"),
    "ServingRuntime": ("spec",),
}
"""Kind → where its pods' spec is."""
PODLESS: Final = frozenset(
    {
        "BackendTLSPolicy", "Certificate", "ClusterIssuer", "ClusterQueue", "ClusterRole", "ClusterRoleBinding", "ConfigMap",
        "EC2NodeClass", "EnvoyProxy", "Gateway", "GatewayClass", "HTTPRoute", "HorizontalPodAutoscaler", "Issuer", "LocalQueue",
        "Namespace", "NetworkPolicy", "NodePool", "PersistentVolume", "PersistentVolumeClaim", "PodDisruptionBudget", "PodMonitor",
        "PriorityClass", "PrometheusRule", "ResourceFlavor", "Role", "RoleBinding", "Secret", "Service", "ServiceAccount",
        "ServiceMonitor", "StorageClass", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding", "WorkloadPriorityClass",
    }
)  # fmt: skip
"""Kinds without pods of their own. Any other kind is refused, so that no pod goes by unseen."""


def kube_facts(graphs: Sequence[Graph], manifests: Sequence[Object] = ()) -> Json:
    """The input of the rules.

    Args:
        graphs: of an environment's layers in their order; the last one is judged.
        manifests: objects beside the program of the last layer.
    Raises:
        BadInput: a kind is not known to have pods, or not to have any; an InferenceService names a runtime that is not there.
    """
    layer = graphs[-1]
    made = objects(layer)
    # What serves a layer's models stands in manifests too, for whoever reads them; the program's is what is applied.
    found = [*made, *(item for item in manifests if _id(item) not in set(map(_id, made)))]
    return {
        "action": "apply",
        "environment": layer.environment,
        "layer": layer.layer,
        "pods": [pod for item in found for pod in _pods(item, found)],
        "policies": [_fact(item) for item in found if item["kind"] == "NetworkPolicy"],
        "services": [_fact(item) for item in found if item["kind"] == "InferenceService"],
        "pools": [pool for graph in graphs for pool in _pools(graph)],
        "releases": [_release(item.name, item.inputs) for item in layer.of(RELEASE)],
    }


def _fact(item: Object) -> Json:
    return {"id": _id(item), "namespace": item["metadata"].get("namespace", ""), "spec": item["spec"]}


def _id(item: Object, part: str = "") -> str:
    meta = item["metadata"]
    return "/".join(text for text in (item["kind"], meta.get("namespace", ""), meta["name"], part) if text)


def _pods(item: Object, others: Sequence[Object]) -> Iterator[Json]:
    for part, name, spec in _specs(item, others):
        namespace = item["metadata"].get("namespace", "")
        yield {"id": _id(item, name), "kind": item["kind"], "part": part, "namespace": namespace, "spec": spec}


def _specs(item: Object, others: Sequence[Object]) -> Iterator[tuple[str, str, Json]]:
    """Part, name of the part, and pod spec."""
    kind = item["kind"]
    if kind in TEMPLATES:
        spec: Any = item
        for step in TEMPLATES[kind]:
            spec = spec[step]
        yield "", "", spec
    elif kind == "ClusterStorageContainer":
        # KServe puts it into each predictor's pod, before the server.
        yield "", "", {"containers": [item["spec"]["container"]]}
    elif kind == "RayJob":
        yield from _ray(item["spec"])
    elif kind == "InferenceService":
        yield from _predictors(item, others)
    elif kind not in PODLESS:
        raise BadInput(f"{_id(item)}: nobody said whether a {kind} has pods: add it to TEMPLATES or PODLESS of infra/kube_facts.py")


def _ray(spec: Json) -> Iterator[tuple[str, str, Json]]:
    cluster = spec["rayClusterSpec"]
    if "submitterPodTemplate" in spec:
        yield "submitter", "submitter", spec["submitterPodTemplate"]["spec"]
    yield "head", "head", cluster["headGroupSpec"]["template"]["spec"]
    for group in cluster["workerGroupSpecs"]:
        yield "worker", group["groupName"], group["template"]["spec"]


def _predictors(item: Object, others: Sequence[Object]) -> Iterator[tuple[str, str, Json]]:
    """KServe merges a predictor into its runtime."""
    spec = item["spec"]
    canaries = [(canary["predictor"]["name"], canary["predictor"]) for canary in spec.get("canary", [])]
    for name, predictor in [("predictor", spec["predictor"]), *canaries]:
        runtime = _runtime(item, predictor.get("model", {}).get("runtime"), others)
        yield "predictor", name, runtime["spec"] | {key: value for key, value in predictor.items() if key != "model"}


def _runtime(item: Object, name: Any, others: Sequence[Object]) -> Object:
    namespace = item["metadata"]["namespace"]
    for other in others:
        if other["kind"] == "ServingRuntime" and (other["metadata"]["namespace"], other["metadata"]["name"]) == (namespace, name):
            return other
    raise BadInput(f"{_id(item)} names the runtime {name}, which is not in {namespace}: name one of the layer's")


def _pools(graph: Graph) -> Iterator[Json]:
    for group in graph.of(NODE_GROUP):
        capacity = str(group.inputs.get("capacityType", "ON_DEMAND")).lower().replace("_", "-")
        taints = [taint | {"effect": _camel(taint["effect"])} for taint in group.inputs.get("taints", [])]
        types = group.inputs.get("instanceTypes", [])
        yield {"id": f"NodeGroup/{group.name}", "capacity": [capacity], "instanceTypes": types, "taints": taints}
    for item in objects(graph):
        if item["kind"] == "NodePool":
            template = item["spec"]["template"]["spec"]
            asked = {found["key"]: found.get("values", []) for found in template["requirements"] if found["operator"] == "In"}
            yield {
                "id": _id(item),
                # Without the requirement Karpenter may take either.
                "capacity": asked.get("karpenter.sh/capacity-type", ["on-demand", "spot"]),
                "instanceTypes": asked.get("node.kubernetes.io/instance-type", []),
                "taints": template.get("taints", []),
            }


def _camel(effect: str) -> str:
    """NO_SCHEDULE as Kubernetes spells it."""
    return effect.title().replace("_", "")


def _release(name: str, inputs: Json) -> Json:
    return {
        "id": f"Release/{name}",
        "chart": inputs["chart"],
        "version": inputs.get("version", ""),
        "repository": inputs.get("repositoryOpts", {}).get("repo", ""),
        "tolerations": [{"path": path, "items": items} for path, items in _tolerations(inputs.get("values", {}))],
    }


def _tolerations(values: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(values, list):
        for number, item in enumerate(values):
            yield from _tolerations(item, f"{at}[{number}]")
    elif isinstance(values, dict):
        for key, item in values.items():
            path = f"{at}.{key}" if at else key
            if key == "tolerations":
                yield path, item
            else:
                yield from _tolerations(item, path)
