"""Cluster, nodes, GPU pools, Karpenter, roles of workloads: what a component makes of its arguments."""

import ipaddress
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from components.addons import NETWORK, WORKLOAD, Addons, AddonsArgs
from components.apps.calls import API_SERVER
from components.cluster import Cluster, ClusterArgs
from components.gpu_pool import GpuPool, GpuPoolArgs
from components.identity import Identity, IdentityArgs
from components.karpenter import WIDE, Karpenter, KarpenterArgs
from components.node_group import NodeGroup, NodeGroupArgs
from components.trust import ClusterTrust
from tests.infra.recorded import Graph, changed, recorded

ACCOUNT = "111122223333"
ADMIN = f"arn:aws:iam::{ACCOUNT}:role/platform-admin"
TAGS = {"team": "ml", "environment": "dev", "cost_centre": "42"}
SIGN = {"Sid": "Sign", "Effect": "Allow", "Action": ["kms:Sign"], "Resource": "arn:key"}

TRUST = ClusterTrust(cluster_arn="arn:cluster", oidc_provider_arn="arn:oidc", oidc_issuer="oidc.test/id/1")
CLUSTER = ClusterArgs(
    environment="dev",
    account=ACCOUNT,
    version="1.32",
    vpc_id="vpc-1",
    subnet_ids=["a", "b", "c"],
    secrets_key_arn="arn:secrets",
    logs_key_arn="arn:logs",
    log_days=30,
    admin_role_arns=[ADMIN],
)
ADDONS = AddonsArgs(
    environment="dev",
    cluster_name="ai-infra-dev",
    trust=TRUST,
    associated=True,
    names=NETWORK,
    versions=dict.fromkeys(NETWORK + WORKLOAD, "v1.0.0-eksbuild.1"),
    disks_key_arn="arn:disks",
)
CORE = NodeGroupArgs(
    environment="dev",
    cluster_name="ai-infra-dev",
    subnet_ids=["a", "b", "c"],
    security_group_id="sg-nodes",
    disks_key_arn="arn:disks",
    instance_types=["m7i.large"],
    minimum=1,
    maximum=3,
    desired=2,
    disk_gib=50,
    tags=TAGS,
)
POOL = GpuPoolArgs(
    environment="dev",
    cluster_name="ai-infra-dev",
    node_role_arn="arn:node",
    vpc_id="vpc-1",
    subnet_ids=["a"],
    security_group_id="sg-nodes",
    disks_key_arn="arn:disks",
    capacity="on-demand",
    instance_types=["g5.xlarge"],
    minimum=0,
    maximum=4,
    disk_gib=200,
    tags=TAGS,
)
KARPENTER = KarpenterArgs(
    environment="dev",
    account=ACCOUNT,
    region="eu-central-1",
    cluster_tag="ai-infra-dev",
    cluster_name="ai-infra-dev",
    cluster_arn="arn:cluster",
    subnet_ids=["subnet-a"],
    security_group_id="sg-nodes",
    disks_key_arn="arn:disks",
)
IDENTITY = IdentityArgs(
    environment="dev",
    cluster_name="ai-infra-dev",
    trust=TRUST,
    associated=True,
    namespace="ai-infra",
    service_account="signing-proxy",
    statements=[SIGN],
)

def cluster(args: ClusterArgs = CLUSTER) -> Graph:
    return recorded(lambda: Cluster("cluster", args))


def pool(args: GpuPoolArgs = POOL) -> Graph:
    return recorded(lambda: GpuPool("train", args))


def test_api_is_private_and_people_come_by_access_entries_alone() -> None:
    made = cluster()
    plane = made["Cluster", "cluster"].inputs
    assert plane["vpcConfig"]["endpointPrivateAccess"] is True
    assert plane["vpcConfig"]["endpointPublicAccess"] is False
    assert plane["accessConfig"] == {"authenticationMode": "API", "bootstrapClusterCreatorAdminPermissions": False}
    assert made["AccessEntry", "cluster-admin-platform-admin"].inputs["principalArn"] == ADMIN


