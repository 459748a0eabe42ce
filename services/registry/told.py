"""A version as the audit log tells it. Decisions are made from this: an edited row of the database decides nothing.

The offline verifier computes the same from the archive's log (`core.history`).
"""

from typing import Any

from services.core.history import History, Version
from services.registry.errors import UnknownModel
from services.registry.ports import Log


def version(log: Log, model: str, number: int) -> tuple[Version, list[dict[str, Any]]]:
    """The version, and the active flags that hold for it.

    Raises:
        UnknownModel: the log tells of no such version, or not of one that it was made from. Unavailable: retry.
    """
    history = History().replay(log.told("quarantine.set")).replay(log.told("quarantine.lifted"))
    waiting = [f"{model}@{number}"]
    while waiting:
        reference = waiting.pop()
        if reference not in history.versions:
            history.replay(log.told("model.registered", reference)).replay(log.told("promotion.completed", reference))
            if reference not in history.versions:
                raise UnknownModel(f"the log tells of no registration of {reference}: its row is not the platform's own")
            waiting += history.versions[reference].parents
    found = history.versions[f"{model}@{number}"]
    return found, history.flags_on(found)
