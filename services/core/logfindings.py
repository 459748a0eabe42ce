"""What a check of an audit log says: problems by their names, and the report over them."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

MAX_PROBLEMS = 1000


class Kind(StrEnum):
    """Names of problems. They are part of the interface: runbooks and tests refer to them."""

    EDITED = "edited"
    REMOVED = "removed"
    REORDERED = "reordered"
    TRUNCATED = "truncated"
    RECHAINED = "re-chained"
    FORKED = "forked"
    GAP = "gap"
    REUSED_ID = "reused id"
    REUSED_SEQ = "reused seq"
    TIME_BACK = "time back"
    BAD_EVENT = "bad event"
    BAD_TILE = "bad tile"
    BAD_CHECKPOINT = "bad checkpoint"
    BAD_SIGNATURE = "bad signature"
    NOT_WITNESSED = "not witnessed"
    WRONG_ROOT = "wrong root"
    TABLE = "table differs"


@dataclass(frozen=True)
class Problem:
    """index: the entry that it is about, where it is about one."""

    kind: Kind
    detail: str
    index: int | None = None

    def to_json(self) -> dict[str, Any]:
        return {"kind": str(self.kind), "index": self.index, "detail": self.detail}


@dataclass(frozen=True)
class Report:
    """size: entries under the checkpoint; problems: the first 1,000; more: the rest; not_checkable: what nobody can tell, why;
    witnesses: name → when it cosigned the checkpoint (epoch seconds), None if it did not."""

    size: int
    root: str | None
    problems: tuple[Problem, ...]
    not_checkable: tuple[str, ...]
    more: int = 0
    witnesses: dict[str, int | None] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """No problem was found. What is not checkable is neither passed nor failed."""
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        return {
            "ok": self.ok,
            "size": self.size,
            "root": self.root,
            "problems": [problem.to_json() for problem in self.problems],
            "more": self.more,
            "notCheckable": list(self.not_checkable),
            "witnesses": self.witnesses,
        }


class Findings:
    """Problems as they are found: each once, the first 1,000 kept."""

    def __init__(self) -> None:
        self.problems: dict[tuple[Kind, int | None, str], Problem] = {}
        self.more = 0

    def add(self, kind: Kind, detail: str, index: int | None = None) -> None:
        key = (kind, index, "" if index is not None else detail)
        if key in self.problems:
            return
        if len(self.problems) >= MAX_PROBLEMS:
            self.more += 1
        else:
            self.problems[key] = Problem(kind, detail, index)

    def has(self, *kinds: Kind) -> bool:
        return any(problem.kind in kinds for problem in self.problems.values())

    def sorted(self) -> tuple[Problem, ...]:
        return tuple(sorted(self.problems.values(), key=lambda item: (item.index is None, item.index or 0, item.kind)))