def test_the_api_has_the_address_that_network_policies_name() -> None:
    told = cluster()["Cluster", "cluster"].inputs["kubernetesNetworkConfig"]
    [first, *_] = ipaddress.ip_network(told["serviceIpv4Cidr"]).hosts()
    assert f"{first}/32" == API_SERVER


def test_all_logs_go_to_an_encrypted_group_that_is_there_first() -> None:
    made = cluster()
    plane, logs = made["Cluster", "cluster"], made["LogGroup", "cluster-logs"].inputs
    assert set(plane.inputs["enabledClusterLogTypes"]) == {"api", "audit", "authenticator", "controllerManager", "scheduler"}
    assert (logs["name"], logs["kmsKeyId"], logs["retentionInDays"]) == ("/aws/eks/ai-infra-dev/cluster", "arn:logs", 30)
    assert {"cluster-logs", "cluster-policy"} <= plane.depends


def test_secrets_are_encrypted_with_the_given_key() -> None:
    encryption = cluster()["Cluster", "cluster"].inputs["encryptionConfig"]
    assert encryption == {"provider": {"keyArn": "arn:secrets"}, "resources": ["secrets"]}


def test_cluster_of_prod_is_protected() -> None:
    assert not cluster()["Cluster", "cluster"].protect
    assert cluster(replace(CLUSTER, environment="prod"))["Cluster", "cluster"].protect


def test_nodes_are_reached_by_the_control_plane_and_themselves_on_named_ports() -> None:
    found = {
        (item.inputs["referencedSecurityGroupId"], item.inputs["ipProtocol"], item.inputs["fromPort"], item.inputs["toPort"])
        for item in cluster().values()
        if item.type == "SecurityGroupIngressRule" and item.inputs["securityGroupId"] == "cluster-nodes.id"
    }
    plane, nodes = "cluster-control-plane.id", "cluster-nodes.id"
    assert found == {
        (plane, "tcp", 8082, 8082),
        (plane, "tcp", 8443, 8443),
        (plane, "tcp", 9443, 9443),
        (plane, "tcp", 10250, 10250),
        (plane, "tcp", 10251, 10251),
        (nodes, "tcp", 53, 53),
        (nodes, "udp", 53, 53),
        (nodes, "tcp", 1024, 65535),
    }


def test_issuer_keeps_its_scheme_at_the_provider_and_loses_it_in_trust_policies() -> None:
    def build() -> None:
        made = Cluster("cluster", CLUSTER)
        trust = replace(TRUST, oidc_provider_arn=made.oidc_provider_arn, oidc_issuer=made.oidc_issuer)
        Identity("router", replace(IDENTITY, trust=trust))

    made = recorded(build)
    assert made["OpenIdConnectProvider", "cluster-oidc"].inputs["url"] == "https://cluster.issuer"
    trust = made["Role", "router"].statements("assumeRolePolicy")["Irsa"]
    assert trust["Condition"]["StringEquals"].keys() == {"cluster.issuer:aud", "cluster.issuer:sub"}


@pytest.mark.parametrize(
    ("changes", "only"),
    [
        ({"version": "1.33"}, {("Cluster", "cluster")}),
        ({"log_days": 90}, {("LogGroup", "cluster-logs")}),
        ({"secrets_key_arn": "arn:other"}, {("Cluster", "cluster")}),
    ],
)
def test_one_knob_of_the_cluster_turns_one_thing(changes: dict[str, Any], only: set[tuple[str, str]]) -> None:
    assert changed(cluster(), cluster(replace(CLUSTER, **changes))) == only


