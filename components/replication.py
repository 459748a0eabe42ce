"""Copies of a bucket's objects in a bucket of another region, with their versions and retention. Not here: the two buckets."""

from dataclasses import dataclass
from typing import Any

import pulumi
from pulumi import Input, Output, ResourceOptions
from pulumi_aws import iam, s3

from components.trust import service_trust


@dataclass(frozen=True, kw_only=True)
class ReplicationArgs:
    """source_region, target_region: where the keys are used; both buckets are locked and keep versions."""

    environment: str
    account: str
    source_name: Input[str]
    source_arn: Input[str]
    source_key_arn: Input[str]
    source_region: str
    target_arn: Input[str]
    target_key_arn: Input[str]
    target_region: str

    def __post_init__(self) -> None:
        if self.source_region == self.target_region:
            raise ValueError(f"target_region must be another one than {self.source_region}: a region's end would take both")


class Replication(pulumi.ComponentResource):
    """What is deleted in one is not deleted in the other. Objects are there within 15 minutes; a metric counts the late ones."""

    def __init__(self, name: str, args: ReplicationArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("ai-infra:stores:Replication", name, None, opts)
        child = ResourceOptions(parent=self)
        role = iam.Role(
            name,
            name=f"ai-infra-{args.environment}-{name}",
            assume_role_policy=service_trust("s3.amazonaws.com", args.account),
            opts=child,
        )
        document = Output.json_dumps({"Version": "2012-10-17", "Statement": _statements(args)})
        policy = iam.RolePolicy(name, name="replicate", role=role.name, policy=document, opts=child)
        s3.BucketReplicationConfig(
            name,
            bucket=args.source_name,
            role=role.arn,
            rules=[_rule(args)],
            opts=ResourceOptions(parent=self, depends_on=[policy]),
        )
        self.register_outputs({})


def _rule(args: ReplicationArgs) -> s3.BucketReplicationConfigRuleArgs:
    minutes = 15  # The only threshold that S3 takes.
    return s3.BucketReplicationConfigRuleArgs(
        id="all",
        status="Enabled",
        priority=0,
        filter=s3.BucketReplicationConfigRuleFilterArgs(prefix=""),
        delete_marker_replication=s3.BucketReplicationConfigRuleDeleteMarkerReplicationArgs(status="Disabled"),
        source_selection_criteria=s3.BucketReplicationConfigRuleSourceSelectionCriteriaArgs(
            sse_kms_encrypted_objects=s3.BucketReplicationConfigRuleSourceSelectionCriteriaSseKmsEncryptedObjectsArgs(
                status="Enabled"
            )
        ),
        destination=s3.BucketReplicationConfigRuleDestinationArgs(
            bucket=args.target_arn,
            encryption_configuration=s3.BucketReplicationConfigRuleDestinationEncryptionConfigurationArgs(
                replica_kms_key_id=args.target_key_arn
            ),
            replication_time=s3.BucketReplicationConfigRuleDestinationReplicationTimeArgs(
                status="Enabled", time=s3.BucketReplicationConfigRuleDestinationReplicationTimeTimeArgs(minutes=minutes)
            ),
            metrics=s3.BucketReplicationConfigRuleDestinationMetricsArgs(
                status="Enabled",
                event_threshold=s3.BucketReplicationConfigRuleDestinationMetricsEventThresholdArgs(minutes=minutes),
            ),
        ),
    )


def _statements(args: ReplicationArgs) -> list[dict[str, Any]]:
    """S3 user guide, "Replicating encrypted objects" and "Using Object Lock with replication"."""
    read = [f"s3:GetObject{what}" for what in ("VersionForReplication", "VersionAcl", "VersionTagging", "Retention", "LegalHold")]
    from_source = {"StringEquals": {"kms:ViaService": f"s3.{args.source_region}.amazonaws.com"}}
    to_target = {"StringEquals": {"kms:ViaService": f"s3.{args.target_region}.amazonaws.com"}}
    sources, targets = Output.concat(args.source_arn, "/*"), Output.concat(args.target_arn, "/*")
    return [
        _allow("ReadSource", ["s3:GetReplicationConfiguration", "s3:ListBucket"], args.source_arn),
        _allow("ReadObjects", read, sources),
        _allow("WriteCopies", ["s3:ReplicateObject", "s3:ReplicateTags"], targets),
        _allow("Decrypt", ["kms:Decrypt"], args.source_key_arn) | {"Condition": from_source},
        _allow("Encrypt", ["kms:Encrypt", "kms:GenerateDataKey"], args.target_key_arn) | {"Condition": to_target},
    ]


def _allow(sid: str, actions: list[str], resource: Any) -> dict[str, Any]:
    return {"Sid": sid, "Effect": "Allow", "Action": actions, "Resource": resource}
