"""The shared file system: who reaches it, how, and as whom; and its claims in the cluster."""

from dataclasses import replace

import pytest

from components.platform.shared_volume import SharedVolume, SharedVolumeArgs
from components.shared_files import SharedFiles, SharedFilesArgs
from tests.infra.recorded import Graph, recorded

ARGS = SharedFilesArgs(
    environment="dev",
    vpc_id="vpc",
    subnet_ids={"a": "subnet-a", "b": "subnet-b"},
    client_security_group_id="sg-nodes",
    key_arn="arn:key",
)


@pytest.fixture(scope="module")
def made() -> Graph:
    return recorded(lambda: SharedFiles("runs", ARGS))


def test_it_is_encrypted_and_mounted_in_each_zone(made: Graph) -> None:
    files = made["FileSystem", "runs"].inputs
    assert (files["encrypted"], files["kmsKeyId"]) == (True, "arn:key")
    targets = {item.inputs["subnetId"] for (kind, _), item in made.items() if kind == "MountTarget"}
    assert targets == {"subnet-a", "subnet-b"}


def test_only_nodes_connect_and_only_for_nfs(made: Graph) -> None:
    rules = [item.inputs for (kind, _), item in made.items() if kind.startswith("SecurityGroup") and kind.endswith("Rule")]
    ends = {(rule["securityGroupId"], rule["referencedSecurityGroupId"], rule["fromPort"], rule["toPort"]) for rule in rules}
    assert ends == {("runs.id", "sg-nodes", 2049, 2049), ("sg-nodes", "runs.id", 2049, 2049)}


def test_whoever_comes_does_so_with_tls_and_through_the_access_point_as_one_user(made: Graph) -> None:
    statements = made["FileSystemPolicy", "runs"].statements()
    allowed, plain = statements["ThroughTheAccessPoint"], statements["TlsOnly"]
    assert allowed["Action"] == ["elasticfilesystem:ClientMount", "elasticfilesystem:ClientWrite"]
    assert allowed["Condition"]["StringEquals"] == {"elasticfilesystem:AccessPointArn": "runs.arn"}
    assert (plain["Effect"], plain["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})
    assert made["AccessPoint", "runs"].inputs["posixUser"] == {"uid": 65532, "gid": 65532}


def test_days_that_the_service_does_not_take_are_refused() -> None:
    with pytest.raises(ValueError, match="EFS takes no others"):
        replace(ARGS, idle_days=31)


def test_each_namespace_has_a_claim_of_its_own_that_no_other_takes() -> None:
    args = SharedVolumeArgs(claim="runs", namespaces=("ai-infra", "training-dev"), handle="fs-1::fsap-1")
    graph = recorded(lambda: SharedVolume("runs", args))
    for namespace in args.namespaces:
        volume = graph["PersistentVolume", f"runs-{namespace}"].inputs["spec"]
        claim = graph["PersistentVolumeClaim", f"runs-{namespace}"].inputs
        assert volume["csi"] == {"driver": "efs.csi.aws.com", "volumeHandle": "fs-1::fsap-1"}
        assert (volume["claimRef"]["namespace"], volume["claimRef"]["name"]) == (namespace, "runs")
        assert claim["metadata"] == {"name": "runs", "namespace": namespace}
        assert (claim["spec"]["volumeName"], claim["spec"]["storageClassName"]) == (f"runs-{namespace}", "")
