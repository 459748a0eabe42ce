"""Node pools and queues of an environment, from its configuration and what the ground made."""

from pulumi import ResourceOptions

from components.platform.node_pools import Launch, NodePool, NodePoolArgs, Quiet
from components.platform.queues import Queues, QueuesArgs, Quota
from stacks.config import PlatformStack
from stacks.config_capacity import Pool, Team
from stacks.namespaces import training
from stacks.outputs import GroundOutputs


def node_pools(config: PlatformStack, ground: GroundOutputs, opts: ResourceOptions) -> list[NodePool]:
    """opts: after Karpenter, which brings the definitions."""
    wanted = config.platform.capacity
    launch = Launch(
        ami=wanted.ami,
        subnet_ids=[ground.node_subnet_ids[zone] for zone in config.zones],
        security_group_id=ground.node_security_group_id,
        disks_key_arn=ground.disks_key_arn,
        instance_profile_name=ground.karpenter_instance_profile_name,
        tags=config.all_tags,
    )
    quiet = Quiet(schedule=wanted.quiet.schedule, hours=wanted.quiet.hours)
    return [NodePool(pool.name, _pool_args(pool, launch, quiet), opts) for pool in wanted.pools]


def queues(config: PlatformStack, opts: ResourceOptions) -> Queues:
    """opts: after Kueue, which brings the definitions, and the namespace of the jobs."""
    wanted = config.platform.capacity
    teams = {team.name: _quotas(team) for team in wanted.teams}
    args = QueuesArgs(namespace=training(config.environment), teams=teams, priorities=wanted.priorities)
    return Queues("queues", args, opts)


def _pool_args(pool: Pool, launch: Launch, quiet: Quiet) -> NodePoolArgs:
    return NodePoolArgs(
        launch=launch,
        capacity=pool.capacity,
        instance_types=pool.instance_types,
        cpu=pool.cpu,
        memory_gib=pool.memory_gib,
        gpus=pool.gpus,
        disk_gib=pool.disk_gib,
        expire_hours=pool.expire_hours,
        grace_hours=pool.grace_hours,
        quiet=quiet,
    )


def _quotas(team: Team) -> dict[str, Quota]:
    return {
        flavour: Quota(cpu=quota.cpu, memory_gib=quota.memory_gib, gpus=quota.gpus, borrow_gpus=quota.borrow_gpus)
        for flavour, quota in team.quotas.items()
    }
