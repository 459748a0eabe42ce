"""`ai-infra doctor` on a real API server, through the real kubectl: nothing there, all there, one thing wrong."""

import base64
import gzip
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from infra.doctor import RUNBOOKS, SERVED, VAULT, VAULT_PODS, Finding, examine, in_order
from infra.graph import Graph
from infra.kubectl import Kubectl
from infra.kubernetes import RELEASE, objects
from infra.render import layers
from services.commands.common import Exit
from services.core.errors import NotFound, Unavailable
from services.core.kube import Kube, Object, Resource
from services.serving.inference import SERVICES
from tests.fakes.kserve import SERVICE_STATUS
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
CHART = {"chart": "of-others", "version": "v1.10.0"}
WANTED: Graph = graph(
    component("workloads", depends_on=("urn:certificates",)),
    resource("kubernetes:apps/v1:Deployment", "deployment", DEPLOYMENT, parent="urn:workloads"),
    resource("kubernetes:core/v1:ConfigMap", "settings", of("ConfigMap", "settings", data={"n": "1", "role": ref("g", "arn")})),
    resource("kubernetes:core/v1:Namespace", "namespace", NAMESPACE),
    component("certificates", depends_on=("urn:namespace",)),
    resource("kubernetes:cert-manager.io/v1:Certificate", "certificate", CERTIFICATE, parent="urn:certificates"),
    resource(RELEASE, "chart", {"name": "chart", "namespace": "doctored"} | CHART, depends_on=("urn:namespace",)),
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


def release(name: str, version: str, status: str = "deployed", revision: int = 1) -> Object:
    """A secret as Helm keeps one for each revision."""
    record = {"name": name, "info": {"status": status}, "chart": {"metadata": {"name": "of-others", "version": version}}}
    labels = {"owner": "helm", "name": name, "version": str(revision), "status": status}
    kept = base64.b64encode(base64.b64encode(gzip.compress(json.dumps(record).encode()))).decode()
    meta = {"name": f"sh.helm.release.v1.{name}.v{revision}", "namespace": "doctored", "labels": labels}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "type": "helm.sh/release.v1", "data": {"release": kept}}


def holding(name: str, record: bytes) -> Object:
    """A release whose record is other bytes."""
    kept = base64.b64encode(base64.b64encode(record)).decode()
    return change(release(name, "1.10.0"), lambda item: item["data"].update(release=kept))


RELEASES: dict[str, tuple[list[Object], list[tuple[str, str, str]]]] = {
    "as pinned": ([release("as-pinned", "v1.10.0")], []),
    "without the v": ([release("without-the-v", "1.10.0")], []),
    "upgraded by hand": (
        [release("upgraded-by-hand", "v1.10.0", "superseded"), release("upgraded-by-hand", "v1.11.0", revision=2)],
        [("differs", "its chart is v1.11.0, v1.10.0 is wanted", "runbooks/deploy-environment.md")],
    ),
    "rolled back": (
        # The tenth revision comes after the ninth, not after the first.
        [release("rolled-back", "v1.10.0", "failed", 9), release("rolled-back", "v1.9.0", "deployed", 10)],
        [("differs", "its chart is v1.9.0, v1.10.0 is wanted", "runbooks/deploy-environment.md")],
    ),
    "failed": (
        [release("failed", "v1.10.0", "failed")],
        [("not ready", "its last revision is failed", "helm --namespace doctored history failed")],
    ),
    "unreadable": (
        [holding("unreadable", b"none")],
        [("differs", "its chart is in a record that nobody can read, v1.10.0 is wanted", "runbooks/deploy-environment.md")],
    ),
    "of another shape": (
        [holding("of-another-shape", gzip.compress(b'{"chart": null}'))],
        [("differs", "its chart is in a record that nobody can read, v1.10.0 is wanted", "runbooks/deploy-environment.md")],
    ),
}


