"""The cluster's part of an environment's configuration. What AWS alone knows is the plan's to refuse."""

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from stacks.model import Count, Model, Positive, Text, Texts

ADDONS = frozenset(
    {"aws-ebs-csi-driver", "aws-efs-csi-driver", "coredns", "eks-pod-identity-agent", "kube-proxy", "metrics-server", "vpc-cni"}
)
PROXY_BEHIND = 3
"""Minor versions by which kube-proxy may be older than the API server: the control plane is upgraded first."""
GPU_FAMILY = re.compile(r"(g|p)[0-9]")
GRAVITON = re.compile(r"[a-z]+[0-9]+g")
LOG_DAYS = (1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653)


def _log_days(days: int) -> int:
    if days not in LOG_DAYS:
        raise ValueError(f"CloudWatch keeps logs for one of {', '.join(map(str, LOG_DAYS))} days: take the next higher of them")
    return days


def _x86(types: tuple[str, ...]) -> tuple[str, ...]:
    arm = [kind for kind in types if GRAVITON.match(kind)]
    if arm:
        raise ValueError(f"{', '.join(arm)}: the node image is for x86_64, so take a type that is not Graviton")
    return types


LogDays = Annotated[int, AfterValidator(_log_days)]
InstanceTypes = Annotated[Texts, AfterValidator(_x86)]
RoleArn = Annotated[str, Field(pattern=r"^arn:aws:iam::\d{12}:role/[\w+=,.@/-]+$")]
AddonVersion = Annotated[str, Field(pattern=r"^v\d+\.\d+\.\d+-eksbuild\.\d+$")]


class Core(Model):
    """Nodes for add-ons and controllers. disk_gib: root volume."""

    instance_types: InstanceTypes
    min: Positive
    max: Positive
    desired: Positive
    disk_gib: Annotated[int, Field(ge=20)]

    @model_validator(mode="after")
    def _within(self) -> Self:
        if not self.min <= self.desired <= self.max:
            raise ValueError(f"core: desired {self.desired} must be within min {self.min} and max {self.max}")
        return self


class GpuPool(Model):
    """zone: where all its nodes are, null for every zone; efa and a reservation want one. min may be 0."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{1,30}$")]
    capacity: Literal["on-demand", "spot"]
    instance_types: InstanceTypes
    min: Count
    max: Positive
    disk_gib: Annotated[int, Field(ge=50)]
    zone: Text | None = None
    efa: bool = False
    capacity_reservation_id: Annotated[str, Field(pattern=r"^cr-[0-9a-f]{8,17}$")] | None = None

    @model_validator(mode="after")
    def _sound(self) -> Self:
        others = [kind for kind in self.instance_types if not GPU_FAMILY.match(kind)]
        if others:
            raise ValueError(f"GPU pool {self.name}: {', '.join(others)} has no NVIDIA GPU; take types of g5, g6, p4d, p5…")
        if self.min > self.max:
            raise ValueError(f"GPU pool {self.name}: min {self.min} is over max {self.max}")
        if (self.efa or self.capacity_reservation_id) and self.zone is None:
            raise ValueError(f"GPU pool {self.name}: efa and a capacity reservation are of one zone, so name it")
        if self.capacity == "spot" and self.capacity_reservation_id:
            raise ValueError(f"GPU pool {self.name}: a reservation is on-demand capacity; drop it, or set capacity to on-demand")
        return self


class ClusterConfig(Model):
    """version: Kubernetes minor; admin_role_arns: its administrators; addons: name → pinned version.

    workload_identity: how pods take their roles. With `irsa` there are no associations and no agent; service accounts name their
    roles in either case.
    """

    version: Annotated[str, Field(pattern=r"^1\.\d{2}$")]
    admin_role_arns: Annotated[tuple[RoleArn, ...], Field(min_length=1, strict=False)]
    log_days: LogDays
    workload_identity: Literal["pod-identity", "irsa"]
    core: Core
    gpu_pools: Annotated[tuple[GpuPool, ...], Field(strict=False)]
    addons: dict[str, AddonVersion]

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.addons.keys() != ADDONS:
            raise ValueError(f"addons: pin a version of each of {', '.join(sorted(ADDONS))}, and of nothing else")
        server, proxy = int(self.version.split(".")[1]), int(self.addons["kube-proxy"].split(".")[1])
        if not server - PROXY_BEHIND <= proxy <= server:
            skew = f"no newer, and at most {PROXY_BEHIND} older"
            raise ValueError(f"addons: kube-proxy is of 1.{proxy}, and the cluster is {self.version}: take one that is {skew}")
        names = [pool.name for pool in self.gpu_pools]
        if len(set(names)) != len(names):
            raise ValueError("gpu_pools: two have the same name; rename one")
        return self
