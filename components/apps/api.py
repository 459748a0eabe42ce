"""The API process in a cluster: its settings, its files, and OPA beside it. It owns two databases and the log, so there is one.

What people give it, and no program, is a ConfigMap `trust` in its namespace: trust.json, the first policies with their signature,
and the certificate of the database's authority.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from pulumi import Input

from components.apps.calls import API, API_PORT, PROXY, PROXY_PORT
from components.apps.certificates import secret_of
from components.apps.common import TRUST, TRUST_MAP, database_url, objects_url, trust_files
from components.apps.pod import Command, ConfigFiles, Container, Disk, Http, Mount, Probes, Scratch, SecretFiles, Shared
from components.apps.workload import Volume, WorkloadArgs

HOME: Final = "/var/lib/ai-infra"
RUNS: Final = "/var/lib/runs"
FIRST_POLICIES: Final = {"policies.tar": "policies.tar", "policies.dsse.json": "policies.dsse.json"}
DISK: Final = "api-home"
OPA_PORT: Final = 8181
OPA_HEALTH_PORT: Final = 8282
"""It answers nothing but health, where the kubelet reaches it: policies are asked on loopback."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """What runs get that do not ask for anything else. image: with its digest; runs: claim in the services' namespace of the volume
    that jobs have too; queue: a LocalQueue; priority: a WorkloadPriorityClass."""

    image: str
    runs: str
    queue: str
    priority: str


@dataclass(frozen=True, kw_only=True)
class ApiArgs:
    """image, opa_image: with digests; database: HOST:PORT; store: a bucket with object lock, in which each object is kept for
    retention_days; otlp_url: base, of what takes traces; disk: quantity, for the log's tiles and what is being trained; witnesses:
    of the log, verifier key → URL."""

    environment: str
    region: str
    namespace: str
    image: str
    opa_image: str
    database: Input[str]
    store: Input[str]
    retention_days: int
    prometheus_url: Input[str]
    otlp_url: Input[str]
    role_arn: Input[str]
    training: Training
    storage_class: str
    disk: str = "20Gi"
    witnesses: Mapping[str, str] = field(default_factory=dict)


def api(args: ApiArgs) -> WorkloadArgs:
    probe = Command(words=("python3", "-m", "services.core.health", str(API_PORT), f"{HOME}/services/{API}"))
    main = Container(
        name=API,
        image=args.image,
        command=("python3", "-m", "services.api"),
        # It migrates two databases, and has the policies compiled, before it opens its port.
        probes=Probes(live=probe, ready=probe, start_s=300),
        requests={"cpu": "500m", "memory": "1Gi"},
        limits={"memory": "2Gi"},
        ports={"https": API_PORT},
        settings=settings(args),
        mounts=_mounts(args.training),
    )
    return WorkloadArgs(
        namespace=args.namespace,
        main=main,
        role_arn=args.role_arn,
        beside=(_opa(args.opa_image),),
        token=True,
        grace_s=60,
        volumes=(Volume(claim=DISK, size=args.disk, storage_class=args.storage_class),),
        files={"config.json": json.dumps({"version": 1, "witnesses": dict(args.witnesses)}, indent=2) + "\n"},
    )


def settings(args: ApiArgs) -> dict[str, Input[str]]:
    """As `services.api.settings`, the serving back end `kserve` and the training back end `kuberay` read them."""
    return {
        "AI_INFRA_ENV": args.environment,
        "AI_INFRA_HOME": HOME,
        "AI_INFRA_TRUST": f"{TRUST}/trust.json",
        "AI_INFRA_API_HOST": "0.0.0.0",  # noqa: S104  # a pod's
        "AI_INFRA_API_PORT": str(API_PORT),
        "AI_INFRA_SIGNING_URL": f"https://{PROXY}.{args.namespace}.svc:{PROXY_PORT}",
        "AI_INFRA_DATABASE": database_url(args.database, "platform", args.region),
        "AI_INFRA_AUDIT_DATABASE": database_url(args.database, "audit", args.region),
        "AI_INFRA_OBJECT_BACKEND": "s3",
        "AI_INFRA_OBJECTS": objects_url(args.store, args.retention_days),
        "AI_INFRA_POLICY_ENGINE": "opa",
        "AI_INFRA_POLICY_URL": f"http://127.0.0.1:{OPA_PORT}",
        "AI_INFRA_KUBE_URL": "https://kubernetes.default.svc",
        "AI_INFRA_SERVING": "kserve",
        "AI_INFRA_PROMETHEUS_URL": args.prometheus_url,
        "OTEL_EXPORTER_OTLP_ENDPOINT": args.otlp_url,
        "AI_INFRA_COMPUTE": "kuberay",
        "AI_INFRA_TRAINING_IMAGE": args.training.image,
        "AI_INFRA_TRAINING_RUNS": RUNS,
        "AI_INFRA_TRAINING_QUEUE": args.training.queue,
        "AI_INFRA_TRAINING_PRIORITY": args.training.priority,
        "AWS_DEFAULT_REGION": args.region,
    }


def _mounts(training: Training) -> dict[str, Mount]:
    """The home is a disk, with files of others mounted into it; the disk comes first."""
    return {
        "home": Mount(path=HOME, source=Disk(claim=DISK)),
        "config": Mount(
            path=f"{HOME}/config.json",
            source=ConfigFiles(config_map=f"{API}-files", items={"config.json": "config.json"}, one="config.json"),
        ),
        "policies": Mount(path=f"{HOME}/bootstrap", source=ConfigFiles(config_map=TRUST_MAP, items=FIRST_POLICIES)),
        "certificate": Mount(path=f"{HOME}/services/{API}", source=SecretFiles(secret=secret_of(API))),
        "trust": Mount(path=TRUST, source=trust_files()),
        "runs": Mount(path=RUNS, source=Shared(claim=training.runs)),
        "scratch": Mount(path="/tmp", source=Scratch(size="5Gi")),  # noqa: S108  # the container's own
    }


def _opa(image: str) -> Container:
    """It holds the one bundle that the API gives it, and is reached by nobody else."""
    probe = Http(port=OPA_HEALTH_PORT, path="/health")
    addresses = (f"--addr=127.0.0.1:{OPA_PORT}", f"--diagnostic-addr=0.0.0.0:{OPA_HEALTH_PORT}")
    return Container(
        name="opa",
        image=image,
        arguments=("run", "--server", *addresses, "--log-level=error", "--disable-telemetry"),
        probes=Probes(live=probe, ready=probe, start_s=30),
        requests={"cpu": "100m", "memory": "128Mi"},
        limits={"memory": "512Mi"},
        ports={"health": OPA_HEALTH_PORT},
        settings={},
        mounts={},
    )
