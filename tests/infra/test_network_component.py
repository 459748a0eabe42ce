"""Network and endpoints: what a component makes of its arguments."""

import ipaddress
from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest

from components.endpoints import DATA, DEPLOY, INTERFACES, Endpoints, EndpointsArgs
from components.network import Network, NetworkArgs, blocks
from tests.infra.deploy_actions import ACTIONS
from tests.infra.recorded import Graph, changed, recorded

ZONES = ["eu-central-1a", "eu-central-1b", "eu-central-1c"]
DEPLOYER = "arn:aws:iam::111122223333:role/platform-admin"
NETWORK = NetworkArgs(
    environment="dev",
    account="111122223333",
    cidr="10.10.0.0/16",
    zones=ZONES,
    nat="one",
    cluster_tag="ai-infra-dev",
    logs_key_arn="arn:logs",
    flow_log_days=30,
)
ENDPOINTS = EndpointsArgs(
    environment="dev",
    account="111122223333",
    region="eu-central-1",
    vpc_id="vpc-1",
    subnet_ids=["subnet-a"],
    client_blocks=["10.10.0.0/18", "10.10.64.0/18"],
    route_table_ids=["rtb-a"],
    deployer_role_arns=[DEPLOYER],
)


def network(args: NetworkArgs = NETWORK) -> Graph:
    return recorded(lambda: Network("network", args))


def endpoints(args: EndpointsArgs = ENDPOINTS) -> Graph:
    return recorded(lambda: Endpoints("endpoints", args))


def of(made: Graph, kind: str) -> dict[str, dict[str, Any]]:
    return {item.name: item.inputs for item in made.values() if item.type == kind}


def test_no_subnet_overlaps_another_and_all_are_in_the_block() -> None:
    found = [ipaddress.IPv4Network(item["cidrBlock"]) for item in of(network(replace(NETWORK, nat="per-zone")), "Subnet").values()]
    assert len(found) == 9
    assert all(block.subnet_of(ipaddress.IPv4Network("10.10.0.0/16")) for block in found)
    assert not [pair for pair in combinations(found, 2) if pair[0].overlaps(pair[1])]


def test_a_zone_more_moves_no_subnet() -> None:
    two, three = blocks("10.10.0.0/16", 2), blocks("10.10.0.0/16", 3)
    assert (three.nodes[:2], three.database[:2], three.public[:2]) == (two.nodes, two.database, two.public)


def test_no_subnet_gives_public_addresses() -> None:
    assert {item["mapPublicIpOnLaunch"] for item in of(network(), "Subnet").values()} == {False}


@pytest.mark.parametrize(("nat", "gateways"), [("one", ZONES[:1] * 3), ("per-zone", ZONES)])
def test_nodes_of_each_zone_go_out_by_a_gateway(nat: Any, gateways: list[str]) -> None:
    made = network(replace(NETWORK, nat=nat))
    found = [made["Route", f"network-nodes-{zone}"].inputs["natGatewayId"] for zone in ZONES]
    assert found == [f"network-nat-{zone}.id" for zone in gateways]
    assert of(made, "NatGateway").keys() == {f"network-nat-{zone}" for zone in gateways}


def test_database_has_no_way_out() -> None:
    made = network()
    tables = {made["RouteTableAssociation", f"network-database-{zone}"].inputs["routeTableId"] for zone in ZONES}
    assert tables == {"network-database.id"}
    assert not tables & {route["routeTableId"] for route in of(made, "Route").values()}


def test_default_group_lets_nothing_in_or_out() -> None:
    group = network()["DefaultSecurityGroup", "network"].inputs
    assert (group["ingress"], group["egress"]) == ([], [])


def test_all_traffic_is_logged_into_an_encrypted_group() -> None:
    made = network()
    logs = made["LogGroup", "network-flow-logs"].inputs
    assert (logs["kmsKeyId"], logs["retentionInDays"]) == ("arn:logs", 30)
    flow = made["FlowLog", "network-flow-logs"].inputs
    assert (flow["trafficType"], flow["logDestination"]) == ("ALL", "network-flow-logs.arn")
    write = made["RolePolicy", "network-flow-logs"].statements()["WriteLogs"]
    assert {"logs:DescribeLogGroups", "logs:DescribeLogStreams", "logs:PutLogEvents"} <= set(write["Action"])


