"""The cluster of each environment as a whole: what a pod is given is made by somebody, and everybody who looks for it finds it."""

from collections.abc import Iterator
from typing import Any

import pytest

from components.apps.common import TRUST_MAP
from infra.kube_facts import kube_facts
from infra.kubernetes import objects
from infra.manifests import manifests
from services.core.kube import Object
from tests.infra.graphs import all_layers
from tests.peers import ROOT

ENVIRONMENTS = ("dev", "staging", "prod")
BY_HAND = {("ConfigMap", "ai-infra", TRUST_MAP)} | {("ConfigMap", f"models-{name}", TRUST_MAP) for name in ENVIRONMENTS}
"""What people give, once; deployment.md says how."""


def everything(environment: str) -> list[Object]:
    return [*(item for graph in all_layers(environment) for item in objects(graph)), *manifests(ROOT, environment)]


def pods(environment: str) -> list[dict[str, Any]]:
    """Of ours: namespace, labels and spec."""
    graphs = all_layers(environment)
    found = kube_facts(graphs, manifests(ROOT, environment))["pods"]
    labels = {key: value for item in everything(environment) for key, value in labelled(item)}
    return [pod | {"labels": labels[pod["id"]]} for pod in found if pod["kind"] in ("Deployment", "InferenceService", "RayJob")]


def labelled(item: Object) -> Iterator[tuple[str, dict[str, str]]]:
    """Ids as `infra.kube_facts` has them."""
    name, spec = f"{item['kind']}/{item['metadata'].get('namespace', '')}/{item['metadata']['name']}", item.get("spec", {})
    match item["kind"]:
        case "Deployment":
            yield name, spec["template"]["metadata"]["labels"]
        case "InferenceService":
            yield f"{name}/predictor", spec["predictor"]["labels"]
            yield from ((f"{name}/{found['predictor']['name']}", found["predictor"]["labels"]) for found in spec["canary"])
        case "RayJob":
            cluster = spec["rayClusterSpec"]
            yield f"{name}/submitter", spec["submitterPodTemplate"]["metadata"]["labels"]
            yield f"{name}/head", cluster["headGroupSpec"]["template"]["metadata"]["labels"]
            for group in cluster["workerGroupSpecs"]:
                yield f"{name}/{group['groupName']}", group["template"]["metadata"]["labels"]


def needs(pod: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """(kind, namespace, name) of what has to be there before a pod starts."""
    space, spec = pod["namespace"], pod["spec"]
    yield "ServiceAccount", space, spec["serviceAccountName"]
    for volume in spec.get("volumes", []):
        match volume:
            case {"secret": {"secretName": str(name)}}:
                yield "Secret", space, name
            case {"configMap": {"name": str(name)}}:
                yield "ConfigMap", space, name
            case {"persistentVolumeClaim": {"claimName": str(name)}}:
                yield "PersistentVolumeClaim", space, name


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_what_a_pod_is_given_is_made_by_somebody(environment: str) -> None:
    made = set(BY_HAND)
    for item in everything(environment):
        space = item["metadata"].get("namespace", "")
        made.add((item["kind"], space, item["metadata"]["name"]))
        if item["kind"] == "Certificate":
            made.add(("Secret", space, item["spec"]["secretName"]))
    assert {need for pod in pods(environment) for need in needs(pod)} - made == set()


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_gateway_knows_predictors_by_what_their_certificate_says(environment: str) -> None:
    found = everything(environment)
    [issued] = [
        item["spec"] for item in found
        if item["kind"] == "Certificate" and item["spec"]["secretName"] == "predictor-tls"
        and item["metadata"]["namespace"] == f"models-{environment}"
    ]  # fmt: skip
    policies = [item for item in found if item["kind"] == "BackendTLSPolicy"]
    assert {item["metadata"]["name"] for item in policies} == {"digits-predictor", "digits-v2-00000002-predictor"}
    for item in policies:
        validation = item["spec"]["validation"]
        assert item["metadata"]["namespace"] == f"models-{environment}"
        assert [name["uri"] for name in validation["subjectAltNames"]] == issued["uris"]
        assert [validation["hostname"]] == issued["dnsNames"]
        assert [reference["name"] for reference in validation["caCertificateRefs"]] == [issued["secretName"]]


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_every_pod_of_ours_is_opened_by_one_policy(environment: str) -> None:
    policies = [item for item in everything(environment) if item["kind"] == "NetworkPolicy"]
    opening = [item for item in policies if item["metadata"]["name"] != "default-deny"]
    found = {pod["id"]: [item["metadata"]["name"] for item in opening if selects(item, pod)] for pod in pods(environment)}
    assert found
    assert {name: names for name, names in found.items() if len(names) != 1} == {}


def selects(policy: Object, pod: dict[str, Any]) -> bool:
    wanted = policy["spec"]["podSelector"].get("matchLabels", {}).items()
    return bool(policy["metadata"]["namespace"] == pod["namespace"] and wanted <= pod["labels"].items())


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_every_monitor_finds_pods_with_its_port(environment: str) -> None:
    for item in everything(environment):
        if item["kind"] != "PodMonitor" or item["metadata"]["namespace"] != "monitoring":
            continue
        spec = item["spec"]
        wanted, [space] = spec["selector"]["matchLabels"].items(), spec["namespaceSelector"]["matchNames"]
        found = [pod for pod in pods(environment) if pod["namespace"] == space and wanted <= pod["labels"].items()]
        ports = {port["name"] for pod in found for one in pod["spec"]["containers"] for port in one.get("ports", [])}
        assert {endpoint["port"] for endpoint in spec["podMetricsEndpoints"]} <= ports, item["metadata"]["name"]
