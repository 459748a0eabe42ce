"""What a diff says: rows of resources that change, and notes of what no row can say. It compares nothing."""

from dataclasses import dataclass
from typing import Any, Literal

from infra.differences import Property

Json = dict[str, Any]
Action = Literal["create", "update", "replace", "delete", "forget", "move"]

SCOPE = "Compares program with program, not with the live account: what was changed by hand, or never deployed, is not seen."
ORDER: tuple[Action, ...] = ("delete", "replace", "forget", "update", "create", "move")
"""Of rows: what may hurt is read first."""


@dataclass(frozen=True)
class Row:
    """address: Terraform's; of what is deleted, in the base. moved_from: its address in the base, where that is another one.

    protected: in the base, for that is what counts when the engine comes to replace or delete it.
    """

    action: Action
    address: str
    urn: str
    protected: bool
    properties: tuple[Property, ...] = ()
    moved_from: str | None = None

    @property
    def type(self) -> str:
        return self.address.split(".")[0]

    @property
    def refused(self) -> bool:
        """The engine does not destroy what is protected, nor lets go of it."""
        return self.protected and self.action in ("replace", "delete", "forget")

    def to_json(self) -> Json:
        return {
            "action": self.action,
            "address": self.address,
            "type": self.type,
            "urn": self.urn,
            "movedFrom": self.moved_from,
            "protected": self.protected,
            "refused": self.refused,
            "properties": [item.to_json() for item in self.properties],
        }


@dataclass(frozen=True)
class Diff:
    """rows: what changes; notes: what no row can say; plan: Terraform's; protected: addresses in it of what the base protects."""

    stack: str
    base: str
    commit: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    plan: Json
    protected: frozenset[str]

    @property
    def refused(self) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if row.refused)

    @property
    def counts(self) -> dict[Action, int]:
        """By action, those that there are."""
        return {action: number for action in ORDER if (number := sum(row.action == action for row in self.rows))}

    def to_json(self) -> Json:
        return {
            "stack": self.stack,
            "base": {"ref": self.base, "commit": self.commit},
            "scope": SCOPE,
            "counts": self.counts,
            "refused": [row.address for row in self.refused],
            "notes": list(self.notes),
            "rows": [row.to_json() for row in self.rows],
        }