def test_days_of_flow_logs_turn_the_log_group_alone() -> None:
    assert changed(network(), network(replace(NETWORK, flow_log_days=90))) == {("LogGroup", "network-flow-logs")}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"zones": ZONES[:1]}, "two or three"),
        ({"zones": [ZONES[0]] * 3}, "must differ"),
        ({"cidr": "10.10.0.0/24"}, "/22 or larger"),
    ],
)
def test_network_that_would_not_hold_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(NETWORK, **changes)


def test_endpoints_are_reached_on_443_from_the_given_blocks_alone() -> None:
    rules = of(endpoints(), "SecurityGroupIngressRule").values()
    found = [(rule["cidrIpv4"], rule["ipProtocol"], rule["fromPort"], rule["toPort"]) for rule in rules]
    assert found == [(block, "tcp", 443, 443) for block in ENDPOINTS.client_blocks]


def test_each_service_has_an_endpoint_with_its_own_name() -> None:
    made = of(endpoints(), "VpcEndpoint").values()
    assert {item["serviceName"] for item in made} == {f"com.amazonaws.eu-central-1.{service}" for service in (*INTERFACES, "s3")}
    assert all(item["privateDnsEnabled"] for item in made if item["vpcEndpointType"] == "Interface")


def test_data_passes_with_identities_of_the_account_alone() -> None:
    made = endpoints()
    for service in DATA:
        statement = made["VpcEndpoint", f"endpoints-{service.replace('.', '-')}"].statements()["OurIdentities"]
        assert statement["Condition"] == {"StringEquals": {"aws:PrincipalAccount": "111122223333"}}
    objects = made["VpcEndpoint", "endpoints-s3"].statements()
    assert objects["OurIdentities"]["Condition"]["StringEquals"]["aws:ResourceAccount"] == "111122223333"
    assert objects["ImageLayers"]["Resource"] == "arn:aws:s3:::prod-eu-central-1-starport-layer-bucket/*"


def test_images_of_registry_k8s_io_come_through_the_endpoint_of_s3() -> None:
    images = endpoints()["VpcEndpoint", "endpoints-s3"].statements()["KubernetesImages"]
    assert (images["Action"], images["Resource"]) == (["s3:GetObject"], "arn:aws:s3:::prod-registry-k8s-io-eu-central-1/*")
    assert images["Condition"] == {"StringEquals": {"aws:SourceVpc": "vpc-1"}}


def test_deployers_and_nobody_else_manage_keys_queues_and_buckets_from_within() -> None:
    made = endpoints()
    statements = {service: made["VpcEndpoint", f"endpoints-{service}"].statements()["Deployers"] for service in DEPLOY}
    objects = made["VpcEndpoint", "endpoints-s3"].statements()
    statements |= {sid: objects[sid] for sid in ("DeployersState", "DeployersStores")}
    assert all(item["Condition"] == {"ArnEquals": {"aws:PrincipalArn": [DEPLOYER]}} for item in statements.values())
    assert {"kms:CreateKey", "kms:PutKeyPolicy", "kms:ScheduleKeyDeletion"} <= set(statements["kms"]["Action"])
    assert (statements["DeployersState"]["Action"], statements["DeployersState"]["Resource"]) == (
        ["s3:DeleteObject"],
        "arn:aws:s3:::ai-infra-state-111122223333/dev/*",
    )
    assert statements["DeployersStores"]["Resource"] == "arn:aws:s3:::ai-infra-dev-111122223333-*"


def test_what_making_the_ground_asks_of_a_service_its_endpoint_lets_through() -> None:
    made = endpoints()
    for service in ("kms", "s3", "sqs"):
        asked = {action for actions in ACTIONS.values() for action in actions if action.startswith(f"{service}:")}
        passed = made["VpcEndpoint", f"endpoints-{service}"].statements().values()
        assert asked <= {action for item in passed for action in item["Action"]}


def test_endpoints_without_deployers_are_refused() -> None:
    with pytest.raises(ValueError, match="name a role"):
        replace(ENDPOINTS, deployer_role_arns=[])


def test_endpoints_for_everybody_are_refused() -> None:
    with pytest.raises(ValueError, match="private subnets"):
        replace(ENDPOINTS, client_blocks=["0.0.0.0/0"])
