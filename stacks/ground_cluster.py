"""The cluster of an environment with its nodes, joined in the order in which each can become ready."""

from dataclasses import dataclass

from pulumi import Output, ResourceOptions

from components.addons import NETWORK, WORKLOAD, Addons, AddonsArgs
from components.cluster import Cluster, ClusterArgs
from components.gpu_pool import GpuPool, GpuPoolArgs
from components.identity import Identity, IdentityArgs
from components.karpenter import WIDE, Karpenter, KarpenterArgs
from components.network import Network
from components.node_group import NodeGroup, NodeGroupArgs
from components.trust import ClusterTrust
from stacks.config import GroundStack
from stacks.config_cluster import GpuPool as PoolConfig
from stacks.ground_keys import Keys
from stacks.namespaces import KARPENTER


@dataclass(frozen=True)
class Made:
    """controller: role of Karpenter's controller."""

    cluster: Cluster
    karpenter: Karpenter
    controller: Output[str]


def cluster(config: GroundStack, network: Network, keys: Keys, opts: ResourceOptions) -> Made:
    wanted = config.ground.cluster
    made = Cluster(
        "cluster",
        ClusterArgs(
            environment=config.environment,
            account=config.account,
            version=wanted.version,
            vpc_id=network.vpc_id,
            subnet_ids=list(network.node_subnet_ids.values()),
            secrets_key_arn=keys.secrets,
            logs_key_arn=keys.logs,
            log_days=wanted.log_days,
            admin_role_arns=wanted.admin_role_arns,
        ),
        opts,
    )
    # A node is not ready without the network's add-ons, and the other add-ons are not without a node.
    daemons = _addons("network-addons", NETWORK, config, made, keys, opts)
    core = _core(config, network, keys, made, _after(opts, daemons))
    _addons("workload-addons", WORKLOAD, config, made, keys, _after(opts, core))
    for pool in wanted.gpu_pools:
        _pool(config, pool, network, keys, made, core, _after(opts, core))
    karpenter, controller = _karpenter(config, network, keys, made, opts)
    return Made(made, karpenter, controller)


def identity_args(
    config: GroundStack,
    made: Cluster,
    *,
    namespace: str,
    account: str,
    statements: list[dict[str, object]],
    wide: tuple[str, ...] = (),
) -> IdentityArgs:
    """wide: see IdentityArgs."""
    return IdentityArgs(
        environment=config.environment,
        cluster_name=made.cluster_name,
        trust=_trust(made),
        associated=_associated(config),
        namespace=namespace,
        service_account=account,
        statements=statements,
        wide=wide,
    )


def _trust(made: Cluster) -> ClusterTrust:
    return ClusterTrust(cluster_arn=made.cluster_arn, oidc_provider_arn=made.oidc_provider_arn, oidc_issuer=made.oidc_issuer)


def _associated(config: GroundStack) -> bool:
    return config.ground.cluster.workload_identity == "pod-identity"


def _after(opts: ResourceOptions, first: Addons | NodeGroup) -> ResourceOptions:
    return ResourceOptions.merge(opts, ResourceOptions(depends_on=[first]))


def _addons(name: str, names: tuple[str, ...], config: GroundStack, made: Cluster, keys: Keys, opts: ResourceOptions) -> Addons:
    args = AddonsArgs(
        environment=config.environment,
        cluster_name=made.cluster_name,
        trust=_trust(made),
        associated=_associated(config),
        names=names,
        versions=config.ground.cluster.addons,
        disks_key_arn=keys.disks,
    )
    return Addons(name, args, opts)


def _core(config: GroundStack, network: Network, keys: Keys, made: Cluster, opts: ResourceOptions) -> NodeGroup:
    core = config.ground.cluster.core
    args = NodeGroupArgs(
        environment=config.environment,
        cluster_name=made.cluster_name,
        subnet_ids=list(network.node_subnet_ids.values()),
        security_group_id=made.node_security_group_id,
        disks_key_arn=keys.disks,
        instance_types=core.instance_types,
        minimum=core.min,
        maximum=core.max,
        desired=core.desired,
        disk_gib=core.disk_gib,
        tags=config.all_tags,
    )
    return NodeGroup("core", args, opts)


def _pool(
    config: GroundStack, pool: PoolConfig, network: Network, keys: Keys, made: Cluster, core: NodeGroup, opts: ResourceOptions
) -> None:
    subnets = network.node_subnet_ids
    args = GpuPoolArgs(
        environment=config.environment,
        cluster_name=made.cluster_name,
        node_role_arn=core.role_arn,
        vpc_id=network.vpc_id,
        subnet_ids=list(subnets.values()) if pool.zone is None else [subnets[pool.zone]],
        security_group_id=made.node_security_group_id,
        disks_key_arn=keys.disks,
        capacity=pool.capacity,
        instance_types=pool.instance_types,
        minimum=pool.min,
        maximum=pool.max,
        disk_gib=pool.disk_gib,
        tags=config.all_tags,
        efa=pool.efa,
        capacity_reservation_id=pool.capacity_reservation_id,
    )
    GpuPool(pool.name, args, opts)


def _karpenter(
    config: GroundStack, network: Network, keys: Keys, made: Cluster, opts: ResourceOptions
) -> tuple[Karpenter, Output[str]]:
    args = KarpenterArgs(
        environment=config.environment,
        account=config.account,
        region=config.region,
        cluster_tag=f"ai-infra-{config.environment}",
        cluster_name=made.cluster_name,
        cluster_arn=made.cluster_arn,
        subnet_ids=list(network.node_subnet_ids.values()),
        security_group_id=made.node_security_group_id,
        disks_key_arn=keys.disks,
    )
    karpenter = Karpenter("karpenter", args, opts)
    who = identity_args(config, made, namespace=KARPENTER, account="karpenter", statements=karpenter.statements, wide=WIDE)
    return karpenter, Identity("karpenter-controller", who, opts).role_arn
