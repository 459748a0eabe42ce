"""One bucket: versions, encryption, closed to the public and to plain HTTP, and locked unless it holds access logs.

Not here: keys, and copies in another region (`replication`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import pulumi
from pulumi import Input, Output, ResourceOptions
from pulumi_aws import s3

from components.store_names import store_name

TIERING_DAYS: Final = 90
"""S3's archives bill less time than that anyway."""

MULTIPART_DAYS: Final = 7


@dataclass(frozen=True, kw_only=True)
class Writer:
    """A service that writes for sources, ARNs or patterns of them, under a prefix; it may look at the bucket's ACL before."""

    sid: str
    service: str
    account: str
    sources: Sequence[str]
    prefix: str


@dataclass(frozen=True, kw_only=True)
class BucketArgs:
    """retention_days: in which nobody deletes an object, not even AWS; None for access logs, which S3 writes to no locked bucket.

    key_arn: encrypts it; None for access logs, which S3 writes under its own keys only. expire_days: after which objects go, None
    for never; log_bucket: gets records of requests; cold_class: where objects go after TIERING_DAYS; writers: services that write.
    """

    environment: str
    account: str
    store: str
    retention_days: int | None
    key_arn: Input[str] | None
    log_bucket: Input[str] | None
    expire_days: int | None = None
    cold_class: Literal["GLACIER_IR", "INTELLIGENT_TIERING"] | None = None
    writers: Sequence[Writer] = ()

    def __post_init__(self) -> None:
        if self.retention_days is not None and self.retention_days < 1:
            raise ValueError(f"retention_days must be 1 or more, got {self.retention_days}")
        if (self.retention_days is None) != (self.key_arn is None):
            raise ValueError("a locked store wants a key of ours, and access logs can have neither: give both or none")
        if self.retention_days is not None and self.log_bucket is None:
            raise ValueError("log_bucket is missing: who read the store would be unknown")
        if self.retention_days is None and self.expire_days is None:
            raise ValueError("expire_days is missing: logs that are not locked are not kept for ever")


