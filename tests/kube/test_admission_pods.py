"""Who may have which identity, on a real API server: pods of predictors and of jobs, Certificates and requests for them.

The policies are those of the layer apps of one environment. They are cluster-wide, so they have their own cluster.
"""

import copy
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra.kubernetes import objects
from services.core.admission import BINDINGS, POLICIES, policy, refuse_unless
from services.core.errors import NotFound, Refused
from services.core.kube import PODS, Kube, Object, Resource
from services.serving.pod_admission import AGENT, CREDENTIALS, CREDENTIALS_TOKEN, OF_EKS, OF_IRSA, ROLE_TOKEN
from tests.infra.graphs import all_layers
from tests.infra.test_stack_config import values
from tests.kube.admitted import predictor_pod, predictor_pod_by_irsa, ray_pods, runtime_space
from tests.kube.apiserver import ADMIN, ApiServer
from tests.kube.conftest import DEFINITIONS, definitions, install
from tests.kube.typecheck import warnings
from tests.serving import wait_for

STAGE = "staging"
MODELS, JOBS, SERVICES = runtime_space(STAGE), f"training-{STAGE}", "ai-infra"
NAMESPACES = Resource("", "v1", "namespaces")
CERTIFICATES = Resource("cert-manager.io", "v1", "certificates")
CERT_MANAGER = "system:serviceaccount:cert-manager:cert-manager"
OTHER = "registry.example/other@sha256:" + "1" * 64
TEXT = {"type": "string"}
ISSUER = {"type": "object", "properties": {"name": TEXT, "kind": TEXT, "group": TEXT}}
SPEC = {"type": "object", "properties": {"request": TEXT, "issuerRef": ISSUER}}
REQUESTS = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "certificaterequests.cert-manager.io"},
    "spec": {
        "group": "cert-manager.io",
        "scope": "Namespaced",
        "names": {"kind": "CertificateRequest", "plural": "certificaterequests"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": SPEC}}},
            }
        ],
    },
}
"""Of cert-manager's name and group, with those of its fields that are written here."""


