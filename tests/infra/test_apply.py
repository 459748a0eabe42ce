"""The core of dev, made by real Terraform at an AWS emulator (moto), then asked about over AWS's own API.

What an emulator cannot tell: whether IAM refuses what a policy denies, and whether what it lacks (NOT_MADE) works at all.
"""

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore.exceptions
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key

from infra.synth import synthesise
from tests.infra.emulator import Made, emulator, make, needed, only, resources
from tests.infra.graphs import ground
from tests.peers import need

Json = dict[str, Any]

# Terraform waits for AWS to settle, also where there is nothing to wait for.
pytestmark = pytest.mark.timeout(900)

NOT_MADE = {
    "aws_backup_selection": "moto has no CreateBackupSelection",
    "aws_budgets_budget": "moto has budgets, but not their tags and subscribers, and the provider asks for both",
    "aws_db_instance": "more than a minute: the test of the database makes it",
    "aws_eks_access_entry": "moto has no CreateAccessEntry",
    "aws_eks_access_policy_association": "moto has no AssociateAccessPolicy",
    "aws_eks_addon": "moto has no CreateAddon",
    "aws_eks_pod_identity_association": "moto has no CreatePodIdentityAssociation",
    "aws_s3_bucket_logging": "moto fails on a target whose policy denies anything to everybody, as TlsOnly does",
}
"""Terraform type → why the core is made without it. The first `pulumi up` on AWS proves those; see deployment.md."""


@functools.cache
def _document() -> Json:
    need("terraform")
    return synthesise(ground("dev"))


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    kept = {address for address in resources(_document()) if address.split(".")[0] not in NOT_MADE}
    with emulator(tmp_path_factory.mktemp("core")) as endpoint:
        yield make(only(_document(), kept), endpoint)


def _refused(call: Any, **arguments: Any) -> str:
    with pytest.raises(botocore.exceptions.ClientError) as error:
        call(**arguments)
    return str(error.value.response["Error"]["Code"])


def test_what_is_not_made_is_in_the_program() -> None:
    assert NOT_MADE.keys() <= _document()["resource"].keys()


def test_all_else_is_made(core: Made) -> None:
    made = {f"{item['type']}.{item['name']}" for item in core.state["resources"] if item["instances"]}
    assert made == resources(core.document).keys()


def test_locked_object_cannot_be_deleted(core: Made) -> None:
    s3, bucket = core.client("s3"), {"Bucket": "ai-infra-dev-111122223333-audit"}
    policy = s3.get_bucket_policy(**bucket)["Policy"]
    # moto reads no conditions: under a policy that denies plain HTTP it denies everything.
    s3.delete_bucket_policy(**bucket)
    try:
        stored = s3.put_object(**bucket, Key="event", Body=b"{}", ChecksumAlgorithm="SHA256")
        version = {**bucket, "Key": "event", "VersionId": stored["VersionId"]}
        assert s3.head_object(**version)["ObjectLockMode"] == "COMPLIANCE"
        assert _refused(s3.delete_object, **version) == "AccessDenied"
        assert _refused(s3.delete_object, **version, BypassGovernanceRetention=True) == "AccessDenied"
        assert s3.get_object(**version)["Body"].read() == b"{}"
    finally:
        s3.put_bucket_policy(**bucket, Policy=policy)


STORES = ("artifacts", "audit", "backups", "datasets", "trail")


@pytest.mark.parametrize("store", [*STORES, "access-logs"])
def test_bucket_is_private_versioned_and_encrypted_over_tls_alone(core: Made, store: str) -> None:
    s3, bucket = core.client("s3"), {"Bucket": f"ai-infra-dev-111122223333-{store}"}
    assert s3.get_bucket_versioning(**bucket)["Status"] == "Enabled"
    assert set(s3.get_public_access_block(**bucket)["PublicAccessBlockConfiguration"].values()) == {True}
    (rule,) = s3.get_bucket_encryption(**bucket)["ServerSideEncryptionConfiguration"]["Rules"]
    # S3 writes access logs with no key but its own.
    algorithm = "AES256" if store == "access-logs" else "aws:kms"
    assert rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == algorithm
    statements = {item["Sid"]: item for item in json.loads(s3.get_bucket_policy(**bucket)["Policy"])["Statement"]}
    tls = statements["TlsOnly"]
    assert (tls["Effect"], tls["Principal"], tls["Condition"]) == ("Deny", "*", {"Bool": {"aws:SecureTransport": "false"}})
    tags = {item["Key"]: item["Value"] for item in s3.get_bucket_tagging(**bucket)["TagSet"]}
    assert tags == {"team": "ml-platform", "environment": "dev", "cost_centre": "4201"}


@pytest.mark.parametrize("store", STORES)
def test_store_is_locked(core: Made, store: str) -> None:
    s3, bucket = core.client("s3"), {"Bucket": f"ai-infra-dev-111122223333-{store}"}
    lock = s3.get_object_lock_configuration(**bucket)["ObjectLockConfiguration"]
    kept = lock["Rule"]["DefaultRetention"]
    assert (lock["ObjectLockEnabled"], kept["Mode"], kept["Days"]) == ("Enabled", "COMPLIANCE", 1)


