"""Nodes that Karpenter may start, and how teams share them: a part of the platform's configuration."""

import re
from collections.abc import Mapping
from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from services.training.placing import WORKER_CPU, WORKER_MEMORY_GIB
from stacks.config_cluster import GPU_FAMILY, InstanceTypes
from stacks.model import Count, Model, Positive

Name = Annotated[str, Field(pattern=r"^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$")]
Flavour = Literal["core", "gpu-spot", "gpu-on-demand"]
GIB_A_CPU: Final[Mapping[str, int]] = {"c": 2, "m": 4, "r": 8, "g": 4, "p": 7}
"""By the first letter of an instance type: what the poorest of its families has. Others are taken for as poor as c."""


class Quota(Model):
    """borrow_gpus: beyond gpus, while other teams leave them idle."""

    cpu: Count
    memory_gib: Count
    gpus: Count = 0
    borrow_gpus: Count = 0


class Quiet(Model):
    """No healthy node is replaced for a newer image then. schedule: cron, UTC; hours: from there on."""

    schedule: Annotated[str, Field(pattern=r"^(\S+ ){4}\S+$")]
    hours: Annotated[int, Field(ge=1, le=23)]


class Pool(Model):
    """cpu, memory_gib, gpus: all that its nodes may have together; expire_hours: a node's greatest age; disk_gib: root volume.

    grace_hours: what pods get to end when their node has to go.
    """

    name: Name
    capacity: Literal["on-demand", "spot"]
    instance_types: InstanceTypes
    cpu: Positive
    memory_gib: Positive
    gpus: Count
    disk_gib: Annotated[int, Field(ge=20)]
    expire_hours: Annotated[int, Field(ge=24)]
    grace_hours: Positive

    @property
    def flavour(self) -> Flavour:
        if not self.gpus:
            return "core"
        return "gpu-spot" if self.capacity == "spot" else "gpu-on-demand"

    @model_validator(mode="after")
    def _sound(self) -> Self:
        wrong = [kind for kind in self.instance_types if bool(GPU_FAMILY.match(kind)) != bool(self.gpus)]
        if wrong:
            raise ValueError(f"pool {self.name}: {', '.join(wrong)}: GPU types want gpus above 0, and others 0; part the two")
        if self.flavour == "core" and self.capacity == "spot":
            raise ValueError(f"pool {self.name}: controllers and heads of Ray clusters run there: make it on-demand")
        if self.capacity == "spot" and len(self.instance_types) < 2:
            raise ValueError(f"pool {self.name}: one type of spot is one market: name two types or more")
        if self.gpus and self.disk_gib < 50:
            raise ValueError(f"pool {self.name}: images with CUDA want a disk of 50 GiB or more")
        return self


class Team(Model):
    """quotas: of every flavour."""

    name: Name
    quotas: dict[Flavour, Quota]

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.quotas.keys() != {"core", "gpu-spot", "gpu-on-demand"}:
            raise ValueError(f"team {self.name}: give a quota for each of core, gpu-spot, gpu-on-demand")
        if self.quotas["core"].gpus or self.quotas["core"].borrow_gpus:
            raise ValueError(f"team {self.name}: core nodes have no GPUs: move them to gpu-spot or gpu-on-demand")
        return self


def holds_worker(kind: str) -> bool:
    """Whether a node of this instance type has room for a worker that says nothing of its size.

    A node needs for itself and its daemons one CPU, and a quarter of its memory at most: kubelet keeps 11 MiB for each pod that may
    be there, Karpenter reckons with 7.5 % less than the type's memory, and exporters, network and GPU add-ons run on each.
    """
    size = re.search(r"\.(?:(\d*)x)?large$", kind)
    if size is None:  # a medium one has one CPU, and metal is whole machines
        return ".metal" in kind
    cpus = 2 if size[1] is None else 4 * int(size[1] or 1)
    return cpus - 1 >= WORKER_CPU and cpus * GIB_A_CPU.get(kind[0], GIB_A_CPU["c"]) * 3 // 4 >= WORKER_MEMORY_GIB


class CapacityConfig(Model):
    """ami: an alias with its version; priorities: name → value, the greater one preempts the lesser."""

    ami: Annotated[str, Field(pattern=r"^al2023@v\d{8}$")]
    quiet: Quiet
    pools: Annotated[tuple[Pool, ...], Field(min_length=1, strict=False)]
    teams: Annotated[tuple[Team, ...], Field(min_length=1, strict=False)]
    priorities: Annotated[dict[Name, Annotated[int, Field(ge=1, le=1_000_000)]], Field(min_length=1)]

    @model_validator(mode="after")
    def _sound(self) -> Self:
        checks = {
            "pools: two have the same name; rename one": len({pool.name for pool in self.pools}) == len(self.pools),
            "teams: two have the same name; rename one": len({team.name for team in self.teams}) == len(self.teams),
            "pools: none is without GPUs: services would have no node to go to": any(not pool.gpus for pool in self.pools),
        }
        faults = [fault for fault, met in checks.items() if not met]
        faults += self._overdrawn() + self._cramped()
        if faults:
            raise ValueError("; ".join(faults))
        return self

    def _overdrawn(self) -> list[str]:
        """Quotas that no node could fill: such a job would be admitted, and wait as pending pods."""
        faults = []
        for flavour in ("core", "gpu-spot", "gpu-on-demand"):
            for what in ("cpu", "memory_gib", "gpus"):
                promised = sum(getattr(team.quotas[flavour], what) for team in self.teams)
                there = sum(getattr(pool, what) for pool in self.pools if pool.flavour == flavour)
                if promised > there:
                    faults.append(f"teams: {what} of {flavour} add up to {promised}, and its pools may have {there}: lower a quota")
        return faults

    def _cramped(self) -> list[str]:
        """Flavours whose nodes are all too small for a worker: quota would admit it, and its pods wait for ever."""
        faults = []
        for flavour in sorted({pool.flavour for pool in self.pools}):
            kinds = [kind for pool in self.pools if pool.flavour == flavour for kind in pool.instance_types]
            if not any(map(holds_worker, kinds)):
                worker = f"a training worker of {WORKER_CPU} CPUs and {WORKER_MEMORY_GIB} GiB"
                faults.append(f"pools: {', '.join(kinds)} of {flavour} have no room for {worker}: take the next larger size")
        return faults
