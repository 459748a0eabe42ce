"""The configuration of what must not be lost, and of what watches: database, backups, trail, budget.

What an environment must have whatever its YAML says (a locked vault in prod…) is asked by `environment_faults`.
"""

from typing import Annotated, Self

from pydantic import Field, model_validator

from stacks.config_cluster import LogDays
from stacks.model import Model, Positive

Email = Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+\.[^@\s]+$")]


class DatabaseConfig(Model):
    """lasting: two zones, no deletion by one call, a last snapshot; backup_days: how far back a point in time can be restored;
    version: major, for RDS upgrades minor ones by itself.
    """

    version: Annotated[str, Field(pattern=r"^\d{2}$")]
    instance_class: Annotated[str, Field(pattern=r"^db\.[a-z0-9]+\.[a-z0-9]+$")]
    storage_gib: Annotated[int, Field(ge=20)]
    max_storage_gib: Positive
    backup_days: Annotated[int, Field(ge=1, le=35)]
    log_days: LogDays
    lasting: bool

    @model_validator(mode="after")
    def _grows(self) -> Self:
        # RDS takes no smaller step than a tenth.
        if self.max_storage_gib * 10 < self.storage_gib * 11:
            raise ValueError(
                f"database: max_storage_gib {self.max_storage_gib} must be a tenth over storage_gib {self.storage_gib}"
            )
        return self


class BackupConfig(Model):
    """lock_days: nobody can delete a backup before; null for a vault without a lock. replica: copies in the replica region."""

    daily_days: Positive
    monthly_days: Positive
    lock_days: Positive | None
    replica: bool

    @model_validator(mode="after")
    def _kept(self) -> Self:
        if self.monthly_days < self.daily_days:
            raise ValueError(f"backup: monthly_days {self.monthly_days} must not be under daily_days {self.daily_days}")
        if self.lock_days is not None and self.daily_days < self.lock_days:
            raise ValueError(f"backup: daily_days {self.daily_days} is under lock_days {self.lock_days}: the vault would take none")
        return self


class TrailConfig(Model):
    log_days: LogDays


class AlertsConfig(Model):
    """emails: who hears alarms, and of the budget; each confirms once."""

    emails: Annotated[tuple[Email, ...], Field(min_length=1, strict=False)]


class BudgetConfig(Model):
    """anomaly_usd: extra cost of an anomaly worth a message; payer: the account pays its own bill, and knows the tags."""

    monthly_usd: Positive
    anomaly_usd: Positive
    payer: bool


class StateConfig(Model):
    database: DatabaseConfig
    backup: BackupConfig
    trail: TrailConfig
    alerts: AlertsConfig
    budget: BudgetConfig


def environment_faults(environment: str, state: StateConfig) -> list[str]:
    """What an environment may not do without, each with the remedy."""
    if environment != "prod":
        return []
    wanted = {
        "database.lasting must be true in prod": state.database.lasting,
        "database.backup_days must be 35 in prod": state.database.backup_days == 35,
        "backup.lock_days must be 35 or more in prod": (state.backup.lock_days or 0) >= 35,
        "backup.replica must be true in prod": state.backup.replica,
        "trail.log_days must be 365 or more in prod": state.trail.log_days >= 365,
    }
    return [fault for fault, met in wanted.items() if not met]
