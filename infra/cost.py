"""What an environment costs when it is only left running, from its graph and a list of prices.

Traffic, stored objects, logs, requests and backups come on top. Nodes that Karpenter starts are not of the graph.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

from infra.graph import Graph, Resource, references
from services.core.errors import BadInput

PRICES: Final = Path(__file__).with_name("prices.yaml")
HOURS: Final = 730
"""Of a month, as AWS counts."""

BEGIN, END = "<!-- cost:begin -->", "<!-- cost:end -->"


@dataclass(frozen=True)
class Cost:
    """count: how many run at first; most: how many the program lets run; each: USD a month."""

    what: str
    count: int
    most: int
    each: float

    @property
    def usd(self) -> float:
        return self.count * self.each

    @property
    def usd_most(self) -> float:
        return self.most * self.each

    def to_json(self) -> dict[str, Any]:
        each, usd, most = (round(value, 2) for value in (self.each, self.usd, self.usd_most))
        return {"what": self.what, "count": self.count, "most": self.most, "each": each, "usd": usd, "usdMost": most}


def costs(graph: Graph) -> list[Cost]:
    """The dearest first. Equal things are one.

    Raises:
        BadInput: a type, an instance type or a region is not in the list of prices.
    """
    found: dict[tuple[str, float], tuple[int, int]] = {}
    for cost in _all(graph):
        count, most = found.get((cost.what, cost.each), (0, 0))
        found[cost.what, cost.each] = (count + cost.count, most + cost.most)
    merged = [Cost(what, count, most, each) for (what, each), (count, most) in found.items()]
    return sorted(merged, key=lambda cost: (-cost.usd, -cost.usd_most, cost.what))


def as_of() -> str:
    """Year and month of the prices."""
    return str(_list()["as_of"])


def page(environments: Mapping[str, Sequence[Cost]]) -> str:
    """A Markdown table of some environments side by side."""
    dearest: dict[str, tuple[float, float]] = {}
    for cost in (cost for found in environments.values() for cost in found):
        dearest[cost.what] = max(dearest.get(cost.what, (0, 0)), (cost.usd, cost.usd_most))
    names = sorted(dearest, key=lambda name: dearest[name], reverse=True)
    lines = [
        _row(f"USD a month, list prices of {as_of()}", list(environments)),
        "|---|" + "---:|" * len(environments),
        *(_row(name, [_cell(found, name) for found in environments.values()]) for name in names),
        _row("**left running**", [f"**{sum(cost.usd for cost in found):,.0f}**" for found in environments.values()]),
        _row(
            "all node groups at their maximum", [f"{sum(cost.usd_most for cost in found):,.0f}" for found in environments.values()]
        ),
    ]
    return "\n".join(lines) + "\n"


def written(text: str, table: str) -> str:
    """A page with the table between its two marks.

    Raises:
        BadInput: the page lacks them.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise BadInput(f"the page has no place for the table: put {BEGIN} and {END} on lines of their own")
    return f"{before}{BEGIN}\n{table}{END}{after}"


def _row(name: str, cells: Sequence[str]) -> str:
    return f"| {name} | {' | '.join(cells)} |"


def _cell(found: Sequence[Cost], name: str) -> str:
    """One price for each region that such things are in."""
    return "; ".join(_sum(cost) for cost in found if cost.what == name) or "–"


def _sum(cost: Cost) -> str:
    number = f"{cost.count}" if cost.most == cost.count else f"{cost.count} (to {cost.most})"
    return f"{number} × {cost.each:,.2f} = {cost.usd:,.0f}"


def _all(graph: Graph) -> Iterator[Cost]:
    free = {*_list()["free"], *_list()["by_use"]}
    for item in graph.resources:
        if not item.custom or item.type.startswith("pulumi:") or item.type in free:
            continue
        if item.type not in PRICED:
            raise BadInput(f"{item.name}: whether {item.type} costs is not known: add it to {PRICES.name}, or to what is priced")
        yield from PRICED[item.type](graph, item, _Prices.of(graph, item))