def test_addons_are_pinned_and_take_roles_by_pod_identity() -> None:
    made = recorded(lambda: Addons("network", ADDONS))
    assert {item.inputs["addonName"] for item in made.values() if item.type == "Addon"} == set(NETWORK)
    assert {item.inputs["addonVersion"] for item in made.values() if item.type == "Addon"} == {"v1.0.0-eksbuild.1"}
    given = {"roleArn": "vpc-cni-role.arn", "serviceAccount": "aws-node"}
    assert made["Addon", "vpc-cni"].inputs["podIdentityAssociations"] == [given]
    assert "serviceAccountRoleArn" not in made["Addon", "vpc-cni"].inputs


def test_without_the_agent_addons_take_the_same_roles_by_irsa() -> None:
    made = recorded(lambda: Addons("network", replace(ADDONS, associated=False)))
    assert {item.inputs["addonName"] for item in made.values() if item.type == "Addon"} == {"kube-proxy", "vpc-cni"}
    assert made["Addon", "vpc-cni"].inputs["serviceAccountRoleArn"] == "vpc-cni-role.arn"
    assert "podIdentityAssociations" not in made["Addon", "vpc-cni"].inputs
    assert made["Role", "vpc-cni-role"] == recorded(lambda: Addons("network", ADDONS))["Role", "vpc-cni-role"]


def test_role_of_an_addon_is_for_its_service_account_by_either_way() -> None:
    trust = recorded(lambda: Addons("network", ADDONS))["Role", "vpc-cni-role"].statements("assumeRolePolicy")
    assert trust["PodIdentity"]["Condition"]["StringEquals"] == {
        "aws:RequestTag/eks-cluster-arn": "arn:cluster",
        "aws:RequestTag/kubernetes-namespace": "kube-system",
        "aws:RequestTag/kubernetes-service-account": "aws-node",
    }
    assert trust["Irsa"]["Condition"]["StringEquals"] == {
        "oidc.test/id/1:aud": "sts.amazonaws.com",
        "oidc.test/id/1:sub": "system:serviceaccount:kube-system:aws-node",
    }


def test_network_policies_are_held_to() -> None:
    made = recorded(lambda: Addons("network", ADDONS))
    told = {name: item.inputs.get("configurationValues") for (kind, name), item in made.items() if kind == "Addon"}
    assert told == dict.fromkeys(NETWORK) | {"vpc-cni": '{"enableNetworkPolicy": "true"}'}


@pytest.mark.parametrize("graph", [lambda: recorded(lambda: NodeGroup("core", CORE)), pool], ids=["core", "gpu"])
def test_nodes_want_imdsv2_and_encrypted_disks_and_have_no_public_address(graph: Callable[[], Graph]) -> None:
    [template] = [item.inputs for item in graph().values() if item.type == "LaunchTemplate"]
    assert template["metadataOptions"] == {"httpEndpoint": "enabled", "httpTokens": "required", "httpPutResponseHopLimit": 1}
    [disk] = [item["ebs"] for item in template["blockDeviceMappings"]]
    assert (disk["encrypted"], disk["kmsKeyId"], disk["volumeType"]) == ("true", "arn:disks", "gp3")
    assert [item["associatePublicIpAddress"] for item in template["networkInterfaces"]] == ["false"]
    for item in template["tagSpecifications"]:
        assert TAGS.items() <= item["tags"].items()


def test_core_nodes_wait_for_their_policies() -> None:
    assert {"core-worker", "core-images"} <= recorded(lambda: NodeGroup("core", CORE))["NodeGroup", "core"].depends


@pytest.mark.parametrize(
    ("capacity", "taints"),
    [("on-demand", ["nvidia.com/gpu"]), ("spot", ["nvidia.com/gpu", "ai-infra/spot"])],
)
def test_gpu_nodes_take_only_pods_that_tolerate_them(capacity: Any, taints: list[str]) -> None:
    group = pool(replace(POOL, capacity=capacity))["NodeGroup", "train"].inputs
    assert group["taints"] == [{"key": key, "value": "true", "effect": "NO_SCHEDULE"} for key in taints]
    assert group["labels"]["ai-infra/capacity"] == capacity
    assert group["capacityType"] == {"on-demand": "ON_DEMAND", "spot": "SPOT"}[capacity]


