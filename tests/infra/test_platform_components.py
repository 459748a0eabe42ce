"""Controllers of the cluster: what each component makes of its arguments, and what it refuses."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
import yaml
from packaging.version import Version

from components.platform.cert_manager import CertManager, CertManagerArgs
from components.platform.chart import CPU_CEILING
from components.platform.gateway import Gateway, GatewayArgs
from components.platform.gpu_operator import GpuOperator, GpuOperatorArgs
from components.platform.karpenter import Karpenter, KarpenterArgs
from components.platform.kserve import KServe, KServeArgs
from components.platform.kuberay import KubeRay, KubeRayArgs
from components.platform.kueue import Kueue, KueueArgs
from components.platform.monitoring import Monitoring, MonitoringArgs
from components.platform.namespaces import Namespaces, NamespacesArgs
from components.platform.storage import Storage, StorageArgs
from components.platform.taints import GPU, SPOT
from components.platform.telemetry import Telemetry, TelemetryArgs
from components.platform.vault import Vault, VaultArgs
from services.core.settings import ENVIRONMENTS
from stacks.namespaces import CONTROLLERS
from tests.infra.graphs import all_layers
from tests.infra.recorded import Graph, recorded
from tests.monitoring import GROUPS
from tests.peers import GO, ROOT

VAULT = VaultArgs(
    namespace="vault",
    version="0.31.0",
    replicas=3,
    storage_gib=10,
    audit_gib=20,
    storage_class="encrypted",
    region="eu-central-1",
    unseal_key_arn="arn:unseal",
    role_arn="arn:role/vault",
    issuer="ai-infra",
)
MONITORING = MonitoringArgs(
    watched=["monitoring", "vault"],
    namespace="monitoring",
    version="79.5.0",
    replicas=2,
    retention_days=30,
    storage_gib=100,
    storage_class="encrypted",
    region="eu-central-1",
    topic_arn="arn:topic",
    role_arn="arn:role/alertmanager",
)
GATEWAY = GatewayArgs(
    namespace="envoy-gateway-system", version="v1.6.0", replicas=2, models="models-dev", domain="i.example.com", issuer="ai-infra"
)
KARPENTER = KarpenterArgs(
    namespace="karpenter",
    version="1.8.2",
    replicas=2,
    cluster_name="c",
    cluster_endpoint="https://c",
    queue_name="q",
    role_arn="arn:role/karpenter",
)
TELEMETRY = TelemetryArgs(
    namespace="monitoring", version="0.140.0", replicas=2, region="eu-central-1", role_arn="arn:role/opentelemetry-collector"
)
CERTIFICATES = CertManagerArgs(environment="dev", namespace="cert-manager", version="v1.19.1", replicas=2)
GPUS = GpuOperatorArgs(namespace="gpu-operator", version="v25.10.0", taints=(GPU, SPOT))
ALL: Mapping[str, Callable[[], Any]] = {
    "cert-manager": lambda: CertManager("cert-manager", CERTIFICATES),
    "envoy-gateway": lambda: Gateway("gateway", GATEWAY),
    "gpu-operator": lambda: GpuOperator("gpu-operator", GPUS),
    "karpenter": lambda: Karpenter("karpenter", KARPENTER),
    "kserve": lambda: KServe("kserve", KServeArgs(namespace="kserve", version="v0.21.0", gateway="g/i", domain="i.example.com")),
    "kube-prometheus-stack": lambda: Monitoring("monitoring", MONITORING),
    "kuberay": lambda: KubeRay("kuberay", KubeRayArgs(namespace="kuberay", version="1.5.1", jobs="training-dev", replicas=2)),
    "kueue": lambda: Kueue("kueue", KueueArgs(namespace="kueue-system", version="0.15.7", replicas=2)),
    "opentelemetry-collector": lambda: Telemetry("telemetry", TELEMETRY),
    "vault": lambda: Vault("vault", VAULT),
}


def _release(graph: Graph, name: str) -> dict[str, Any]:
    return graph["Release", name].inputs


def _values(name: str, build: Callable[[], Any] | None = None) -> dict[str, Any]:
    found: dict[str, Any] = _release(recorded(build or ALL[name]), name)["values"]
    return found


@pytest.mark.parametrize("name", ALL)
def test_chart_is_pinned_whole_or_not_at_all_and_in_a_namespace_that_is_there(name: str) -> None:
    release = _release(recorded(ALL[name]), name)
    assert {key: release[key] for key in ("atomic", "cleanupOnFail", "createNamespace", "name", "waitForJobs")} == {
        "atomic": True,
        "cleanupOnFail": True,
        "createNamespace": False,
        "name": name,
        "waitForJobs": True,
    }
    assert release["version"]
    assert release["namespace"]
    # A chart is named within a repository, or by all of its address.
    assert release["chart"].startswith("oci://") != release.get("repositoryOpts", {}).get("repo", "").startswith("https://")


def test_service_account_of_a_chart_names_the_role_of_aws_that_its_pods_take() -> None:
    found = {name: dict(_accounts(_values(name))) for name in ALL}
    roles = {
        "karpenter": "karpenter",
        "kube-prometheus-stack": "alertmanager",
        "opentelemetry-collector": "opentelemetry-collector",
        "vault": "vault",
    }
    named = {name: {role: {"eks.amazonaws.com/role-arn": f"arn:role/{role}"}} for name, role in roles.items()}
    assert {name: accounts for name, accounts in found.items() if any(accounts.values())} == named


def _accounts(values: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, str] | None]]:
    """Name and annotations of the service accounts that values name."""
    for key, item in values.items():
        if key == "serviceAccount" and "name" in item:
            yield item["name"], item.get("annotations")
        elif isinstance(item, Mapping):
            yield from _accounts(item)


CHARTS_OWN = {"limits": {"cpu": "100m", "memory": "512Mi"}, "requests": {"cpu": "100m", "memory": "512Mi"}}
"""Resources that the charts of KubeRay and KServe state where nobody says otherwise."""


@pytest.mark.parametrize("name", ALL)
def test_no_cpu_limit_of_a_chart_outlives_ours(name: str) -> None:
    found = list(_sizes(_values(name)))
    assert found
    for size in found:
        merged = {part: of | size.get(part, {}) for part, of in CHARTS_OWN.items()}
        assert _cores(merged["requests"]["cpu"]) <= _cores(merged["limits"]["cpu"])
        assert merged["limits"]["cpu"] == CPU_CEILING
        assert merged["limits"]["memory"] == size["requests"]["memory"]


def _sizes(values: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Of containers. Those of a claim of storage ask for no CPU."""
    for key, item in values.items():
        if isinstance(item, Mapping):
            yield from [item] if key == "resources" and "cpu" in item["requests"] else _sizes(item)


