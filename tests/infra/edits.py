"""Edits of an environment, and exactly what each of them does to it.

A row is told as `action path, path!`: `!` marks what forces the replacement, `refused` what the engine will not do. Paths of what
is created or deleted are left out. A `*` stands for anything. Edits of one batch touch different resources: they are planned
together, for a plan takes seconds.
"""

import copy
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Any

import yaml

from infra.diff import Row
from infra.render import config_file
from tests.peers import ROOT


@dataclass(frozen=True)
class Edit:
    """rows: by address; values: dotted path in the YAML → value; program: file, a text in it, and what is there instead."""

    name: str
    rows: Mapping[str, str]
    values: Mapping[str, Any] = field(default_factory=dict)
    program: Sequence[tuple[str, str, str]] = ()


def told(row: Row) -> str:
    paths = [f"{item.path}{'!' if item.forces else ''}" for item in row.properties] if row.action in ("update", "replace") else []
    return f"{'refused: ' if row.refused else ''}{row.action}{' ' if paths else ''}{', '.join(paths)}"


def matches(pattern: str, text: str) -> bool:
    return re.fullmatch(re.escape(pattern).replace(r"\*", ".*"), text) is not None


def configured(environment: str, values: Mapping[str, Any]) -> str:
    """The YAML of an environment with other values."""
    read = yaml.safe_load((ROOT / config_file(environment)).read_text(encoding="utf-8"))
    stack = read["config"]["ai-infra:stack"]
    for path, value in values.items():
        *outer, last = path.split(".")
        target: Any = reduce(lambda part, key: part[int(key) if isinstance(part, list) else key], outer, stack)
        if isinstance(target, list):
            target.insert(int(last), copy.deepcopy(value))
        else:
            target[last] = copy.deepcopy(value)
    return yaml.safe_dump(read)


