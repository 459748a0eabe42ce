"""Namespaces of an environment's cluster, by what lives there, and how strictly the API server judges pods in each."""

from collections.abc import Mapping
from typing import Final, Literal

from services.serving.inference import Place

Level = Literal["restricted", "baseline", "privileged"]

SERVICES: Final = "ai-infra"
CERTIFICATES: Final = "cert-manager"
GATEWAY: Final = "envoy-gateway-system"
GPU_OPERATOR: Final = "gpu-operator"
KARPENTER: Final = "karpenter"
KSERVE: Final = "kserve"
KUBERAY: Final = "kuberay"
KUEUE: Final = "kueue-system"
MONITORING: Final = "monitoring"
VAULT: Final = "vault"

CONTROLLERS: Final[Mapping[str, Level]] = {
    **dict.fromkeys((CERTIFICATES, GATEWAY, KARPENTER, KSERVE, KUBERAY, KUEUE, VAULT), "restricted"),
    # It hands devices to containers.
    GPU_OPERATOR: "privileged",
    # The node exporter reads the node's own /proc and /sys.
    MONITORING: "privileged",
}


def models(environment: str) -> str:
    """Where predictors run."""
    return Place().of(environment)


def training(environment: str) -> str:
    """Where Ray jobs run."""
    return f"training-{environment}"


def levels(environment: str) -> dict[str, Level]:
    """Pod Security level of each namespace."""
    ours: dict[str, Level] = dict.fromkeys((SERVICES, models(environment), training(environment)), "restricted")
    return {**ours, **CONTROLLERS}
