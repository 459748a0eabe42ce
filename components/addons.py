"""EKS add-ons of pinned versions, each with the IAM role of its service account where it needs one.

Two sets, for the order matters: NETWORK before any node, WORKLOAD after the first node group. The stack program keeps the order.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import pulumi
from pulumi import Input, Output, ResourceOptions
from pulumi_aws import eks, iam

from components.trust import ClusterTrust, pod_trust, role_name

AGENT: Final = "eks-pod-identity-agent"
"""Of Pod Identity: without it pods take their roles by IRSA."""

NETWORK: Final = (AGENT, "kube-proxy", "vpc-cni")
"""Daemons: active without a node, and a node is not ready without them."""

WORKLOAD: Final = ("coredns", "aws-ebs-csi-driver", "aws-efs-csi-driver", "metrics-server")
"""Deployments: without a node they would not become active, and time out."""

POLICIES: Final = {
    "vpc-cni": ("aws-node", "arn:aws:iam::aws:policy/AmazonEKS_CNI_Policy"),
    "aws-ebs-csi-driver": ("ebs-csi-controller-sa", "arn:aws:iam::aws:policy/service-role/AmazonEBSCSIDriverPolicy"),
}
"""Add-on → its service account in kube-system, and the policy that AWS wrote for it.

The driver of EFS has none: it mounts what is there, and may make nothing.
"""

SETTINGS: Final = {
    # Without it the API server takes network policies, and nobody holds to them.
    "vpc-cni": {"enableNetworkPolicy": "true"},
}
"""Add-on → what it is told beyond its defaults."""


@dataclass(frozen=True, kw_only=True)
class AddonsArgs:
    """names: of NETWORK or WORKLOAD; versions: add-on → version as v1.11.4-eksbuild.2; disks_key_arn: encrypts claimed volumes.

    associated: roles by Pod Identity, else by IRSA, and then its agent is left out.
    """

    environment: str
    cluster_name: Input[str]
    trust: ClusterTrust
    associated: bool
    names: Sequence[str]
    versions: Mapping[str, str]
    disks_key_arn: Input[str]

    def __post_init__(self) -> None:
        missing = [name for name in self.names if name not in self.versions]
        if missing:
            raise ValueError(f"versions lacks {', '.join(missing)}: pin a version of each add-on")


class Addons(pulumi.ComponentResource):
    """A set of add-ons. What people changed in their settings survives an update."""

    def __init__(self, name: str, args: AddonsArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("ai-infra:cluster:Addons", name, None, opts)
        self._args = args
        for addon in args.names:
            if args.associated or addon != AGENT:
                self._addon(addon)
        self.register_outputs({})

    def _addon(self, addon: str) -> None:
        role_arn = self._role(addon).arn if addon in POLICIES else None
        associations = (
            [eks.AddonPodIdentityAssociationArgs(role_arn=role_arn, service_account=POLICIES[addon][0])]
            if role_arn is not None and self._args.associated
            else None
        )
        eks.Addon(
            addon,
            cluster_name=self._args.cluster_name,
            addon_name=addon,
            addon_version=self._args.versions[addon],
            pod_identity_associations=associations,
            service_account_role_arn=role_arn if associations is None else None,
            configuration_values=json.dumps(SETTINGS[addon]) if addon in SETTINGS else None,
            resolve_conflicts_on_create="OVERWRITE",
            resolve_conflicts_on_update="PRESERVE",
            opts=ResourceOptions(parent=self),
        )

    def _role(self, addon: str) -> iam.Role:
        account, policy = POLICIES[addon]
        child = ResourceOptions(parent=self)
        role = iam.Role(
            f"{addon}-role",
            name=role_name(self._args.environment, addon),
            assume_role_policy=pod_trust(self._args.trust, "kube-system", account),
            opts=child,
        )
        iam.RolePolicyAttachment(f"{addon}-policy", role=role.name, policy_arn=policy, opts=child)
        if addon == "aws-ebs-csi-driver":
            disk_key = _disk_key(self._args.disks_key_arn)
            iam.RolePolicy(f"{addon}-disk-key", name="disk-key", role=role.name, policy=disk_key, opts=child)
        return role


def _disk_key(key_arn: Input[str]) -> Output[str]:
    """The driver asks EC2 for encrypted volumes; EC2 uses the key for it, by a grant."""
    use = {
        "Sid": "UseDiskKey",
        "Effect": "Allow",
        "Action": ["kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKeyWithoutPlaintext", "kms:ReEncryptFrom", "kms:ReEncryptTo"],
        "Resource": key_arn,
    }
    grant = {
        "Sid": "GrantDiskKey",
        "Effect": "Allow",
        "Action": "kms:CreateGrant",
        "Resource": key_arn,
        "Condition": {"Bool": {"kms:GrantIsForAWSResource": "true"}},
    }
    return Output.json_dumps({"Version": "2012-10-17", "Statement": [use, grant]})
