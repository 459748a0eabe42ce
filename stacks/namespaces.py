"""Namespaces of an environment's cluster, by what lives there, and how strictly the API server judges pods in each."""

from collections.abc import Mapping
from typing import Final, Literal

from services.serving.inference import Place

Level = Literal["restricted", "baseline", "privileged"]

SERVICES: Final = "ai-infra"
VAULT: Final = "vault"
KARPENTER: Final = "karpenter"
GATEWAY: Final = "envoy-gateway-system"
MONITORING: Final = "monitoring"
CONTROLLERS: Final[Mapping[str, Level]] = {
    "cert-manager": "restricted",
    KARPENTER: "restricted",
    GATEWAY: "restricted",
    "kserve": "restricted",
    "kuberay": "restricted",
    "kueue-system": "restricted",
    VAULT: "restricted",
    # The node exporter reads the node's own /proc and /sys.
    MONITORING: "privileged",
    # It loads the driver, and hands devices to containers.
    "gpu-operator": "privileged",
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
    return ours | CONTROLLERS
