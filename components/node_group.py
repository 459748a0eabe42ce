"""The core node group: managed nodes for add-ons and controllers, and the role that all managed nodes have.

Not here: GPU nodes (`gpu_pool`) and nodes that Karpenter starts (`karpenter`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import pulumi
from pulumi import Input, Output, ResourceOptions
from pulumi_aws import eks, iam

from components.launch import Host, interface, launch_template
from components.trust import service_trust

POLICIES: Final = {
    "worker": "arn:aws:iam::aws:policy/AmazonEKSWorkerNodePolicy",
    "images": "arn:aws:iam::aws:policy/AmazonEC2ContainerRegistryPullOnly",
}
"""What a kubelet needs. The network add-on has a role of its own, so nodes may not change interfaces."""


@dataclass(frozen=True, kw_only=True)
class NodeGroupArgs:
    """disk_gib: root volume, gp3; tags: of instances and volumes; taints: key → value, all NO_SCHEDULE."""

    environment: str
    cluster_name: Input[str]
    subnet_ids: Sequence[Input[str]]
    security_group_id: Input[str]
    disks_key_arn: Input[str]
    instance_types: Sequence[str]
    minimum: int
    maximum: int
    desired: int
    disk_gib: int
    tags: Mapping[str, str]
    taints: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.instance_types:
            raise ValueError("instance_types is empty: name one type or more")
        if self.minimum < 1:
            raise ValueError(f"minimum must be >= 1, got {self.minimum}: add-ons and controllers run on these nodes")
        if not self.minimum <= self.desired <= self.maximum:
            raise ValueError(f"desired must be within {self.minimum}..{self.maximum}, got {self.desired}")


class NodeGroup(pulumi.ComponentResource):
    """AL2023 nodes in private subnets: IMDSv2 one hop away, encrypted disks, no public address."""

    role_arn: Output[str]

    def __init__(self, name: str, args: NodeGroupArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("ai-infra:cluster:NodeGroup", name, None, opts)
        child = ResourceOptions(parent=self)
        physical = f"ai-infra-{args.environment}-{name}"
        role = iam.Role(f"{name}-role", name=f"{physical}-node", assume_role_policy=service_trust("ec2.amazonaws.com"), opts=child)
        attached = [
            iam.RolePolicyAttachment(f"{name}-{what}", role=role.name, policy_arn=arn, opts=child) for what, arn in POLICIES.items()
        ]
        host = Host(physical=physical, disk_gib=args.disk_gib, disks_key_arn=args.disks_key_arn, tags=args.tags)
        template = launch_template(f"{name}-template", host, [interface([args.security_group_id])], opts=child)
        eks.NodeGroup(
            name,
            cluster_name=args.cluster_name,
            node_group_name=physical,
            node_role_arn=role.arn,
            subnet_ids=list(args.subnet_ids),
            ami_type="AL2023_x86_64_STANDARD",
            capacity_type="ON_DEMAND",
            instance_types=list(args.instance_types),
            launch_template=eks.NodeGroupLaunchTemplateArgs(id=template.id, version=Output.format("{0}", template.latest_version)),
            labels={"ai-infra/pool": name},
            taints=[
                eks.NodeGroupTaintArgs(key=key, value=value, effect="NO_SCHEDULE") for key, value in sorted(args.taints.items())
            ],
            scaling_config=eks.NodeGroupScalingConfigArgs(min_size=args.minimum, max_size=args.maximum, desired_size=args.desired),
            update_config=eks.NodeGroupUpdateConfigArgs(max_unavailable=1),
            node_repair_config=eks.NodeGroupNodeRepairConfigArgs(enabled=True),
            # Nodes without their policies never join.
            opts=ResourceOptions(parent=self, depends_on=attached),
        )
        self.role_arn = role.arn
        self.register_outputs({"role_arn": self.role_arn})
