"""The IAM role of one workload, for one service account of the cluster.

Pods get it through EKS Pod Identity; where that cannot run, the same role is taken through IRSA. It grants what it is given.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
from pulumi import Input, Output, ResourceOptions
from pulumi_aws import eks, iam

TAG = "aws:RequestTag"


@dataclass(frozen=True, kw_only=True)
class IdentityArgs:
    """statements: of the role's policy, with a Sid each; oidc_issuer: without https://.

    wide: Sids on every resource, for actions that know none; each has a written exception in stacks/exceptions.yaml.
    """

    environment: str
    cluster_name: Input[str]
    cluster_arn: Input[str]
    oidc_provider_arn: Input[str]
    oidc_issuer: Input[str]
    namespace: str
    service_account: str
    statements: Sequence[Mapping[str, Any]]
    wide: Sequence[str] = ()

    def __post_init__(self) -> None:
        if not self.statements:
            raise ValueError(f"{self.service_account} may do nothing: give it statements, or no role")
        for statement in self.statements:
            _refuse_wildcards(self.service_account, statement, self.wide)


class Identity(pulumi.ComponentResource):
    """Role, policy and association. A pod of another service account, namespace or cluster cannot take the role."""

    role_arn: Output[str]

    def __init__(self, name: str, args: IdentityArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("ai-infra:identity:Identity", name, None, opts)
        child = ResourceOptions(parent=self)
        role = iam.Role(
            name, name=f"ai-infra-{args.environment}-{name}", assume_role_policy=_trust(args), max_session_duration=3600, opts=child
        )
        policy = Output.json_dumps({"Version": "2012-10-17", "Statement": list(args.statements)})
        iam.RolePolicy(name, name="work", role=role.name, policy=policy, opts=child)
        eks.PodIdentityAssociation(
            name,
            cluster_name=args.cluster_name,
            namespace=args.namespace,
            service_account=args.service_account,
            role_arn=role.arn,
            opts=child,
        )
        self.role_arn = role.arn
        self.register_outputs({"role_arn": self.role_arn})


def _refuse_wildcards(who: str, statement: Mapping[str, Any], wide: Sequence[str]) -> None:
    if statement["Effect"] != "Allow":
        return
    if not {"Sid", "Action", "Resource"} <= statement.keys():
        raise ValueError(f"a statement of {who} lacks Sid, Action or Resource: name what it may do, and on what")
    actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
    resources = statement["Resource"] if isinstance(statement["Resource"], list) else [statement["Resource"]]
    if any("*" in action or "?" in action for action in actions) or ("*" in resources and statement["Sid"] not in wide):
        raise ValueError(f"statement {statement['Sid']} of {who} has a wildcard: name its actions and resources")


def _trust(args: IdentityArgs) -> Output[str]:
    def document(values: Mapping[str, str]) -> dict[str, Any]:
        asks = {
            f"{TAG}/eks-cluster-arn": values["cluster"],
            f"{TAG}/kubernetes-namespace": args.namespace,
            f"{TAG}/kubernetes-service-account": args.service_account,
        }
        token = {
            f"{values['issuer']}:aud": "sts.amazonaws.com",
            f"{values['issuer']}:sub": f"system:serviceaccount:{args.namespace}:{args.service_account}",
        }
        pod_identity = {
            "Sid": "PodIdentity",
            "Effect": "Allow",
            "Principal": {"Service": "pods.eks.amazonaws.com"},
            "Action": ["sts:AssumeRole", "sts:TagSession"],
            "Condition": {"StringEquals": asks},
        }
        irsa = {
            "Sid": "Irsa",
            "Effect": "Allow",
            "Principal": {"Federated": values["provider"]},
            "Action": "sts:AssumeRoleWithWebIdentity",
            "Condition": {"StringEquals": token},
        }
        return {"Version": "2012-10-17", "Statement": [pod_identity, irsa]}

    values = Output.all(cluster=args.cluster_arn, issuer=args.oidc_issuer, provider=args.oidc_provider_arn)
    return Output.json_dumps(values.apply(document))
