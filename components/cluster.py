"""The EKS cluster's control plane, its security groups and its administrators.

Not here: nodes (`node_group`, `gpu_pool`) and add-ons (`addons`); the cluster starts with none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import pulumi
from pulumi import Input, Output, ResourceOptions
from pulumi_aws import ec2, eks, iam, vpc

from components.log_group import log_group
from components.trust import service_trust

LOG_TYPES: Final = ("api", "audit", "authenticator", "controllerManager", "scheduler")
WEBHOOK_PORTS: Final = (8443, 9443)
SERVICES: Final = "172.20.0.0/16"
"""Addresses of Services. What EKS would choose itself for a VPC in 10.0.0.0/8; network policies name the first one, the API's."""
ADMIN_POLICY: Final = "arn:aws:eks::aws:cluster-access-policy/AmazonEKSClusterAdminPolicy"


@dataclass(frozen=True, kw_only=True)
class ClusterArgs:
    """version: Kubernetes minor, as 1.32; secrets_key_arn: encrypts Secrets in etcd; logs_key_arn: the log group.

    admin_role_arns: IAM roles that are administrators of the cluster.
    """

    environment: str
    account: str
    version: str
    vpc_id: Input[str]
    subnet_ids: Sequence[Input[str]]
    secrets_key_arn: Input[str]
    logs_key_arn: Input[str]
    log_days: int
    admin_role_arns: Sequence[str]

    def __post_init__(self) -> None:
        if len(self.subnet_ids) < 2:
            raise ValueError(f"subnet_ids must be of two zones or more, got {len(self.subnet_ids)}: EKS wants two")
        if not self.admin_role_arns:
            raise ValueError("admin_role_arns is empty: whoever makes the cluster is no administrator, so name a role")


