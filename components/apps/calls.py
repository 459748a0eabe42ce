"""Who calls whom in an environment: the one table that network policies are made of. What it lacks is refused.

A call that settings of the caller name says which; the rest is made by libraries, or by other people's programs. Probes are not
here: a pod's own node always reaches it. Nor is OPA: it listens within the API's pod only. Training runs other people's code:
it calls nobody but itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pulumi import Input

API: Final = "api"
PROXY: Final = "signing-proxy"
PREDICTOR: Final = "predictor"
TRAINING: Final = "training"
OURS: Final = (API, PROXY, PREDICTOR, TRAINING)

API_PORT: Final = 8443
PROXY_PORT: Final = 8445
PREDICTOR_PORT: Final = 8080
RAY_DASHBOARD: Final = 8265
VAULT_PORT: Final = 8200
PROMETHEUS_PORT: Final = 9090
OTLP_PORT: Final = 4318
POSTGRESQL_PORT: Final = 5432
WITNESS_PORT: Final = 8450
HTTPS: Final = 443

POD_IDENTITY: Final = "169.254.170.23/32"
"""Where EKS's agent hands out credentials of a pod's role, on every node."""
API_SERVER: Final = "172.20.0.1/32"
"""Of the Service `kubernetes`: EKS holds to policies before addresses are translated, and does not see the servers' own then."""
ANYWHERE: Final = "0.0.0.0/0"
PRIVATE: Final = ("10.0.0.0/8", "100.64.0.0/10", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16")
NAME: Final = "app.kubernetes.io/name"


@dataclass(frozen=True, kw_only=True)
class Pods:
    """labels: none for all pods of the namespace."""

    namespace: str
    labels: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Addresses:
    """CIDR blocks, and what is left out of each. No blocks: nobody is there to be called."""

    blocks: Sequence[Input[str]]
    but: Sequence[str] = ()


Party = Pods | Addresses


@dataclass(frozen=True, kw_only=True)
class Call:
    """tcp, udp: ports, none of both for all; settings: the caller's variables that name the callee."""

    caller: str
    callee: str
    why: str
    tcp: tuple[int, ...] = ()
    udp: tuple[int, ...] = ()
    settings: tuple[str, ...] = ()


CALLS: Final = (
    Call(
        caller=API, callee=PROXY, tcp=(PROXY_PORT,), settings=("AI_INFRA_SIGNING_URL",),
        why="signatures over statements, models and checkpoints",
    ),
    Call(
        caller=PROXY, callee=API, tcp=(API_PORT,), settings=("AI_INFRA_API_URL",),
        why="its events go to the log before and after each signature",
    ),
    Call(
        caller=PREDICTOR, callee=API, tcp=(API_PORT,), settings=("AI_INFRA_API_URL",),
        why="whether a deployment is under quarantine, before its model is loaded",
    ),
    Call(caller=API, callee=PREDICTOR, tcp=(PREDICTOR_PORT,), why="golden probes of a rollout, at the pods themselves"),
    Call(caller=API, callee="kubernetes", tcp=(HTTPS,), settings=("AI_INFRA_KUBE_URL",), why="InferenceServices, RayJobs"),
    Call(
        caller=API, callee="prometheus", tcp=(PROMETHEUS_PORT,), settings=("AI_INFRA_PROMETHEUS_URL",),
        why="what judges a canary",
    ),
    Call(
        caller=API, callee="database", tcp=(POSTGRESQL_PORT,), settings=("AI_INFRA_DATABASE", "AI_INFRA_AUDIT_DATABASE"),
        why="its state and the log",
    ),
    Call(
        caller=PROXY, callee="database", tcp=(POSTGRESQL_PORT,), settings=("AI_INFRA_SIGNING_DATABASE",),
        why="what was signed, and the last checkpoint",
    ),
    Call(caller=API, callee="witnesses", tcp=(WITNESS_PORT,), why="cosignatures; their URLs are in the home's config.json"),
    Call(caller=API, callee="objects", tcp=(HTTPS,), settings=("AI_INFRA_OBJECTS",), why="data sets, artifacts, evidence"),
    Call(caller=PREDICTOR, callee="objects", tcp=(HTTPS,), settings=("AI_INFRA_OBJECTS",), why="the bytes that it verifies"),
    Call(caller=PROXY, callee="keys", tcp=(HTTPS,), why="KMS, through the VPC's own endpoint"),
    Call(caller=PROXY, callee="vault", tcp=(VAULT_PORT,), settings=("VAULT_ADDR",), why="transit keys"),
    *(
        Call(
            caller=ours, callee="collector", tcp=(OTLP_PORT,), settings=("OTEL_EXPORTER_OTLP_ENDPOINT",),
            why="traces of what it answers",
        )
        for ours in (API, PROXY)
    ),
    Call(caller=TRAINING, callee=TRAINING, why="Ray's head, workers and submitter, on ports that they choose"),
    Call(caller="kuberay", callee=TRAINING, tcp=(RAY_DASHBOARD,), why="the operator asks the head how a job is"),
    Call(caller="gateway", callee=PREDICTOR, tcp=(PREDICTOR_PORT,), why="inference requests"),
    Call(caller="prometheus", callee=API, tcp=(API_PORT,), why="metrics"),
    Call(caller="prometheus", callee=PROXY, tcp=(PROXY_PORT,), why="metrics"),
    Call(caller="prometheus", callee=PREDICTOR, tcp=(PREDICTOR_PORT,), why="outcomes and latencies, by which a canary is judged"),
    *(Call(caller=ours, callee="dns", tcp=(53,), udp=(53,), why="names of services") for ours in OURS),
    Call(caller=PREDICTOR, callee="sts", tcp=(HTTPS,), why="credentials of its AWS role where it takes that by IRSA"),
    *(Call(caller=ours, callee="pod-identity", tcp=(80,), why="credentials of its AWS role") for ours in (API, PROXY, PREDICTOR)),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where the parties of one environment are. services, models, training: namespaces of ours.

    node_blocks: CIDR blocks of the nodes, in which AWS's endpoints and the API server's addresses are too; database_blocks: of the
    database's subnets; witness_blocks: of the log's witnesses, which are somebody else's; gateway: namespace of the pods that carry
    inference requests.
    """

    services: str
    models: str
    training: str
    gateway: str
    node_blocks: Sequence[Input[str]]
    database_blocks: Sequence[Input[str]]
    witness_blocks: Sequence[Input[str]] = ()

    @property
    def ours(self) -> tuple[str, ...]:
        return (self.services, self.models, self.training)

    def of(self, party: str) -> Party:
        """Raises KeyError: the table names somebody whose place nobody knows."""
        return self._all()[party]

    def _all(self) -> dict[str, Party]:
        return {
            API: Pods(namespace=self.services, labels=((NAME, API),)),
            PROXY: Pods(namespace=self.services, labels=((NAME, PROXY),)),
            PREDICTOR: Pods(namespace=self.models),
            TRAINING: Pods(namespace=self.training),
            "dns": Pods(namespace="kube-system", labels=(("k8s-app", "kube-dns"),)),
            "gateway": Pods(namespace=self.gateway),
            "kuberay": Pods(namespace="kuberay"),
            "prometheus": Pods(namespace="monitoring", labels=((NAME, "prometheus"),)),
            "collector": Pods(namespace="monitoring", labels=((NAME, "opentelemetry-collector"),)),
            "vault": Pods(namespace="vault", labels=((NAME, "vault"),)),
            "database": Addresses(blocks=self.database_blocks),
            "kubernetes": Addresses(blocks=(API_SERVER, *self.node_blocks)),
            "keys": Addresses(blocks=self.node_blocks),
            "sts": Addresses(blocks=self.node_blocks),
            # S3's gateway endpoint keeps its public addresses, which are many and change; the endpoint's policy says which buckets.
            "objects": Addresses(blocks=(ANYWHERE,), but=PRIVATE),
            "witnesses": Addresses(blocks=self.witness_blocks),
            "pod-identity": Addresses(blocks=(POD_IDENTITY,)),
        }


def calls_of(party: str) -> tuple[Call, ...]:
    return tuple(call for call in CALLS if call.caller == party)


def calls_to(party: str) -> tuple[Call, ...]:
    return tuple(call for call in CALLS if call.callee == party)
