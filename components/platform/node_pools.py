"""One kind of node that Karpenter starts and ends: a NodePool, and the EC2NodeClass that says how its instances start.

Not here: Karpenter itself, its AWS roles, and managed node groups. Taints and labels are those of the managed GPU pools, so that a
pod need not know which of the two started its node.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import pulumi
from pulumi import Input, ResourceOptions
from pulumi_kubernetes.apiextensions import CustomResource
from pulumi_kubernetes.meta.v1 import ObjectMetaArgs

from components.platform.taints import CAPACITY, GPU, HAS_GPU, SPOT

POOLS: Final = "karpenter.sh/v1"
CLASSES: Final = "karpenter.k8s.aws/v1"


@dataclass(frozen=True, kw_only=True)
class Launch:
    """How any node of the cluster starts. tags: of instances and volumes.

    ami: an alias with its version, as al2023@v20260930, so that a new image is a change of the program and not of the day. For GPU
    types Karpenter takes the image of the same version with NVIDIA's driver in it.
    """

    ami: str
    subnet_ids: Sequence[Input[str]]
    security_group_id: Input[str]
    disks_key_arn: Input[str]
    instance_profile_name: Input[str]
    tags: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Quiet:
    """When no healthy node is replaced for a newer image. schedule: cron, UTC, of its begin; hours: how long."""

    schedule: str
    hours: int


@dataclass(frozen=True, kw_only=True)
class NodePoolArgs:
    """cpu, memory_gib, gpus: all that the pool's nodes may have together, gpus 0 for a pool without; disk_gib: root volume.

    expire_hours: age at which a node is replaced whatever runs on it; grace_hours: what a pod then gets to end.
    """

    launch: Launch
    capacity: Literal["on-demand", "spot"]
    instance_types: Sequence[str]
    cpu: int
    memory_gib: int
    gpus: int
    disk_gib: int
    expire_hours: int
    grace_hours: int
    quiet: Quiet

    def __post_init__(self) -> None:
        if not self.instance_types:
            raise ValueError("instance_types is empty: name one type or more")
        if self.capacity == "spot" and not self.gpus:
            raise ValueError("a pool without GPUs is spot: controllers run there, so make it on-demand")


class NodePool(pulumi.ComponentResource):
    """Nodes with IMDSv2 one hop away, encrypted disks and no public address. GPU nodes have a taint, spot nodes another one."""

    def __init__(self, name: str, args: NodePoolArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("ai-infra:platform:NodePool", name, None, opts)
        meta = ObjectMetaArgs(name=name)
        started = CustomResource(
            f"{name}-class", CLASSES, "EC2NodeClass", spec=_class(name, args), metadata=meta, opts=ResourceOptions(parent=self)
        )
        # A pool whose class is not there yet is not ready, and says nothing of why.
        after = ResourceOptions(parent=self, depends_on=[started])
        CustomResource(name, POOLS, "NodePool", spec=_pool(name, args), metadata=meta, opts=after)
        self.register_outputs({})


def _class(name: str, args: NodePoolArgs) -> dict[str, Any]:
    launch = args.launch
    disk = {
        "volumeSize": f"{args.disk_gib}Gi",
        "volumeType": "gp3",
        "encrypted": True,
        "kmsKeyID": launch.disks_key_arn,
        "deleteOnTermination": True,
    }
    return {
        "amiSelectorTerms": [{"alias": launch.ami}],
        "instanceProfile": launch.instance_profile_name,
        "subnetSelectorTerms": [{"id": subnet} for subnet in launch.subnet_ids],
        "securityGroupSelectorTerms": [{"id": launch.security_group_id}],
        "associatePublicIPAddress": False,
        "blockDeviceMappings": [{"deviceName": "/dev/xvda", "rootVolume": True, "ebs": disk}],
        "metadataOptions": {"httpEndpoint": "enabled", "httpTokens": "required", "httpPutResponseHopLimit": 1},
        "detailedMonitoring": True,
        "tags": {**launch.tags, "Name": name},
    }


def _pool(name: str, args: NodePoolArgs) -> dict[str, Any]:
    limits = {"cpu": str(args.cpu), "memory": f"{args.memory_gib}Gi"}
    return {
        "template": {"metadata": {"labels": _labels(name, args)}, "spec": _template(name, args)},
        "limits": limits | ({"nvidia.com/gpu": str(args.gpus)} if args.gpus else {}),
        "disruption": _disruption(args),
    }


def _labels(name: str, args: NodePoolArgs) -> dict[str, str]:
    labels = {"ai-infra/pool": name, CAPACITY: args.capacity}
    return labels | (HAS_GPU if args.gpus else {})


def _template(name: str, args: NodePoolArgs) -> dict[str, Any]:
    taints = ([GPU] if args.gpus else []) + ([SPOT] if args.capacity == "spot" else [])
    return {
        "nodeClassRef": {"group": CLASSES.partition("/")[0], "kind": "EC2NodeClass", "name": name},
        "requirements": [
            {"key": "karpenter.sh/capacity-type", "operator": "In", "values": [args.capacity]},
            {"key": "kubernetes.io/arch", "operator": "In", "values": ["amd64"]},
            {"key": "kubernetes.io/os", "operator": "In", "values": ["linux"]},
            {"key": "node.kubernetes.io/instance-type", "operator": "In", "values": list(args.instance_types)},
        ],
        "taints": taints,
        "expireAfter": f"{args.expire_hours}h",
        "terminationGracePeriod": f"{args.grace_hours}h",
    }


def _disruption(args: NodePoolArgs) -> dict[str, Any]:
    """A GPU node is ended when it is empty only: what trains on it would begin again from its last checkpoint."""
    quiet = {"nodes": "0", "reasons": ["Drifted"], "schedule": args.quiet.schedule, "duration": f"{args.quiet.hours}h"}
    if args.gpus:
        return {"consolidationPolicy": "WhenEmpty", "consolidateAfter": "10m", "budgets": [{"nodes": "1"}, quiet]}
    return {"consolidationPolicy": "WhenEmptyOrUnderutilized", "consolidateAfter": "5m", "budgets": [{"nodes": "20%"}, quiet]}