def test_gpu_pool_starts_empty_and_its_size_is_left_to_who_scales_it() -> None:
    group = pool()["NodeGroup", "train"]
    assert group.inputs["scalingConfig"] == {"minSize": 0, "maxSize": 4, "desiredSize": 0}
    assert group.ignored == ("scalingConfig.desiredSize",)


def test_efa_pool_has_an_adapter_on_each_card_and_traffic_among_its_own() -> None:
    made = pool(replace(POOL, instance_types=["p4d.24xlarge"], efa=True))
    template = made["LaunchTemplate", "train-template"].inputs
    cards = [(item["interfaceType"], item["networkCardIndex"], item["deviceIndex"]) for item in template["networkInterfaces"]]
    assert cards == [("efa", 0, 0), ("efa", 1, 1), ("efa", 2, 1), ("efa", 3, 1)]
    assert made["PlacementGroup", "train-close"].inputs["strategy"] == "cluster"
    for rule in ("SecurityGroupIngressRule", "train-fabric-in"), ("SecurityGroupEgressRule", "train-fabric-out"):
        assert made[rule].inputs["securityGroupId"] == made[rule].inputs["referencedSecurityGroupId"] == "train-fabric.id"
        assert made[rule].inputs["ipProtocol"] == "-1"


def test_of_the_groups_of_an_efa_node_one_is_the_clusters_for_load_balancers() -> None:
    def build() -> None:
        made = Cluster("cluster", CLUSTER)
        efa = replace(POOL, instance_types=["p4d.24xlarge"], efa=True, security_group_id=made.node_security_group_id)
        GpuPool("train", efa)

    made = recorded(build)
    groups = {f"{item.name}.id": item.inputs["tags"] for item in made.values() if item.type == "SecurityGroup"}
    [nodes, fabric] = made["LaunchTemplate", "train-template"].inputs["networkInterfaces"][0]["securityGroups"]
    assert groups[nodes]["kubernetes.io/cluster/ai-infra-dev"] == "owned"
    assert groups[fabric].keys() == {"Name"}


def test_reservation_reaches_the_template_alone() -> None:
    reserved = pool(replace(POOL, capacity_reservation_id="cr-0123456789abcdef0"))
    target = reserved["LaunchTemplate", "train-template"].inputs["capacityReservationSpecification"]["capacityReservationTarget"]
    assert target == {"capacityReservationId": "cr-0123456789abcdef0"}
    assert changed(pool(), reserved) == {("LaunchTemplate", "train-template")}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"capacity": "spot", "capacity_reservation_id": "cr-1"}, "on-demand capacity"),
        ({"efa": True, "subnet_ids": ["a", "b"], "instance_types": ["p5.48xlarge"]}, "of one zone"),
        ({"efa": True}, "network cards"),
        ({"efa": True, "instance_types": ["p4d.24xlarge", "p5.48xlarge"]}, "network cards"),
        ({"efa": True, "instance_types": ["p4d.24xlarge", "g5.xlarge"]}, "p4d.24xlarge"),
        ({"minimum": 5}, "maximum"),
        ({"instance_types": []}, "instance_types"),
    ],
)
def test_pool_that_could_not_start_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(POOL, **changes)


def test_interruptions_reach_an_encrypted_queue_that_only_their_rules_write() -> None:
    made = recorded(lambda: Karpenter("karpenter", KARPENTER))
    rules = {item.name for item in made.values() if item.type == "EventRule"}
    assert rules == {f"karpenter-{what}" for what in ("spot-interruption", "rebalance", "state-change", "health")}
    assert {
        item.name for item in made.values() if item.type == "EventTarget" and item.inputs["arn"] == "karpenter-queue.arn"
    } == rules
    assert made["Queue", "karpenter-queue"].inputs["sqsManagedSseEnabled"] is True
    write = made["QueuePolicy", "karpenter-queue"].statements()["RulesWrite"]
    assert set(write["Condition"]["ArnEquals"]["aws:SourceArn"]) == {f"{rule}.arn" for rule in rules}