@contextmanager
def patched(edits: Sequence[Edit]) -> Iterator[Path]:
    """A copy of the checkout's program with the edits in it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("infra", "components", "stacks", "policies"):
            shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        for edit in edits:
            for file, before, after in edit.program:
                text = (folder / file).read_text(encoding="utf-8")
                assert before in text, f"{edit.name}: {file} has no {before!r} any more"
                (folder / file).write_text(text.replace(before, after), encoding="utf-8")
        yield folder


POOL = {"name": "extra", "capacity": "on-demand", "instance_types": ["g5.xlarge"], "min": 0, "max": 1, "disk_gib": 100}
ADMINS = [f"arn:aws:iam::111122223333:role/{name}" for name in ("platform-admin", "second-admin")]
NAMES, DATABASE, SIGNING = (f"components/{name}.py" for name in ("store_names", "database", "signing_keys"))
PROTECTED = "ResourceOptions(parent=self, protect=True)"

BASE: Mapping[str, Mapping[str, Any]] = {
    "dev": {
        "ground.stores.retention_days.audit": 5,
        "ground.keys.signing.audit": {"generations": 2, "current": 1, "retired": 0},
        "ground.state.database.lasting": True,
    },
    "prod": {},
}
"""What an environment has here before the edits. dev: something to shorten, a key to rotate to, a database that is protected."""

MORE = [
    Edit(
        "a larger GPU pool",
        {"aws_eks_node_group.gpu-spot": "update scaling_config[0].max_size"},
        values={"ground.cluster.gpu_pools.0.max": 5},
    ),
    Edit(
        "other types of core nodes",
        {"aws_eks_node_group.core": "replace instance_types!"},
        values={"ground.cluster.core.instance_types": ["m7i.xlarge"]},
    ),
    Edit(
        "data sets kept longer",
        {
            "aws_s3_bucket_lifecycle_configuration.datasets": "update rule[0].noncurrent_version_expiration[0].noncurrent_days",
            "aws_s3_bucket_object_lock_configuration.datasets": "update rule[0].default_retention[0].days",
        },
        values={"ground.stores.retention_days.datasets": 3},
    ),
    Edit(
        "access logs kept longer",
        {"aws_s3_bucket_lifecycle_configuration.access-logs": "update rule[0].expiration[0].days"},
        values={"ground.stores.access_log_days": 60},
    ),
    Edit(
        "flow logs kept longer",
        {"aws_cloudwatch_log_group.network-flow-logs": "update retention_in_days"},
        values={"ground.network.flow_log_days": 90},
    ),
    Edit(
        "the cluster's logs kept longer",
        {"aws_cloudwatch_log_group.cluster-logs": "update retention_in_days"},
        values={"ground.cluster.log_days": 60},
    ),
    Edit(
        "a larger database",
        {"aws_db_instance.database": "update instance_class"},
        values={"ground.state.database.instance_class": "db.t4g.large"},
    ),
    Edit(
        "a larger budget",
        {"aws_budgets_budget.budget": "update limit_amount"},
        values={"ground.state.budget.monthly_usd": 2000},
    ),
    Edit(
        "an account that pays its own bill",
        {"aws_ce_cost_allocation_tag.budget-*": "create", "aws_ce_anomaly_*.budget": "create"},
        values={"ground.state.budget.payer": True},
    ),
    Edit(
        "one more administrator",
        {
            "aws_eks_access_entry.cluster-admin-second-admin": "create",
            "aws_eks_access_policy_association.cluster-admin-second-admin": "create",
            "aws_vpc_endpoint.endpoints-*": "update policy.Statement[Deployers*].Condition.ArnEquals.aws:PrincipalArn",
        },
        values={"ground.cluster.admin_role_arns": ADMINS},
    ),
    Edit(
        "a newer add-on",
        {"aws_eks_addon.coredns": "update addon_version"},
        values={"ground.cluster.addons.coredns": "v1.12.4-eksbuild.1"},
    ),
    Edit(
        "one more GPU pool",
        {"aws_eks_node_group.extra": "create", "aws_launch_template.extra-template": "create"},
        values={"ground.cluster.gpu_pools.1": POOL},
    ),
    Edit(
        "next generation of a signing key",
        {"aws_kms_key.manifest-2": "create"},
        values={"ground.keys.signing.manifest.generations": 2},
    ),
    Edit(
        "rotation to the next signing key",
        {"aws_kms_alias.audit": "update target_key_id"},
        values={"ground.keys.signing.audit.current": 2},
    ),
    Edit(
        "daily backups kept longer",
        {"aws_backup_plan.backup": "update rule[*].lifecycle[0].delete_after"},
        values={"ground.state.backup.daily_days": 14},
    ),
]
LESS = [
    Edit(
        "a gateway in each zone",
        {
            "aws_route.network-nodes-eu-central-1b": "update nat_gateway_id",
            "aws_route.network-nodes-eu-central-1c": "update nat_gateway_id",
            "aws_vpc_endpoint.endpoints-*": "update subnet_ids",
            **{
                f"{kind}-eu-central-1{zone}": "create"
                for kind in ("aws_eip.network-nat", "aws_nat_gateway.network-nat", "aws_subnet.network-public")
                for zone in "bc"
            },
            "aws_route_table_association.network-public-eu-central-1b": "create",
            "aws_route_table_association.network-public-eu-central-1c": "create",
        },
        values={"ground.network.nat": "per-zone"},
    ),
    Edit(
        "no GPU pool",
        {"aws_eks_node_group.gpu-spot": "delete", "aws_launch_template.gpu-spot-template": "delete"},
        values={"ground.cluster.gpu_pools": []},
    ),
    Edit(
        "audit log kept for less time",
        {
            "aws_s3_bucket_lifecycle_configuration.audit": "update rule[0].noncurrent_version_expiration[0].noncurrent_days",
            "aws_s3_bucket_object_lock_configuration.audit": "update rule[0].default_retention[0].days",
        },
        values={"ground.stores.retention_days.audit": 2},
    ),
    Edit(
        "alarms go to somebody else",
        {
            "aws_sns_topic_subscription.alerts-ml-platform-at-example-com": "delete",
            "aws_sns_topic_subscription.alerts-other-at-example-com": "create",
        },
        values={"ground.state.alerts.emails": ["other@example.com"]},
    ),
    Edit(
        "the cluster's next version",
        {"aws_eks_cluster.cluster": "update version"},
        values={"ground.cluster.version": "1.36"},
    ),
    Edit(
        "more storage of the database",
        {"aws_db_instance.database": "update allocated_storage"},
        values={"ground.state.database.storage_gib": 50},
    ),
]
RENAMED = [
    Edit(
        "another administrator",
        {
            **{
                f"aws_eks_access_{kind}.cluster-admin-{name}-admin": action
                for kind in ("entry", "policy_association")
                for name, action in (("platform", "delete"), ("second", "create"))
            },
            "aws_vpc_endpoint.endpoints-*": "update policy.Statement[Deployers*].Condition.ArnEquals.aws:PrincipalArn",
        },
        values={"ground.cluster.admin_role_arns": ADMINS[1:]},
    ),
    Edit(
        "signing keys renamed",
        {
            **{f"aws_kms_key.{name}": "refused: delete" for name in ("manifest-1", "audit-1", "audit-2")},
            **{f"aws_kms_key.{name}": "create" for name in ("manifest-key-1", "audit-key-1", "audit-key-2")},
            "aws_kms_alias.manifest": "update target_key_id",
            "aws_kms_alias.audit": "update target_key_id",
        },
        program=[(SIGNING, 'f"{self._name}-{generation}"', 'f"{self._name}-key-{generation}"')],
    ),
    Edit(
        "another taint of GPU nodes",
        {"aws_eks_node_group.gpu-spot": "update taint[1].value"},
        program=[("components/gpu_pool.py", 'key="nvidia.com/gpu", value="true"', 'key="nvidia.com/gpu", value="present"')],
    ),
    Edit(
        "another key of the database",
        {
            "aws_db_instance.database": "refused: replace kms_key_id!",
            # They name the database by its resource id.
            "aws_iam_role_policy.*": "update policy",
        },
        program=[(DATABASE, "            kms_key_id=args.storage_key_arn", "            kms_key_id=args.secret_key_arn")],
    ),
]
ALIASED = [
    Edit(
        "signing keys renamed, with their old names as aliases",
        {f"aws_kms_key.{name}": "move" for name in ("manifest-key-1", "audit-key-1", "audit-key-2")},
        program=[
            (SIGNING, 'f"{self._name}-{generation}"', 'f"{self._name}-key-{generation}"'),
            (
                SIGNING,
                PROTECTED,
                'ResourceOptions(parent=self, protect=True, aliases=[pulumi.Alias(name=name.replace("-key", ""))])',
            ),
        ],
    ),
    Edit(
        "disks of nodes under another key",
        {
            "aws_launch_template.*": "update block_device_mappings[0].ebs[0].kms_key_id",
            "aws_eks_node_group.*": "update launch_template[0].version",
            "aws_iam_role_policy.*": "update policy*",
        },
        program=[("stacks/ground_cluster.py", "disks_key_arn=keys.disks", "disks_key_arn=keys.logs")],
    ),
]
UNPROTECTED = [
    Edit(
        "another kind of signing key, whose protection is dropped",
        {
            **{
                f"aws_kms_key.{name}": "refused: replace customer_master_key_spec!, protect"
                for name in ("manifest-1", "audit-1", "audit-2")
            },
            "aws_kms_alias.manifest": "update target_key_id",
            "aws_kms_alias.audit": "update target_key_id",
        },
        program=[
            (SIGNING, '"ECC_NIST_P256"', '"ECC_NIST_P384"'),
            (SIGNING, PROTECTED, "ResourceOptions(parent=self)"),
        ],
    ),
]
ADDRESSES = [
    Edit(
        "another block of addresses",
        {
            "aws_vpc.network": "replace cidr_block!",
            "aws_subnet.*": "replace cidr_block!, vpc_id!",
            "aws_default_security_group.network": "replace vpc_id!",
            "aws_flow_log.*": "replace vpc_id!",
            "aws_route_table.*": "replace vpc_id!",
            "aws_security_group.*": "replace vpc_id!",
            "aws_vpc_endpoint.*": "replace * vpc_id!",
            "aws_vpc_security_group_*": "replace *security_group_id!",
            "aws_nat_gateway.*": "replace subnet_id!",
            "aws_route.*": "replace *route_table_id!",
            "aws_route_table_association.*": "replace route_table_id, subnet_id!",
            "aws_eks_node_group.*": "replace launch_template[0].version, subnet_ids!",
            "aws_launch_template.*": "update network_interfaces[0].security_groups",
            "aws_eks_cluster.cluster": "update vpc_config[0].security_group_ids, vpc_config[0].subnet_ids",
            "aws_iam_role_policy.karpenter-controller": "update policy",
            "aws_internet_gateway.network": "update vpc_id",
            "aws_db_subnet_group.database": "update subnet_ids",
            "aws_efs_mount_target.*": "replace security_groups, subnet_id!",
            "aws_db_instance.database": "update vpc_security_group_ids",
        },
        values={"ground.network.cidr": "10.40.0.0/16"},
    )
]
TAGS = [Edit("another cost centre", {"*": "update *tags_all.cost_centre"}, values={"tags.cost_centre": "9"})]
LASTING = [
    Edit(
        "another name of a store",
        {
            **{
                f"aws_s3_bucket{part}.trail": "refused: replace bucket!"
                for part in ("", "_object_lock_configuration", "_versioning")
            },
            **{
                f"aws_s3_bucket_{part}.trail": "replace bucket!"
                for part in (
                    "lifecycle_configuration",
                    "logging",
                    "ownership_controls",
                    "public_access_block",
                    "server_side_encryption_configuration",
                )
            },
            "aws_s3_bucket_policy.trail": "replace bucket!, policy",
            "aws_cloudtrail.trail": "update s3_bucket_name",
        },
        program=[(NAMES, '-{store}"', '-{store}".replace("-trail", "-log")')],
    ),
    Edit(
        "storage of the database not encrypted",
        {"aws_db_instance.database": "refused: replace storage_encrypted!", "aws_iam_role_policy.*": "update policy"},
        program=[(DATABASE, "storage_encrypted=True", "storage_encrypted=False")],
    ),
]

BATCHES: Mapping[str, tuple[str, Sequence[Edit]]] = {
    "more": ("dev", MORE),
    "less": ("dev", LESS),
    "renamed": ("dev", RENAMED),
    "aliased": ("dev", ALIASED),
    "unprotected": ("dev", UNPROTECTED),
    "addresses": ("dev", ADDRESSES),
    "tags": ("dev", TAGS),
    "lasting": ("prod", LASTING),
}