def made(kind: str) -> list[Object]:
    """Of all layers of the environment."""
    return [item for graph in all_layers(STAGE) for item in objects(graph) if item["kind"] == kind]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    judged = (b"certificates.cert-manager.io", b"inferenceservices.serving.kserve.io")
    found = [text for text in definitions() if any(name in text for name in judged)]
    server = ApiServer(tmp_path_factory.mktemp("identities"))
    server.start()
    try:
        install(server, found)
        kube = Kube(server.access(), "tests")
        kube.apply(DEFINITIONS, REQUESTS)
        spaces = {item["metadata"]["namespace"] for item in made("Certificate")} | {MODELS, JOBS, "elsewhere"}
        for name in sorted(spaces):
            kube.apply(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        for item in made("ValidatingAdmissionPolicy"):
            kube.apply(POLICIES, item)
        for item in made("ValidatingAdmissionPolicyBinding"):
            kube.apply(BINDINGS, item)
        # The server takes a new policy into force after a moment, each by itself.
        for refused in (stranger(MODELS), stranger(JOBS)):
            wait_for(lambda wanted=refused: verdict(kube, PODS, wanted) != "", "pods are judged")
        wait_for(lambda: verdict(kube, CERTIFICATES, certificate("elsewhere", "x", [])) != "", "Certificates are judged")
        wait_for(lambda: asked(server, "admin") != "", "requests are judged")
        kube.close()
        yield server
    finally:
        server.stop()


@pytest.fixture
def admin(server: ApiServer) -> Iterator[Kube]:
    kube = Kube(server.access(), "tests")
    yield kube
    kube.close()


def verdict(kube: Kube, kind: Resource, wanted: Object) -> str:
    """Why it is refused; empty if it is admitted."""
    try:
        kube.apply(kind, wanted, dry_run=True)
    except Refused as error:
        return str(error)
    return ""


def stranger(namespace: str) -> Object:
    """An ordinary pod, which has nothing of ours."""
    spec = {"serviceAccountName": "default", "containers": [{"name": "x", "image": OTHER}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "stranger", "namespace": namespace}, "spec": spec}


def certificate(namespace: str, name: str, uris: list[str], **more: Any) -> Object:
    issuer = {"name": "ai-infra", "kind": "ClusterIssuer", "group": "cert-manager.io"}
    spec = {"secretName": f"{name}-tls", "issuerRef": issuer} | ({"uris": uris} if uris else {}) | more
    meta = {"name": name, "namespace": namespace}
    return {"apiVersion": "cert-manager.io/v1", "kind": "Certificate", "metadata": meta, "spec": spec}


def asked(server: ApiServer, user: str, issuer: str = "ai-infra", kind: str = "ClusterIssuer", namespace: str = "elsewhere") -> str:
    """What the server says to a CertificateRequest of somebody who may do everything; empty if it is admitted."""
    body = {
        "apiVersion": "cert-manager.io/v1",
        "kind": "CertificateRequest",
        "metadata": {"name": "one", "namespace": namespace},
        "spec": {"request": "LS0t", "issuerRef": {"name": issuer, "kind": kind, "group": "cert-manager.io"}},
    }
    headers = {"Authorization": f"Bearer {ADMIN}", "Impersonate-User": user, "Impersonate-Group": "system:masters"}
    context = ssl.create_default_context(cafile=str(server.identity.ca))
    path = f"/apis/cert-manager.io/v1/namespaces/{namespace}/certificaterequests?dryRun=All"
    with httpx.Client(base_url=server.url, verify=context, headers=headers) as client:
        answer = client.post(path, json=body)
    assert answer.status_code in (201, 403), answer.text
    return "" if answer.is_success else str(answer.json()["message"])


def test_the_types_of_the_policies_are_right(server: ApiServer, admin: Kube, tmp_path: Path) -> None:
    names = {item["metadata"]["name"] for item in made("ValidatingAdmissionPolicy")}
    assert len(names) == 5
    wrong = policy("wrong", PODS, [refuse_unless("object.spec.colour == 'red'", "never")])
    admin.apply(POLICIES, wrong)
    found = warnings(server, admin, tmp_path)
    assert "colour" in found.pop("wrong")[0]
    assert found == {name: [] for name in names}


def test_a_predictor_as_kserve_makes_it_is_admitted(admin: Kube) -> None:
    assert verdict(admin, PODS, predictor_pod(STAGE)) == ""


def test_a_predictor_that_takes_its_role_by_irsa_is_admitted_and_with_another_role_refused(admin: Kube) -> None:
    account, role = values(STAGE)["account"], f"role/ai-infra-{STAGE}-predictor"
    assert verdict(admin, PODS, predictor_pod_by_irsa(STAGE, f"arn:aws:iam::{account}:{role}")) == ""
    for other in (f"arn:aws:iam::999999999999:{role}", f"arn:aws:iam::{account}:role/ai-infra-{STAGE}-api"):
        assert "another value" in verdict(admin, PODS, predictor_pod_by_irsa(STAGE, other))


def test_a_predictor_on_nodes_with_ipv6_is_admitted(admin: Kube) -> None:
    wanted = predictor_pod(STAGE)
    valued(CREDENTIALS, AGENT[1])(wanted["spec"])
    assert verdict(admin, PODS, wanted) == ""


def test_pods_of_a_job_as_kuberay_makes_them_are_admitted(admin: Kube) -> None:
    pods = list(ray_pods(STAGE))
    assert [pod["metadata"]["name"] for pod in pods] == ["head", "submitter", "workers"]
    assert [verdict(admin, PODS, pod) for pod in pods] == ["", "", ""]


def test_every_certificate_of_the_environment_is_admitted(admin: Kube) -> None:
    found = {item["metadata"]["name"]: verdict(admin, CERTIFICATES, item) for item in made("Certificate")}
    assert {"api", "signing-proxy", "predictor", "prometheus", "vault", "ai-infra-ca"} <= found.keys()
    assert {name: said for name, said in found.items() if said} == {}


def test_elsewhere_pods_are_not_judged(admin: Kube) -> None:
    assert verdict(admin, PODS, stranger("elsewhere")) == ""


Change = Callable[[Object], Any]


def volume(source: Object, path: str, name: str = "theirs") -> Change:
    """Adds one, mounted into the first container."""

    def change(spec: Object) -> None:
        spec["volumes"].append({"name": name} | source)
        spec["containers"][0]["volumeMounts"].append({"name": name, "mountPath": path})

    return change


def main(**fields: Any) -> Change:
    return lambda spec: spec["containers"][0].update(fields)


def added(name: str, **value: Any) -> Change:
    return lambda spec: spec["containers"][0]["env"].append({"name": name} | value)


def lacking(name: str, group: str = "containers") -> Change:
    """Takes a variable away."""

    def change(spec: Object) -> None:
        [container] = spec[group]
        container["env"] = [item for item in container["env"] if item["name"] != name]

    return change


def valued(name: str, value: str) -> Change:
    """Gives a variable that is there another value."""

    def change(spec: Object) -> None:
        [found] = [item for item in spec["containers"][0]["env"] if item["name"] == name]
        found["value"] = value

    return change


def scratch(source: Object) -> Change:
    def change(spec: Object) -> None:
        [found] = [item for item in spec["volumes"] if item["name"] == "scratch"]
        found.pop("emptyDir")
        found.update(source)

    return change


TLS_KEY = {"secretKeyRef": {"name": "predictor-tls", "key": "tls.key"}}
SECRET = {"secret": {"secretName": "predictor-tls"}}
BAD_PREDICTORS: dict[str, tuple[Change, str]] = {
    "another account": (lambda spec: spec.update(serviceAccountName="default"), "service account predictor"),
    "another image": (main(image=OTHER), "image"),
    "a tag of our image": (lambda spec: main(image=spec["containers"][0]["image"].split("@")[0] + ":latest")(spec), "image"),
    "another initialiser": (lambda spec: spec["initContainers"][0].update(image=OTHER), "image"),
    "another command": (main(command=["cat", "/identity/predictor/tls.key"]), "another program"),
    "no command": (lambda spec: spec["containers"][0].pop("command"), "another program"),
    "arguments": (main(args=["--port", "1"]), "another program"),
    "another command of the initialiser": (lambda spec: spec["initContainers"][0].update(command=["cat"]), "another program"),
    "a second container": (lambda spec: spec["containers"].append(spec["containers"][0] | {"name": "two"}), "another program"),
    "a second starter": (
        lambda spec: spec["initContainers"].append({"name": "x", "image": spec["containers"][0]["image"], "command": ["sh"]}),
        "another program",
    ),
    "the secret as variables": (main(envFrom=[{"secretRef": {"name": "predictor-tls"}}]), "variable"),
    "the secret in a variable": (
        added("AWS_REGION_", valueFrom=TLS_KEY), "variable"
    ),
    "the secret in a variable of a known name": (
        added("HF_TOKEN", valueFrom=TLS_KEY), "variable"
    ),
    "a library to load": (added("LD_PRELOAD", value="/tmp/x.so"), "variable"),
    "modules to load": (added("PYTHONPATH", value="/trust"), "variable"),
    "credentials by a program": (added("AWS_CONFIG_FILE", value="/trust/config"), "variable"),
    "another trust": (main(env=[{"name": "AI_INFRA_TRUST", "value": "/tmp/trust.json"}]), "variable"),
    "no environment": (lacking("AI_INFRA_ENV"), "lacks a variable"),
    "no variables": (lambda spec: spec["containers"][0].pop("env"), "lacks a variable"),
    "no environment of the initialiser": (lacking("AI_INFRA_ENV", "initContainers"), "lacks a variable"),
    "no objects of the initialiser": (lacking("AI_INFRA_OBJECTS", "initContainers"), "lacks a variable"),
    "credentials from elsewhere": (valued(CREDENTIALS, "http://10.0.0.1/v1/credentials"), "another value"),
    "credentials from a host that begins alike": (valued(CREDENTIALS, f"{AGENT[0]}.x.example/"), "another value"),
    "another file as the token": (valued(CREDENTIALS_TOKEN, "/identity/predictor/tls.key"), "another value"),
    "another file as the token by a way round": (
        valued(CREDENTIALS_TOKEN, f"{OF_EKS}../../../../identity/predictor/tls.key"), "another value"
    ),
    "another file as IRSA's token": (added(ROLE_TOKEN, value="/identity/predictor/tls.key"), "another value"),
    "another file as IRSA's token by a way round": (
        added(ROLE_TOKEN, value=f"{OF_IRSA}../../../../identity/predictor/tls.key"), "another value"
    ),
    "the secret as the token": (
        lambda spec: [lacking(CREDENTIALS_TOKEN)(spec), added(CREDENTIALS_TOKEN, valueFrom=TLS_KEY)(spec)], "another value"
    ),
    "the secret twice": (volume(SECRET, "/var/run/secrets/x"), "a volume is neither"),
    "another secret": (volume({"secret": {"secretName": "api-tls"}}, "/x"), "a volume is neither"),
    "the secret in a projected volume": (
        volume({"projected": {"sources": [{"secret": {"name": "predictor-tls"}}]}}, "/var/run/secrets/x"), "a volume is neither"
    ),
    "code from a ConfigMap": (volume({"configMap": {"name": "code"}}, "/usr/lib/python3"), "a volume is neither"),
    "somebody's disk": (volume({"persistentVolumeClaim": {"claimName": "x"}}, "/x"), "a volume is neither"),
    "a folder of the node": (volume({"hostPath": {"path": "/"}}, "/x"), "a volume is neither"),
    "a driver that is given the secret": (
        volume({"csi": {"driver": "x", "nodePublishSecretRef": {"name": "predictor-tls"}}}, "/x"), "a volume is neither"
    ),
    "code in place of the empty folder": (scratch({"configMap": {"name": "code"}}), "a volume is neither"),
    "projected code in place of the empty folder": (
        scratch({"projected": {"sources": [{"configMap": {"name": "code"}}]}}), "a volume is neither"
    ),
    "projected code over Python's folder": (
        volume({"projected": {"sources": [{"configMap": {"name": "code"}}]}}, "/usr/lib/python3"), "mounted elsewhere"
    ),
    "projected code by a way round": (
        volume({"projected": {"sources": [{"configMap": {"name": "code"}}]}}, "/var/run/secrets/../../../usr/lib"),
        "mounted elsewhere",
    ),
    "the empty folder over Python's": (
        lambda spec: spec["containers"][0]["volumeMounts"].append({"name": "scratch", "mountPath": "/usr/lib/python3"}),
        "mounted elsewhere",
    ),
    "a working directory": (main(workingDir="/mnt/models"), "working directory"),
    "a hook": (main(lifecycle={"postStart": {"exec": {"command": ["cat", "/identity/predictor/tls.key"]}}}), "a hook"),
    "a hook at the end": (main(lifecycle={"preStop": {"exec": {"command": ["cat"]}}}), "a hook"),
    "a probe": (main(livenessProbe={"exec": {"command": ["cat", "/identity/predictor/tls.key"]}}), "a probe"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_PREDICTORS)
def test_what_is_no_predictor_is_refused_in_their_namespace(admin: Kube, name: str) -> None:
    change, why = BAD_PREDICTORS[name]
    wanted = copy.deepcopy(predictor_pod(STAGE))
    change(wanted["spec"])
    assert why in verdict(admin, PODS, wanted)


def test_a_predictor_that_runs_gets_no_other_image_and_no_container(admin: Kube, server: ApiServer) -> None:
    pod = predictor_pod(STAGE)
    admin.apply(PODS, pod)
    changed = copy.deepcopy(pod)
    changed["spec"]["containers"][0]["image"] = OTHER
    assert "image" in verdict(admin, PODS, changed)
    mounts = pod["spec"]["containers"][0]["volumeMounts"]
    one = {"name": "debugger", "image": OTHER, "volumeMounts": mounts, "terminationMessagePolicy": "File"}
    headers = {"Authorization": f"Bearer {ADMIN}", "Content-Type": "application/strategic-merge-patch+json"}
    path = f"/api/v1/namespaces/{MODELS}/pods/{pod['metadata']['name']}/ephemeralcontainers"
    with httpx.Client(base_url=server.url, verify=ssl.create_default_context(cafile=str(server.identity.ca))) as client:
        answer = client.patch(path, json={"spec": {"ephemeralContainers": [one]}}, headers=headers)
    assert (answer.status_code, "no container is added" in answer.text) == (403, True), answer.text
    admin.delete(PODS, pod["metadata"]["name"], MODELS)


TOKEN = {"secretKeyRef": {"name": "other", "key": "password"}}
BAD_JOBS: dict[str, tuple[Change, str]] = {
    "another account": (lambda spec: spec.update(serviceAccountName="default"), "service account training"),
    "no account": (lambda spec: spec.pop("serviceAccountName"), "service account training"),
    "a folder of the node": (volume({"hostPath": {"path": "/"}}, "/x"), "a volume is neither"),
    "a secret": (volume({"secret": {"secretName": "run-cluster"}}, "/x"), "a volume is neither"),
    "a token of the API server": (
        volume({"projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}, "/x"), "a volume is neither"
    ),
    "another disk": (volume({"persistentVolumeClaim": {"claimName": "other"}}, "/x"), "a volume is neither"),
    "a driver": (volume({"csi": {"driver": "x", "nodePublishSecretRef": {"name": "y"}}}, "/x"), "a volume is neither"),
    "a secret as variables": (main(envFrom=[{"secretRef": {"name": "other"}}]), "a variable comes from a secret"),
    "another secret in a variable": (added("PASSWORD", valueFrom=TOKEN), "a variable comes from a secret"),
    "another secret under KubeRay's name": (
        lambda spec: main(env=[{"name": "RAY_AUTH_TOKEN", "valueFrom": TOKEN}])(spec), "a variable comes from a secret"
    ),
    "a secret of a starter": (
        lambda spec: spec.update(initContainers=[{"name": "x", "image": OTHER, "env": [{"name": "A", "valueFrom": TOKEN}]}]),
        "a variable comes from a secret",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_JOBS)
def test_a_jobs_pod_with_more_than_its_own_is_refused(admin: Kube, name: str) -> None:
    change, why = BAD_JOBS[name]
    wanted = copy.deepcopy(next(ray_pods(STAGE)))
    change(wanted["spec"])
    assert why in verdict(admin, PODS, wanted)


def test_only_cert_manager_asks_our_authority(server: ApiServer) -> None:
    assert asked(server, CERT_MANAGER) == ""
    assert "only cert-manager asks" in asked(server, "admin")
    assert "only cert-manager asks" in asked(server, f"system:serviceaccount:{MODELS}:cert-manager", namespace=MODELS)


def test_other_issuers_are_asked_by_anybody(server: ApiServer) -> None:
    assert asked(server, "admin", issuer="theirs") == ""
    assert asked(server, "admin", kind="Issuer") == ""


URI = "spiffe://ai-infra.local"
PREDICTOR = f"{URI}/service/predictor"
GOOD: dict[str, Object] = {
    "a person's": certificate(SERVICES, "person-ana", [f"{URI}/person/ana"]),
    "Vault's": certificate("vault", "vault", [], dnsNames=["localhost"], ipAddresses=["127.0.0.1"]),
    "another authority's": certificate(
        "cert-manager", "ai-infra-ca", [], isCA=True, commonName="ai-infra staging",
        issuerRef={"name": "ai-infra-self-signed", "kind": "ClusterIssuer"},
    ),
    "another issuer's": certificate("elsewhere", "x", [f"{URI}/service/api"], issuerRef={"name": "theirs", "kind": "Issuer"}),
}  # fmt: skip
BAD: dict[str, tuple[Object, str]] = {
    "a service's identity elsewhere": (certificate("elsewhere", "api", [f"{URI}/service/api"]), "spec.uris"),
    "another service's identity": (certificate(MODELS, "predictor", [f"{URI}/service/api"], dnsNames=["predictor"]), "spec.uris"),
    "a second identity": (
        certificate(MODELS, "predictor", [PREDICTOR, f"{URI}/service/api"], dnsNames=["predictor"]), "spec.uris"
    ),
    "another service's names": (certificate(MODELS, "predictor", [PREDICTOR], dnsNames=["api.ai-infra.svc"]), "spec.dnsNames"),
    "names of who has none": (
        certificate("monitoring", "prometheus", [f"{URI}/service/prometheus"], dnsNames=["api.ai-infra.svc"]), "spec.dnsNames"
    ),
    "a person elsewhere": (certificate(MODELS, "person-ana", [f"{URI}/person/ana"]), "spec.uris"),
    "a service as a person": (certificate(SERVICES, "person-x", [f"{URI}/service/api"]), "spec.uris"),
    "a way out of people": (certificate(SERVICES, "person-x", [f"{URI}/person/../service/api"]), "spec.uris"),
    "two people": (certificate(SERVICES, "person-x", [f"{URI}/person/ana", f"{URI}/person/ben"]), "spec.uris"),
    "a person with a server's name": (
        certificate(SERVICES, "person-ana", [f"{URI}/person/ana"], dnsNames=["api.ai-infra.svc"]), "spec.dnsNames"
    ),
    "a person with a server's name as the common one": (
        certificate(SERVICES, "person-ana", [f"{URI}/person/ana"], commonName="api.ai-infra.svc"), "commonName"
    ),
    "a service with another's common name": (
        certificate("monitoring", "prometheus", [f"{URI}/service/prometheus"], commonName="api.ai-infra.svc"), "commonName"
    ),
    "a person with an address": (
        certificate(SERVICES, "person-ana", [f"{URI}/person/ana"], ipAddresses=["10.0.0.1"]), "spec.ipAddresses"
    ),
    "a service with an address": (
        certificate("monitoring", "prometheus", [f"{URI}/service/prometheus"], ipAddresses=["127.0.0.1"]), "spec.ipAddresses"
    ),
    "Vault with another address": (
        certificate("vault", "vault", [], dnsNames=["localhost"], ipAddresses=["127.0.0.1", "10.0.0.1"]), "spec.ipAddresses"
    ),
    "Vault without its address": (certificate("vault", "vault", [], dnsNames=["localhost"]), "spec.ipAddresses"),
    "a person with an address of mail": (
        certificate(SERVICES, "person-ana", [f"{URI}/person/ana"], emailAddresses=["api@x.example"]), "emailAddresses"
    ),
    "no identity": (certificate("elsewhere", "x", [], dnsNames=["api.ai-infra.svc"]), "spec.uris"),
    "an authority": (certificate(SERVICES, "person-ana", [f"{URI}/person/ana"], isCA=True), "isCA"),
    "a subject of its own": (
        certificate(SERVICES, "person-ana", [f"{URI}/person/ana"], literalSubject="CN=api"), "literalSubject"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_a_certificate_of_ones_own_is_admitted(admin: Kube, name: str) -> None:
    assert verdict(admin, CERTIFICATES, GOOD[name]) == ""


@pytest.mark.parametrize("name", BAD)
def test_a_certificate_of_somebody_elses_identity_is_refused(admin: Kube, name: str) -> None:
    wanted, why = BAD[name]
    assert why in verdict(admin, CERTIFICATES, wanted)


def test_an_identity_is_not_slipped_in_later(admin: Kube) -> None:
    good = GOOD["a person's"]
    admin.apply(CERTIFICATES, good)
    changed = copy.deepcopy(good)
    changed["spec"]["uris"] = [f"{URI}/service/api"]
    assert "spec.uris" in verdict(admin, CERTIFICATES, changed)
    admin.delete(CERTIFICATES, "person-ana", SERVICES)
    with pytest.raises(NotFound):
        admin.get(CERTIFICATES, "person-ana", SERVICES)
