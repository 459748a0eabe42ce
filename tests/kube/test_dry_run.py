"""Every object of every environment, judged by the API server with the real definitions; and broken copies of each kind.

A dry run goes through decoding, defaults, schema, the definitions' CEL rules and admission, and stores nothing. There is no
controller and no webhook of the projects whose kinds these are.
"""

import copy
import ssl
from collections.abc import Iterator, Mapping
from typing import Any, Final

import httpx
import pytest

from infra.kubernetes import objects
from infra.manifests import manifests
from services.core.errors import NotFound, Refused
from services.core.kube import Kube, Object, Resource
from services.serving.inference import ALLOWED, CONFIG_MAPS
from tests.infra.graphs import all_layers
from tests.kube.apiserver import ADMIN, ApiServer
from tests.peers import GO, ROOT

ENVIRONMENTS: Final = ("dev", "staging", "prod")
NAMESPACES: Final = Resource("", "v1", "namespaces")
Path = tuple[str | int, ...]

BROKEN: Final[Mapping[str, tuple[Path, Any, str]]] = {
    "BackendTLSPolicy": (("spec", "validation", "wellKnownCACertificates"), "System", "must not contain both"),
    "Certificate": (("spec", "usages"), ["everything"], "usages"),
    "ClusterIssuer": (("spec", "ca"), "secret", "ca"),
    "ClusterQueue": (("spec", "preemption"), {"borrowWithinCohort": {"policy": "LowerPriority"}}, "reclaimWithinCohort=Never"),
    "ClusterRole": (("rules", 0, "verbs"), [], "verbs"),
    "ClusterStorageContainer": (("spec", "supportedUriFormats"), "all", "supportedUriFormats"),
    "ConfigMap": (("data", "dep"), 1, "data"),
    "Deployment": (("spec", "selector"), {"matchLabels": {"app": "another"}}, "selector"),
    "EC2NodeClass": (("spec", "role"), "somebody", "exactly one of"),
    "EnvoyProxy": (("spec", "backendTLS", "maxVersion"), "1.2", "minVersion must be smaller or equal"),
    "Gateway": (("spec", "listeners", 0, "protocol"), "UDP", "tls must not be specified"),
    "GatewayClass": (("spec", "controllerName"), "nobody", "controllerName"),
    "InferenceService": (("spec", "predictor", "minReplicas"), "one", "minReplicas"),
    "LocalQueue": (("spec", "clusterQueue"), "Capital Letters", "clusterQueue"),
    "Namespace": (("metadata", "labels"), {"pod-security.kubernetes.io/enforce": "somewhat"}, "somewhat"),
    "NetworkPolicy": (("spec", "policyTypes"), ["Sideways"], "policyTypes"),
    "NodePool": (("spec", "template", "metadata", "labels"), {"karpenter.sh/nodepool": "x"}, "restricted"),
    "PersistentVolume": (("spec", "csi"), None, "volume type"),
    "PersistentVolumeClaim": (("spec", "accessModes"), ["Sometimes"], "accessModes"),
    "PodDisruptionBudget": (("spec", "minAvailable"), 1, "both set"),
    "PodMonitor": (("spec", "podMetricsEndpoints"), "metrics", "podMetricsEndpoints"),
    "PrometheusRule": (("spec", "groups", 0, "interval"), "soon", "interval"),
    "RayJob": (("spec", "managedBy"), "somebody", "managedBy"),
    "ResourceFlavor": (("spec", "tolerations"), [{"operator": "Equal"}], "Exists"),
    "RoleBinding": (("roleRef", "kind"), "Roll", "roleRef"),
    "Service": (("spec", "type"), "Somewhere", "type"),
    "ServiceAccount": (("automountServiceAccountToken",), "no", "automountServiceAccountToken"),
    "ServingRuntime": (("spec", "containers"), None, "containers"),
    "StorageClass": (("volumeBindingMode",), "Sometime", "volumeBindingMode"),
    "ValidatingAdmissionPolicy": (("spec", "validations", 0, "expression"), "object.", "Syntax error"),
    "ValidatingAdmissionPolicyBinding": (("spec", "validationActions"), ["Sigh"], "validationActions"),
    "WorkloadPriorityClass": (("value",), "high", "value"),
}
"""Kind → a place in it, what is put there, and a word of the refusal. Where the definition has a rule (CEL), it is that rule's."""


