"""One pool of GPU nodes: a managed node group, on demand or spot, that may be empty.

Not here: the GPU driver's device plugin (in the cluster), and GPUs that Karpenter starts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import pulumi
from pulumi import Input, Output, ResourceOptions
from pulumi_aws import ec2, eks, vpc

from components.launch import Host, Interface, efa_interfaces, interface, launch_template

EFA_CARDS: Final = {
    "g5.48xlarge": 1,
    "g6.48xlarge": 1,
    "p4d.24xlarge": 4,
    "p4de.24xlarge": 4,
    "p5.48xlarge": 32,
    "p5e.48xlarge": 32,
    "p5en.48xlarge": 16,
}
"""Instance type → network cards that take an Elastic Fabric Adapter (EC2 user guide, "Maximize network bandwidth")."""

CAPACITY: Final = {"on-demand": "ON_DEMAND", "spot": "SPOT"}


@dataclass(frozen=True, kw_only=True)
class GpuPoolArgs:
    """minimum may be 0; subnet_ids: one with EFA, whose nodes stand close together, and one with a reservation.

    efa: Elastic Fabric Adapters and a placement group; capacity_reservation_id: nodes start in it and nowhere else.
    """

    environment: str
    cluster_name: Input[str]
    node_role_arn: Input[str]
    vpc_id: Input[str]
    subnet_ids: Sequence[Input[str]]
    security_group_id: Input[str]
    disks_key_arn: Input[str]
    capacity: Literal["on-demand", "spot"]
    instance_types: Sequence[str]
    minimum: int
    maximum: int
    disk_gib: int
    tags: Mapping[str, str]
    efa: bool = False
    capacity_reservation_id: str | None = None

    def __post_init__(self) -> None:
        if not self.instance_types:
            raise ValueError("instance_types is empty: name one type or more")
        if not 0 <= self.minimum <= self.maximum or self.maximum < 1:
            raise ValueError(f"maximum must be >= 1 and >= minimum, got {self.minimum}..{self.maximum}")
        if self.capacity == "spot" and self.capacity_reservation_id:
            raise ValueError("a reservation is on-demand capacity: set capacity to on-demand, or drop capacity_reservation_id")
        if (self.efa or self.capacity_reservation_id) and len(self.subnet_ids) != 1:
            raise ValueError("EFA and reservations are of one zone: give the one subnet of it")
        if self.efa and len({EFA_CARDS.get(kind, 0) for kind in self.instance_types} | {0}) != 2:
            raise ValueError(f"efa wants types with the same number of network cards, of {', '.join(EFA_CARDS)}")
        if self.efa and not set(self.instance_types) <= EFA_CARDS.keys():
            raise ValueError(f"efa wants types of {', '.join(EFA_CARDS)}: got {', '.join(self.instance_types)}")


class GpuPool(pulumi.ComponentResource):
    """Nodes tainted for GPU pods only; spot ones carry a second taint. Their number belongs to whoever scales them."""

    def __init__(self, name: str, args: GpuPoolArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("ai-infra:cluster:GpuPool", name, None, opts)
        self._args, self._name = args, name
        self._child = ResourceOptions(parent=self)
        self._physical = f"ai-infra-{args.environment}-{name}"
        template = self._template()
        eks.NodeGroup(
            name,
            cluster_name=args.cluster_name,
            node_group_name=self._physical,
            node_role_arn=args.node_role_arn,
            subnet_ids=list(args.subnet_ids),
            ami_type="AL2023_x86_64_NVIDIA",
            capacity_type=CAPACITY[args.capacity],
            instance_types=list(args.instance_types),
            launch_template=eks.NodeGroupLaunchTemplateArgs(id=template.id, version=Output.format("{0}", template.latest_version)),
            labels={
                "ai-infra/pool": name,
                "ai-infra/capacity": args.capacity,
                "ai-infra/efa": str(args.efa).lower(),
                "nvidia.com/gpu.present": "true",
            },
            taints=self._taints(),
            scaling_config=eks.NodeGroupScalingConfigArgs(min_size=args.minimum, max_size=args.maximum, desired_size=args.minimum),
            update_config=eks.NodeGroupUpdateConfigArgs(max_unavailable=1),
            node_repair_config=eks.NodeGroupNodeRepairConfigArgs(enabled=True),
            opts=ResourceOptions(parent=self, ignore_changes=["scalingConfig.desiredSize"]),
        )
        self.register_outputs({})

    def _taints(self) -> list[eks.NodeGroupTaintArgs]:
        taints = [eks.NodeGroupTaintArgs(key="nvidia.com/gpu", value="true", effect="NO_SCHEDULE")]
        if self._args.capacity == "spot":
            taints.append(eks.NodeGroupTaintArgs(key="ai-infra/spot", value="true", effect="NO_SCHEDULE"))
        return taints

    def _template(self) -> ec2.LaunchTemplate:
        args = self._args
        host = Host(physical=self._physical, disk_gib=args.disk_gib, disks_key_arn=args.disks_key_arn, tags=args.tags)
        group = (
            ec2.PlacementGroup(f"{self._name}-close", name=self._physical, strategy="cluster", opts=self._child)
            if args.efa
            else None
        )
        return launch_template(
            f"{self._name}-template",
            host,
            self._interfaces(),
            placement_group=group.name if group else None,
            capacity_reservation_id=args.capacity_reservation_id,
            opts=self._child,
        )

    def _interfaces(self) -> list[Interface]:
        if not self._args.efa:
            return [interface([self._args.security_group_id])]
        fabric = self._fabric()
        return efa_interfaces(EFA_CARDS[self._args.instance_types[0]], [self._args.security_group_id, fabric.id])

    def _fabric(self) -> ec2.SecurityGroup:
        """EFA bypasses the operating system; it wants all traffic between members of one group, in both directions."""
        name, physical = f"{self._name}-fabric", f"{self._physical}-fabric"
        group = ec2.SecurityGroup(
            name,
            name=physical,
            description="EFA traffic within the pool",
            vpc_id=self._args.vpc_id,
            tags={"Name": physical},
            opts=self._child,
        )
        for rule, kind in (("in", vpc.SecurityGroupIngressRule), ("out", vpc.SecurityGroupEgressRule)):
            kind(
                f"{name}-{rule}",
                security_group_id=group.id,
                referenced_security_group_id=group.id,
                ip_protocol="-1",
                description="EFA traffic within the pool",
                opts=self._child,
            )
        return group
