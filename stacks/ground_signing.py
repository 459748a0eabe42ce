"""The signing proxy's role, and the keys that only it has sign."""

from collections.abc import Mapping

from pulumi import Output, ProviderResource, ResourceOptions

from components.cluster import Cluster
from components.database import Database
from components.identity import Identity
from components.signing_keys import PURPOSES, SigningKeys, SigningKeysArgs, alias
from stacks.config import GroundStack
from stacks.ground_cluster import identity_args
from stacks.ground_keys import keepers
from stacks.ground_roles import connect
from stacks.namespaces import SERVICES

ROLE = "signing-proxy"


def proxy(config: GroundStack, made: Cluster, database: Database, opts: ResourceOptions) -> Output[str]:
    """ARN of its role. It signs by alias, so that after a rotation nothing but the current key answers it."""
    regions = [region for region in (config.region, config.replica_region) if region is not None]
    aliases = [alias(config.environment, purpose) for purpose in PURPOSES]
    sign: dict[str, object] = {
        "Sid": "SignByAlias",
        "Effect": "Allow",
        "Action": ["kms:GetPublicKey", "kms:Sign"],
        "Resource": [f"arn:aws:kms:{region}:{config.account}:key/*" for region in regions],
        "Condition": {"ForAnyValue:StringEquals": {"kms:ResourceAliases": aliases}},
    }
    statements = [sign, connect(config, database, "signing")]
    args = identity_args(config, made, namespace=SERVICES, account=ROLE, statements=statements)
    return Identity(ROLE, args, opts).role_arn


def signing_keys(
    config: GroundStack, proxy_role_arn: Output[str], opts: ResourceOptions, replica: ProviderResource | None
) -> Mapping[str, SigningKeys]:
    """By purpose. replica: provider of the replica region."""
    wanted = {"manifest": config.ground.keys.signing.manifest, "audit": config.ground.keys.signing.audit}
    return {
        purpose: SigningKeys(
            purpose,
            SigningKeysArgs(
                environment=config.environment,
                keepers=keepers(config),
                proxy_role_arn=proxy_role_arn,
                deletion_days=config.ground.keys.deletion_window_days,
                generations=key.generations,
                current=key.current,
                retired=key.retired,
                replicated=replica is not None,
            ),
            opts,
            replica,
        )
        for purpose, key in wanted.items()
    }
