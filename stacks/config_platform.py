"""What runs in the cluster for everybody: versions of charts."""

from typing import Annotated, Final, Self

from pydantic import Field, model_validator

from stacks.model import Model

CHARTS: Final = (
    "cert-manager",
    "gpu-operator",
    "karpenter",
    "kserve",
    "kube-prometheus-stack",
    "kueue",
    "kuberay",
    "opa",
    "opentelemetry-collector",
    "vault",
)

Version = Annotated[str, Field(pattern=r"^v?\d+\.\d+\.\d+$")]


class PlatformConfig(Model):
    """charts: version of each."""

    charts: dict[str, Version]

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.charts.keys() != set(CHARTS):
            raise ValueError(f"charts: pin a version of each of {', '.join(CHARTS)}, and of nothing else")
        return self
