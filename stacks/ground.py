"""The ground of an environment: everything of AWS that is there before the cluster's API is used, joined from components."""

from pulumi import ResourceOptions
from pulumi_aws import Provider, ProviderDefaultTagsArgs

from components.network import Network, NetworkArgs
from stacks.config import StackConfig
from stacks.ground_keys import data_keys


def ground(config: StackConfig) -> None:
    opts = ResourceOptions(providers=[provider(config, config.region)])
    keys = data_keys(config, opts)
    network = config.ground.network
    Network(
        "network",
        NetworkArgs(
            environment=config.environment,
            account=config.account,
            cidr=network.cidr,
            zones=config.zones,
            nat=network.nat,
            cluster_tag=f"ai-infra-{config.environment}",
            logs_key_arn=keys.logs,
            flow_log_days=network.flow_log_days,
        ),
        opts,
    )


def provider(config: StackConfig, region: str) -> Provider:
    """For one region of the one account that it touches; everything that it makes carries the tags."""
    return Provider(
        f"aws-{region}",
        region=region,
        allowed_account_ids=[config.account],
        default_tags=ProviderDefaultTagsArgs(tags=config.all_tags),
    )
