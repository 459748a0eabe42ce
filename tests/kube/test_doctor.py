"""`ai-infra doctor` on a real API server, through the real kubectl: nothing there, all there, one thing wrong."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from infra.doctor import Finding, examine, in_order
from infra.graph import Graph
from infra.kubectl import Kubectl
from infra.kubernetes import RELEASE, objects
from infra.render import layers
from services.commands.common import Exit
from services.core.errors import NotFound, Unavailable
from services.core.kube import Kube, Object, Resource
from tests.infra.graphs import component, graph, ref, resource
from tests.kube.apiserver import WATCHER, ApiServer
from tests.peers import ROOT, need

DEPLOYMENTS = Resource("apps", "v1", "deployments")
CERTIFICATES = Resource("cert-manager.io", "v1", "certificates")


@pytest.fixture
def kubectl(cluster: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kubectl:
    monkeypatch.setenv("PATH", f"{Path(need('kubectl')).parent}:/usr/bin:/bin")
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig(tmp_path)))
    return Kubectl()


def of(kind: str, name: str, api: str = "v1", **fields: Any) -> Object:
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name, "namespace": "doctored"}} | fields


NAMESPACE = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "doctored"}}
POD = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "main", "image": "i"}]}}
DEPLOYMENT = of("Deployment", "api", "apps/v1", spec={"replicas": 2, "selector": {"matchLabels": {"a": "b"}}, "template": POD})
CERTIFICATE = of(
    "Certificate", "api", "cert-manager.io/v1", spec={"secretName": "s", "issuerRef": {"name": "i"}, "uris": ["spiffe://a/b"]}
)
WANTED: Graph = graph(
    component("workloads", depends_on=("urn:certificates",)),
    resource("kubernetes:apps/v1:Deployment", "deployment", DEPLOYMENT, parent="urn:workloads"),
    resource("kubernetes:core/v1:ConfigMap", "settings", of("ConfigMap", "settings", data={"n": "1", "role": ref("g", "arn")})),
    resource("kubernetes:core/v1:Namespace", "namespace", NAMESPACE),
    component("certificates", depends_on=("urn:namespace",)),
    resource("kubernetes:cert-manager.io/v1:Certificate", "certificate", CERTIFICATE, parent="urn:certificates"),
    resource(RELEASE, "chart", {"name": "chart", "namespace": "doctored"}, depends_on=("urn:namespace",)),
    resource("kubernetes:example.com/v1:Widget", "widget", of("Widget", "w", "example.com/v1"), depends_on=("urn:chart",)),
    resource("s3/bucketV2:BucketV2", "g", {"bucket": "b"}),
)


def apply(kube: Kube, item: Object) -> None:
    group, _, version = item["apiVersion"].rpartition("/")
    kube.apply(Resource(group, version, plural(item["kind"])), item, force=True)


def plural(kind: str) -> str:
    name = kind.lower()
    return name[:-1] + "ies" if name.endswith("y") and not name.endswith("ay") else name + ("es" if name.endswith("ss") else "s")


@pytest.fixture
def there(kube: Kube, cluster: ApiServer, tmp_path: Path) -> Kube:
    """All that is wanted and that this server knows, made anew."""
    for resource_, name in ((DEPLOYMENTS, "api"), (CERTIFICATES, "api")):
        kube.delete(resource_, name, "doctored")
    known = [item for item in objects(WANTED) if item["kind"] != "Widget"]
    for item in known:
        apply(kube, item)
    return kube


def brief(found: list[Finding]) -> list[tuple[str, str]]:
    return [(item.object, item.state) for item in found]


def test_what_others_need_is_told_first() -> None:
    assert [item.name for item in in_order(WANTED)] == ["namespace", "certificate", "deployment", "settings", "chart", "widget"]


def test_all_that_is_missing_is_told_with_the_command_that_makes_it(kubectl: Kubectl) -> None:
    other = Graph.from_json(json.loads(json.dumps(WANTED.to_json()).replace("doctored", "nowhere")))
    found = examine([other], kubectl)
    assert [item.object for item in found] == [
        "Namespace nowhere", "Certificate nowhere/api", "Deployment nowhere/api", "ConfigMap nowhere/settings",
        "Release nowhere/chart", "Widget nowhere/w",
    ]  # fmt: skip
    assert {item.state for item in found} == {"missing"}
    assert "does not know example.com/v1" in found[-1].detail
    assert found[0].remedy == "make up ENV=dev LAYERS=ground"


def test_what_people_have_to_give_is_told_once_before_the_first_pod_that_mounts_it(kubectl: Kubectl, there: Kube) -> None:
    def mounting(name: str, given: str) -> Object:
        pod = change(POD, lambda item: item["spec"].update(volumes=[{"name": "v", "configMap": {"name": given}}]))
        spec = {"replicas": 0, "selector": {"matchLabels": {"a": "b"}}, "template": pod}
        return of("Deployment", name, "apps/v1", spec=spec)

    pods = [mounting("one", "by-hand"), mounting("two", "by-hand"), mounting("three", "settings")]
    settings = of("ConfigMap", "settings", data={})
    made = [resource("kubernetes:apps/v1:Deployment", item["metadata"]["name"], item) for item in pods]
    wanted = graph(*made, resource("kubernetes:core/v1:ConfigMap", "settings", settings))
    for item in pods:
        apply(there, item)
    found = [item for item in examine([wanted], kubectl) if item.object.startswith("ConfigMap")]
    assert [(item.object, item.state, "deployment.md" in item.remedy) for item in found] == [
        ("ConfigMap doctored/by-hand", "missing", True)
    ]
    apply(there, of("ConfigMap", "by-hand", data={}))
    assert examine([wanted], kubectl) == []


def test_what_does_not_work_yet_says_why(kubectl: Kubectl, there: Kube) -> None:
    found = {item.object: item for item in examine([WANTED], kubectl)}
    assert found["Deployment doctored/api"].detail == "0 of 2 replicas are ready"
    assert found["Deployment doctored/api"].remedy == "runbooks/service-down.md"
    assert found["Certificate doctored/api"].detail == "no controller has said that it is Ready"
    assert found["Certificate doctored/api"].remedy == "runbooks/certificate-expires.md"
    assert "ConfigMap doctored/settings" not in found
    assert "Namespace doctored" not in found


def change(item: Object, edit: Callable[[Object], None]) -> Object:
    changed: Object = json.loads(json.dumps(item))
    edit(changed)
    return changed


CHANGES: dict[str, tuple[Object, Callable[[Object], None], str]] = {
    "fewer replicas": (DEPLOYMENT, lambda item: item["spec"].update(replicas=1), "spec.replicas is 1, 2 is wanted"),
    "another image": (
        DEPLOYMENT,
        lambda item: item["spec"]["template"]["spec"]["containers"][0].update(image="other"),
        "spec.template.spec.containers[0].image is other, i is wanted",
    ),
    "one identity more": (
        CERTIFICATE,
        lambda item: item["spec"]["uris"].append("spiffe://a/c"),
        "spec.uris has 2 items, 1 are wanted",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_somebody_changed_is_named_by_its_path(kubectl: Kubectl, there: Kube, name: str) -> None:
    item, edit, detail = CHANGES[name]
    apply(there, change(item, edit))
    found = [each for each in examine([WANTED], kubectl) if each.state == "differs"]
    assert [each.detail for each in found] == [detail]


def test_a_value_that_the_program_does_not_know_is_not_compared(kubectl: Kubectl, there: Kube) -> None:
    settings = next(item for item in objects(WANTED) if item["kind"] == "ConfigMap")
    apply(there, change(settings, lambda item: item["data"].update(role="whatever")))
    assert "ConfigMap doctored/settings" not in {item.object for item in examine([WANTED], kubectl)}
    apply(there, change(settings, lambda item: item["data"].update(n="2")))
    assert ("ConfigMap doctored/settings", "differs") in brief(examine([WANTED], kubectl))


@pytest.mark.parametrize("layer", [1, 2], ids=["platform", "apps"])
def test_an_environment_whose_objects_are_all_there_differs_in_nothing(kubectl: Kubectl, kube: Kube, layer: int) -> None:
    made = dev()[layer]
    for item in dev()[1].of("kubernetes:core/v1:Namespace"):
        apply(kube, item.inputs)
    for item in objects(made):
        apply(kube, item)
    found = examine([made], kubectl)
    assert [item for item in found if item.state == "differs"] == []
    by_hand = {item.object for item in found if item.state == "missing" and not item.object.startswith("Release")}
    assert by_hand == ({"ConfigMap ai-infra/trust", "ConfigMap models-dev/trust"} if made.layer == "apps" else set())


LAYERS: list[Graph] = []


def dev() -> list[Graph]:
    """Rendered once."""
    if not LAYERS:
        LAYERS.extend(layers(ROOT, "dev", "apps"))
    return LAYERS


def test_a_cluster_that_does_not_answer_is_no_finding(cluster: ApiServer, tmp_path: Path, kubectl: Kubectl) -> None:
    text = (tmp_path / "kubeconfig").read_text()
    (tmp_path / "kubeconfig").write_text(text.replace(f":{cluster.port}", f":{cluster.etcd_port + 1}"))
    with pytest.raises(Unavailable):
        kubectl.ready()
    command = [sys.executable, "-m", "services.cli", "doctor", "--env", "dev", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == Exit.RETRY
    assert json.loads(done.stderr)["error"] == "Unavailable"


@pytest.mark.parametrize("context", ["", "nowhere"])
def test_without_such_a_cluster_the_remedy_is_to_log_in(
    kubectl: Kubectl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, context: str
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "absent"))
    with pytest.raises(NotFound, match="log in to it"):
        Kubectl(context).ready()


def test_who_may_not_look_is_told_so(cluster: ApiServer, tmp_path: Path, kubectl: Kubectl) -> None:
    cluster.kubeconfig(tmp_path, WATCHER)
    with pytest.raises(Unavailable, match="forbidden"):
        examine([WANTED], kubectl)
