"""What must not be lost, and what watches: database, backups, trail, alerts, budget."""

from pulumi import Output, ResourceOptions

from components.alerts import Alerts, AlertsArgs
from components.backup import TAG, Backup, BackupArgs
from components.backup_vault import BackupVault, BackupVaultArgs
from components.budget import Budget, BudgetArgs
from components.database import Database, DatabaseArgs
from components.network import Network
from components.shared_files import SharedFiles, SharedFilesArgs
from components.trail import Trail, TrailArgs
from stacks.config import GroundStack
from stacks.ground_keys import Keys
from stacks.ground_stores import Stores


def database(config: GroundStack, network: Network, clients: Output[str], keys: Keys, opts: ResourceOptions) -> Database:
    """clients: the security group that connects."""
    wanted = config.ground.state.database
    key, value = TAG
    args = DatabaseArgs(
        environment=config.environment,
        account=config.account,
        vpc_id=network.vpc_id,
        subnet_ids=network.database_subnet_ids,
        client_security_group_id=clients,
        storage_key_arn=keys.database,
        secret_key_arn=keys.credentials,
        logs_key_arn=keys.logs,
        log_days=wanted.log_days,
        version=wanted.version,
        instance_class=wanted.instance_class,
        storage_gib=wanted.storage_gib,
        max_storage_gib=wanted.max_storage_gib,
        backup_days=wanted.backup_days,
        lasting=wanted.lasting,
        tags={key: value},
    )
    return Database("database", args, opts)


def runs(config: GroundStack, network: Network, clients: Output[str], keys: Keys, opts: ResourceOptions) -> SharedFiles:
    """Where API and training jobs meet. clients: the security group that mounts it."""
    args = SharedFilesArgs(
        environment=config.environment,
        vpc_id=network.vpc_id,
        subnet_ids=network.node_subnet_ids,
        client_security_group_id=clients,
        key_arn=keys.files,
    )
    return SharedFiles("runs", args, opts)


def vault(name: str, config: GroundStack, key_arn: Output[str], opts: ResourceOptions) -> BackupVault:
    lock = config.ground.state.backup.lock_days
    return BackupVault(name, BackupVaultArgs(environment=config.environment, key_arn=key_arn, lock_days=lock), opts)


def backups(config: GroundStack, here: BackupVault, replica: BackupVault | None, topic: Output[str], opts: ResourceOptions) -> None:
    wanted = config.ground.state.backup
    args = BackupArgs(
        environment=config.environment,
        account=config.account,
        vault_name=here.vault_name,
        daily_days=wanted.daily_days,
        monthly_days=wanted.monthly_days,
        lock_days=wanted.lock_days,
        replica_vault_arn=replica.vault_arn if replica else None,
        topic_arn=topic,
    )
    Backup("backup", args, opts)


def watch(config: GroundStack, keys: Keys, stores: Stores, opts: ResourceOptions) -> Output[str]:
    """The topic on which all of it speaks."""
    wanted, environment = config.ground.state, config.environment
    alerts = Alerts(
        "alerts",
        AlertsArgs(environment=environment, account=config.account, key_arn=keys.alerts, emails=wanted.alerts.emails),
        opts,
    )
    trail = TrailArgs(
        environment=environment,
        account=config.account,
        bucket_name=stores.buckets["trail"].bucket_name,
        data_bucket_arns=stores.data_arns,
        key_arn=keys.stores["trail"],
        log_days=wanted.trail.log_days,
        topic_arn=alerts.topic_arn,
    )
    # CloudTrail tries to write when it is made: the bucket's policy has to let it.
    Trail("trail", trail, ResourceOptions.merge(opts, ResourceOptions(depends_on=[stores.buckets["trail"]])))
    budget = BudgetArgs(
        environment=environment,
        monthly_usd=wanted.budget.monthly_usd,
        anomaly_usd=wanted.budget.anomaly_usd,
        payer=wanted.budget.payer,
        topic_arn=alerts.topic_arn,
    )
    Budget("budget", budget, opts)
    return alerts.topic_arn
