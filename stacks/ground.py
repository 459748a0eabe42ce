"""The ground of an environment: everything of AWS that is there before the cluster's API is used, joined from components."""

from dataclasses import dataclass

from pulumi import Output, ResourceOptions
from pulumi_aws import Provider, ProviderDefaultTagsArgs

from components.backup_vault import BackupVault
from components.endpoints import Endpoints, EndpointsArgs
from components.network import Network, NetworkArgs, blocks
from stacks.config import GroundStack
from stacks.ground_cluster import cluster
from stacks.ground_keys import Keys, data_keys, replica_keys
from stacks.ground_roles import Parts, service_roles
from stacks.ground_signing import ROLE, proxy, signing_keys
from stacks.ground_state import backups, database, runs, vault, watch
from stacks.ground_stores import Replica, stores
from stacks.outputs import Entries, GroundOutputs


@dataclass(frozen=True)
class Away:
    """The replica region: its provider, copies of objects, and a vault where backups are copied too."""

    provider: Provider
    objects: Replica
    vault: BackupVault | None


def ground(config: GroundStack) -> None:
    opts = ResourceOptions(providers=[_provider(config, config.region)])
    away = _away(config)
    keys = data_keys(config, opts)
    network = _network(config, keys, opts)
    made = cluster(config, network, keys, opts)
    kept = stores(config, keys.stores, away.objects if away else None, opts)
    state = database(config, network, made.cluster.node_security_group_id, keys, opts)
    topic = watch(config, keys, kept, opts)
    backups(config, vault("vault", config, keys.vault, opts), away.vault if away else None, topic, opts)
    roles = service_roles(Parts(config, made.cluster, keys, kept, state, topic), opts)
    signer = proxy(config, made.cluster, state, opts)
    signing = signing_keys(config, signer, opts, away.provider if away else None)
    parts = blocks(config.ground.network.cidr, len(config.zones))
    GroundOutputs(
        vpc_id=network.vpc_id,
        node_subnet_ids=Entries.of(network.node_subnet_ids),
        node_blocks=Entries.of(dict(zip(config.zones, parts.nodes, strict=True))),
        database_blocks=Entries.of(dict(zip(config.zones, parts.database, strict=True))),
        node_security_group_id=made.cluster.node_security_group_id,
        cluster_name=made.cluster.cluster_name,
        cluster_arn=made.cluster.cluster_arn,
        cluster_endpoint=made.cluster.endpoint,
        cluster_certificate_authority=made.cluster.certificate_authority,
        oidc_provider_arn=made.cluster.oidc_provider_arn,
        oidc_issuer=made.cluster.oidc_issuer,
        disks_key_arn=keys.disks,
        unseal_key_arn=keys.unseal,
        karpenter_queue_name=made.karpenter.queue_name,
        karpenter_instance_profile_name=made.karpenter.instance_profile_name,
        role_arns=Entries.of(
            {**roles, ROLE: signer, "karpenter-controller": made.controller, "karpenter-node": made.karpenter.node_role_arn}
        ),
        store_names=Entries.of({store: bucket.bucket_name for store, bucket in kept.buckets.items()}),
        store_key_arns=Entries.of(keys.stores),
        signing_aliases=Entries.of({purpose: key.alias_name for purpose, key in signing.items()}),
        signing_key_arns=Entries.of({purpose: key.key_arns for purpose, key in signing.items()}),
        database_endpoint=state.endpoint,
        database_secret_arn=state.secret_arn,
        runs_volume=runs(config, network, made.cluster.node_security_group_id, keys, opts).volume,
        alerts_topic_arn=topic,
    ).export()


def _network(config: GroundStack, keys: Keys, opts: ResourceOptions) -> Network:
    wanted = config.ground.network
    network = Network(
        "network",
        NetworkArgs(
            environment=config.environment,
            account=config.account,
            cidr=wanted.cidr,
            zones=config.zones,
            nat=wanted.nat,
            cluster_tag=f"ai-infra-{config.environment}",
            logs_key_arn=keys.logs,
            flow_log_days=wanted.flow_log_days,
        ),
        opts,
    )
    subnets: list[Output[str]] = list(network.node_subnet_ids.values())
    Endpoints(
        "endpoints",
        EndpointsArgs(
            environment=config.environment,
            account=config.account,
            region=config.region,
            vpc_id=network.vpc_id,
            # Each address of each endpoint costs by the hour, as gateways do: who has one gateway has one address.
            subnet_ids=subnets if wanted.nat == "per-zone" else subnets[:1],
            client_blocks=network.node_blocks,
            route_table_ids=network.node_route_table_ids,
            # Whoever makes the layers in the cluster does it from within, and by CI's runner there the ground as well.
            deployer_role_arns=config.ground.cluster.admin_role_arns,
        ),
        opts,
    )
    return network


def _away(config: GroundStack) -> Away | None:
    region = config.replica_region
    if region is None:
        return None
    provider = _provider(config, region)
    opts = ResourceOptions(providers=[provider])
    vault_key, objects_key = replica_keys(config, region, opts)
    copies = vault("vault-replica", config, vault_key, opts) if config.ground.state.backup.replica else None
    return Away(provider, Replica(region, objects_key, opts), copies)


def _provider(config: GroundStack, region: str) -> Provider:
    """For one region of the one account that it touches; everything that it makes carries the tags."""
    return Provider(
        f"aws-{region}",
        region=region,
        allowed_account_ids=[config.account],
        default_tags=ProviderDefaultTagsArgs(tags=config.all_tags),
    )
