"""The facts of the rules about a cluster: one form for whatever has pods, wherever they stand."""

from typing import Any

import pytest

from infra.graph import Graph
from infra.kube_facts import kube_facts
from services.core.errors import BadInput
from services.serving.inference import Place, Predictor, Split, inference_service, serving_runtime
from services.training.rayjob import ray_job
from tests.infra.graphs import graph, resource
from tests.kube.objects import order, ray_job_args, runtime_args

TOLERATION = {"key": "nvidia.com/gpu", "operator": "Exists"}
POD = {"serviceAccountName": "api", "containers": [{"name": "api", "image": "x"}]}
MODELS = Place().of("staging")


def made(token: str, name: str, namespace: str = "", **more: Any) -> Any:
    """One object as the program registers it. token: as apps/v1:Deployment."""
    kind = token.partition(":")[2]
    meta = {"name": name} | ({"namespace": namespace} if namespace else {})
    return resource(f"kubernetes:{token}", f"{kind}-{name}", {"kind": kind, "metadata": meta, **more}, provider=None)


def facts(*resources: Any, before: tuple[Graph, ...] = (), manifests: tuple[Any, ...] = ()) -> dict[str, Any]:
    return kube_facts([*before, graph(*resources)], manifests)


def ids(found: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(item["id"], item["part"]) for item in found]


def test_pods_are_found_in_whatever_holds_them() -> None:
    template = {"template": {"spec": POD}}
    found = facts(
        made("apps/v1:Deployment", "api", "ai-infra", spec=template),
        made("batch/v1:CronJob", "backup", "ai-infra", spec={"jobTemplate": {"spec": template}}),
        made("core/v1:ConfigMap", "settings", "ai-infra", data={}),
    )
    assert ids(found["pods"]) == [("Deployment/ai-infra/api", ""), ("CronJob/ai-infra/backup", "")]
    assert [(item["namespace"], item["spec"]) for item in found["pods"]] == [("ai-infra", POD)] * 2


def test_pods_of_a_ray_job_are_told_apart() -> None:
    found = facts(manifests=(ray_job(ray_job_args("training-staging")),))
    assert ids(found["pods"]) == [
        ("RayJob/training-staging/run-0001/submitter", "submitter"),
        ("RayJob/training-staging/run-0001/head", "head"),
        ("RayJob/training-staging/run-0001/workers", "worker"),
    ]


def test_predictors_have_the_containers_of_their_runtime_and_an_account_of_their_own() -> None:
    runtime = serving_runtime(runtime_args(MODELS))
    stable, canary = (Predictor(order=order(number), replicas=1) for number in (1, 2))
    service = inference_service(Place(), stable, canary, Split(rollout="rol-1", phases=((0.1, 1000),)))
    found = facts(manifests=(runtime, service))
    name = service["spec"]["canary"][0]["predictor"]["name"]
    assert ids(found["pods"]) == [
        (f"ServingRuntime/{MODELS}/ai-infra", ""),
        (f"InferenceService/{MODELS}/digits/predictor", "predictor"),
        (f"InferenceService/{MODELS}/digits/{name}", "predictor"),
    ]
    assert [item["spec"]["containers"] for item in found["pods"]] == [runtime["spec"]["containers"]] * 3
    assert [item["spec"].get("serviceAccountName") for item in found["pods"]] == [None, "predictor", "predictor"]
    assert [item["spec"] for item in found["services"]] == [service["spec"]]


def test_service_whose_runtime_is_not_there_is_refused() -> None:
    with pytest.raises(BadInput, match=f"InferenceService/{MODELS}/digits names the runtime ai-infra, which is not in"):
        facts(manifests=(inference_service(Place(), Predictor(order=order(1), replicas=1)),))


def test_kind_that_nobody_knows_is_refused() -> None:
    with pytest.raises(BadInput, match="nobody said whether a Sandbox has pods"):
        facts(made("example.com/v1:Sandbox", "x", "ai-infra", spec={}))


def test_pools_of_all_layers_have_one_form() -> None:
    taint = {"key": "nvidia.com/gpu", "value": "true", "effect": "NO_SCHEDULE"}
    group = {"capacityType": "SPOT", "instanceTypes": ["g5.xlarge"], "taints": [taint]}
    requirements = [
        {"key": "karpenter.sh/capacity-type", "operator": "In", "values": ["on-demand"]},
        {"key": "node.kubernetes.io/instance-type", "operator": "In", "values": ["m7i.large"]},
    ]
    pool = made("karpenter.sh/v1:NodePool", "core", spec={"template": {"spec": {"requirements": requirements}}})
    either = made("karpenter.sh/v1:NodePool", "any", spec={"template": {"spec": {"requirements": []}}})
    found = facts(pool, either, before=(graph(resource("eks/nodeGroup:NodeGroup", "gpu", group)),))
    assert found["pools"] == [
        {
            "id": "NodeGroup/gpu", "capacity": ["spot"], "instanceTypes": ["g5.xlarge"],
            "taints": [{"key": "nvidia.com/gpu", "value": "true", "effect": "NoSchedule"}],
        },
        {"id": "NodePool/core", "capacity": ["on-demand"], "instanceTypes": ["m7i.large"], "taints": []},
        {"id": "NodePool/any", "capacity": ["on-demand", "spot"], "instanceTypes": [], "taints": []},
    ]  # fmt: skip


def test_releases_say_what_their_values_tolerate_and_where() -> None:
    values = {"daemonsets": {"tolerations": [TOLERATION]}, "agents": [{"tolerations": []}], "replicas": 2}
    inputs = {"chart": "gpu-operator", "version": "v1.2.3", "repositoryOpts": {"repo": "https://helm.example"}, "values": values}
    found = facts(resource("kubernetes:helm.sh/v3:Release", "gpu-operator", inputs, provider=None))
    (release,) = found["releases"]
    assert release == {
        "id": "Release/gpu-operator", "chart": "gpu-operator", "version": "v1.2.3", "repository": "https://helm.example",
        "tolerations": [
            {"path": "daemonsets.tolerations", "items": [TOLERATION]}, {"path": "agents[0].tolerations", "items": []},
        ],
    }  # fmt: skip


def test_policies_of_the_network_are_whole() -> None:
    spec = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    found = facts(made("networking.k8s.io/v1:NetworkPolicy", "default-deny", "ai-infra", spec=spec))
    assert found["policies"] == [{"id": "NetworkPolicy/ai-infra/default-deny", "namespace": "ai-infra", "spec": spec}]
