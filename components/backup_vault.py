"""A vault of AWS Backup in one region. Not here: what goes into it (`backup`), and its key."""

from dataclasses import dataclass

import pulumi
from pulumi import Input, Output, ResourceOptions
from pulumi_aws import backup

GRACE_DAYS = 3
"""Days in which a lock can still be taken off; AWS takes no fewer."""


@dataclass(frozen=True, kw_only=True)
class BackupVaultArgs:
    """lock_days: days a backup cannot be deleted by anyone, also not by AWS; None leaves the vault unlocked."""

    environment: str
    key_arn: Input[str]
    lock_days: int | None

    def __post_init__(self) -> None:
        if self.lock_days is not None and self.lock_days < 1:
            raise ValueError(f"lock_days must be 1 or more, or null for a vault without a lock, got {self.lock_days}")
        if self.environment == "prod" and self.lock_days is None:
            raise ValueError("the vault of prod must be locked: set lock_days")


class BackupVault(pulumi.ComponentResource):
    """After GRACE_DAYS the lock is for good (compliance mode): neither it nor a vault with backups can be deleted."""

    vault_arn: Output[str]
    vault_name: Output[str]

    def __init__(self, name: str, args: BackupVaultArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("ai-infra:state:BackupVault", name, None, opts)
        child = ResourceOptions(parent=self, protect=args.lock_days is not None)
        vault = backup.Vault(
            name,
            name=f"ai-infra-{args.environment}-{name}",
            kms_key_arn=args.key_arn,
            # AWS ends no vault with backups in it. Dev is there to be destroyed, and its first night makes one.
            force_destroy=args.environment == "dev" and args.lock_days is None,
            opts=child,
        )
        if args.lock_days is not None:
            backup.VaultLockConfiguration(
                name,
                backup_vault_name=vault.name,
                min_retention_days=args.lock_days,
                changeable_for_days=GRACE_DAYS,
                opts=child,
            )
        self.vault_arn = vault.arn
        self.vault_name = vault.name
        self.register_outputs({"vault_arn": self.vault_arn})