def _cores(quantity: str) -> float:
    return int(quantity[:-1]) / 1000 if quantity.endswith("m") else int(quantity)


def test_definitions_that_helm_would_not_upgrade_come_first_and_from_a_chart_of_their_own() -> None:
    for name, skips in (("karpenter", True), ("kserve", False)):
        graph = recorded(ALL[name])
        assert graph["Release", name].depends == {f"{name}-crd"}
        assert _release(graph, name)["version"] == _release(graph, f"{name}-crd")["version"]
        assert _release(graph, name)["skipCrds"] == skips


def test_everything_on_gpu_nodes_tolerates_each_of_their_taints() -> None:
    values = _values("gpu-operator")
    tolerated = [{"key": key, "operator": "Exists", "effect": "NoSchedule"} for key in ("nvidia.com/gpu", "ai-infra/spot")]
    assert values["daemonsets"]["tolerations"] == tolerated
    assert values["node-feature-discovery"]["worker"]["tolerations"] == tolerated
    assert values["dcgmExporter"]["serviceMonitor"]["enabled"]
    with pytest.raises(ValueError, match="without a toleration they offer no GPU"):
        replace(GPUS, taints=())


def test_kueue_takes_ray_jobs_and_gives_a_quota_back_whose_job_is_not_ready() -> None:
    read = yaml.safe_load(_values("kueue")["managerConfig"]["controllerManagerConfigYaml"])
    assert read["integrations"] == {"frameworks": ["ray.io/rayjob"]}
    assert read["waitForPodsReady"]["timeout"] == "20m"


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_kueues_chart_is_one_whose_monitor_finds_its_metrics(environment: str) -> None:
    (_, platform, _) = all_layers(environment)
    (found,) = [item for item in platform.resources if item.name == "kueue" and "chart" in item.inputs]
    # Before, its ServiceMonitor looks for a label that the Service of its metrics lacks (CHANGELOG-0.15 of Kueue).
    assert Version(found.inputs["version"]) >= Version("0.15.4")
    assert found.inputs["values"]["enablePrometheus"]