@dataclass(frozen=True)
class _Prices:
    region: str
    values: Mapping[str, Any]

    @classmethod
    def of(cls, graph: Graph, item: Resource) -> "_Prices":
        region = graph.resource(item.provider or "").inputs["region"]
        if region not in _list()["regions"]:
            raise BadInput(f"{item.name}: {PRICES.name} has no prices of {region}: add them")
        return cls(region, _list()["regions"][region])

    def month(self, name: str) -> float:
        """Of what is priced by the hour or by the month."""
        return float(self.values[name]) * (HOURS if name.endswith("_hour") else 1)

    def of_kind(self, name: str, kind: str) -> float:
        if kind not in self.values[name]:
            raise BadInput(f"{PRICES.name} has no price of {kind} in {self.region}: add it under {name}")
        return float(self.values[name][kind]) * HOURS


def _nodes(graph: Graph, item: Resource, prices: _Prices) -> Iterator[Cost]:
    scaling, kind = item.inputs["scalingConfig"], item.inputs["instanceTypes"][0]
    count, most = scaling["desiredSize"], scaling["maxSize"]
    capacity = " spot" if item.inputs["capacityType"] == "SPOT" else ""
    yield Cost(f"node {kind}{capacity}", count, most, prices.of_kind("instance_hour", kind))
    size = sum(_volumes(graph, item))
    yield Cost(f"volume of a node, {size} GiB", count, most, size * prices.month("volume_gib_month"))


def _volumes(graph: Graph, item: Resource) -> Iterator[int]:
    for found in references(item.inputs["launchTemplate"]["id"]):
        for mapping in graph.resource(found.urn).inputs["blockDeviceMappings"]:
            yield mapping["ebs"]["volumeSize"]


def _database(graph: Graph, item: Resource, prices: _Prices) -> Iterator[Cost]:
    kind, size = item.inputs["instanceClass"], item.inputs["allocatedStorage"]
    zones = 2 if item.inputs.get("multiAz") else 1
    yield Cost(f"database {kind}", zones, zones, prices.of_kind("database_hour", kind))
    yield Cost(f"database storage, {size} GiB", zones, zones, size * prices.month("database_gib_month"))
    if item.inputs.get("manageMasterUserPassword"):
        yield Cost("secret", 1, 1, prices.month("secret_month"))


def _endpoint(graph: Graph, item: Resource, prices: _Prices) -> Iterator[Cost]:
    # A gateway endpoint is free.
    if item.inputs["vpcEndpointType"] == "Interface":
        zones = len(item.inputs["subnetIds"])
        yield Cost("interface endpoint, a zone", zones, zones, prices.month("endpoint_zone_hour"))


def _one(what: str, price: str) -> "Priced":
    def cost(graph: Graph, item: Resource, prices: _Prices) -> Iterator[Cost]:
        yield Cost(what, 1, 1, prices.month(price))

    return cost


Priced = Callable[[Graph, Resource, _Prices], Iterator[Cost]]

PRICED: Final[Mapping[str, Priced]] = {
    "aws:cloudwatch/metricAlarm:MetricAlarm": _one("alarm", "alarm_month"),
    "aws:ec2/eip:Eip": _one("public address", "address_hour"),
    "aws:ec2/natGateway:NatGateway": _one("NAT gateway", "nat_gateway_hour"),
    "aws:ec2/vpcEndpoint:VpcEndpoint": _endpoint,
    "aws:eks/cluster:Cluster": _one("EKS control plane", "control_plane_hour"),
    "aws:eks/nodeGroup:NodeGroup": _nodes,
    "aws:kms/key:Key": _one("KMS key", "key_month"),
    "aws:kms/replicaKey:ReplicaKey": _one("KMS key", "key_month"),
    "aws:rds/instance:Instance": _database,
}


@cache
def _list() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(PRICES.read_text(encoding="utf-8"))
    return found
