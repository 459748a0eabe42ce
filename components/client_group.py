"""A security group that one other group reaches, on one port, and that reaches nobody. The rule on the other side is made too."""

from dataclasses import dataclass

from pulumi import Input, ResourceOptions
from pulumi_aws import ec2, vpc


@dataclass(frozen=True, kw_only=True)
class Reached:
    """protocol: its name, for whoever reads the rules; client_security_group_id: the only ones that connect."""

    vpc_id: Input[str]
    client_security_group_id: Input[str]
    port: int
    protocol: str


def client_group(name: str, physical: str, args: Reached, opts: ResourceOptions) -> ec2.SecurityGroup:
    """physical: the group's name in AWS."""
    group = ec2.SecurityGroup(
        name,
        name=physical,
        description=f"{args.protocol}, from the nodes alone",
        vpc_id=args.vpc_id,
        tags={"Name": physical},
        opts=opts,
    )
    client = args.client_security_group_id
    for rule, of, other, kind in (
        ("in", group.id, client, vpc.SecurityGroupIngressRule),
        ("out", client, group.id, vpc.SecurityGroupEgressRule),
    ):
        kind(
            f"{name}-{rule}",
            security_group_id=of,
            referenced_security_group_id=other,
            ip_protocol="tcp",
            from_port=args.port,
            to_port=args.port,
            description=f"{args.protocol} from the nodes",
            opts=opts,
        )
    return group