def test_ray_operator_has_rights_in_the_namespace_of_jobs_only() -> None:
    values = _values("kuberay")
    assert (values["singleNamespaceInstall"], values["watchNamespace"]) == (True, ["training-dev"])


def test_kserve_makes_raw_deployments_behind_our_gateway_and_mounts_no_token() -> None:
    values = _values("kserve")["kserve"]
    assert values["controller"]["deploymentMode"] == "RawDeployment"
    gateway = {"enableGatewayApi": True, "createGateway": False, "kserveGateway": "g/i"}
    assert values["controller"]["gateway"]["ingressGateway"] == gateway
    assert values["security"] == {"autoMountServiceAccountToken": False}


def test_gateway_is_within_the_network_speaks_tls_and_takes_routes_of_models_only() -> None:
    spec = recorded(ALL["envoy-gateway"])["Gateway", "inference-gateway"].inputs["spec"]
    assert spec["infrastructure"]["annotations"]["service.beta.kubernetes.io/aws-load-balancer-internal"] == "true"
    [listener] = spec["listeners"]
    assert (listener["protocol"], listener["hostname"]) == ("HTTPS", "*.i.example.com")
    selected = {"from": "Selector", "selector": {"matchLabels": {"kubernetes.io/metadata.name": "models-dev"}}}
    assert listener["allowedRoutes"]["namespaces"] == selected


def test_gateway_calls_predictors_by_a_certificate_of_its_own_and_in_the_tls_that_they_take() -> None:
    graph = recorded(ALL["envoy-gateway"])
    certificate = graph["Certificate", "gateway-certificate"].inputs
    assert certificate["metadata"] == {"name": "gateway", "namespace": "envoy-gateway-system"}
    spec = certificate["spec"]
    assert (spec["uris"], spec.get("dnsNames"), spec["usages"]) == (
        ["spiffe://ai-infra.local/service/gateway"],
        None,
        ["digital signature", "client auth"],
    )
    assert spec["issuerRef"] == {"name": "ai-infra", "kind": "ClusterIssuer", "group": "cert-manager.io"}
    proxy = graph["EnvoyProxy", "inference-envoyproxy"]
    assert proxy.inputs["spec"]["backendTLS"] == {
        "clientCertificateRef": {
            "group": "", "kind": "Secret", "name": spec["secretName"], "namespace": "envoy-gateway-system",
        },
        "minVersion": "1.3",
        "maxVersion": "1.3",
    }  # fmt: skip
    assert proxy.depends == {"envoy-gateway", "gateway-certificate"}
    # Elsewhere it would replace the versions too, or not be read at all.
    gateway = graph["Gateway", "inference-gateway"]
    assert "tls" not in gateway.inputs["spec"]
    assert gateway.inputs["spec"]["infrastructure"]["parametersRef"] == {
        "group": "gateway.envoyproxy.io", "kind": "EnvoyProxy", "name": "inference",
    }  # fmt: skip
    assert proxy.inputs["metadata"] == gateway.inputs["metadata"]


def test_proxies_grow_with_the_load_in_other_zones_and_never_go_all_at_once() -> None:
    spec = recorded(ALL["envoy-gateway"])["EnvoyProxy", "inference-envoyproxy"].inputs["spec"]["provider"]["kubernetes"]
    scaler, deployment = spec["envoyHpa"], spec["envoyDeployment"]
    assert (scaler["minReplicas"], scaler["maxReplicas"], spec["envoyPDB"]) == (2, 8, {"minAvailable": 1})
    assert scaler["metrics"][0]["resource"]["name"] == "cpu"
    assert deployment["container"]["resources"]["requests"]["cpu"]
    assert [item["topologyKey"] for item in deployment["pod"]["topologySpreadConstraints"]] == ["topology.kubernetes.io/zone"]


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_gateways_objects_are_judged_by_the_definitions_of_the_chart_that_is_installed(environment: str) -> None:
    (_, platform, _) = all_layers(environment)
    (found,) = [item for item in platform.resources if item.name == "envoy-gateway"]
    assert found.inputs["version"] == GO["envoy-gateway"].version


