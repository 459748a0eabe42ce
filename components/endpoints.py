"""VPC endpoints: AWS's services without a way through the internet, and for data only with this account's identities.

What has no policy here only steers AWS, and IAM policies say who may. Not here: the network.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pulumi
from pulumi import Input, Output, ResourceOptions
from pulumi_aws import ec2, vpc

from components.key_policy import CHANGE, END, LOOK, by
from components.store_names import store_name

INTERFACES: Final = (
    "autoscaling",
    "ec2",
    "ecr.api",
    "ecr.dkr",
    "eks",
    "eks-auth",
    "elasticloadbalancing",
    "kms",
    "logs",
    "secretsmanager",
    "sqs",
    "ssm",
    "sts",
)

PULL: Final = ("ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetAuthorizationToken", "ecr:GetDownloadUrlForLayer")
PUSH: Final = ("ecr:CompleteLayerUpload", "ecr:InitiateLayerUpload", "ecr:PutImage", "ecr:UploadLayerPart")
DATA: Final[Mapping[str, Sequence[str]]] = {
    "ecr.api": (*PULL, *PUSH),
    "ecr.dkr": (*PULL, *PUSH),
    "kms": (
        "kms:CreateGrant",
        "kms:Decrypt",
        "kms:DescribeKey",
        "kms:Encrypt",
        "kms:GenerateDataKey",
        "kms:GenerateDataKeyWithoutPlaintext",
        "kms:GetPublicKey",
        "kms:ReEncryptFrom",
        "kms:ReEncryptTo",
        "kms:Sign",
        "kms:Verify",
    ),
    "secretsmanager": ("secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue"),
    "sqs": ("sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:GetQueueUrl", "sqs:ReceiveMessage", "sqs:SendMessage"),
}
"""Service → what workloads call of it through the endpoint. Anything else, and anybody else's identity, is refused there."""

OBJECTS: Final = (
    "s3:AbortMultipartUpload",
    "s3:GetBucketLocation",
    "s3:GetObject",
    "s3:GetObjectAttributes",
    "s3:GetObjectLegalHold",
    "s3:GetObjectRetention",
    "s3:GetObjectVersion",
    "s3:ListBucket",
    "s3:ListBucketMultipartUploads",
    "s3:ListBucketVersions",
    "s3:ListMultipartUploadParts",
    "s3:PutObject",
    "s3:PutObjectRetention",
)

DEPLOY: Final[Mapping[str, Sequence[str]]] = {
    "kms": ("kms:CreateKey", "kms:RetireGrant", *LOOK, *CHANGE, *END),
    "sqs": (
        "sqs:CreateQueue",
        "sqs:DeleteQueue",
        "sqs:ListQueueTags",
        "sqs:SetQueueAttributes",
        "sqs:TagQueue",
        "sqs:UntagQueue",
    ),
}
"""Service → what the ground's program calls of it besides: private DNS leads a deployment from within the network here, too."""

BUCKETS: Final = (
    "s3:CreateBucket",
    "s3:DeleteBucket",
    "s3:DeleteBucketPolicy",
    "s3:GetAccelerateConfiguration",
    "s3:GetBucketAcl",
    "s3:GetBucketCORS",
    "s3:GetBucketLogging",
    "s3:GetBucketObjectLockConfiguration",
    "s3:GetBucketOwnershipControls",
    "s3:GetBucketPolicy",
    "s3:GetBucketPublicAccessBlock",
    "s3:GetBucketRequestPayment",
    "s3:GetBucketTagging",
    "s3:GetBucketVersioning",
    "s3:GetBucketWebsite",
    "s3:GetEncryptionConfiguration",
    "s3:GetLifecycleConfiguration",
    "s3:GetReplicationConfiguration",
    "s3:PutBucketLogging",
    "s3:PutBucketObjectLockConfiguration",
    "s3:PutBucketOwnershipControls",
    "s3:PutBucketPolicy",
    "s3:PutBucketPublicAccessBlock",
    "s3:PutBucketTagging",
    "s3:PutBucketVersioning",
    "s3:PutEncryptionConfiguration",
    "s3:PutLifecycleConfiguration",
    "s3:PutReplicationConfiguration",
)
"""What the provider calls to make a bucket, look at all of it, change it and end it."""


@dataclass(frozen=True, kw_only=True)
class EndpointsArgs:
    """subnet_ids: one or more, of different zones; client_blocks: CIDR blocks that reach the interfaces.

    deployer_role_arns: who may run Pulumi from within the network. IAM policies still say what they may do.
    """

    environment: str
    account: str
    region: str
    vpc_id: Input[str]
    subnet_ids: Sequence[Input[str]]
    client_blocks: Sequence[str]
    route_table_ids: Sequence[Input[str]]
    deployer_role_arns: Sequence[str]

    def __post_init__(self) -> None:
        if not self.subnet_ids or not self.client_blocks:
            raise ValueError("subnet_ids and client_blocks must not be empty: nobody would reach the endpoints")
        if not self.deployer_role_arns:
            raise ValueError("deployer_role_arns is empty: nobody could run Pulumi from within the network, so name a role")
        if "0.0.0.0/0" in self.client_blocks:
            raise ValueError("client_blocks has 0.0.0.0/0: name the blocks of the private subnets")


