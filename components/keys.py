"""A symmetric KMS key for one purpose, with its alias. Not here: keys that sign (`signing_keys`)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pulumi
from pulumi import Output, ResourceOptions
from pulumi_aws import kms

from components.key_policy import USE, Keepers, allow, keeping

FOR_AWS: Final = {"Bool": {"kms:GrantIsForAWSResource": "true"}}


@dataclass(frozen=True, kw_only=True)
class DataKeyArgs:
    """purpose: what it encrypts, for people; deletion_days: between the order to delete it and its end.

    via: services, as s3, through which IAM policies may let somebody use it, and in no other way; grants: these may also hand its
    use to AWS, as EC2 does for disks, and take it back; statements: further ones of its policy; key_store_id: of a connected
    CloudHSM key store.
    """

    environment: str
    region: str
    keepers: Keepers
    purpose: str
    deletion_days: int
    via: Sequence[str] = ()
    grants: bool = False
    statements: Sequence[Mapping[str, Any]] = field(default_factory=tuple)
    key_store_id: str | None = None

    def __post_init__(self) -> None:
        if not 7 <= self.deletion_days <= 30:
            raise ValueError(f"deletion_days must be 7 to 30, got {self.deletion_days}: KMS takes no others")
        if not self.via and not self.statements:
            raise ValueError("nobody could use the key: name services in via, or give statements")
        if self.grants and not self.via:
            raise ValueError("grants wants via: name the services that hand its use to AWS")


class DataKey(pulumi.ComponentResource):
    """KMS makes new material every year and keeps the old, so what was encrypted stays readable. In a CloudHSM store it cannot."""

    key_arn: Output[str]

    def __init__(self, name: str, args: DataKeyArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("ai-infra:keys:DataKey", name, None, opts)
        key = kms.Key(
            f"{name}-key",
            description=f"ai-infra {args.environment}: {args.purpose}",
            key_usage="ENCRYPT_DECRYPT",
            customer_master_key_spec="SYMMETRIC_DEFAULT",
            deletion_window_in_days=args.deletion_days,
            enable_key_rotation=args.key_store_id is None,
            custom_key_store_id=args.key_store_id,
            policy=Output.json_dumps({"Version": "2012-10-17", "Statement": _statements(args)}),
            opts=ResourceOptions(parent=self, protect=args.environment == "prod"),
        )
        alias = f"alias/ai-infra-{args.environment}-{name}"
        kms.Alias(f"{name}-key", name=alias, target_key_id=key.id, opts=ResourceOptions(parent=self))
        self.key_arn = key.arn
        self.register_outputs({"key_arn": self.key_arn})


def _statements(args: DataKeyArgs) -> list[Mapping[str, Any]]:
    through = {"StringEquals": {"kms:ViaService": [f"{service}.{args.region}.amazonaws.com" for service in args.via]}}
    account = args.keepers.account
    using = [allow("Use", account, USE, through)] if args.via else []
    # AWS Backup retires the grant by which it tries a key (developer guide, "Create a backup vault").
    granting = [
        allow("Grant", account, ["kms:CreateGrant"], through | FOR_AWS),
        allow("Retire", account, ["kms:RetireGrant"], through),
    ]
    return [*keeping(args.keepers), *using, *(granting if args.grants else []), *args.statements]
