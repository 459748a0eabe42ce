"""The object stores of an environment, who writes to them, and their copies in the replica region."""

from dataclasses import dataclass
from typing import Any, Final

from pulumi import Output, ResourceOptions

from components.bucket import Bucket, BucketArgs, Writer
from components.replication import Replication, ReplicationArgs
from components.store_names import store_name
from stacks.config import GroundStack
from stacks.config_stores import STORES

COLD: Final = {"artifacts": "INTELLIGENT_TIERING", "datasets": "INTELLIGENT_TIERING"}
"""What is read again and again, at times nobody knows; the other stores are written once and rarely read: an archive."""

REPLICATED: Final = ("artifacts", "datasets", "audit", "backups")
"""Not the trail: it covers all regions, and CloudTrail keeps its last 90 days itself."""


@dataclass(frozen=True)
class Replica:
    """opts: with the provider of the region."""

    region: str
    key_arn: Output[str]
    opts: ResourceOptions


@dataclass(frozen=True)
class Stores:
    """By store; buckets: those of the region alone; data_arns: everything whose reads and writes the trail records."""

    buckets: dict[str, Bucket]
    data_arns: dict[str, Output[str]]


def stores(config: GroundStack, keys: dict[str, Output[str]], replica: Replica | None, opts: ResourceOptions) -> Stores:
    made = _stores(config, STORES, "", keys, opts)
    data = {store: made[store].bucket_arn for store in REPLICATED}
    if replica is None:
        return Stores(made, data)
    copies = _stores(config, REPLICATED, "-replica", dict.fromkeys(REPLICATED, replica.key_arn), replica.opts)
    for store, copy in copies.items():
        args = ReplicationArgs(
            environment=config.environment,
            account=config.account,
            source_name=made[store].bucket_name,
            source_arn=made[store].bucket_arn,
            source_key_arn=keys[store],
            source_region=config.region,
            target_arn=copy.bucket_arn,
            target_key_arn=replica.key_arn,
            target_region=replica.region,
        )
        # S3 wants both to keep versions before.
        Replication(f"{store}-replication", args, _after(opts, made[store], copy))
    return Stores(made, data | {f"{store}-replica": copy.bucket_arn for store, copy in copies.items()})


def _stores(
    config: GroundStack, names: tuple[str, ...], suffix: str, keys: dict[str, Output[str]], opts: ResourceOptions
) -> dict[str, Bucket]:
    logs = Bucket(f"access-logs{suffix}", _log_args(config, suffix), opts)
    after = _after(opts, logs)
    return {name: Bucket(f"{name}{suffix}", _args(config, name, suffix, keys[name], logs), after) for name in names}


def _after(opts: ResourceOptions, *first: Bucket) -> ResourceOptions:
    return ResourceOptions.merge(opts, ResourceOptions(depends_on=list(first)))


def _args(config: GroundStack, store: str, suffix: str, key: Output[str], logs: Bucket) -> BucketArgs:
    cold: Any = COLD.get(store, "GLACIER_IR")
    return BucketArgs(
        environment=config.environment,
        account=config.account,
        store=f"{store}{suffix}",
        retention_days=getattr(config.ground.stores.retention_days, store),
        key_arn=key,
        log_bucket=logs.bucket_name,
        cold_class=cold,
        writers=[_trail(config)] if store == "trail" else [],
    )


def _log_args(config: GroundStack, suffix: str) -> BucketArgs:
    """S3 puts down who asked for what in the stores."""
    requests = Writer(
        sid="Requests",
        service="logging.s3.amazonaws.com",
        account=config.account,
        sources=[f"arn:aws:s3:::{store_name(config.environment, config.account, '*')}"],
        prefix="",
    )
    return BucketArgs(
        environment=config.environment,
        account=config.account,
        store=f"access-logs{suffix}",
        retention_days=None,
        key_arn=None,
        log_bucket=None,
        expire_days=config.ground.stores.access_log_days,
        writers=[requests],
    )


def _trail(config: GroundStack) -> Writer:
    return Writer(
        sid="Trail",
        service="cloudtrail.amazonaws.com",
        account=config.account,
        sources=[f"arn:aws:cloudtrail:{config.region}:{config.account}:trail/ai-infra-{config.environment}-trail"],
        prefix=f"AWSLogs/{config.account}/",
    )