class Endpoints(pulumi.ComponentResource):
    """S3 by route; the others by an address in each subnet, on port 443."""

    def __init__(self, name: str, args: EndpointsArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("ai-infra:network:Endpoints", name, None, opts)
        self._args, self._name = args, name
        self._child = ResourceOptions(parent=self)
        self._physical = f"ai-infra-{args.environment}"
        ec2.VpcEndpoint(
            f"{name}-s3",
            vpc_id=args.vpc_id,
            service_name=f"com.amazonaws.{args.region}.s3",
            vpc_endpoint_type="Gateway",
            route_table_ids=list(args.route_table_ids),
            policy=_document(_objects(args)),
            tags={"Name": f"{self._physical}-s3"},
            opts=self._child,
        )
        group = self._security_group()
        for service in INTERFACES:
            self._interface(service, group)
        self.register_outputs({})

    def _interface(self, service: str, group: ec2.SecurityGroup) -> None:
        ec2.VpcEndpoint(
            f"{self._name}-{service.replace('.', '-')}",
            vpc_id=self._args.vpc_id,
            service_name=f"com.amazonaws.{self._args.region}.{service}",
            vpc_endpoint_type="Interface",
            subnet_ids=list(self._args.subnet_ids),
            security_group_ids=[group.id],
            private_dns_enabled=True,
            policy=_interface_policy(service, self._args),
            tags={"Name": f"{self._physical}-{service}"},
            opts=self._child,
        )

    def _security_group(self) -> ec2.SecurityGroup:
        physical = f"{self._physical}-endpoints"
        group = ec2.SecurityGroup(
            self._name,
            name=physical,
            description="Endpoints of AWS services, for the private subnets",
            vpc_id=self._args.vpc_id,
            tags={"Name": physical},
            opts=self._child,
        )
        for number, block in enumerate(self._args.client_blocks, 1):
            vpc.SecurityGroupIngressRule(
                f"{self._name}-in-{number}",
                security_group_id=group.id,
                cidr_ipv4=block,
                ip_protocol="tcp",
                from_port=443,
                to_port=443,
                description="AWS APIs over TLS",
                opts=self._child,
            )
        return group


def _interface_policy(service: str, args: EndpointsArgs) -> Output[str] | None:
    if service == "sts":
        return _document(_tokens(args))
    if service not in DATA:
        return None
    data = _allow("OurIdentities", DATA[service], "*", {"StringEquals": {"aws:PrincipalAccount": args.account}})
    deploying = [_allow("Deployers", DEPLOY[service], "*", by(args.deployer_role_arns))] if service in DEPLOY else []
    return _document([data, *deploying])


def _objects(args: EndpointsArgs) -> list[dict[str, Any]]:
    ours = {"StringEquals": {"aws:PrincipalAccount": args.account, "aws:ResourceAccount": args.account}}
    # ECR answers with an address in a bucket of its own, signed by an identity of its own.
    layers = f"arn:aws:s3:::prod-{args.region}-starport-layer-bucket/*"
    # registry.k8s.io sends nodes in AWS to its bucket of the region, without any identity. It promises no names: a mirror of ours
    # (ECR's pull-through cache) would be the lasting way.
    kubernetes = f"arn:aws:s3:::prod-registry-k8s-io-{args.region}/*"
    inside = {"StringEquals": {"aws:SourceVpc": args.vpc_id}}
    # Pulumi gives its lock back by deleting it.
    state = f"arn:aws:s3:::ai-infra-state-{args.account}/{args.environment}/*"
    # No aws:ResourceAccount: a bucket that is not there yet has none.
    stores = f"arn:aws:s3:::{store_name(args.environment, args.account, '*')}"
    return [
        _allow("OurIdentities", OBJECTS, "*", ours),
        _allow("ImageLayers", ["s3:GetObject"], layers, inside),
        _allow("KubernetesImages", ["s3:GetObject"], kubernetes, inside),
        _allow("DeployersState", ["s3:DeleteObject"], state, by(args.deployer_role_arns)),
        _allow("DeployersStores", BUCKETS, stores, by(args.deployer_role_arns)),
    ]


def _tokens(args: EndpointsArgs) -> list[dict[str, Any]]:
    """A web identity asks before it is an identity of the account, so the role is what is limited."""
    ours = {"StringEquals": {"aws:PrincipalAccount": args.account}}
    inside = {"StringEquals": {"aws:SourceVpc": args.vpc_id}}
    roles = f"arn:aws:iam::{args.account}:role/ai-infra-{args.environment}-*"
    return [
        _allow("OurIdentities", ["sts:AssumeRole", "sts:GetCallerIdentity", "sts:TagSession"], "*", ours),
        _allow("OurWorkloads", ["sts:AssumeRoleWithWebIdentity"], roles, inside),
    ]


def _document(statements: Sequence[Mapping[str, Any]]) -> Output[str]:
    return Output.json_dumps({"Version": "2012-10-17", "Statement": list(statements)})


def _allow(sid: str, actions: Sequence[str], resource: str, condition: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "Sid": sid,
        "Effect": "Allow",
        "Principal": "*",
        "Action": list(actions),
        "Resource": resource,
        "Condition": condition,
    }
