"""The data keys of an environment: one for each purpose, and who besides the account's own roles uses it."""

from dataclasses import dataclass
from typing import Any

from pulumi import Output, ResourceOptions

from components.key_policy import UNSEAL, USE, Keepers, Statement, allow, allow_service, by
from components.keys import DataKey, DataKeyArgs
from stacks.config import GroundStack
from stacks.config_stores import STORES


@dataclass(frozen=True)
class Keys:
    """ARNs, by purpose; stores: by store."""

    secrets: Output[str]
    disks: Output[str]
    logs: Output[str]
    alerts: Output[str]
    database: Output[str]
    credentials: Output[str]
    vault: Output[str]
    unseal: Output[str]
    files: Output[str]
    stores: dict[str, Output[str]]


def data_keys(config: GroundStack, opts: ResourceOptions) -> Keys:
    account, region = config.account, config.region
    key = _maker(config, region, opts)
    return Keys(
        secrets=key("secrets", "Secrets of the cluster in etcd", statements=[_cluster_makers(config)]),
        disks=key("disks", "disks of nodes and volumes", via=["ec2"], grants=True, statements=_autoscaling(account)),
        logs=key("logs", "log groups", statements=[_logs(account, region)]),
        alerts=key("alerts", "the topic of alarms", via=["sns"], statements=_publishers(account)),
        database=key("database", "storage and insights of the database", via=["rds"], grants=True, in_hsm=True),
        # RDS makes the secret in the name of who makes the database, and keeps a grant to change the password by.
        credentials=key("credentials", "the database's master password", via=["rds", "secretsmanager"], grants=True),
        vault=key("vault", "backups", via=["backup", "rds"], grants=True),
        unseal=key("unseal", "the root key of Vault, which unseals itself with it", statements=[_unsealing(config)]),
        files=key("files", "files of training's runs", via=["elasticfilesystem"], grants=True),
        stores={store: key(store, f"objects of the {store} store", **_store(config, store)) for store in STORES},
    )


def replica_keys(config: GroundStack, region: str, opts: ResourceOptions) -> tuple[Output[str], Output[str]]:
    """Of the vault and of the stores in the replica region."""
    key = _maker(config, region, opts)
    vault = key("vault-replica", "copies of backups", via=["backup", "rds"], grants=True)
    return vault, key("stores-replica", "copies of objects", via=["s3"])


def keepers(config: GroundStack) -> Keepers:
    """dev is made to be destroyed, by whoever makes it; elsewhere two people end a key."""
    keys = config.ground.keys
    everyday = keys.admin_role_arns if config.environment == "dev" else ()
    return Keepers(account=config.account, admins=keys.admin_role_arns, enders=[*everyday, keys.break_glass_role_arn])


def _maker(config: GroundStack, region: str, opts: ResourceOptions) -> Any:
    keys = config.ground.keys

    def make(name: str, purpose: str, *, in_hsm: bool = False, **rest: Any) -> Output[str]:
        args = DataKeyArgs(
            environment=config.environment,
            region=region,
            keepers=keepers(config),
            purpose=purpose,
            deletion_days=keys.deletion_window_days,
            key_store_id=keys.cloudhsm_key_store_id if in_hsm else None,
            **rest,
        )
        return DataKey(name, args, opts).key_arn

    return make


def _store(config: GroundStack, store: str) -> dict[str, Any]:
    if store != "trail":
        return {"via": ["s3"], "in_hsm": True}
    trail = f"arn:aws:cloudtrail:{config.region}:{config.account}:trail/ai-infra-{config.environment}-trail"
    from_trail = {"StringEquals": {"aws:SourceArn": trail}}
    writes = allow_service("TrailWrites", "cloudtrail.amazonaws.com", ["kms:DescribeKey", "kms:GenerateDataKey"], from_trail)
    return {"via": ["s3"], "statements": [writes, _logs(config.account, config.region)]}


def _cluster_makers(config: GroundStack) -> Statement:
    """EKS hands the key to the cluster by a grant in the name of who makes the cluster.

    No kms:GrantIsForAWSResource: CreateCluster does not support it (EKS user guide, "Encrypt Kubernetes secrets with KMS").
    """
    return allow("ClusterGrant", config.account, ["kms:CreateGrant"], by(config.ground.keys.admin_role_arns))


def _unsealing(config: GroundStack) -> Statement:
    """Only Vault: who can decrypt with this key and reads its disks reads all that it holds."""
    role = f"arn:aws:iam::{config.account}:role/ai-infra-{config.environment}-vault"
    return allow("Unseal", config.account, UNSEAL, by([role]))


def _logs(account: str, region: str) -> Statement:
    groups = {"ArnLike": {"kms:EncryptionContext:aws:logs:arn": f"arn:aws:logs:{region}:{account}:log-group:*"}}
    return allow_service("Logs", f"logs.{region}.amazonaws.com", USE, groups)


def _autoscaling(account: str) -> list[Statement]:
    """Starts the nodes of managed groups under a role of its own, not in anybody's name, and without any policy for keys.

    The role is in the condition and not the principal: KMS refuses a principal that is not there yet, as in an account that never
    started a group.
    """
    role = by([f"arn:aws:iam::{account}:role/aws-service-role/autoscaling.amazonaws.com/AWSServiceRoleForAutoScaling"])
    grants = role | {"Bool": {"kms:GrantIsForAWSResource": "true"}}
    return [
        allow("NodeDisks", account, USE, role) | {"Principal": {"AWS": "*"}},
        allow("NodeDisksGrant", account, ["kms:CreateGrant"], grants) | {"Principal": {"AWS": "*"}},
    ]


def _publishers(account: str) -> list[Statement]:
    ours = {"StringEquals": {"aws:SourceAccount": account}}
    services = {"Alarms": "cloudwatch", "Budgets": "budgets", "CostAnomalies": "costalerts"}
    actions = ["kms:Decrypt", "kms:GenerateDataKey"]
    return [allow_service(sid, f"{service}.amazonaws.com", actions, ours) for sid, service in services.items()]
