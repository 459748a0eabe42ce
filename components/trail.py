"""CloudTrail: who did what with the account, in a bucket and in a log group, and alarms on what nobody should do unseen.

Not here: the bucket, whose policy must let the trail write, and the topic of the alarms.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import pulumi
from pulumi import Input, Output, ResourceOptions
from pulumi_aws import cloudtrail, cloudwatch, iam

from components.alarm import alarm
from components.log_group import log_group
from components.trust import service_trust

Selector = cloudtrail.TrailAdvancedEventSelectorArgs
Field = cloudtrail.TrailAdvancedEventSelectorFieldSelectorArgs

ALARMS: Final = {
    "keys": (
        "A key was disabled, scheduled for deletion, or its policy was changed",
        '{ ($.eventSource = "kms.amazonaws.com") && (($.eventName = "DisableKey") || ($.eventName = "ScheduleKeyDeletion") || '
        '($.eventName = "PutKeyPolicy") || ($.eventName = "DeleteImportedKeyMaterial") || ($.eventName = "UpdateAlias")) }',
    ),
    "signing": (
        "Somebody who may not sign tried to",
        '{ ($.eventSource = "kms.amazonaws.com") && ($.eventName = "Sign") && ($.errorCode = "AccessDenied*") }',
    ),
    "trail": (
        "The trail was stopped, changed or deleted",
        '{ ($.eventSource = "cloudtrail.amazonaws.com") && (($.eventName = "StopLogging") || ($.eventName = "DeleteTrail") || '
        '($.eventName = "UpdateTrail") || ($.eventName = "PutEventSelectors")) }',
    ),
    "stores": (
        "A bucket's policy, lock, versioning or public access block was changed",
        '{ ($.eventSource = "s3.amazonaws.com") && (($.eventName = "PutBucketPolicy") || ($.eventName = "DeleteBucketPolicy") || '
        '($.eventName = "PutBucketObjectLockConfiguration") || ($.eventName = "PutBucketVersioning") || '
        '($.eventName = "PutBucketPublicAccessBlock") || ($.eventName = "DeleteBucketPublicAccessBlock")) }',
    ),
    "backups": (
        "A backup, a vault or its lock was deleted",
        '{ ($.eventSource = "backup.amazonaws.com") && (($.eventName = "DeleteRecoveryPoint") || '
        '($.eventName = "DeleteBackupVault") || ($.eventName = "DeleteBackupVaultLockConfiguration")) }',
    ),
    "root": (
        "The root user did something",
        '{ ($.userIdentity.type = "Root") && ($.userIdentity.invokedBy NOT EXISTS) && ($.eventType != "AwsServiceEvent") }',
    ),
}
"""Alarm → what it says, and the filter of events for it. A deployment that changes a policy on purpose rings it too."""


@dataclass(frozen=True, kw_only=True)
class TrailArgs:
    """bucket_name: gets the files; data_bucket_arns: buckets, by name, whose objects' reads and writes are recorded as well."""

    environment: str
    account: str
    bucket_name: Input[str]
    data_bucket_arns: Mapping[str, Input[str]]
    key_arn: Input[str]
    log_days: int
    topic_arn: Input[str]

    def __post_init__(self) -> None:
        if not self.data_bucket_arns:
            raise ValueError("data_bucket_arns is empty: reads of artifacts and of the audit log would leave no trace")


class Trail(pulumi.ComponentResource):
    """One trail for all regions, encrypted, with digests that prove its files whole."""

    trail_arn: Output[str]
    log_group_arn: Output[str]

    def __init__(self, name: str, args: TrailArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("ai-infra:watch:Trail", name, None, opts)
        self._args, self._name = args, name
        self._child = ResourceOptions(parent=self)
        self._physical = f"ai-infra-{args.environment}-{name}"
        group_name = f"/ai-infra/{args.environment}/{name}"
        logs = log_group(f"{name}-logs", group_name, args.key_arn, args.log_days, args.environment, self)
        self.trail_arn = self._trail(logs).arn
        self.log_group_arn = logs.arn
        for what, (says, pattern) in ALARMS.items():
            self._alarm(what, says, pattern, logs)
        self.register_outputs({"trail_arn": self.trail_arn})

    def _trail(self, logs: cloudwatch.LogGroup) -> cloudtrail.Trail:
        role, policy = self._writer(logs)
        return cloudtrail.Trail(
            self._name,
            name=self._physical,
            s3_bucket_name=self._args.bucket_name,
            kms_key_id=self._args.key_arn,
            is_multi_region_trail=True,
            include_global_service_events=True,
            enable_log_file_validation=True,
            enable_logging=True,
            cloud_watch_logs_group_arn=Output.concat(logs.arn, ":*"),
            cloud_watch_logs_role_arn=role.arn,
            advanced_event_selectors=self._selectors(),
            opts=ResourceOptions(parent=self, depends_on=[policy], protect=self._args.environment == "prod"),
        )

    def _selectors(self) -> list[Selector]:
        buckets = [Output.concat(arn, "/") for _, arn in sorted(self._args.data_bucket_arns.items())]
        return [
            Selector(name="management", field_selectors=[Field(field="eventCategory", equals=["Management"])]),
            Selector(
                name="objects",
                field_selectors=[
                    Field(field="eventCategory", equals=["Data"]),
                    Field(field="resources.type", equals=["AWS::S3::Object"]),
                    Field(field="resources.ARN", starts_withs=buckets),
                ],
            ),
        ]

    def _writer(self, logs: cloudwatch.LogGroup) -> tuple[iam.Role, iam.RolePolicy]:
        # No account: CloudTrail does not say for whom it asks when it writes to CloudWatch, and CreateTrail would refuse the role.
        trust = service_trust("cloudtrail.amazonaws.com")
        role = iam.Role(f"{self._name}-logs", name=f"{self._physical}-logs", assume_role_policy=trust, opts=self._child)
        write = {
            "Sid": "WriteLogs",
            "Effect": "Allow",
            "Action": ["logs:CreateLogStream", "logs:PutLogEvents"],
            "Resource": Output.concat(logs.arn, f":log-stream:{self._args.account}_CloudTrail_*"),
        }
        document = Output.json_dumps({"Version": "2012-10-17", "Statement": [write]})
        return role, iam.RolePolicy(f"{self._name}-logs", name="write-logs", role=role.name, policy=document, opts=self._child)

    def _alarm(self, what: str, says: str, pattern: str, logs: cloudwatch.LogGroup) -> None:
        name, namespace = f"{self._name}-{what}", f"ai-infra/{self._args.environment}"
        cloudwatch.LogMetricFilter(
            name,
            name=f"{self._physical}-{what}",
            log_group_name=logs.name,
            pattern=pattern,
            metric_transformation=cloudwatch.LogMetricFilterMetricTransformationArgs(
                name=name, namespace=namespace, value="1", default_value="0"
            ),
            opts=self._child,
        )
        alarm(name, f"{self._physical}-{what}", says, namespace, name, self._args.topic_arn, self._child)