def controller_statements() -> dict[str, dict[str, Any]]:
    def build() -> None:
        statements = Karpenter("karpenter", KARPENTER).statements
        Identity("controller", replace(IDENTITY, service_account="karpenter", statements=statements, wide=WIDE))

    return recorded(build)["RolePolicy", "controller"].statements()


def test_karpenter_makes_only_what_it_tags_and_ends_only_what_is_tagged_as_the_clusters() -> None:
    statements = controller_statements()
    assert statements["Start"]["Condition"]["StringEquals"]["aws:RequestTag/kubernetes.io/cluster/ai-infra-dev"] == "owned"
    for sid in ("End", "TagNodes", "StartFromTemplates"):
        assert statements[sid]["Condition"]["StringEquals"] == {"aws:ResourceTag/kubernetes.io/cluster/ai-infra-dev": "owned"}
    assert statements["StartFrom"]["Resource"] == [
        "arn:aws:ec2:eu-central-1::image/*",
        "arn:aws:ec2:eu-central-1::snapshot/*",
        f"arn:aws:ec2:eu-central-1:{ACCOUNT}:subnet/subnet-a",
        f"arn:aws:ec2:eu-central-1:{ACCOUNT}:security-group/sg-nodes",
    ]
    assert statements["GiveRole"]["Resource"] == "karpenter-node.arn"
    assert [sid for sid, item in statements.items() if item["Resource"] == "*"] == ["ReadOffers", "ReadLists"]
    assert all(action.startswith("ec2:Describe") for action in statements["ReadOffers"]["Action"])
    # Neither is answered in the cluster's region.
    assert statements["ReadLists"]["Action"] == ["iam:ListInstanceProfiles", "pricing:GetProducts"]
    assert "Condition" not in statements["ReadLists"]
    written = {action for item in statements.values() for action in item["Action"] if action.startswith("iam:")}
    assert written == {"iam:GetInstanceProfile", "iam:ListInstanceProfiles", "iam:PassRole"}


def test_identity_without_an_association_is_the_same_role() -> None:
    both, alone = (recorded(lambda kept=kept: Identity("x", replace(IDENTITY, associated=kept))) for kept in (True, False))
    assert changed(both, alone) == {("PodIdentityAssociation", "x")}


def test_identity_is_for_one_service_account_by_either_way() -> None:
    trust = recorded(lambda: Identity("signing-proxy", IDENTITY))["Role", "signing-proxy"].statements("assumeRolePolicy")
    assert trust["PodIdentity"]["Principal"] == {"Service": "pods.eks.amazonaws.com"}
    assert trust["PodIdentity"]["Condition"]["StringEquals"] == {
        "aws:RequestTag/eks-cluster-arn": "arn:cluster",
        "aws:RequestTag/kubernetes-namespace": "ai-infra",
        "aws:RequestTag/kubernetes-service-account": "signing-proxy",
    }
    assert trust["Irsa"]["Principal"] == {"Federated": "arn:oidc"}
    assert trust["Irsa"]["Condition"] == {
        "StringEquals": {
            "oidc.test/id/1:aud": "sts.amazonaws.com",
            "oidc.test/id/1:sub": "system:serviceaccount:ai-infra:signing-proxy",
        }
    }


@pytest.mark.parametrize(
    "statement",
    [SIGN | {"Action": "kms:*"}, SIGN | {"Action": ["kms:Sign", "s3:Get?bject"]}, SIGN | {"Resource": "*"}, {"Effect": "Allow"}],
)
def test_identity_with_a_wildcard_is_refused(statement: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="name"):
        replace(IDENTITY, statements=[statement])
