"""What Karpenter needs of AWS: roles, the queue that tells of interruptions, and who may write to it.

Not here: the controller itself and its node pools, which live in the cluster. It manages no instance profiles: the one made here
is named in its EC2NodeClass, so the controller needs no right to write IAM.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pulumi
from pulumi import Input, Output, ResourceOptions
from pulumi_aws import cloudwatch, eks, iam, sqs

from components.trust import service_trust

EVENTS: Final = {
    "spot-interruption": ("aws.ec2", "EC2 Spot Instance Interruption Warning"),
    "rebalance": ("aws.ec2", "EC2 Instance Rebalance Recommendation"),
    "state-change": ("aws.ec2", "EC2 Instance State-change Notification"),
    "health": ("aws.health", "AWS Health Event"),
}
"""Rule → source and detail type of what the controller drains nodes for."""

NODE_POLICIES: Final = {
    "worker": "arn:aws:iam::aws:policy/AmazonEKSWorkerNodePolicy",
    "images": "arn:aws:iam::aws:policy/AmazonEC2ContainerRegistryPullOnly",
}

WIDE: Final = ("ReadOffers", "ReadLists")

MADE: Final = ("fleet", "instance", "launch-template", "network-interface", "spot-instances-request", "volume")
"""EC2 resources that a launch makes; each is tagged as the cluster's when it is made."""


DESCRIBES: Final = (
    "AvailabilityZones",
    "CapacityReservations",
    "Images",
    "InstanceTypeOfferings",
    "InstanceTypes",
    "Instances",
    "LaunchTemplates",
    "SecurityGroups",
    "SpotPriceHistory",
    "Subnets",
)


@dataclass(frozen=True, kw_only=True)
class KarpenterArgs:
    """cluster_tag: the cluster's name as tags spell it, known before the cluster is.

    subnet_ids, security_group_id: where nodes start; disks_key_arn: encrypts their disks.
    """

    environment: str
    account: str
    region: str
    cluster_tag: str
    cluster_name: Input[str]
    cluster_arn: Input[str]
    subnet_ids: Sequence[Input[str]]
    security_group_id: Input[str]
    disks_key_arn: Input[str]


