"""The keys' and stores' part of an environment's configuration. What AWS alone knows is the plan's to refuse."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from stacks.config_cluster import RoleArn
from stacks.floors import deletion_days, retention_days
from stacks.model import Count, Model, Positive

STORES = ("artifacts", "datasets", "audit", "backups", "trail")


class SigningKey(Model):
    """generations: how many keys were made for the purpose; current: the one that signs; retired: those up to it never sign again.

    To rotate, raise generations, give the new public key to the verifiers, raise current, and last retired.
    """

    generations: Positive
    current: Positive
    retired: Count

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.retired < self.current <= self.generations:
            raise ValueError(f"must be retired {self.retired} < current {self.current} <= generations {self.generations}")
        return self


class Signing(Model):
    manifest: SigningKey
    audit: SigningKey


class KeysConfig(Model):
    """admin_role_arns: make and change keys and cannot use them; break_glass_role_arn: outside dev the only one that ends a key.

    cloudhsm_key_store_id: a connected custom key store, which then holds the keys of stores and database; null for KMS's own HSMs.
    """

    deletion_window_days: Annotated[int, Field(ge=7, le=30)]
    admin_role_arns: Annotated[tuple[RoleArn, ...], Field(min_length=1, strict=False)]
    break_glass_role_arn: RoleArn
    cloudhsm_key_store_id: Annotated[str, Field(pattern=r"^cks-[0-9a-f]{17}$")] | None
    signing: Signing


class Retention(Model):
    """Days in which nobody can delete an object of the store, not even AWS."""

    artifacts: Positive
    datasets: Positive
    audit: Positive
    backups: Positive
    trail: Positive


class StoresConfig(Model):
    """access_log_days: after which records of requests to the stores are deleted."""

    retention_days: Retention
    access_log_days: Positive


def store_faults(environment: str, keys: KeysConfig, stores: StoresConfig) -> list[str]:
    """What is under the environment's floors, each with the remedy."""
    floor, window = retention_days(environment), deletion_days(environment)
    kept: dict[str, int] = stores.retention_days.model_dump()
    short = [f"stores.retention_days.{store} is {days}" for store, days in kept.items() if days < floor]
    faults = [f"{fault}: {environment} keeps {floor} days or more" for fault in short]
    if keys.deletion_window_days < window:
        faults.append(f"keys.deletion_window_days is {keys.deletion_window_days}: must be {window} or more in {environment}")
    if keys.break_glass_role_arn in keys.admin_role_arns:
        faults.append("keys.break_glass_role_arn must be none of admin_role_arns: who changes keys every day deletes none")
    return faults
