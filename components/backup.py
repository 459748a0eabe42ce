"""What is backed up, when, and for how long. Not here: the vaults (`backup_vault`), and point-in-time recovery of the database."""

from dataclasses import dataclass
from typing import Final

import pulumi
from pulumi import Input, ResourceOptions
from pulumi_aws import backup, iam

from components.alarm import alarm
from components.trust import service_trust

TAG: Final = ("backup", "daily")
"""Key and value of the tag that whatever is backed up carries."""

POLICIES: Final = {
    "backups": "arn:aws:iam::aws:policy/service-role/AWSBackupServiceRolePolicyForBackup",
    "restores": "arn:aws:iam::aws:policy/service-role/AWSBackupServiceRolePolicyForRestores",
}


LOST: Final = {
    "failed": "NumberOfBackupJobsFailed",
    "expired": "NumberOfBackupJobsExpired",
    "aborted": "NumberOfBackupJobsAborted",
    "copy-failed": "NumberOfCopyJobsFailed",
}
"""Alarm → metric of the vault. Not a notification of the vault: AWS sends those on failed and expired backups no longer."""


@dataclass(frozen=True, kw_only=True)
class BackupArgs:
    """daily_days, monthly_days: how long the backup of a day, and of the first of a month, is kept.

    lock_days: that of the vaults; replica_vault_arn: a vault in another region, which gets a copy of each; topic_arn: hears of what
    was not made.
    """

    environment: str
    account: str
    vault_name: Input[str]
    daily_days: int
    monthly_days: int
    lock_days: int | None
    replica_vault_arn: Input[str] | None
    topic_arn: Input[str]

    def __post_init__(self) -> None:
        if not 1 <= self.daily_days <= self.monthly_days:
            raise ValueError(f"monthly_days must be >= daily_days >= 1, got {self.daily_days} and {self.monthly_days}")
        if self.lock_days is not None and self.daily_days < self.lock_days:
            raise ValueError(
                f"daily_days must be >= the lock's {self.lock_days}, got {self.daily_days}: the vault would take no backup"
            )


class Backup(pulumi.ComponentResource):
    """One plan for everything tagged backup=daily."""

    def __init__(self, name: str, args: BackupArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("ai-infra:state:Backup", name, None, opts)
        child = ResourceOptions(parent=self)
        physical = f"ai-infra-{args.environment}-{name}"
        plan = backup.Plan(
            name,
            name=physical,
            rules=[
                _rule(args, "daily", "cron(0 3 * * ? *)", args.daily_days),
                _rule(args, "monthly", "cron(0 4 1 * ? *)", args.monthly_days),
            ],
            opts=child,
        )
        role = iam.Role(name, name=physical, assume_role_policy=service_trust("backup.amazonaws.com", args.account), opts=child)
        attached = [
            iam.RolePolicyAttachment(f"{name}-{what}", role=role.name, policy_arn=arn, opts=child) for what, arn in POLICIES.items()
        ]
        key, value = TAG
        backup.Selection(
            name,
            name=physical,
            plan_id=plan.id,
            iam_role_arn=role.arn,
            selection_tags=[backup.SelectionSelectionTagArgs(type="STRINGEQUALS", key=key, value=value)],
            opts=ResourceOptions(parent=self, depends_on=attached),
        )
        for what, metric in LOST.items():
            self._alarm(f"{name}-{what}", f"{physical}-{what}", metric, args)
        self.register_outputs({})

    def _alarm(self, name: str, physical: str, metric: str, args: BackupArgs) -> None:
        alarm(
            name,
            physical,
            "A backup, or the copy of one, was not made: see the vault's jobs",
            "AWS/Backup",
            metric,
            args.topic_arn,
            ResourceOptions(parent=self),
            {"BackupVaultName": args.vault_name},
        )


def _rule(args: BackupArgs, name: str, schedule: str, days: int) -> backup.PlanRuleArgs:
    copies = [
        backup.PlanRuleCopyActionArgs(
            destination_vault_arn=arn, lifecycle=backup.PlanRuleCopyActionLifecycleArgs(delete_after=days)
        )
        for arn in [args.replica_vault_arn]
        if arn is not None
    ]
    return backup.PlanRuleArgs(
        rule_name=name,
        target_vault_name=args.vault_name,
        schedule=schedule,
        start_window=60,
        completion_window=480,
        lifecycle=backup.PlanRuleLifecycleArgs(delete_after=days),
        copy_actions=copies or None,
    )
