"""Asymmetric keys that sign for one purpose, a generation after another, and the alias that says which one signs now.

The private half never leaves KMS, and only the signing proxy's role has it sign. CloudHSM key stores hold symmetric keys alone (KMS
developer guide, "Custom key stores"), so these keys are always in KMS's own HSMs, which are FIPS 140-3 level 3 too.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import pulumi
from pulumi import Input, Output, ResourceOptions
from pulumi_aws import kms

from components.key_policy import Keepers, keeping

PURPOSES: Final = ("manifest", "audit")


@dataclass(frozen=True, kw_only=True)
class SigningKeysArgs:
    """generations: how many keys there are; current: the one that signs; retired: those up to it may never sign again.

    proxy_role_arn: of a role that is there, for KMS refuses a principal that is not.
    """

    environment: str
    keepers: Keepers
    proxy_role_arn: Input[str]
    deletion_days: int
    generations: int
    current: int
    retired: int
    replicated: bool

    def __post_init__(self) -> None:
        if not 7 <= self.deletion_days <= 30:
            raise ValueError(f"deletion_days must be 7 to 30, got {self.deletion_days}: KMS takes no others")
        if not 0 <= self.retired < self.current <= self.generations:
            raise ValueError(f"must be retired {self.retired} < current {self.current} <= generations {self.generations}")
        if self.environment == "prod" and not self.replicated:
            raise ValueError("signing keys of prod must be replicated: a region's end would stop every promotion")


class SigningKeys(pulumi.ComponentResource):
    """Keys of all generations stay, for they verify what they signed. All are protected, in every environment.

    replica: options with the provider of the replica region; wanted with replicated.
    """

    alias_name: str
    key_arns: list[Output[str]]
    """From the first generation on."""

    def __init__(
        self, name: str, args: SigningKeysArgs, opts: ResourceOptions | None = None, replica: pulumi.ProviderResource | None = None
    ) -> None:
        super().__init__("ai-infra:keys:SigningKeys", name, None, opts)
        if args.replicated != (replica is not None):
            raise ValueError("replicated wants the provider of the replica region, and nothing else does")
        self._args, self._name, self._replica = args, name, replica
        self.alias_name = alias(args.environment, name)
        keys = [self._key(generation) for generation in range(1, args.generations + 1)]
        current = keys[args.current - 1]
        kms.Alias(name, name=self.alias_name, target_key_id=current.id, opts=ResourceOptions(parent=self))
        self.key_arns = [key.arn for key in keys]
        self.register_outputs({"alias_name": self.alias_name})

    def _key(self, generation: int) -> kms.Key:
        args, name = self._args, f"{self._name}-{generation}"
        policy = Output.json_dumps(_policy(args, retired=generation <= args.retired))
        description = f"ai-infra {args.environment}: signs {self._name}, generation {generation}"
        key = kms.Key(
            name,
            description=description,
            key_usage="SIGN_VERIFY",
            customer_master_key_spec="ECC_NIST_P256",
            multi_region=args.replicated,
            deletion_window_in_days=args.deletion_days,
            policy=policy,
            opts=ResourceOptions(parent=self, protect=True),
        )
        if self._replica is not None:
            self._copy(name, description, key, policy, current=generation == args.current)
        return key

    def _copy(self, name: str, description: str, key: kms.Key, policy: Output[str], *, current: bool) -> None:
        """The same key in the replica region: it has the same id and public half, and a policy of its own."""
        copy = kms.ReplicaKey(
            f"{name}-replica",
            description=description,
            primary_key_arn=key.arn,
            deletion_window_in_days=self._args.deletion_days,
            policy=policy,
            opts=ResourceOptions(parent=self, provider=self._replica, protect=True),
        )
        if current:
            there = ResourceOptions(parent=self, provider=self._replica)
            kms.Alias(f"{self._name}-replica", name=self.alias_name, target_key_id=copy.key_id, opts=there)


def alias(environment: str, purpose: str) -> str:
    """Known before the key is, so that the proxy's policy can name it."""
    return f"alias/ai-infra-{environment}-{purpose}-signing"


def _policy(args: SigningKeysArgs, *, retired: bool) -> Mapping[str, Any]:
    sign: dict[str, Any] = {
        "Sid": "ProxySigns",
        "Effect": "Allow",
        "Principal": {"AWS": args.proxy_role_arn},
        "Action": ["kms:GetPublicKey", "kms:Sign"],
        "Resource": "*",
    }
    # One test and no more: each further one would narrow the Deny. It also stands above grants and IAM policies.
    nobody_else: dict[str, Any] = {
        "Sid": "NobodyElseSigns",
        "Effect": "Deny",
        "Principal": "*",
        "Action": ["kms:Sign"],
        "Resource": "*",
        "Condition": {"ArnNotEquals": {"aws:PrincipalArn": args.proxy_role_arn}},
    }
    nobody = {"Sid": "RetiredKeyNeverSigns", "Effect": "Deny", "Principal": "*", "Action": ["kms:Sign"], "Resource": "*"}
    statements = [*keeping(args.keepers), sign, nobody_else, *([nobody] if retired else [])]
    return {"Version": "2012-10-17", "Statement": statements}