def test_vault_agrees_by_raft_unseals_by_kms_speaks_tls_and_keeps_its_record_on_a_disk_of_its_own() -> None:
    values = _values("vault")
    server = values["server"]
    config = server["ha"]["raft"]["config"]
    assert (values["global"]["tlsDisable"], server["ha"]["replicas"], values["injector"]["enabled"]) == (False, 3, False)
    assert 'seal "awskms" {\n  region     = "eu-central-1"\n  kms_key_id = "arn:unseal"\n}' in config
    assert [f"https://vault-{number}.vault-internal:8200" in config for number in range(4)] == [True, True, True, False]
    assert config.count("{") == config.count("}")
    assert "tls_disable" not in config
    assert server["auditStorage"] == {"enabled": True, "size": "20Gi", "storageClass": "encrypted"}
    assert server["statefulSet"]["securityContext"]["pod"]["runAsNonRoot"]


def test_a_sealed_vault_is_ready_so_the_runbook_asks_what_it_says_of_itself() -> None:
    values = _values("vault")["server"]
    assert "sealedcode=204" in values["readinessProbe"]["path"]
    assert 'service_registration "kubernetes"' in values["ha"]["raft"]["config"]
    assert "get pods -L vault-initialized,vault-sealed,vault-active" in (ROOT / "runbooks/vault-sealed.md").read_text()


def test_vault_is_scraped_without_a_token_so_that_its_leader_has_an_up() -> None:
    values = _values("vault")
    assert values["serverTelemetry"]["serviceMonitor"]["enabled"]
    assert "unauthenticated_metrics_access = true" in values["server"]["ha"]["raft"]["config"]
    assert VAULT.namespace in CONTROLLERS


def test_labels_of_pods_that_alerts_ask_for_are_exported() -> None:
    (pods,) = _values("kube-prometheus-stack")["kube-state-metrics"]["metricLabelsAllowlist"]
    asked = {label for text in GROUPS if "kube_pod_labels" in text for label in re.findall(r"\blabel_(\w+)", text)}
    assert pods == f"pods=[{','.join(sorted(label.replace('_', '-') for label in asked))}]"


def test_vault_with_an_even_number_of_replicas_is_refused() -> None:
    with pytest.raises(ValueError, match="survives no more than the odd one below it"):
        replace(VAULT, replicas=2)


def test_metrics_are_kept_for_as_long_as_asked_and_never_fill_the_disk() -> None:
    spec = _values("kube-prometheus-stack")["prometheus"]["prometheusSpec"]
    assert (spec["replicas"], spec["retention"], spec["retentionSize"]) == (2, "30d", "85GiB")


