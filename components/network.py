"""The VPC: private subnets for nodes and database, public ones that hold nothing but NAT gateways, and flow logs.

Not here: endpoints of AWS services (`endpoints`), and security groups, which belong to what they protect.
"""

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import pulumi
from pulumi import Input, Output, ResourceOptions
from pulumi_aws import ec2, iam

from components.log_group import log_group
from components.trust import service_trust

ANYWHERE: Final = "0.0.0.0/0"
QUARTERS: Final = 4
"""Nodes of three zones have a quarter of the block each; the last one is cut into 16, for database and NAT."""


@dataclass(frozen=True, kw_only=True)
class NetworkArgs:
    """zones: names, as eu-central-1a; nat: one gateway, in the first zone, or one for each; cluster_tag: the cluster's name."""

    environment: str
    account: str
    cidr: str
    zones: Sequence[str]
    nat: Literal["one", "per-zone"]
    cluster_tag: str
    logs_key_arn: Input[str]
    flow_log_days: int

    def __post_init__(self) -> None:
        if not 2 <= len(self.zones) < QUARTERS:
            raise ValueError(f"zones must be two or three, got {len(self.zones)}")
        if len(set(self.zones)) != len(self.zones):
            raise ValueError(f"zones must differ, got {', '.join(self.zones)}")
        if ipaddress.IPv4Network(self.cidr).prefixlen > 22:
            raise ValueError(f"cidr must be /22 or larger, got {self.cidr}: its smallest subnets would be under AWS's /28")


@dataclass(frozen=True)
class Blocks:
    """The subnets of a network, one of each for every zone."""

    nodes: tuple[str, ...]
    database: tuple[str, ...]
    public: tuple[str, ...]


def blocks(cidr: str, zones: int) -> Blocks:
    """A block keeps its place when a zone is added."""
    quarters = list(ipaddress.IPv4Network(cidr).subnets(prefixlen_diff=2))
    small = [str(block) for block in quarters[-1].subnets(prefixlen_diff=4)]
    return Blocks(tuple(str(block) for block in quarters[:zones]), tuple(small[:zones]), tuple(small[4 : 4 + zones]))