class Karpenter(pulumi.ComponentResource):
    """statements: of the controller's policy, to be given to its workload role; WIDE are on every resource."""

    statements: list[dict[str, Any]]
    queue_name: Output[str]
    node_role_arn: Output[str]
    instance_profile_name: Output[str]

    def __init__(self, name: str, args: KarpenterArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("ai-infra:cluster:Karpenter", name, None, opts)
        self._args, self._name = args, name
        self._child = ResourceOptions(parent=self)
        self._physical = f"ai-infra-{args.environment}-{name}"
        queue = self._queue()
        role, profile = self._node_role()
        eks.AccessEntry(f"{name}-node", cluster_name=args.cluster_name, principal_arn=role.arn, type="EC2_LINUX", opts=self._child)
        self.statements = _statements(args, queue.arn, role.arn, profile.arn)
        self.queue_name = queue.name
        self.node_role_arn = role.arn
        self.instance_profile_name = profile.name
        self.register_outputs({"queue_name": self.queue_name, "instance_profile_name": self.instance_profile_name})

    def _queue(self) -> sqs.Queue:
        # An interruption is of no use after two minutes: the instance is gone.
        queue = sqs.Queue(
            f"{self._name}-queue",
            name=self._physical,
            message_retention_seconds=300,
            sqs_managed_sse_enabled=True,
            opts=self._child,
        )
        rules = [self._rule(what, *event, queue) for what, event in EVENTS.items()]
        policy = Output.json_dumps(_queue_policy(queue.arn, [rule.arn for rule in rules]))
        sqs.QueuePolicy(f"{self._name}-queue", queue_url=queue.url, policy=policy, opts=self._child)
        return queue

    def _rule(self, what: str, source: str, detail: str, queue: sqs.Queue) -> cloudwatch.EventRule:
        rule = cloudwatch.EventRule(
            f"{self._name}-{what}",
            name=f"{self._physical}-{what}",
            description=f"{detail}, for Karpenter",
            event_pattern=json.dumps({"source": [source], "detail-type": [detail]}),
            opts=self._child,
        )
        cloudwatch.EventTarget(f"{self._name}-{what}", rule=rule.name, target_id="queue", arn=queue.arn, opts=self._child)
        return rule

    def _node_role(self) -> tuple[iam.Role, iam.InstanceProfile]:
        trust = service_trust("ec2.amazonaws.com")
        role = iam.Role(f"{self._name}-node", name=f"{self._physical}-node", assume_role_policy=trust, opts=self._child)
        for what, arn in NODE_POLICIES.items():
            iam.RolePolicyAttachment(f"{self._name}-node-{what}", role=role.name, policy_arn=arn, opts=self._child)
        profile = iam.InstanceProfile(f"{self._name}-node", name=f"{self._physical}-node", role=role.name, opts=self._child)
        return role, profile


def _queue_policy(queue_arn: Input[str], rule_arns: Sequence[Input[str]]) -> dict[str, Any]:
    write = {
        "Sid": "RulesWrite",
        "Effect": "Allow",
        "Principal": {"Service": "events.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": queue_arn,
        "Condition": {"ArnEquals": {"aws:SourceArn": list(rule_arns)}},
    }
    plain = {
        "Sid": "TlsOnly",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "sqs:*",
        "Resource": queue_arn,
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    return {"Version": "2012-10-17", "Statement": [write, plain]}


def _statements(args: KarpenterArgs, queue_arn: Input[str], role_arn: Input[str], profile_arn: Input[str]) -> list[dict[str, Any]]:
    """EC2's Describe calls, the price list and the list of profiles know no resources: their statements need a written exception.

    Prices are asked of one of three regions, and IAM has none.
    """
    region = {"StringEquals": {"aws:RequestedRegion": args.region}}
    return [
        _allow("ReadOffers", [f"ec2:Describe{what}" for what in DESCRIBES], "*", region),
        _allow("ReadLists", ["iam:ListInstanceProfiles", "pricing:GetProducts"], "*"),
        *_launches(args),
        *_disks(args),
        _allow("ReadImages", ["ssm:GetParameter"], f"arn:aws:ssm:{args.region}::parameter/aws/service/*"),
        _allow("ReadCluster", ["eks:DescribeCluster"], args.cluster_arn),
        _allow("ReadProfile", ["iam:GetInstanceProfile"], profile_arn),
        _allow("GiveRole", ["iam:PassRole"], role_arn, {"StringEquals": {"iam:PassedToService": "ec2.amazonaws.com"}}),
        _allow("Interruptions", ["sqs:DeleteMessage", "sqs:GetQueueUrl", "sqs:ReceiveMessage"], queue_arn),
    ]


def _launches(args: KarpenterArgs) -> list[dict[str, Any]]:
    """Whatever is made carries the cluster's tag; only what carries it is changed or ended."""
    where = f"arn:aws:ec2:{args.region}:{args.account}"
    owned = f"kubernetes.io/cluster/{args.cluster_tag}"
    asks = {
        "StringEquals": {f"aws:RequestTag/{owned}": "owned", "aws:RequestTag/eks:eks-cluster-name": args.cluster_tag},
        "StringLike": {"aws:RequestTag/karpenter.sh/nodepool": "*"},
    }
    has = {"StringEquals": {f"aws:ResourceTag/{owned}": "owned"}, "StringLike": {"aws:ResourceTag/karpenter.sh/nodepool": "*"}}
    start = ["ec2:CreateFleet", "ec2:RunInstances"]
    made = [f"{where}:{kind}/*" for kind in MADE]
    images = [f"arn:aws:ec2:{args.region}::{kind}/*" for kind in ("image", "snapshot")]
    places = [Output.concat(where, ":subnet/", subnet) for subnet in args.subnet_ids]
    group = Output.concat(where, ":security-group/", args.security_group_id)
    creating = {"ec2:CreateAction": ["CreateFleet", "CreateLaunchTemplate", "RunInstances"]}
    later = {"ForAllValues:StringEquals": {"aws:TagKeys": ["Name", "eks:eks-cluster-name", "karpenter.sh/nodeclaim"]}}
    return [
        _allow("StartFrom", start, [*images, *places, group]),
        _allow("StartFromTemplates", start, f"{where}:launch-template/*", has),
        _allow("Start", [*start, "ec2:CreateLaunchTemplate"], made, asks),
        _allow("TagWhatStarts", ["ec2:CreateTags"], made, {**asks, "StringEquals": {**asks["StringEquals"], **creating}}),
        _allow("TagNodes", ["ec2:CreateTags"], f"{where}:instance/*", {**has, **later}),
        _allow(
            "End",
            ["ec2:DeleteLaunchTemplate", "ec2:TerminateInstances"],
            [f"{where}:instance/*", f"{where}:launch-template/*"],
            has,
        ),
    ]


def _disks(args: KarpenterArgs) -> list[dict[str, Any]]:
    """EC2 uses the key for encrypted disks on behalf of whoever starts the instance."""
    uses = ["kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKeyWithoutPlaintext", "kms:ReEncryptFrom", "kms:ReEncryptTo"]
    via = {"StringEquals": {"kms:ViaService": f"ec2.{args.region}.amazonaws.com"}}
    grants = {**via, "Bool": {"kms:GrantIsForAWSResource": "true"}}
    return [
        _allow("UseDiskKey", uses, args.disks_key_arn, via),
        _allow("GrantDiskKey", ["kms:CreateGrant"], args.disks_key_arn, grants),
    ]


def _allow(sid: str, actions: Sequence[str], resource: Any, condition: Mapping[str, Any] | None = None) -> dict[str, Any]:
    statement: dict[str, Any] = {"Sid": sid, "Effect": "Allow", "Action": list(actions), "Resource": resource}
    return statement if condition is None else statement | {"Condition": dict(condition)}
