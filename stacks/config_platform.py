"""What runs in the cluster for everybody: versions of charts, how much of each there is, and the nodes that Karpenter may start."""

from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from stacks.config_capacity import CapacityConfig
from stacks.model import Model, Positive

CHARTS: Final = (
    "cert-manager",
    "envoy-gateway",
    "gpu-operator",
    "karpenter",
    "kserve",
    "kube-prometheus-stack",
    "kuberay",
    "kueue",
    "opentelemetry-collector",
    "vault",
)

Version = Annotated[str, Field(pattern=r"^v?\d+\.\d+\.\d+$")]
Domain = Annotated[str, Field(pattern=r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,}$")]


class VaultConfig(Model):
    """replicas: each with a disk of storage_gib for what it holds, and one of audit_gib for its record of requests."""

    replicas: Literal[1, 3, 5]
    storage_gib: Positive
    audit_gib: Positive


class MetricsConfig(Model):
    """replicas: of Prometheus, each with all series; what is older than retention_days, or over storage_gib, goes."""

    replicas: Annotated[int, Field(ge=1, le=3)]
    retention_days: Positive
    storage_gib: Annotated[int, Field(ge=10)]


class PlatformConfig(Model):
    """charts: version of each; replicas: of each controller; domain: inference requests go to hosts below it."""

    charts: dict[str, Version]
    replicas: Annotated[int, Field(ge=1, le=3)]
    domain: Domain
    vault: VaultConfig
    metrics: MetricsConfig
    capacity: CapacityConfig

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.charts.keys() != set(CHARTS):
            raise ValueError(f"charts: pin a version of each of {', '.join(CHARTS)}, and of nothing else")
        return self


def platform_faults(environment: str, platform: PlatformConfig) -> list[str]:
    """What prod may not go without."""
    if environment != "prod":
        return []
    checks = {
        "replicas must be 2 or more in prod: the webhooks of one controller that moves stop every deployment": platform.replicas
        > 1,
        "vault.replicas must be 3 or more in prod: one that is lost takes the secrets along": platform.vault.replicas > 1,
        "metrics.replicas must be 2 or more in prod: no canary is judged without metrics": platform.metrics.replicas > 1,
    }
    return [fault for fault, met in checks.items() if not met]