@pytest.mark.parametrize("case", RELEASES)
def test_a_release_is_right_if_its_last_revision_is_deployed_and_of_the_pinned_chart(
    kubectl: Kubectl, there: Kube, case: str
) -> None:
    kept, expected = RELEASES[case]
    for secret in kept:
        apply(there, secret)
    name = case.replace(" ", "-")
    found = examine([graph(resource(RELEASE, name, {"name": name, "namespace": "doctored"} | CHART))], kubectl)
    assert [(item.state, item.detail, item.remedy) for item in found] == expected
    assert {item.object for item in found} <= {f"Release doctored/{name}"}


def test_a_vault_that_is_sealed_or_never_was_initialised_is_told_behind_its_release(kubectl: Kubectl, there: Kube) -> None:
    said: dict[str, dict[str, str]] = {
        "vault-0": {"vault-initialized": "true", "vault-sealed": "false", "vault-active": "true"},
        "vault-1": {"vault-initialized": "true", "vault-sealed": "true"},
        "vault-2": {"vault-initialized": "false", "vault-sealed": "true"},
        "vault-3": {},
    }
    server = {"app.kubernetes.io/name": "vault", "component": "server"}
    apply(there, of("ServiceAccount", "default"))
    for name, labels in said.items():
        pod = of("Pod", name, spec=POD["spec"])
        pod["metadata"]["labels"] = server | labels
        apply(there, pod)
    apply(there, release("vault", "0.31.0"))
    vault = {"name": "vault", "namespace": "doctored", "chart": "vault", "version": "0.31.0"}
    wanted = graph(
        resource("kubernetes:core/v1:ConfigMap", "after", of("ConfigMap", "never-made"), depends_on=("urn:vault",)),
        resource(RELEASE, "vault", vault),
    )
    found = examine([wanted], kubectl)
    assert [(item.object, item.detail) for item in found] == [
        ("Pod doctored/vault-1", "it is sealed"),
        ("Pod doctored/vault-2", "it is not initialised"),
        ("Pod doctored/vault-3", "it has not said that it is unsealed"),
        ("ConfigMap doctored/never-made", "it is not there"),
    ]
    assert {item.remedy for item in found[:3]} == {"runbooks/vault-sealed.md"}


def test_the_runbooks_that_the_doctor_names_are_there() -> None:
    assert [name for name in RUNBOOKS.values() if not (ROOT / name).is_file()] == []


def test_vault_is_found_by_the_names_that_the_program_gives_it() -> None:
    (found,) = [item for item in dev()[1].of(RELEASE) if item.inputs["chart"] == VAULT]
    (spread,) = found.inputs["values"]["server"]["topologySpreadConstraints"]
    assert ",".join(f"{key}={value}" for key, value in spread["labelSelector"]["matchLabels"].items()) == VAULT_PODS


def test_a_model_that_is_not_ready_is_told_last_with_the_reason(kubectl: Kubectl, there: Kube) -> None:
    failing = {"type": "Ready", "status": "False", "reason": "RevisionMissing", "message": "no node has a GPU"}
    conditions = {
        ("models-dev", "digits"): [{"type": "PredictorReady", "status": "True"}, failing],
        ("models-dev", "faces"): [{"type": "Ready", "status": "True"}],
        ("models-dev", "new"): [],
        ("models-dev", "odd"): [{"type": "Ready", "status": "Unknown"}],
        ("doctored", "theirs"): [failing],
    }
    apply(there, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "models-dev"}})
    for (namespace, name), said in conditions.items():
        meta = {"name": name, "namespace": namespace}
        apply(there, SERVED | {"metadata": meta, "spec": {"predictor": {"minReplicas": 1}}})
        there.apply(SERVICE_STATUS, SERVED | {"metadata": meta, "status": {"conditions": said}})
    try:
        found = examine([WANTED], kubectl)
        assert [(item.object, item.detail) for item in found[-3:]] == [
            ("InferenceService models-dev/digits", "Ready is False: RevisionMissing: no node has a GPU"),
            ("InferenceService models-dev/new", "no controller has said that it is Ready"),
            ("InferenceService models-dev/odd", "Ready is Unknown: no reason is given"),
        ]
        assert {item.remedy for item in found[-3:]} == {"runbooks/predictor-hung.md"}
        assert found[-4].object == "Widget doctored/w"
    finally:
        for namespace, name in conditions:
            there.delete(SERVICES, name, namespace)


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