@pytest.mark.parametrize("kind", ["podMonitor", "probe", "rule", "scrapeConfig", "serviceMonitor"])
def test_monitors_and_rules_count_in_the_named_namespaces_alone(kind: str) -> None:
    spec = _values("kube-prometheus-stack")["prometheus"]["prometheusSpec"]
    named = {"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["monitoring", "vault"]}
    # Else the chart's own label is asked for, which other charts' monitors do not have.
    assert spec[f"{kind}SelectorNilUsesHelmValues"] is False
    assert spec[f"{kind}NamespaceSelector"] == {"matchExpressions": [named]}


def test_namespaces_of_models_and_training_cannot_make_up_metrics() -> None:
    (_, platform, _) = all_layers("prod")
    (found,) = [item for item in platform.resources if item.name == "kube-prometheus-stack"]
    (named,) = found.inputs["values"]["prometheus"]["prometheusSpec"]["ruleNamespaceSelector"]["matchExpressions"]
    assert not {"models-prod", "training-prod", "ai-infra"}.intersection(named["values"])


def test_alert_that_nobody_routes_goes_to_the_topic() -> None:
    config = _values("kube-prometheus-stack")["alertmanager"]["config"]
    assert config["route"]["receiver"] == "topic"
    [sent] = config["receivers"][0]["sns_configs"]
    assert (sent["topic_arn"], sent["sigv4"]) == ("arn:topic", {"region": "eu-central-1"})


def test_karpenter_has_its_queue_and_the_account_that_has_its_role() -> None:
    values = _values("karpenter")
    assert values["serviceAccount"]["name"] == "karpenter"
    assert values["settings"] == {"clusterName": "c", "clusterEndpoint": "https://c", "interruptionQueue": "q"}


def test_collector_names_only_parts_that_it_configures() -> None:
    config = _values("opentelemetry-collector")["alternateConfig"]
    for pipeline in config["service"]["pipelines"].values():
        for part, names in pipeline.items():
            assert set(names) <= config[part].keys()
    assert set(config["service"]["extensions"]) <= config["extensions"].keys()


def test_authority_keeps_its_key_and_signs_for_the_environment_once_it_is_there() -> None:
    graph = recorded(ALL["cert-manager"])
    root = graph["Certificate", "authority-certificate"]
    assert (root.inputs["spec"]["isCA"], root.inputs["spec"]["privateKey"]["rotationPolicy"]) == (True, "Never")
    assert root.depends == {"self-signed"}
    assert graph["ClusterIssuer", "authority"].inputs["spec"] == {"ca": {"secretName": "ai-infra-ca"}}


def test_whoever_may_edit_a_namespace_may_not_have_certificates_of_services_made() -> None:
    # cert-manager adds its roles to the cluster's own `edit` and `admin` where nobody says otherwise.
    assert _values("cert-manager")["global"]["rbac"] == {"aggregateClusterRoles": False}


def test_series_of_a_certificate_have_its_namespace_and_not_the_controllers() -> None:
    # Else Prometheus calls it `exported_namespace`: the alert would name the controller's, and tell two of one name not apart.
    assert _values("cert-manager")["prometheus"]["servicemonitor"] == {"enabled": True, "honorLabels": True}


def test_volumes_are_encrypted_and_outlive_their_claims() -> None:
    made = recorded(lambda: Storage("storage", StorageArgs(key_arn="arn:disks")))["StorageClass", "storage-encrypted"].inputs
    assert made["parameters"] == {"type": "gp3", "encrypted": "true", "kmsKeyId": "arn:disks"}
    assert made["reclaimPolicy"] == "Retain"


def test_namespace_holds_its_pods_to_its_level() -> None:
    graph = recorded(lambda: Namespaces("namespaces", NamespacesArgs(levels={"ours": "restricted"})))
    labels = graph["Namespace", "ours"].inputs["metadata"]["labels"]
    assert [labels[f"pod-security.kubernetes.io/{mode}"] for mode in ("enforce", "audit", "warn")] == ["restricted"] * 3


@pytest.mark.parametrize("name", ["cert-manager", "envoy-gateway", "kueue", "opentelemetry-collector", "vault"])
def test_one_replica_has_no_budget_that_would_block_its_node(name: str) -> None:
    single: Mapping[str, Callable[[], Any]] = {
        "cert-manager": lambda: CertManager("cert-manager", replace(CERTIFICATES, replicas=1)),
        "envoy-gateway": lambda: Gateway("gateway", replace(GATEWAY, replicas=1)),
        "kueue": lambda: Kueue("kueue", KueueArgs(namespace="kueue-system", version="0.15.7", replicas=1)),
        "opentelemetry-collector": lambda: Telemetry("telemetry", replace(TELEMETRY, replicas=1)),
        "vault": lambda: Vault("vault", replace(VAULT, replicas=1)),
    }
    values = _values(name, single[name])
    budgets = [*_budgets(values)]
    assert budgets
    assert [budget for budget in budgets if budget.get("enabled", budget.get("minAvailable", 0) > 0)] == []


def _budgets(values: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    found = [item for key, item in values.items() if key in ("disruptionBudget", "podDisruptionBudget")]
    return found + [budget for item in values.values() if isinstance(item, Mapping) for budget in _budgets(item)]
