"""A layer of an environment as one frozen value, parsed from its YAML. What is wrong or dangerous is refused, with the remedy."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from stacks.config_apps import AppsConfig, apps_faults
from stacks.config_cluster import ClusterConfig
from stacks.config_network import NetworkConfig
from stacks.config_platform import PlatformConfig, platform_faults
from stacks.config_state import StateConfig, environment_faults
from stacks.config_stores import KeysConfig, StoresConfig, store_faults
from stacks.floors import backup_days
from stacks.model import Model, Text

Region = Annotated[str, Field(pattern=r"^(af|ap|ca|eu|il|me|mx|sa|us)-[a-z]+-\d$")]


class ConfigRefused(ValueError):
    """The YAML of an environment cannot be used; its message says all that is wrong, and the remedy of each."""


class Tags(Model):
    """What costs are told apart by, beside the environment."""

    team: Text
    cost_centre: Text


class GroundConfig(Model):
    network: NetworkConfig
    keys: KeysConfig
    stores: StoresConfig
    cluster: ClusterConfig
    state: StateConfig


class StackConfig(Model):
    """What all layers have. account: 12 digits, and no other is touched; zones: three of the region."""

    environment: Literal["dev", "staging", "prod"]
    layer: Literal["ground", "platform", "apps"]
    account: Annotated[str, Field(pattern=r"^\d{12}$")]
    region: Region
    zones: Annotated[tuple[Text, ...], Field(min_length=3, max_length=3, strict=False)]
    tags: Tags

    @property
    def all_tags(self) -> dict[str, str]:
        return {"team": self.tags.team, "environment": self.environment, "cost_centre": self.tags.cost_centre}

    @model_validator(mode="after")
    def _sound(self) -> Self:
        faults = self.faults()
        if faults:
            raise ValueError("; ".join(faults))
        return self

    def faults(self) -> list[str]:
        """What no field alone shows, each with its remedy."""
        checks = {
            "zones must be three different ones: one zone is no availability": len(set(self.zones)) == 3,
            f"zones must be of {self.region}": all(zone[:-1] == self.region for zone in self.zones),
        }
        return [fault for fault, met in checks.items() if not met]


class GroundStack(StackConfig):
    """replica_region: gets copies, null for none."""

    layer: Literal["ground"]
    replica_region: Region | None
    ground: GroundConfig

    def faults(self) -> list[str]:
        return [
            *super().faults(),
            *self._place_faults(),
            *store_faults(self.environment, self.ground.keys, self.ground.stores),
            *environment_faults(self.environment, self.ground.state),
        ]

    def _place_faults(self) -> list[str]:
        pools = [pool for pool in self.ground.cluster.gpu_pools if pool.zone not in (None, *self.zones)]
        roles = {*self.ground.keys.admin_role_arns, self.ground.keys.break_glass_role_arn, *self.ground.cluster.admin_role_arns}
        foreign = sorted(arn for arn in roles if arn.split(":")[4] != self.account)
        floor, backed_up = backup_days(self.environment), self.ground.state.database.backup_days
        checks = {
            f"database.backup_days is {backed_up}: {self.environment} keeps {floor} days or more": backed_up >= floor,
            "replica_region must be another one than region": self.replica_region != self.region,
            "replica_region must be named in prod": self.environment != "prod" or self.replica_region is not None,
            "backup.replica wants a replica_region": self.replica_region is not None or not self.ground.state.backup.replica,
            "network.nat must be per-zone in prod: one zone's end would cut off the others": (
                self.environment != "prod" or self.ground.network.nat == "per-zone"
            ),
            f"zones of GPU pools must be among {', '.join(self.zones)}": not pools,
            f"{', '.join(foreign)}: roles must be of account {self.account}": not foreign,
        }
        return [fault for fault, met in checks.items() if not met]


class PlatformStack(StackConfig):
    layer: Literal["platform"]
    platform: PlatformConfig

    def faults(self) -> list[str]:
        return [*super().faults(), *platform_faults(self.environment, self.platform)]


class AppsStack(StackConfig):
    layer: Literal["apps"]
    apps: AppsConfig

    def faults(self) -> list[str]:
        return [*super().faults(), *apps_faults(self.environment, self.apps)]


Stack = GroundStack | PlatformStack | AppsStack

PARSER: Final[TypeAdapter[Stack]] = TypeAdapter(Annotated[Stack, Field(discriminator="layer")])


def parse(stack: str, values: Mapping[str, Any]) -> Stack:
    """stack: the name that Pulumi was given, `<environment>-<layer>`.

    Raises:
        ConfigRefused: what is wrong with the values, or they are another stack's.
    """
    try:
        config = PARSER.validate_python(values)
    except ValidationError as error:
        # A place begins with the layer by which the type was chosen.
        lines = [
            f"  {'.'.join(map(str, item['loc'][1:])) or 'stack'}: {item['msg'].removeprefix('Value error, ')}"
            for item in error.errors()
        ]
        raise ConfigRefused("\n".join([f"the configuration of {stack} is refused:", *lines])) from error
    named = f"{config.environment}-{config.layer}"
    if named != stack:
        raise ConfigRefused(f"stack {stack} was given the configuration of {named}: pass stacks/<env>/Pulumi.{stack}.yaml")
    return config
