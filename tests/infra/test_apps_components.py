"""Applications in the cluster: what a component makes of its arguments, and that the services take the settings they are given."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from components.apps.api import api
from components.apps.calls import API, PREDICTOR, PROXY, TRAINING
from components.apps.certificates import Certificates, Holder, secret_of
from components.apps.pod import Container, Disk, Http, Mount, Probes
from components.apps.rbac import Rbac, RbacArgs
from components.apps.signing_proxy import IN_VAULT, signing_proxy
from components.apps.vault_access import Account, VaultAccess, document, signing_paths
from components.apps.workload import DRAIN_S, Scale, Volume, Workload, WorkloadArgs
from services.api.settings import Settings as ApiSettings
from services.core.tls import service_id
from services.serving import admission
from services.signing.settings import Settings as SigningSettings
from tests.infra.apps import (
    API_ARGS,
    CERTIFICATES,
    IMAGE,
    MODELS,
    PROXY_ARGS,
    RBAC,
    SERVICES,
    VAULT,
    all_of_it,
    environ,
    pod,
    workload,
)
from tests.infra.recorded import Graph, changed, recorded

PROBE = Http(port=1, path="/")
PLAIN = Container(
    name="plain",
    image=IMAGE,
    probes=Probes(live=PROBE, ready=PROBE, start_s=10),
    requests={"cpu": "1", "memory": "1Gi"},
    limits={"memory": "1Gi"},
    ports={"https": 1},
    settings={},
    mounts={},
)
SCALED = WorkloadArgs(
    namespace=SERVICES, main=PLAIN, grace_s=30, role_arn="arn:role/plain", scale=Scale(minimum=2, maximum=5, cpu_percent=70)
)


@pytest.fixture(scope="module")
def made() -> Graph:
    return all_of_it()


def containers(graph: Graph) -> Iterator[tuple[str, dict[str, Any]]]:
    for name in (API, PROXY):
        found = pod(graph, name)
        yield from ((name, item) for item in [*found["containers"], *found.get("initContainers", [])])


def test_containers_can_do_no_more_than_run(made: Graph) -> None:
    for _, found in containers(made):
        assert found["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "privileged": False,
            "readOnlyRootFilesystem": True,
        }
        assert found["resources"]["requests"].keys() == {"cpu", "memory"}
        assert found["resources"]["limits"].keys() == {"memory"}
        assert {"startupProbe", "livenessProbe", "readinessProbe"} <= found.keys()


def test_pods_are_of_a_user_in_the_default_seccomp_profile(made: Graph) -> None:
    for name in (API, PROXY):
        context = pod(made, name)["securityContext"]
        assert (context["runAsNonRoot"], context["runAsUser"], context["fsGroup"]) == (True, 65532, 65532)
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}


def test_only_who_calls_the_api_server_has_its_token(made: Graph) -> None:
    assert {name: pod(made, name)["automountServiceAccountToken"] for name in (API, PROXY)} == {API: True, PROXY: False}
    accounts = {key[1]: item.inputs["automountServiceAccountToken"] for key, item in made.items() if key[0] == "ServiceAccount"}
    assert accounts == dict.fromkeys((API, PROXY, PREDICTOR, TRAINING), False)


def test_account_names_the_role_of_aws_that_its_pods_take_and_training_has_none(made: Graph) -> None:
    found = {name: item.inputs["metadata"].get("annotations") for (kind, name), item in made.items() if kind == "ServiceAccount"}
    named = {name: {"eks.amazonaws.com/role-arn": f"arn:role/{name}"} for name in (API, PROXY, PREDICTOR)}
    assert found == named | {TRAINING: None}


@pytest.mark.parametrize("name", [API, PROXY])
def test_a_service_that_owns_a_database_is_replaced_and_never_joined(made: Graph, name: str) -> None:
    spec = made["Deployment", name].inputs["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    assert ("HorizontalPodAutoscaler", name) not in made
    # A single pod must not keep its node from being drained.
    assert made["PodDisruptionBudget", name].inputs["spec"]["maxUnavailable"] == 1


def test_the_disk_itself_refuses_a_second_pod(made: Graph) -> None:
    spec = made["PersistentVolumeClaim", "api-home"].inputs["spec"]
    assert (spec["accessModes"], spec["storageClassName"]) == (["ReadWriteOncePod"], "encrypted")


def test_a_service_without_state_scales_and_is_drained_first() -> None:
    found = workload("plain", lambda: SCALED)
    spec, scaler = found["Deployment", "plain"].inputs["spec"], found["HorizontalPodAutoscaler", "plain"].inputs["spec"]
    assert "replicas" not in spec
    assert spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (2, 5)
    assert scaler["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "plain"}
    assert pod(found, "plain")["containers"][0]["lifecycle"] == {"preStop": {"sleep": {"seconds": DRAIN_S}}}


def test_pods_are_spread_over_zones_and_nodes() -> None:
    spread = pod(workload("plain", lambda: SCALED), "plain")["topologySpreadConstraints"]
    assert [item["topologyKey"] for item in spread] == ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]
    assert all(item["labelSelector"]["matchLabels"] == {"app.kubernetes.io/name": "plain"} for item in spread)


def test_services_select_their_own_pods_by_named_ports(made: Graph) -> None:
    for name, port in ((API, 8443), (PROXY, 8445)):
        spec = made["Service", name].inputs["spec"]
        labels = made["Deployment", name].inputs["spec"]["template"]["metadata"]["labels"]
        assert spec["selector"].items() <= labels.items()
        assert spec["ports"] == [{"name": "https", "port": port, "protocol": "TCP", "targetPort": "https"}]


def test_settings_are_those_that_production_takes(made: Graph) -> None:
    prod = {"AI_INFRA_ENV": "prod"}
    found, proxy = ApiSettings.from_env({**environ(made, API), **prod}), SigningSettings.from_env({**environ(made, PROXY), **prod})
    assert (found.object_backend, found.policy_engine, found.compute, found.serving) == ("s3", "opa", "kuberay", "kserve")
    assert proxy.signers == dict.fromkeys(IN_VAULT, "vault") | {"manifest": "awskms", "audit": "awskms"}
    assert proxy.keys["builder"] == "transit/builder:1"
    assert proxy.keys["audit"] == "alias/ai-infra-dev-audit"


def test_every_file_that_a_setting_names_is_mounted(made: Graph) -> None:
    for name in (API, PROXY):
        [main] = pod(made, name)["containers"]
        paths = {mount["mountPath"] for mount in main["volumeMounts"]}
        named = {value for value in environ(made, name).values() if value.startswith("/")}
        assert named
        for value in named:
            assert any(value == path or value.startswith(f"{path}/") for path in paths), value


def test_the_apis_home_holds_what_its_code_reads_there(made: Graph) -> None:
    found = ApiSettings.from_env(environ(made, API))
    identity = found.home.service("api")
    mounts = {mount["mountPath"]: mount["name"] for mount in pod(made, API)["containers"][0]["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod(made, API)["volumes"]}
    assert volumes[mounts[str(identity.cert.parent)]]["secret"]["secretName"] == secret_of(API)
    first = volumes[mounts[str(found.home.root / "bootstrap")]]["configMap"]["items"]
    assert {item["path"] for item in first} == {"policies.tar", "policies.dsse.json"}
    assert mounts[str(found.home.root / "config.json")] == "config"
    witnesses = made["ConfigMap", "api-files"].inputs["data"]["config.json"]
    assert "https://witness.example:8450" in witnesses


def test_opa_starts_before_the_api_and_answers_policies_on_loopback_only(made: Graph) -> None:
    [opa] = pod(made, API)["initContainers"]
    assert opa["restartPolicy"] == "Always"
    assert "--addr=127.0.0.1:8181" in opa["args"]
    assert environ(made, API)["AI_INFRA_POLICY_URL"] == "http://127.0.0.1:8181"
    assert [port["containerPort"] for port in opa["ports"]] == [opa["livenessProbe"]["httpGet"]["port"]]


def test_another_list_of_witnesses_starts_the_api_again() -> None:
    before, after = workload(API, lambda: api(API_ARGS)), workload(API, lambda: api(replace(API_ARGS, witnesses={})))
    assert changed(before, after) == {("ConfigMap", "api-files"), ("Deployment", API)}


@pytest.mark.parametrize(
    ("change", "only"),
    [
        ({"image": IMAGE.replace("services", "other")}, {("Deployment", API)}),
        ({"disk": "40Gi"}, {("PersistentVolumeClaim", "api-home")}),
        ({"retention_days": 30}, {("Deployment", API)}),
    ],
)
def test_one_knob_of_the_api_turns_one_thing(change: dict[str, Any], only: set[tuple[str, str]]) -> None:
    before, after = workload(API, lambda: api(API_ARGS)), workload(API, lambda: api(replace(API_ARGS, **change)))
    assert changed(before, after) == only


def test_what_could_be_moved_or_take_a_node_is_refused() -> None:
    with pytest.raises(ValueError, match="no digest"):
        replace(PLAIN, image="registry.example/services:latest")
    with pytest.raises(ValueError, match="limit memory"):
        replace(PLAIN, limits={})
    with pytest.raises(ValueError, match="minimum is 2"):
        Scale(minimum=1, maximum=3, cpu_percent=70)
    on_disk = replace(PLAIN, mounts={"d": Mount(path="/d", source=Disk(claim="d"))})
    disks = (Volume(claim="d", size="1Gi", storage_class="x"),)
    with pytest.raises(ValueError, match="cannot scale"):
        replace(SCALED, main=on_disk, volumes=disks)
    with pytest.raises(ValueError, match="disks that are mounted"):
        replace(SCALED, volumes=disks)
    with pytest.raises(ValueError, match="aliases of manifest, audit"):
        replace(PROXY_ARGS, aliases={"manifest": "alias/m"})


def test_certificates_have_one_spiffe_uri_and_the_names_that_callers_use(made: Graph) -> None:
    for service, holder in CERTIFICATES.holders.items():
        found = made["Certificate", f"{service}-certificate"].inputs
        assert found["metadata"] == {"name": service, "namespace": holder.namespace}
        assert found["spec"]["uris"] == [service_id(service)]
        assert found["spec"]["secretName"] == secret_of(service)
    called = {environ(made, PROXY)["AI_INFRA_API_URL"]: API, environ(made, API)["AI_INFRA_SIGNING_URL"]: PROXY}
    for url, service in called.items():
        host = url.removeprefix("https://").split(":")[0]
        assert host in made["Certificate", f"{service}-certificate"].inputs["spec"]["dnsNames"]


def test_who_only_calls_serves_with_no_certificate(made: Graph) -> None:
    spec = made["Certificate", "prometheus-certificate"].inputs["spec"]
    assert "dnsNames" not in spec
    assert "server auth" not in spec["usages"]
    assert "server auth" in made["Certificate", "api-certificate"].inputs["spec"]["usages"]


def test_a_certificate_is_renewed_long_before_it_expires() -> None:
    made = recorded(lambda: Certificates("c", replace(CERTIFICATES, holders={"x": Holder(namespace="n")}, hours=90)))
    spec = made["Certificate", "x-certificate"].inputs["spec"]
    assert (spec["duration"], spec["renewBefore"], spec["privateKey"]["rotationPolicy"]) == ("90h", "30h", "Always")
    with pytest.raises(ValueError, match="less than 3"):
        replace(CERTIFICATES, hours=2)


def test_only_the_signing_proxy_may_sign_with_vaults_keys() -> None:
    made = recorded(lambda: VaultAccess("vault", VAULT))
    assert {name for kind, name in made if kind == "Policy"} == {PROXY}
    role = made["AuthBackendRole", PROXY].inputs
    assert (role["boundServiceAccountNames"], role["boundServiceAccountNamespaces"]) == ([PROXY], [SERVICES])
    assert (role["tokenNoDefaultPolicy"], role["audience"]) == (True, "vault")
    assert role["tokenPolicies"] == [made["Policy", PROXY].inputs["name"]]
    assert made["Policy", PROXY].inputs["policy"] == document(signing_paths(IN_VAULT))
    for key in IN_VAULT:
        assert made["SecretBackendKey", f"transit-{key}"].inputs.items() >= {
            "type": "ecdsa-p256", "exportable": False, "deletionAllowed": False, "allowPlaintextBackup": False,
        }.items()  # fmt: skip


def test_vault_writes_down_what_it_does_before_it_gives_anything() -> None:
    made = recorded(lambda: VaultAccess("vault", VAULT))
    assert "vault-audit" in made["Mount", "transit"].depends
    assert "vault-audit" in made["AuthBackend", "kubernetes-login"].depends


def test_keys_of_prod_are_protected() -> None:
    made = recorded(lambda: VaultAccess("vault", replace(VAULT, environment="prod")))
    assert {made["SecretBackendKey", f"transit-{key}"].protect for key in IN_VAULT} == {True}


def test_wildcards_are_refused() -> None:
    with pytest.raises(ValueError, match="name each"):
        Account(namespace="n", name="a", paths={"transit/*": ["update"]})
    with pytest.raises(ValueError, match="name each"):
        Account(namespace="n", name="a", paths={})
    wide = admission.role() | {"rules": [{"apiGroups": [""], "resources": ["*"], "verbs": ["get"]}]}
    with pytest.raises(ValueError, match="wildcard"):
        RbacArgs(accounts=[], grants=[replace(RBAC.grants[0], role=wide)])


def test_roles_are_bound_in_their_namespaces_only() -> None:
    made = recorded(lambda: Rbac("rbac", RBAC))
    assert "ClusterRoleBinding" not in {kind for kind, _ in made}
    bindings = [item.inputs for key, item in made.items() if key[0] == "RoleBinding"]
    bound = {item["roleRef"]["name"]: item["metadata"]["namespace"] for item in bindings}
    assert bound == {"ai-infra-serving": MODELS, "ai-infra-training": "training-dev"}
    for key, item in made.items():
        if key[0].endswith("Binding"):
            assert item.inputs["subjects"] == [{"kind": "ServiceAccount", "name": API, "namespace": SERVICES}]


def test_the_proxy_logs_in_to_vault_with_a_token_for_vault(made: Graph) -> None:
    [volume] = [item for item in pod(made, PROXY)["volumes"] if item["name"] == "vault"]
    [source] = volume["projected"]["sources"]
    assert source == {"serviceAccountToken": {"audience": "vault", "expirationSeconds": 3600, "path": "token"}}
    settings = environ(made, PROXY)
    assert settings["VAULT_ROLE"] == PROXY
    assert settings["VAULT_ROLE_TOKEN"] == "/var/run/secrets/vault/token"


def test_a_workload_has_its_own_name_everywhere() -> None:
    made = recorded(lambda: Workload("other", signing_proxy(PROXY_ARGS)))
    assert {item.inputs["metadata"]["name"] for item in made.values()} == {"other"}
    assert pod(made, "other")["serviceAccountName"] == "other"