@pytest.mark.parametrize("purpose", ["manifest", "audit"])
def test_signature_verifies_with_the_exported_key(core: Made, purpose: str) -> None:
    kms, key = core.client("kms"), f"alias/ai-infra-dev-{purpose}-signing"
    # RAW: moto would hash a DIGEST once more, and AWS hashes here too.
    signed = kms.sign(KeyId=key, Message=b"payload", MessageType="RAW", SigningAlgorithm="ECDSA_SHA_256")["Signature"]
    told = kms.describe_key(KeyId=key)["KeyMetadata"]
    assert (told["KeySpec"], told["KeyUsage"]) == ("ECC_NIST_P256", "SIGN_VERIFY")
    public = load_der_public_key(kms.get_public_key(KeyId=key)["PublicKey"])
    assert isinstance(public, ec.EllipticCurvePublicKey)
    public.verify(signed, b"payload", ec.ECDSA(hashes.SHA256()))
    with pytest.raises(InvalidSignature):
        public.verify(signed, b"another", ec.ECDSA(hashes.SHA256()))


def test_data_keys_rotate_and_signing_keys_are_apart(core: Made) -> None:
    kms = core.client("kms")
    keys = {name: values["key_id"] for name, values in core.values("aws_kms_key").items()}
    signing = {name for name, values in core.values("aws_kms_key").items() if values["key_usage"] == "SIGN_VERIFY"}
    assert signing == {"manifest-1", "audit-1"}
    rotating = {name for name in keys.keys() - signing if kms.get_key_rotation_status(KeyId=keys[name])["KeyRotationEnabled"]}
    assert rotating == keys.keys() - signing


def test_api_of_the_cluster_is_private_and_its_secrets_are_encrypted(core: Made) -> None:
    cluster = core.client("eks").describe_cluster(name="ai-infra-dev")["cluster"]
    access = cluster["resourcesVpcConfig"]
    assert (access["endpointPrivateAccess"], access["endpointPublicAccess"]) == (True, False)
    assert cluster["encryptionConfig"][0]["resources"] == ["secrets"]
    logged = {kind for logs in cluster["logging"]["clusterLogging"] if logs["enabled"] for kind in logs["types"]}
    assert logged == {"api", "audit", "authenticator", "controllerManager", "scheduler"}


GPU = {"key": "nvidia.com/gpu", "value": "true", "effect": "NO_SCHEDULE"}
SPOT = {"key": "ai-infra/spot", "value": "true", "effect": "NO_SCHEDULE"}


@pytest.mark.parametrize(("name", "capacity", "taints"), [("core", "ON_DEMAND", []), ("gpu-spot", "SPOT", [GPU, SPOT])])
def test_node_group_has_its_taints_and_label(core: Made, name: str, capacity: str, taints: list[Json]) -> None:
    found = core.client("eks").describe_nodegroup(clusterName="ai-infra-dev", nodegroupName=f"ai-infra-dev-{name}")["nodegroup"]
    assert found["capacityType"] == capacity
    assert sorted(found.get("taints", []), key=str) == sorted(taints, key=str)
    assert found["labels"]["ai-infra/pool"] == name


def test_nodes_start_with_imdsv2_and_encrypted_disks(core: Made) -> None:
    ec2 = core.client("ec2")
    for template in core.values("aws_launch_template").values():
        versions = ec2.describe_launch_template_versions(LaunchTemplateId=template["id"], Versions=["$Default"])
        data = versions["LaunchTemplateVersions"][0]["LaunchTemplateData"]
        options = data["MetadataOptions"]
        assert (options["HttpTokens"], options["HttpPutResponseHopLimit"]) == ("required", 1)
        assert [disk["Ebs"]["Encrypted"] for disk in data["BlockDeviceMappings"]] == [True]
        assert [interface["AssociatePublicIpAddress"] for interface in data["NetworkInterfaces"]] == [False]


def test_nothing_gets_a_public_address_by_itself(core: Made) -> None:
    subnets = core.client("ec2").describe_subnets(Filters=[{"Name": "tag:environment", "Values": ["dev"]}])["Subnets"]
    assert len(subnets) == len(core.document["resource"]["aws_subnet"])
    assert {subnet["MapPublicIpOnLaunch"] for subnet in subnets} == {False}


def test_trail_writes_to_its_bucket_and_validates_its_files(core: Made) -> None:
    cloudtrail = core.client("cloudtrail")
    (trail,) = cloudtrail.describe_trails()["trailList"]
    assert (trail["LogFileValidationEnabled"], trail["S3BucketName"]) == (True, "ai-infra-dev-111122223333-trail")
    assert trail["IsMultiRegionTrail"]
    assert cloudtrail.get_trail_status(Name=trail["TrailARN"])["IsLogging"]


FORGOTTEN = {"aws_backup_plan", "aws_backup_vault"}
"""moto takes their tags and answers without them."""


def test_whatever_takes_tags_has_those_of_cost(core: Made) -> None:
    untagged = {
        f"{kind}.{name}"
        for kind in core.document["resource"].keys() - FORGOTTEN
        for name, values in core.values(kind).items()
        if "tags_all" in values and not {"team", "environment", "cost_centre"} <= (values["tags_all"] or {}).keys()
    }
    assert untagged == set()


@pytest.mark.slow
def test_database_is_private_encrypted_and_has_no_password_of_ours(tmp_path: Path) -> None:
    document = only(_document(), needed(_document(), "aws_db_instance.database"))
    with emulator(tmp_path) as endpoint:
        made = make(document, endpoint)
        (database,) = made.client("rds").describe_db_instances()["DBInstances"]
    assert database["StorageEncrypted"]
    assert not database["PubliclyAccessible"]
    assert database["IAMDatabaseAuthenticationEnabled"]
    assert made.values("aws_db_instance")["database"]["password"] is None
