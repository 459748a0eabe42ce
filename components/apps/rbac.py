"""What our service accounts may do at the API server: roles that the services' own back ends state, bound to accounts, each in one
namespace.

An account that is bound to nothing may do nothing. Not here: the accounts, which come with their workloads.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import pulumi
from pulumi import Input, ResourceOptions
from pulumi_kubernetes.core.v1 import ServiceAccount
from pulumi_kubernetes.meta.v1 import ObjectMetaArgs
from pulumi_kubernetes.rbac.v1 import ClusterRole, PolicyRuleArgs, RoleBinding, RoleRefArgs, SubjectArgs

from components.trust import takes
from services.core.kube import Object

GROUP: Final = "rbac.authorization.k8s.io"


@dataclass(frozen=True, kw_only=True)
class Account:
    """A service account. role_arn: of AWS, which its pods take."""

    namespace: str
    name: str
    role_arn: Input[str] | None = None


@dataclass(frozen=True, kw_only=True)
class Grant:
    """role: a ClusterRole; account: who gets it; namespace: where, and nowhere else."""

    role: Object
    account: Account
    namespace: str


@dataclass(frozen=True, kw_only=True)
class RbacArgs:
    """accounts: those whose pods others start (KServe, KubeRay), made here without a token."""

    accounts: Sequence[Account]
    grants: Sequence[Grant]

    def __post_init__(self) -> None:
        wild = sorted({grant.role["metadata"]["name"] for grant in self.grants for rule in grant.role["rules"] if _wild(rule)})
        if wild:
            raise ValueError(f"roles {', '.join(wild)} have a wildcard: name groups, resources and verbs")


class Rbac(pulumi.ComponentResource):
    """ClusterRoles, each bound in a namespace."""

    def __init__(self, name: str, args: RbacArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("ai-infra:apps:Rbac", name, None, opts)
        self._child = ResourceOptions(parent=self)
        for account in args.accounts:
            role = None if account.role_arn is None else takes(account.role_arn)
            metadata = ObjectMetaArgs(name=account.name, namespace=account.namespace, annotations=role)
            ServiceAccount(account.name, metadata=metadata, automount_service_account_token=False, opts=self._child)
        for role in {grant.role["metadata"]["name"]: grant.role for grant in args.grants}.values():
            self._role(role)
        for grant in args.grants:
            self._bind(grant)
        self.register_outputs({})

    def _role(self, role: Object) -> None:
        meta = role["metadata"]
        metadata = ObjectMetaArgs(name=meta["name"], labels=meta.get("labels"))
        ClusterRole(meta["name"], metadata=metadata, rules=[_rule(rule) for rule in role["rules"]], opts=self._child)

    def _bind(self, grant: Grant) -> None:
        role, account = grant.role["metadata"]["name"], grant.account
        reference = RoleRefArgs(api_group=GROUP, kind="ClusterRole", name=role)
        subjects = [SubjectArgs(kind="ServiceAccount", name=account.name, namespace=account.namespace)]
        metadata = ObjectMetaArgs(name=role, namespace=grant.namespace)
        RoleBinding(f"{role}-{grant.namespace}", metadata=metadata, role_ref=reference, subjects=subjects, opts=self._child)


def _rule(rule: dict[str, Any]) -> PolicyRuleArgs:
    return PolicyRuleArgs(
        api_groups=rule["apiGroups"], resources=rule["resources"], verbs=rule["verbs"], resource_names=rule.get("resourceNames")
    )


def _wild(rule: dict[str, Any]) -> bool:
    return any("*" in rule[field] for field in ("apiGroups", "resources", "verbs"))