class Bucket(pulumi.ComponentResource):
    """What copies from it or writes to it depends on the whole of it: its policy, lock and versions come after the bucket."""

    bucket_name: Output[str]
    bucket_arn: Output[str]

    def __init__(self, name: str, args: BucketArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("ai-infra:stores:Bucket", name, None, opts)
        self._args, self._name = args, name
        self._child = ResourceOptions(parent=self)
        self._lasting = ResourceOptions(parent=self, protect=args.environment == "prod")
        bucket = s3.BucketV2(
            name,
            bucket=store_name(args.environment, args.account, args.store),
            object_lock_enabled=args.retention_days is not None,
            opts=self._lasting,
        )
        versioning = s3.BucketVersioningV2(
            name,
            bucket=bucket.id,
            versioning_configuration=s3.BucketVersioningV2VersioningConfigurationArgs(status="Enabled"),
            opts=self._lasting,
        )
        self._close(bucket)
        self._encrypt(bucket)
        self._lock(bucket, versioning)
        self._lifecycle(bucket, versioning)
        if args.log_bucket is not None:
            s3.BucketLoggingV2(
                name, bucket=bucket.id, target_bucket=args.log_bucket, target_prefix=f"{args.store}/", opts=self._child
            )
        policy = Output.json_dumps(_policy(args, bucket.arn))
        s3.BucketPolicy(name, bucket=bucket.id, policy=policy, opts=ResourceOptions(parent=self, depends_on=[versioning]))
        self.bucket_name = bucket.bucket
        self.bucket_arn = bucket.arn
        self.register_outputs({"bucket_name": self.bucket_name})

    def _close(self, bucket: s3.BucketV2) -> None:
        s3.BucketPublicAccessBlock(
            self._name,
            bucket=bucket.id,
            block_public_acls=True,
            block_public_policy=True,
            ignore_public_acls=True,
            restrict_public_buckets=True,
            opts=self._child,
        )
        # What another account writes is the bucket owner's; no ACL says otherwise.
        rule = s3.BucketOwnershipControlsRuleArgs(object_ownership="BucketOwnerEnforced")
        s3.BucketOwnershipControls(self._name, bucket=bucket.id, rule=rule, opts=self._child)

    def _encrypt(self, bucket: s3.BucketV2) -> None:
        Default = s3.BucketServerSideEncryptionConfigurationV2RuleApplyServerSideEncryptionByDefaultArgs
        key = self._args.key_arn
        how = Default(sse_algorithm="AES256") if key is None else Default(sse_algorithm="aws:kms", kms_master_key_id=key)
        rule = s3.BucketServerSideEncryptionConfigurationV2RuleArgs(
            apply_server_side_encryption_by_default=how, bucket_key_enabled=None if key is None else True
        )
        s3.BucketServerSideEncryptionConfigurationV2(self._name, bucket=bucket.id, rules=[rule], opts=self._child)

    def _lock(self, bucket: s3.BucketV2, versioning: s3.BucketVersioningV2) -> None:
        if self._args.retention_days is None:
            return
        kept = s3.BucketObjectLockConfigurationV2RuleDefaultRetentionArgs(mode="COMPLIANCE", days=self._args.retention_days)
        s3.BucketObjectLockConfigurationV2(
            self._name,
            bucket=bucket.id,
            rule=s3.BucketObjectLockConfigurationV2RuleArgs(default_retention=kept),
            opts=ResourceOptions.merge(self._lasting, ResourceOptions(depends_on=[versioning])),
        )

    def _lifecycle(self, bucket: s3.BucketV2, versioning: s3.BucketVersioningV2) -> None:
        """Old versions go when their retention has ended: S3 deletes none before, whatever the rule says."""
        args = self._args
        rule = s3.BucketLifecycleConfigurationV2RuleArgs(
            id="keep",
            status="Enabled",
            filter=s3.BucketLifecycleConfigurationV2RuleFilterArgs(prefix=""),
            abort_incomplete_multipart_upload=s3.BucketLifecycleConfigurationV2RuleAbortIncompleteMultipartUploadArgs(
                days_after_initiation=MULTIPART_DAYS
            ),
            noncurrent_version_expiration=s3.BucketLifecycleConfigurationV2RuleNoncurrentVersionExpirationArgs(
                noncurrent_days=args.retention_days or MULTIPART_DAYS
            ),
            expiration=s3.BucketLifecycleConfigurationV2RuleExpirationArgs(days=args.expire_days) if args.expire_days else None,
            transitions=[s3.BucketLifecycleConfigurationV2RuleTransitionArgs(days=TIERING_DAYS, storage_class=args.cold_class)]
            if args.cold_class
            else None,
        )
        after = ResourceOptions(parent=self, depends_on=[versioning])
        s3.BucketLifecycleConfigurationV2(self._name, bucket=bucket.id, rules=[rule], opts=after)


def _policy(args: BucketArgs, arn: Output[str]) -> dict[str, Any]:
    objects = Output.concat(arn, "/*")
    plain = _deny("TlsOnly", ["s3:*"], [arn, objects], {"Bool": {"aws:SecureTransport": "false"}})
    statements = [plain, *(statement for writer in args.writers for statement in _writes(writer, arn))]
    if args.key_arn is not None:
        how, key = "s3:x-amz-server-side-encryption", "s3:x-amz-server-side-encryption-aws-kms-key-id"
        # A service of AWS writes as it does, CloudTrail for one, and only where a statement above lets it.
        others = {"BoolIfExists": {"aws:PrincipalIsAWSService": "false"}}
        unsigned = {"StringEquals": {"s3:x-amz-content-sha256": "UNSIGNED-PAYLOAD"}}
        statements += [
            # S3 has no condition on x-amz-checksum-*; it has one on what the signature says of the bytes. This value says nothing;
            # the others are their SHA-256, or a checksum that follows them. S3 wants a checksum for whatever is locked, besides.
            _deny("ChecksumOnly", ["s3:PutObject"], objects, unsigned | others),
            _deny("KmsOnly", ["s3:PutObject"], objects, _given_but(how, "aws:kms") | others),
            _deny("OurKeyOnly", ["s3:PutObject"], objects, _given_but(key, args.key_arn) | others),
            # KMS asked for without a key is not the bucket's key but the one that AWS has for all of S3.
            _deny("KeyNamed", ["s3:PutObject"], objects, {"Null": {how: "false", key: "true"}} | others),
        ]
    return {"Version": "2012-10-17", "Statement": statements}


def _given_but(header: str, value: Input[str]) -> dict[str, Any]:
    """Who names nothing gets the bucket's key; a negated condition holds for a header that is not there, hence Null."""
    return {"Null": {header: "false"}, "StringNotEquals": {header: value}}


def _writes(writer: Writer, arn: Output[str]) -> list[dict[str, Any]]:
    whose = {"StringEquals": {"aws:SourceAccount": writer.account}, "ArnLike": {"aws:SourceArn": list(writer.sources)}}
    common = {"Effect": "Allow", "Principal": {"Service": writer.service}, "Condition": whose}
    return [
        {"Sid": f"{writer.sid}Looks", "Action": "s3:GetBucketAcl", "Resource": arn, **common},
        {"Sid": f"{writer.sid}Writes", "Action": "s3:PutObject", "Resource": Output.concat(arn, f"/{writer.prefix}*"), **common},
    ]


def _deny(sid: str, actions: Sequence[str], resource: Any, condition: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "Sid": sid,
        "Effect": "Deny",
        "Principal": "*",
        "Action": list(actions),
        "Resource": resource,
        "Condition": condition,
    }