class Cluster(pulumi.ComponentResource):
    """Control plane behind a private endpoint; who may use it is said by access entries alone.

    node_security_group_id: for all nodes.
    """

    cluster_name: Output[str]
    cluster_arn: Output[str]
    endpoint: Output[str]
    certificate_authority: Output[str]
    oidc_provider_arn: Output[str]
    oidc_issuer: Output[str]
    """Without https://, as conditions of trust policies name it."""
    node_security_group_id: Output[str]

    def __init__(self, name: str, args: ClusterArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("ai-infra:cluster:Cluster", name, None, opts)
        self._args, self._name = args, name
        self._child = ResourceOptions(parent=self)
        self.physical_name = f"ai-infra-{args.environment}"
        groups = self._security_groups()
        cluster = self._control_plane(groups[0])
        provider = iam.OpenIdConnectProvider(
            f"{name}-oidc", url=cluster.identities[0].oidcs[0].issuer, client_id_lists=["sts.amazonaws.com"], opts=self._child
        )
        self._admins(cluster)
        self.cluster_name = cluster.name
        self.cluster_arn = cluster.arn
        self.endpoint = cluster.endpoint
        self.certificate_authority = cluster.certificate_authorities[0].data
        self.oidc_provider_arn = provider.arn
        # The provider answers with the scheme at first and without it later; conditions name the issuer without.
        self.oidc_issuer = provider.url.apply(lambda url: url.removeprefix("https://"))
        self.node_security_group_id = groups[1].id
        self.register_outputs({"cluster_name": self.cluster_name, "endpoint": self.endpoint})

    def _control_plane(self, group: ec2.SecurityGroup) -> eks.Cluster:
        args, name = self._args, self._name
        role = iam.Role(
            f"{name}-role",
            name=f"{self.physical_name}-cluster",
            assume_role_policy=service_trust("eks.amazonaws.com", args.account),
            opts=self._child,
        )
        policy = iam.RolePolicyAttachment(
            f"{name}-policy", role=role.name, policy_arn="arn:aws:iam::aws:policy/AmazonEKSClusterPolicy", opts=self._child
        )
        group_name = f"/aws/eks/{self.physical_name}/cluster"
        logs = log_group(f"{name}-logs", group_name, args.logs_key_arn, args.log_days, args.environment, self)
        return eks.Cluster(
            name,
            name=self.physical_name,
            version=args.version,
            role_arn=role.arn,
            bootstrap_self_managed_addons=False,
            enabled_cluster_log_types=list(LOG_TYPES),
            access_config=eks.ClusterAccessConfigArgs(authentication_mode="API", bootstrap_cluster_creator_admin_permissions=False),
            encryption_config=eks.ClusterEncryptionConfigArgs(
                provider=eks.ClusterEncryptionConfigProviderArgs(key_arn=args.secrets_key_arn), resources=["secrets"]
            ),
            kubernetes_network_config=eks.ClusterKubernetesNetworkConfigArgs(ip_family="ipv4", service_ipv4_cidr=SERVICES),
            upgrade_policy=eks.ClusterUpgradePolicyArgs(support_type="STANDARD"),
            vpc_config=eks.ClusterVpcConfigArgs(
                subnet_ids=list(args.subnet_ids),
                security_group_ids=[group.id],
                endpoint_private_access=True,
                endpoint_public_access=False,
            ),
            opts=ResourceOptions(parent=self, depends_on=[policy, logs], protect=args.environment == "prod"),
        )

    def _security_groups(self) -> tuple[ec2.SecurityGroup, ec2.SecurityGroup]:
        """Of the control plane and of nodes. Pods have their node's group."""
        plane = self._group("control-plane", "EKS control plane")
        # Kubernetes opens the ports of load balancers in the one group of a node that has this tag. EFA nodes have two groups.
        nodes = self._group("nodes", "EKS nodes and their pods", {f"kubernetes.io/cluster/{self.physical_name}": "owned"})
        self._allow("api", nodes, plane, 443, "API of the cluster")
        self._allow("kubelet", plane, nodes, 10250, "kubelets: logs, exec, metrics")
        self._allow("metrics", plane, nodes, 10251, "metrics-server, behind the API: autoscalers ask it")
        # Unreachable, an API hangs the discovery of all APIs, and with it the end of every namespace.
        self._allow("visibility", plane, nodes, 8082, "Kueue's visibility server, behind the API")
        for port in WEBHOOK_PORTS:
            self._allow(f"webhooks-{port}", plane, nodes, port, "admission webhooks")
        self._allow("dns-udp", nodes, nodes, 53, "CoreDNS", protocol="udp")
        self._allow("dns-tcp", nodes, nodes, 53, "CoreDNS")
        self._allow("pods", nodes, nodes, 1024, "pods to pods; network policies say which", last=65535)
        vpc.SecurityGroupEgressRule(
            f"{self._name}-https-out",
            security_group_id=nodes.id,
            description="AWS APIs and registries over TLS",
            cidr_ipv4="0.0.0.0/0",
            ip_protocol="tcp",
            from_port=443,
            to_port=443,
            opts=self._child,
        )
        return plane, nodes

    def _group(self, what: str, description: str, tags: Mapping[str, str] | None = None) -> ec2.SecurityGroup:
        physical = f"{self.physical_name}-{what}"
        return ec2.SecurityGroup(
            f"{self._name}-{what}",
            name=physical,
            description=description,
            vpc_id=self._args.vpc_id,
            tags={**(tags or {}), "Name": physical},
            opts=self._child,
        )

    def _allow(
        self,
        what: str,
        source: ec2.SecurityGroup,
        target: ec2.SecurityGroup,
        port: int,
        description: str,
        *,
        last: int | None = None,
        protocol: str = "tcp",
    ) -> None:
        """One flow: out of the source and into the target."""
        vpc.SecurityGroupEgressRule(
            f"{self._name}-{what}-out",
            security_group_id=source.id,
            referenced_security_group_id=target.id,
            ip_protocol=protocol,
            from_port=port,
            to_port=last or port,
            description=description,
            opts=self._child,
        )
        vpc.SecurityGroupIngressRule(
            f"{self._name}-{what}-in",
            security_group_id=target.id,
            referenced_security_group_id=source.id,
            ip_protocol=protocol,
            from_port=port,
            to_port=last or port,
            description=description,
            opts=self._child,
        )

    def _admins(self, cluster: eks.Cluster) -> None:
        for arn in self._args.admin_role_arns:
            admin = f"{self._name}-admin-{arn.rsplit('/', 1)[-1]}"
            entry = eks.AccessEntry(admin, cluster_name=cluster.name, principal_arn=arn, opts=self._child)
            eks.AccessPolicyAssociation(
                admin,
                cluster_name=cluster.name,
                principal_arn=entry.principal_arn,
                policy_arn=ADMIN_POLICY,
                access_scope=eks.AccessPolicyAssociationAccessScopeArgs(type="cluster"),
                opts=self._child,
            )
