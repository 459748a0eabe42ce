"""The IAM role of one workload, for one service account of the cluster.

Pods get it through EKS Pod Identity, or, where that cannot run, through IRSA: the role admits both. It grants what it is given.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
from pulumi import Input, Output, ResourceOptions
from pulumi_aws import eks, iam

from components.trust import ClusterTrust, pod_trust, role_name


@dataclass(frozen=True, kw_only=True)
class IdentityArgs:
    """statements: of the role's policy, with a Sid each; associated: by Pod Identity, else pods take it by IRSA.

    wide: Sids on every resource, for actions that know none; each has a written exception in stacks/exceptions.yaml.
    """

    environment: str
    cluster_name: Input[str]
    trust: ClusterTrust
    associated: bool
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
    """Role and policy, with its association. A pod of another service account, namespace or cluster cannot take the role."""

    role_arn: Output[str]

    def __init__(self, name: str, args: IdentityArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("ai-infra:identity:Identity", name, None, opts)
        child = ResourceOptions(parent=self)
        role = iam.Role(
            name,
            name=role_name(args.environment, name),
            assume_role_policy=pod_trust(args.trust, args.namespace, args.service_account),
            max_session_duration=3600,
            opts=child,
        )
        policy = Output.json_dumps({"Version": "2012-10-17", "Statement": list(args.statements)})
        iam.RolePolicy(name, name="work", role=role.name, policy=policy, opts=child)
        if args.associated:
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
