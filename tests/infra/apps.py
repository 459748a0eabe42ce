"""The applications of one environment, as small values: what the tests of their components build from."""

from collections.abc import Callable, Mapping
from typing import Any

from components.apps.api import ApiArgs, Training, api
from components.apps.calls import API, PREDICTOR, PROXY, TRAINING, Places
from components.apps.certificates import Certificates, CertificatesArgs, Holder, service_names
from components.apps.network_policies import NetworkPolicies, NetworkPoliciesArgs
from components.apps.rbac import Account, Grant, Rbac, RbacArgs
from components.apps.signing_proxy import IN_VAULT, SigningProxyArgs, signing_proxy
from components.apps.vault_access import Account as VaultAccount
from components.apps.vault_access import VaultAccessArgs, signing_paths
from components.apps.workload import Workload, WorkloadArgs
from services.core.digests import sha256
from services.serving import admission
from services.training import rayjob
from tests.infra.recorded import Graph, recorded

IMAGE, OPA, JOBS = (f"registry.example/{name}@{sha256(name.encode())}" for name in ("services", "opa", "training"))
SERVICES, MODELS, TRAINING_SPACE = "ai-infra", "models-dev", "training-dev"
PLACES = Places(
    services=SERVICES,
    models=MODELS,
    training=TRAINING_SPACE,
    gateway="envoy-gateway-system",
    node_blocks=["10.10.0.0/18", "10.10.64.0/18", "10.10.128.0/18"],
    database_blocks=["10.10.192.0/22", "10.10.196.0/22", "10.10.200.0/22"],
)
API_ARGS = ApiArgs(
    environment="dev",
    region="eu-central-1",
    namespace=SERVICES,
    image=IMAGE,
    opa_image=OPA,
    database="database.example:5432",
    store="ai-infra-dev-111122223333-artifacts",
    retention_days=1,
    prometheus_url="http://prometheus.monitoring.svc:9090",
    otlp_url="http://collector.monitoring.svc:4318",
    role_arn="arn:role/api",
    training=Training(image=JOBS, runs="runs", queue="research", priority="normal"),
    storage_class="encrypted",
    witnesses={"witness.example+0000+key": "https://witness.example:8450"},
)
PROXY_ARGS = SigningProxyArgs(
    environment="dev",
    region="eu-central-1",
    namespace=SERVICES,
    image=IMAGE,
    database="database.example:5432",
    aliases={"manifest": "alias/ai-infra-dev-manifest", "audit": "alias/ai-infra-dev-audit"},
    versions=dict.fromkeys(IN_VAULT, 1),
    vault_url="https://vault-active.vault.svc:8200",
    otlp_url="http://collector.monitoring.svc:4318",
    role_arn="arn:role/signing-proxy",
)
CERTIFICATES = CertificatesArgs(
    issuer="ai-infra",
    holders={
        API: Holder(namespace=SERVICES, names=service_names(API, SERVICES)),
        PROXY: Holder(namespace=SERVICES, names=service_names(PROXY, SERVICES)),
        PREDICTOR: Holder(namespace=MODELS, names=("predictor",)),
        "prometheus": Holder(namespace="monitoring"),
    },
)
API_ACCOUNT = Account(namespace=SERVICES, name=API)
RBAC = RbacArgs(
    accounts=[
        Account(namespace=MODELS, name=PREDICTOR, role_arn="arn:role/predictor"),
        Account(namespace=TRAINING_SPACE, name=TRAINING),
    ],
    grants=[
        Grant(role=admission.role(), account=API_ACCOUNT, namespace=MODELS),
        Grant(role=rayjob.role(), account=API_ACCOUNT, namespace=TRAINING_SPACE),
    ],
)
VAULT = VaultAccessArgs(
    environment="dev",
    keys=IN_VAULT,
    accounts={PROXY: VaultAccount(namespace=SERVICES, name=PROXY, paths=signing_paths(IN_VAULT))},
)


def workload(name: str, args: Callable[[], WorkloadArgs]) -> Graph:
    """args: called where Pulumi runs, for arguments may hold values that are known later only."""
    return recorded(lambda: Workload(name, args()))


def all_of_it() -> Graph:
    def build() -> None:
        Rbac("rbac", RBAC)
        Certificates("certificates", CERTIFICATES)
        NetworkPolicies("network", NetworkPoliciesArgs(places=PLACES))
        Workload(API, api(API_ARGS))
        Workload(PROXY, signing_proxy(PROXY_ARGS))

    return recorded(build)


def pod(graph: Graph, name: str) -> dict[str, Any]:
    found: dict[str, Any] = graph["Deployment", name].inputs["spec"]["template"]["spec"]
    return found


def environ(graph: Graph, name: str) -> Mapping[str, str]:
    """Settings of a service's own container."""
    [main] = pod(graph, name)["containers"]
    return {item["name"]: item["value"] for item in main["env"]}
