"""Buckets and their copies: what a component makes of its arguments."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from components.bucket import Bucket, BucketArgs, Writer
from components.replication import Replication, ReplicationArgs
from tests.infra.recorded import Graph, changed, recorded

ACCOUNT = "111122223333"
LOCKED = BucketArgs(
    environment="dev",
    account=ACCOUNT,
    store="audit",
    retention_days=30,
    key_arn="arn:key",
    log_bucket="logs",
    cold_class="GLACIER_IR",
)
LOGS = BucketArgs(
    environment="dev", account=ACCOUNT, store="access-logs", retention_days=None, key_arn=None, log_bucket=None, expire_days=90
)
REPLICATION = ReplicationArgs(
    environment="prod",
    account=ACCOUNT,
    source_name="ai-infra-prod-111122223333-audit",
    source_arn="arn:aws:s3:::ai-infra-prod-111122223333-audit",
    source_key_arn="arn:key:source",
    source_region="eu-central-1",
    target_arn="arn:aws:s3:::ai-infra-prod-111122223333-audit-replica",
    target_key_arn="arn:key:target",
    target_region="eu-west-1",
)
STATEFUL = ("BucketV2", "BucketVersioningV2", "BucketObjectLockConfigurationV2")

def bucket(args: BucketArgs = LOCKED) -> Graph:
    return recorded(lambda: Bucket("audit", args))


def replication() -> Graph:
    return recorded(lambda: Replication("audit-replication", REPLICATION))


def test_what_a_component_makes_does_not_depend_on_loops_that_ran_before() -> None:
    asyncio.run(asyncio.sleep(0))
    assert bucket() == bucket()


def test_objects_are_locked_in_compliance_with_versions() -> None:
    made = bucket()
    assert made["BucketV2", "audit"].inputs == {"bucket": "ai-infra-dev-111122223333-audit", "objectLockEnabled": True}
    assert made["BucketVersioningV2", "audit"].inputs["versioningConfiguration"] == {"status": "Enabled"}
    lock = made["BucketObjectLockConfigurationV2", "audit"]
    assert lock.inputs["rule"] == {"defaultRetention": {"mode": "COMPLIANCE", "days": 30}}
    assert "audit" in lock.depends


def test_store_is_encrypted_with_the_given_key_which_is_asked_once_for_many_objects() -> None:
    [rule] = bucket()["BucketServerSideEncryptionConfigurationV2", "audit"].inputs["rules"]
    assert rule["applyServerSideEncryptionByDefault"] == {"sseAlgorithm": "aws:kms", "kmsMasterKeyId": "arn:key"}
    assert rule["bucketKeyEnabled"] is True


def test_bucket_is_closed_to_the_public_and_to_acls() -> None:
    made = bucket()
    block = made["BucketPublicAccessBlock", "audit"].inputs
    assert {block[flag] for flag in ("blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls", "restrictPublicBuckets")} == {True}
    assert made["BucketOwnershipControls", "audit"].inputs["rule"] == {"objectOwnership": "BucketOwnerEnforced"}


def test_policy_wants_tls_a_checksum_and_our_key_of_everybody_but_services_of_aws() -> None:
    people = {"BoolIfExists": {"aws:PrincipalIsAWSService": "false"}}
    how, key = "s3:x-amz-server-side-encryption", "s3:x-amz-server-side-encryption-aws-kms-key-id"
    statements = bucket()["BucketPolicy", "audit"].statements()
    assert {item["Effect"] for item in statements.values()} == {"Deny"}
    assert {sid: item["Condition"] for sid, item in statements.items()} == {
        "TlsOnly": {"Bool": {"aws:SecureTransport": "false"}},
        "ChecksumOnly": {"StringEquals": {"s3:x-amz-content-sha256": "UNSIGNED-PAYLOAD"}, **people},
        "KmsOnly": {"Null": {how: "false"}, "StringNotEquals": {how: "aws:kms"}, **people},
        "OurKeyOnly": {"Null": {key: "false"}, "StringNotEquals": {key: "arn:key"}, **people},
        "KeyNamed": {"Null": {how: "false", key: "true"}, **people},
    }


def test_requests_are_recorded_under_the_stores_name() -> None:
    logging = bucket()["BucketLoggingV2", "audit"].inputs
    assert (logging["targetBucket"], logging["targetPrefix"]) == ("logs", "audit/")


def test_old_versions_go_when_nobody_has_to_keep_them() -> None:
    [rule] = bucket()["BucketLifecycleConfigurationV2", "audit"].inputs["rules"]
    assert rule["noncurrentVersionExpiration"] == {"noncurrentDays": 30}
    assert rule["abortIncompleteMultipartUpload"] == {"daysAfterInitiation": 7}
    assert rule["transitions"] == [{"days": 90, "storageClass": "GLACIER_IR"}]
    assert "expiration" not in rule


def test_access_logs_are_what_s3_can_write_and_go_after_their_days() -> None:
    made = bucket(LOGS)
    assert ("BucketObjectLockConfigurationV2", "audit") not in made
    [encryption] = made["BucketServerSideEncryptionConfigurationV2", "audit"].inputs["rules"]
    assert encryption["applyServerSideEncryptionByDefault"] == {"sseAlgorithm": "AES256"}
    [rule] = made["BucketLifecycleConfigurationV2", "audit"].inputs["rules"]
    assert rule["expiration"] == {"days": 90}


def test_service_writes_for_its_sources_under_its_prefix_alone() -> None:
    writer = Writer(sid="Trail", service="cloudtrail.amazonaws.com", account=ACCOUNT, sources=["arn:trail"], prefix="AWSLogs/")
    statements = bucket(replace(LOCKED, writers=[writer]))["BucketPolicy", "audit"].statements()
    whose = {"StringEquals": {"aws:SourceAccount": ACCOUNT}, "ArnLike": {"aws:SourceArn": ["arn:trail"]}}
    assert statements["TrailWrites"] == {
        "Sid": "TrailWrites",
        "Effect": "Allow",
        "Principal": {"Service": "cloudtrail.amazonaws.com"},
        "Action": "s3:PutObject",
        "Resource": "audit.arn/AWSLogs/*",
        "Condition": whose,
    }


def test_what_holds_objects_is_protected_in_prod() -> None:
    kept = [("dev", False), ("prod", True)]
    for environment, protected in kept:
        made = bucket(replace(LOCKED, environment=environment))
        assert {made[kind, "audit"].protect for kind in STATEFUL} == {protected}


def test_retention_turns_the_lock_and_the_end_of_old_versions_alone() -> None:
    turned = {("BucketObjectLockConfigurationV2", "audit"), ("BucketLifecycleConfigurationV2", "audit")}
    assert changed(bucket(), bucket(replace(LOCKED, retention_days=31))) == turned


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"retention_days": 0}, "1 or more"),
        ({"retention_days": None}, "give both or none"),
        ({"key_arn": None}, "give both or none"),
        ({"log_bucket": None}, "who read the store"),
        ({"retention_days": None, "key_arn": None}, "not kept for ever"),
    ],
)
def test_store_that_is_open_or_unwatched_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(LOCKED, **changes)


def test_objects_are_copied_encrypted_and_deletions_are_not() -> None:
    made = replication()
    [rule] = made["BucketReplicationConfig", "audit-replication"].inputs["rules"]
    assert rule["status"] == "Enabled"
    assert rule["destination"]["encryptionConfiguration"] == {"replicaKmsKeyId": "arn:key:target"}
    assert rule["deleteMarkerReplication"] == {"status": "Disabled"}
    assert rule["sourceSelectionCriteria"] == {"sseKmsEncryptedObjects": {"status": "Enabled"}}


def test_copying_role_decrypts_here_and_encrypts_there_through_s3() -> None:
    statements = replication()["RolePolicy", "audit-replication"].statements()
    found = {sid: (item["Resource"], item["Condition"]["StringEquals"]) for sid, item in statements.items() if "Condition" in item}
    assert found == {
        "Decrypt": ("arn:key:source", {"kms:ViaService": "s3.eu-central-1.amazonaws.com"}),
        "Encrypt": ("arn:key:target", {"kms:ViaService": "s3.eu-west-1.amazonaws.com"}),
    }
    assert not [action for item in statements.values() for action in item["Action"] if "Delete" in action]


def test_copy_in_the_same_region_is_refused() -> None:
    with pytest.raises(ValueError, match="another one"):
        replace(REPLICATION, target_region="eu-central-1")
