"""What each environment keeps at least, from the limits that the infra rules take: one source for both."""

import json
from functools import cache
from pathlib import Path

LIMITS = Path(__file__).parent.parent / "policies" / "rego" / "data.json"


@cache
def _limits() -> dict[str, dict[str, int]]:
    limits: dict[str, dict[str, int]] = json.loads(LIMITS.read_text())["limits"]
    return limits


def retention_days(environment: str) -> int:
    """Of an object in a locked store."""
    return _limits()["store_retention_days"][environment]


def deletion_days(environment: str) -> int:
    """Between the order to delete a key and its end."""
    return _limits()["key_deletion_days"][environment]


def backup_days(environment: str) -> int:
    """How far back the database can be restored."""
    return _limits()["backup_days"][environment]