class Network(pulumi.ComponentResource):
    """Nodes reach the world through NAT; the database's subnets have no way out, and nothing has a way in."""

    vpc_id: Output[str]
    node_subnet_ids: Mapping[str, Output[str]]
    """Zone → subnet."""
    database_subnet_ids: Sequence[Output[str]]
    node_route_table_ids: Sequence[Output[str]]
    node_blocks: Sequence[str]

    def __init__(self, name: str, args: NetworkArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("ai-infra:network:Network", name, None, opts)
        self._args, self._name = args, name
        self._child = ResourceOptions(parent=self)
        self._physical = f"ai-infra-{args.environment}"
        self._blocks = blocks(args.cidr, len(args.zones))
        self._vpc = ec2.Vpc(
            name,
            cidr_block=args.cidr,
            enable_dns_hostnames=True,
            enable_dns_support=True,
            tags={"Name": self._physical},
            opts=self._child,
        )
        # The group that what names none would get: without rules nothing comes of forgetting.
        ec2.DefaultSecurityGroup(
            name, vpc_id=self._vpc.id, ingress=[], egress=[], tags={"Name": f"{self._physical}-default-unused"}, opts=self._child
        )
        self._flow_logs()
        gateways = self._gateways()
        nodes, tables = self._node_subnets(gateways)
        self.vpc_id = self._vpc.id
        self.node_subnet_ids = nodes
        self.node_route_table_ids = tables
        self.node_blocks = self._blocks.nodes
        self.database_subnet_ids = self._database_subnets()
        self.register_outputs({"vpc_id": self.vpc_id})

    def _gateways(self) -> list[ec2.NatGateway]:
        """Of each zone, or the one, and the way out for them."""
        internet = ec2.InternetGateway(self._name, vpc_id=self._vpc.id, tags={"Name": self._physical}, opts=self._child)
        table = self._table("public")
        route = ec2.Route(
            f"{self._name}-public",
            route_table_id=table.id,
            destination_cidr_block=ANYWHERE,
            gateway_id=internet.id,
            opts=self._child,
        )
        zones = self._args.zones if self._args.nat == "per-zone" else self._args.zones[:1]
        return [self._gateway(zone, block, table, route) for zone, block in zip(zones, self._blocks.public, strict=False)]

    def _gateway(self, zone: str, block: str, table: ec2.RouteTable, route: ec2.Route) -> ec2.NatGateway:
        what, physical = f"{self._name}-nat-{zone}", f"{self._physical}-nat-{zone}"
        subnet = self._subnet("public", zone, block, table)
        address = ec2.Eip(what, domain="vpc", tags={"Name": physical}, opts=self._child)
        return ec2.NatGateway(
            what,
            subnet_id=subnet.id,
            allocation_id=address.id,
            tags={"Name": physical},
            # Without the way out it would start, and pass nothing.
            opts=ResourceOptions(parent=self, depends_on=[route]),
        )

    def _node_subnets(self, gateways: Sequence[ec2.NatGateway]) -> tuple[dict[str, Output[str]], list[Output[str]]]:
        subnets: dict[str, Output[str]] = {}
        tables: list[Output[str]] = []
        tags = {"kubernetes.io/role/internal-elb": "1", "karpenter.sh/discovery": self._args.cluster_tag}
        for number, (zone, block) in enumerate(zip(self._args.zones, self._blocks.nodes, strict=True)):
            table = self._table(f"nodes-{zone}")
            ec2.Route(
                f"{self._name}-nodes-{zone}",
                route_table_id=table.id,
                destination_cidr_block=ANYWHERE,
                nat_gateway_id=gateways[min(number, len(gateways) - 1)].id,
                opts=self._child,
            )
            subnets[zone] = self._subnet("nodes", zone, block, table, tags).id
            tables.append(table.id)
        return subnets, tables

    def _database_subnets(self) -> list[Output[str]]:
        table = self._table("database")
        zones = zip(self._args.zones, self._blocks.database, strict=True)
        return [self._subnet("database", zone, block, table).id for zone, block in zones]

    def _table(self, what: str) -> ec2.RouteTable:
        tags = {"Name": f"{self._physical}-{what}"}
        return ec2.RouteTable(f"{self._name}-{what}", vpc_id=self._vpc.id, tags=tags, opts=self._child)

    def _subnet(self, what: str, zone: str, block: str, table: ec2.RouteTable, tags: Mapping[str, str] | None = None) -> ec2.Subnet:
        name, physical = f"{self._name}-{what}-{zone}", f"{self._physical}-{what}-{zone}"
        subnet = ec2.Subnet(
            name,
            vpc_id=self._vpc.id,
            availability_zone=zone,
            cidr_block=block,
            map_public_ip_on_launch=False,
            tags={**(tags or {}), "Name": physical},
            opts=self._child,
        )
        ec2.RouteTableAssociation(name, subnet_id=subnet.id, route_table_id=table.id, opts=self._child)
        return subnet

    def _flow_logs(self) -> None:
        name = f"{self._name}-flow-logs"
        args, physical = self._args, f"/ai-infra/{self._args.environment}/flow-logs"
        group = log_group(name, physical, args.logs_key_arn, args.flow_log_days, args.environment, self)
        trust = service_trust("vpc-flow-logs.amazonaws.com", self._args.account)
        role = iam.Role(name, name=f"{self._physical}-flow-logs", assume_role_policy=trust, opts=self._child)
        write = {
            "Sid": "WriteLogs",
            "Effect": "Allow",
            "Action": ["logs:CreateLogStream", "logs:DescribeLogGroups", "logs:DescribeLogStreams", "logs:PutLogEvents"],
            "Resource": [group.arn, Output.concat(group.arn, ":log-stream:*")],
        }
        document = Output.json_dumps({"Version": "2012-10-17", "Statement": [write]})
        policy = iam.RolePolicy(name, name="write-logs", role=role.name, policy=document, opts=self._child)
        ec2.FlowLog(
            name,
            vpc_id=self._vpc.id,
            traffic_type="ALL",
            log_destination_type="cloud-watch-logs",
            log_destination=group.arn,
            iam_role_arn=role.arn,
            max_aggregation_interval=60,
            tags={"Name": f"{self._physical}-flow-logs"},
            opts=ResourceOptions(parent=self, depends_on=[policy]),
        )