@pytest.fixture(scope="module")
def kinds(cluster: ApiServer) -> Mapping[tuple[str, str], Resource]:
    """What the server serves: (apiVersion, kind) → resource."""
    found: dict[tuple[str, str], Resource] = {}
    headers, context = {"Authorization": f"Bearer {ADMIN}"}, ssl.create_default_context(cafile=str(cluster.identity.ca))
    with httpx.Client(base_url=cluster.url, verify=context, headers=headers) as client:
        groups = [item["groupVersion"] for group in client.get("/apis").json()["groups"] for item in group["versions"]]
        for version in ("v1", *groups):
            served = client.get(f"/api/{version}" if version == "v1" else f"/apis/{version}").json()["resources"]
            group, _, plain = version.rpartition("/")
            found |= {(version, item["kind"]): Resource(group, plain, item["name"]) for item in served if "/" not in item["name"]}
    return found


@pytest.fixture(scope="module")
def admin(cluster: ApiServer) -> Iterator[Kube]:
    """An administrator's client, in a cluster that has the namespaces of all environments, and what may be served in them: the
    admission policy, which other tests here make, looks there."""
    kube = Kube(cluster.access(), "tests")
    for name in sorted({item["metadata"]["namespace"] for item in every() if "namespace" in item["metadata"]}):
        # Without their labels: other tests here make pods of their own in some of them.
        kube.apply(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    for item in every():
        if (item["kind"], item["metadata"]["name"]) == ("ConfigMap", ALLOWED):
            kube.apply(CONFIG_MAPS, item, force=True)
    yield kube
    kube.close()


def of(environment: str) -> list[Object]:
    made = [item for graph in all_layers(environment) for item in objects(graph)]
    return [*made, *manifests(ROOT, environment)]


def every() -> list[Object]:
    return [item for environment in ENVIRONMENTS for item in of(environment)]


def judged(kube: Kube, kinds: Mapping[tuple[str, str], Resource], item: Object) -> str:
    """Why the server refuses it; empty if it takes it."""
    try:
        kube.apply(kinds[item["apiVersion"], item["kind"]], item, dry_run=True, force=True)
    except (NotFound, Refused) as error:
        return str(error)
    return ""


def test_every_kind_is_served(kinds: Mapping[tuple[str, str], Resource]) -> None:
    assert {(item["apiVersion"], item["kind"]) for item in every()} - kinds.keys() == set()


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_every_object_of_an_environment_passes(admin: Kube, kinds: Mapping[tuple[str, str], Resource], environment: str) -> None:
    found = [(item["kind"], item["metadata"], judged(admin, kinds, item)) for item in of(environment)]
    assert [answer for answer in found if answer[2]] == []


def test_the_page_says_which_api_server_judges_for_which_cluster() -> None:
    (wanted,) = {item.inputs["version"] for env in ENVIRONMENTS for item in all_layers(env)[0].of("aws:eks/cluster:Cluster")}
    judge = GO["kube-apiserver"].version.removeprefix("v").rpartition(".")[0]
    page = " ".join((ROOT / "deployment.md").read_text().split())
    assert f"That server is {judge}, the cluster {wanted}." in page


def test_a_broken_copy_of_each_kind_is_refused(admin: Kube, kinds: Mapping[tuple[str, str], Resource]) -> None:
    first = {item["kind"]: item for item in reversed(every())}
    assert first.keys() == BROKEN.keys()
    wrong: dict[str, tuple[str, str]] = {}
    for kind, good in first.items():
        path, value, said = BROKEN[kind]
        answers = judged(admin, kinds, _with(good, path, value)), judged(admin, kinds, _with(good, ("colour",), "red"))
        if said not in answers[0] or "colour" not in answers[1]:
            wrong[kind] = answers
    assert wrong == {}


def _with(item: Object, path: Path, value: Any) -> Object:
    changed = copy.deepcopy(item)
    found: Any = changed
    for step in path[:-1]:
        found = found[step]
    found[path[-1]] = value
    return changed
