"""Workloads on a real API server: also one that scales, which no environment has."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from components.apps.calls import API, PROXY
from services.core.errors import Refused
from services.core.kube import PODS, Kube, Object, Resource
from tests.infra.apps import MODELS, SERVICES, TRAINING_SPACE, all_of_it, workload
from tests.infra.test_apps_components import SCALED

NAMESPACES = Resource("", "v1", "namespaces")
LEVEL = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
KINDS = {
    "Certificate": Resource("cert-manager.io", "v1", "certificates"),
    "ClusterRole": Resource("rbac.authorization.k8s.io", "v1", "clusterroles"),
    "ConfigMap": Resource("", "v1", "configmaps"),
    "Deployment": Resource("apps", "v1", "deployments"),
    "HorizontalPodAutoscaler": Resource("autoscaling", "v2", "horizontalpodautoscalers"),
    "NetworkPolicy": Resource("networking.k8s.io", "v1", "networkpolicies"),
    "PersistentVolumeClaim": Resource("", "v1", "persistentvolumeclaims"),
    "PodDisruptionBudget": Resource("policy", "v1", "poddisruptionbudgets"),
    "RoleBinding": Resource("rbac.authorization.k8s.io", "v1", "rolebindings"),
    "Service": Resource("", "v1", "services"),
    "ServiceAccount": Resource("", "v1", "serviceaccounts"),
}


@pytest.fixture
def spaces(kube: Kube) -> Kube:
    for name in (SERVICES, MODELS, TRAINING_SPACE, "monitoring"):
        kube.apply(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    return kube


def whole(value: Any) -> Any:
    """Between a program and Pulumi numbers are floats; the provider sends whole ones as such."""
    if isinstance(value, dict):
        return {key: whole(item) for key, item in value.items()}
    if isinstance(value, list):
        return [whole(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def test_every_object_is_taken(spaces: Kube) -> None:
    for (kind, _), made in {**all_of_it(), **workload("plain", lambda: SCALED)}.items():
        spaces.apply(KINDS[kind], whole(made.inputs), dry_run=True)


def put(*steps: str | int, value: Any) -> Callable[[Object], None]:
    def change(item: Any) -> None:
        for step in steps[:-1]:
            item = item[step]
        item[steps[-1]] = value

    return change


@pytest.mark.parametrize(
    ("kind", "change", "why"),
    [
        ("HorizontalPodAutoscaler", put("spec", "minReplicas", value=9), "minReplicas"),
        ("PodDisruptionBudget", put("spec", "minAvailable", value=1), "PodDisruptionBudgetSpec"),
        ("Deployment", put("spec", "template", "spec", "terminationGracePeriodSeconds", value=1), "terminationGracePeriodSeconds"),
        ("Service", put("spec", "ports", 0, "port", value=0), "port"),
    ],
)
def test_broken_copies_are_refused(spaces: Kube, kind: str, change: Callable[[Object], None], why: str) -> None:
    item = copy.deepcopy(whole(workload("plain", lambda: SCALED)[kind, "plain"].inputs))
    change(item)
    with pytest.raises(Refused, match=why):
        spaces.apply(KINDS[kind], item, dry_run=True)


@pytest.mark.parametrize("name", [API, PROXY])
def test_pods_of_ours_are_admitted_where_only_restricted_ones_are(kube: Kube, name: str) -> None:
    space = f"restricted-{name}"
    kube.apply(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": space, "labels": LEVEL}})
    template = whole(all_of_it()["Deployment", name].inputs)["spec"]["template"]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one", "namespace": space}, "spec": template["spec"]}
    kube.apply(PODS, pod, dry_run=True)
    pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
    with pytest.raises(Refused, match="restricted"):
        kube.apply(PODS, pod, dry_run=True)
