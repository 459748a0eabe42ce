"""The reviewed table of what each value of an environment's YAML is about."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stacks.config_stores import STORES

ELSEWHERE = {"environment", "layer", "account", "region"}
"""Whoever changes one of these has another environment: everything in it is another."""


@dataclass(frozen=True)
class Knob:
    """path: dotted, in the YAML of dev; changes: `Type:name`, `*` for anything; given: what dev has besides, before and after."""

    path: str
    value: Any
    changes: Sequence[str]
    given: Mapping[str, Any] = field(default_factory=dict)


ROLE = "arn:aws:iam::111122223333:role/other"
EFA_POOL = {
    "name": "efa",
    "capacity": "on-demand",
    "instance_types": ["p4d.24xlarge"],
    "min": 0,
    "max": 2,
    "disk_gib": 200,
    "zone": "eu-central-1a",
}
IN_ZONE = {"ground.cluster.gpu_pools.0": EFA_POOL}
DEPLOYERS = [f"VpcEndpoint:endpoints-{service}" for service in ("kms", "s3", "sqs")]
KEYS = ("Key:*-key", "Key:manifest-1", "Key:audit-1")


def _signing(purpose: str) -> list[Knob]:
    path = f"ground.keys.signing.{purpose}"
    rotated = {path: {"generations": 2, "current": 2, "retired": 0}}
    return [
        Knob(f"{path}.generations", 2, [f"Key:{purpose}-2"]),
        Knob(f"{path}.current", 2, [f"Alias:{purpose}"], {f"{path}.generations": 2}),
        Knob(f"{path}.retired", 1, [f"Key:{purpose}-1"], rotated),
    ]


def _kept(store: str) -> Knob:
    kinds = ("BucketLifecycleConfigurationV2", "BucketObjectLockConfigurationV2")
    return Knob(f"ground.stores.retention_days.{store}", 2, [f"{kind}:{store}" for kind in kinds])


KNOBS = [
    Knob(
        "replica_region",
        "eu-west-1",
        [
            "Bucket*:*-replica",
            "BucketReplicationConfig:*-replication",
            "Role*:*-replication",
            "Key:*-replica-key",
            "Alias:*-replica*",
            "ReplicaKey:*-replica",
            # A key is multi-region from its beginning, and the proxy signs there too.
            "Key:manifest-1",
            "Key:audit-1",
            "RolePolicy:*",
            "Trail:trail",
            "aws:aws-eu-west-1",
        ],
    ),
    Knob(
        "zones",
        ["eu-central-1a", "eu-central-1c", "eu-central-1b"],
        [
            "Subnet:*",
            "SubnetGroup:database",
            "Cluster:cluster",
            "NodeGroup:*",
            "VpcEndpoint:endpoints-s3",
            "RolePolicy:karpenter-controller",
        ],
    ),
    # AWS gets the tags from the provider; what a template makes, it tags as the template says.
    Knob("tags.team", "other", ["aws:*", "LaunchTemplate:*"]),
    Knob("tags.cost_centre", "9", ["aws:*", "LaunchTemplate:*"]),
    Knob("ground.network.cidr", "10.40.0.0/16", ["Vpc:network", "Subnet:*", "SecurityGroupIngressRule:endpoints-in-*"]),
    Knob(
        "ground.network.nat",
        "per-zone",
        [
            "Eip:network-nat-*",
            "NatGateway:network-nat-*",
            "Route:network-nodes-*",
            "RouteTableAssociation:network-public-*",
            "Subnet:network-public-*",
            "VpcEndpoint:*",
        ],
    ),
    Knob("ground.network.flow_log_days", 60, ["LogGroup:network-flow-logs"]),
    Knob("ground.keys.deletion_window_days", 8, KEYS),
    Knob("ground.keys.admin_role_arns", [ROLE], KEYS),
    Knob("ground.keys.break_glass_role_arn", ROLE, KEYS),
    Knob(
        "ground.keys.cloudhsm_key_store_id",
        "cks-1234567890abcdef0",
        [f"Key:{name}-key" for name in ("artifacts", "audit", "backups", "database", "datasets")],
    ),
    *_signing("manifest"),
    *_signing("audit"),
    *map(_kept, STORES),
    Knob("ground.stores.access_log_days", 31, ["BucketLifecycleConfigurationV2:access-logs"]),
    Knob("ground.cluster.version", "1.36", ["Cluster:cluster"]),
    Knob(
        "ground.cluster.admin_role_arns",
        [ROLE],
        ["AccessEntry:cluster-admin-*", "AccessPolicyAssociation:cluster-admin-*", *DEPLOYERS],
    ),
    Knob("ground.cluster.log_days", 60, ["LogGroup:cluster-logs"]),
    Knob(
        "ground.cluster.workload_identity",
        "irsa",
        ["PodIdentityAssociation:*", "Addon:eks-pod-identity-agent", "Addon:vpc-cni", "Addon:aws-ebs-csi-driver"],
    ),
    Knob("ground.cluster.core.instance_types", ["m7i.xlarge"], ["NodeGroup:core"]),
    Knob("ground.cluster.core.min", 2, ["NodeGroup:core"]),
    Knob("ground.cluster.core.max", 4, ["NodeGroup:core"]),
    Knob("ground.cluster.core.desired", 3, ["NodeGroup:core"]),
    Knob("ground.cluster.core.disk_gib", 60, ["LaunchTemplate:core-template"]),
    Knob("ground.cluster.gpu_pools.0.name", "other", ["NodeGroup:gpu-spot", "NodeGroup:other", "LaunchTemplate:*-template"]),
    Knob("ground.cluster.gpu_pools.0.capacity", "on-demand", ["NodeGroup:gpu-spot"]),
    Knob("ground.cluster.gpu_pools.0.instance_types", ["g6.xlarge"], ["NodeGroup:gpu-spot"]),
    Knob("ground.cluster.gpu_pools.0.min", 1, ["NodeGroup:gpu-spot"]),
    Knob("ground.cluster.gpu_pools.0.max", 3, ["NodeGroup:gpu-spot"]),
    Knob("ground.cluster.gpu_pools.0.disk_gib", 300, ["LaunchTemplate:gpu-spot-template"]),
    Knob("ground.cluster.gpu_pools.0.zone", "eu-central-1a", ["NodeGroup:gpu-spot"]),
    Knob(
        "ground.cluster.gpu_pools.0.efa",
        True,
        [
            "NodeGroup:efa",
            "LaunchTemplate:efa-template",
            "PlacementGroup:efa-close",
            "SecurityGroup:efa-fabric",
            "SecurityGroup*Rule:efa-fabric-*",
        ],
        IN_ZONE,
    ),
    Knob("ground.cluster.gpu_pools.0.capacity_reservation_id", "cr-0123456789abcdef0", ["LaunchTemplate:efa-template"], IN_ZONE),
    Knob("ground.cluster.addons.coredns", "v1.12.4-eksbuild.1", ["Addon:coredns"]),
    Knob("ground.state.database.version", "16", ["Instance:database", "ParameterGroup:database"]),
    Knob("ground.state.database.instance_class", "db.t4g.large", ["Instance:database"]),
    Knob("ground.state.database.storage_gib", 30, ["Instance:database"]),
    Knob("ground.state.database.max_storage_gib", 200, ["Instance:database"]),
    Knob("ground.state.database.backup_days", 2, ["Instance:database"]),
    Knob("ground.state.database.log_days", 60, ["LogGroup:database-postgresql", "LogGroup:database-upgrade"]),
    Knob("ground.state.database.lasting", True, ["Instance:database"]),
    Knob("ground.state.backup.daily_days", 8, ["Plan:backup"]),
    Knob("ground.state.backup.monthly_days", 60, ["Plan:backup"]),
    Knob("ground.state.backup.lock_days", 7, ["Vault:vault", "VaultLockConfiguration:vault"]),
    Knob("ground.state.backup.replica", True, ["Plan:backup", "Vault:vault-replica"], {"replica_region": "eu-west-1"}),
    Knob("ground.state.trail.log_days", 60, ["LogGroup:trail-logs"]),
    Knob("ground.state.alerts.emails", ["other@example.com"], ["TopicSubscription:alerts-*"]),
    Knob("ground.state.budget.monthly_usd", 2000, ["Budget:budget"]),
    Knob("ground.state.budget.anomaly_usd", 200, ["AnomalySubscription:budget"], {"ground.state.budget.payer": True}),
    Knob("ground.state.budget.payer", True, ["CostAllocationTag:budget-*", "AnomalyMonitor:budget", "AnomalySubscription:budget"]),
]
