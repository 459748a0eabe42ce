"""What is counted as cost, what is refused for want of a price, and the table in deployment.md."""

import dataclasses
from typing import Any

import pytest

from infra.cost import BEGIN, END, Cost, costs, page, written
from infra.graph import Resource
from services.core.errors import BadInput
from tests.infra.graphs import graph, ground, resource
from tests.peers import ROOT

TEMPLATE = resource("ec2/launchTemplate:LaunchTemplate", "t", {"blockDeviceMappings": [{"ebs": {"volumeSize": 100}}]})


def _pool(kind: str = "g5.xlarge", capacity: str = "SPOT") -> Resource:
    inputs: dict[str, Any] = {
        "capacityType": capacity,
        "instanceTypes": [kind],
        "launchTemplate": {"id": {"$ref": {"urn": TEMPLATE.urn, "path": ["id"]}}},
        "scalingConfig": {"minSize": 1, "desiredSize": 2, "maxSize": 4},
    }
    return resource("eks/nodeGroup:NodeGroup", "pool", inputs)


def _endpoint(kind: str, subnets: list[str]) -> Resource:
    return resource("ec2/vpcEndpoint:VpcEndpoint", kind, {"vpcEndpointType": kind, "subnetIds": subnets})


def test_nodes_cost_with_their_volumes_at_first_and_at_most() -> None:
    node, volume = costs(graph(TEMPLATE, _pool()))
    assert (node.what, node.count, node.most) == ("node g5.xlarge spot", 2, 4)
    assert (volume.what, volume.count, volume.most) == ("volume of a node, 100 GiB", 2, 4)
    assert [volume.usd, volume.usd_most] == pytest.approx([19.04, 38.08])


def test_endpoints_cost_by_zone_and_gateway_endpoints_nothing() -> None:
    found = costs(graph(_endpoint("Interface", ["a", "b"]), _endpoint("Gateway", [])))
    assert [(cost.what, cost.count) for cost in found] == [("interface endpoint, a zone", 2)]


def test_database_in_two_zones_costs_twice() -> None:
    given = {"instanceClass": "db.m7g.large", "allocatedStorage": 50, "manageMasterUserPassword": True}
    one, two = (costs(graph(resource("rds/instance:Instance", "d", given | {"multiAz": multi}))) for multi in (False, True))
    assert [cost.count for cost in one] == [1, 1, 1]
    assert [(cost.what, cost.count) for cost in two] == [
        ("database db.m7g.large", 2),
        ("database storage, 50 GiB", 2),
        ("secret", 1),
    ]


@pytest.mark.parametrize(
    ("item", "says"),
    [
        (resource("mq/broker:Broker", "queue"), r"^queue: whether aws:mq/broker:Broker costs is not known: add it to prices\.yaml"),
        (_pool(kind="m9z.huge"), r"^prices\.yaml has no price of m9z\.huge in eu-central-1: add it under instance_hour"),
    ],
    ids=["type", "instance type"],
)
def test_what_has_no_price_is_refused(item: Resource, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        costs(graph(TEMPLATE, item))


def test_region_without_prices_is_refused() -> None:
    of = graph(TEMPLATE, _pool())
    moved = [
        dataclasses.replace(item, inputs={"region": "sa-east-1"}) if "providers" in item.type else item for item in of.resources
    ]
    with pytest.raises(BadInput, match=r"^pool: prices\.yaml has no prices of sa-east-1"):
        costs(dataclasses.replace(of, resources=tuple(moved)))


def test_page_has_environments_side_by_side_and_their_sums() -> None:
    table = page({"dev": [Cost("node", 1, 3, 10.0)], "prod": [Cost("node", 2, 2, 10.0), Cost("key", 1, 1, 1.0)]})
    assert table.splitlines()[2:] == [
        "| node | 1 (to 3) × 10.00 = 10 | 2 × 10.00 = 20 |",
        "| key | – | 1 × 1.00 = 1 |",
        "| **left running** | **10** | **21** |",
        "| all node groups at their maximum | 30 | 21 |",
    ]


def test_table_is_written_between_its_marks_and_nowhere_else() -> None:
    assert written(f"a\n{BEGIN}\nold\n{END}\nb\n", "new\n") == f"a\n{BEGIN}\nnew\n{END}\nb\n"
    with pytest.raises(BadInput, match="the page has no place for the table"):
        written("a", "new\n")


def test_table_of_the_deployment_page_is_of_the_program_as_it_is() -> None:
    text = (ROOT / "deployment.md").read_text(encoding="utf-8")
    table = page({name: costs(ground(name)) for name in ("dev", "staging", "prod")})
    assert written(text, table) == text, "write it again: ai-infra infra cost --write deployment.md"
