"""What is different between two values of a resource, property by property, as a reader wants to see it. Pure.

Policies are texts of JSON: they are compared inside, statement by statement.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]
Path = tuple[str | int, ...]

NOTHING: tuple[Any, ...] = (None, "", [], {})
"""Terraform's providers do not tell these apart."""

SENSITIVE = "(sensitive)"
LATER = "(known after apply)"


@dataclass(frozen=True)
class Property:
    """path: as tags.team, or policy.Statement[Sign].Action; before, after: JSON values; forces: the resource is replaced for it."""

    path: str
    before: Any
    after: Any
    forces: bool = False

    def to_json(self) -> Json:
        return {"path": self.path, "before": self.before, "after": self.after, "forcesReplacement": self.forces}


def properties(change: Mapping[str, Any], written: Mapping[str, Any]) -> list[Property]:
    """Of one resource's change in a plan, by path. written: the resource as the program has it now.

    What only AWS will know is left out, unless the program writes it or it forces the replacement.
    """
    before, after = change["before"] or {}, change["after"] or {}
    hidden, later = change.get("after_sensitive") or {}, change.get("after_unknown") or {}
    forced = [tuple(path) for path in change.get("replace_paths", [])]
    was_hidden = change.get("before_sensitive") or {}
    found: list[Property] = []
    for key in sorted(before.keys() | after.keys() | later.keys()):
        compared = _Compared(forced, was_hidden.get(key, False), hidden.get(key, False))
        rows = list(compared.rows(before.get(key), after.get(key), later.get(key, False), (key,)))
        mine = key in written or any(row.forces for row in rows)
        found += [row for row in rows if (mine or row.after != LATER) and not _computed(row, made=change["before"] is None)]
    return _without_repeated_tags(found)


def differences(before: Json, after: Json) -> list[Property]:
    """Of two resources' inputs, by path."""
    return list(_Compared([], False, False).rows(before, after, False, ()))


@dataclass(frozen=True)
class _Compared:
    """forced: paths that force the replacement; was_hidden, hidden: what a plan says of the property's sensitivity."""

    forced: Sequence[Path]
    was_hidden: Any
    hidden: Any

    def rows(self, before: Any, after: Any, later: Any, path: Path) -> Iterator[Property]:
        if later is True:
            yield self._row(path, before, LATER)
            return
        if not _any(later) and (before == after or (_unsaid(before, after) and not self._forces(path))):
            return
        if _any(self.was_hidden) or _any(self.hidden):
            yield self._row(path, SENSITIVE, SENSITIVE)
            return
        yield from self._inside(_opened(before), _opened(after), later, path)

    def _inside(self, before: Any, after: Any, later: Any, path: Path) -> Iterator[Property]:
        if isinstance(before, dict) and isinstance(after, dict):
            unknown = later if isinstance(later, dict) else {}
            for key in sorted(before.keys() | after.keys() | unknown.keys()):
                yield from self.rows(before.get(key), after.get(key), unknown.get(key, False), (*path, key))
        elif _objects(before) and _objects(after):
            yield from self._lists(before, after, later if isinstance(later, list) else [], path)
        elif before not in NOTHING or after not in NOTHING:
            yield self._row(path, before, after)

    def _lists(self, before: list[Json], after: list[Json], later: list[Any], path: Path) -> Iterator[Property]:
        """Statements by their name; other items by what they have in common, once the equal ones are set aside."""
        names = ([item.get("Sid") for item in before], [item.get("Sid") for item in after])
        if all(all(sids) and len(set(sids)) == len(sids) for sids in names):
            was, now = (dict(zip(sids, items, strict=True)) for sids, items in zip(names, (before, after), strict=True))
            for sid in [*was, *(sid for sid in now if sid not in was)]:
                yield from self.rows(was.get(sid), now.get(sid), False, (*path, f"[{sid}]"))
            return
        unknown = [later[number] if number < len(later) else False for number in range(len(after))]
        gone = [item for item in before if item not in after]
        come = [(item, hidden) for item, hidden in zip(after, unknown, strict=True) if item not in before or _any(hidden)]
        if not gone and not come:
            # Another order, or one more of the same.
            yield self._row(path, before, after)
        for number, (old, item, hidden) in enumerate(_pairs(gone, come)):
            place = after.index(item) if item is not None else len(after) + number
            yield from self.rows(old, item, hidden, (*path, place))

    def _row(self, path: Path, before: Any, after: Any) -> Property:
        shown = SENSITIVE if _any(self.was_hidden) and before is not None else before
        return Property(_spelled(path), shown, after, self._forces(path))

    def _forces(self, path: Path) -> bool:
        return any(_along(path, other) for other in self.forced)


def _pairs(gone: list[Json], come: list[tuple[Json, Any]]) -> Iterator[tuple[Json | None, Json | None, Any]]:
    """Before, after, what of it only AWS will know. A set has no order, so an item's next of kin may be anywhere."""
    left = list(come)
    for old in gone:
        kin = max(left, key=lambda found: sum(old.get(key) == value for key, value in found[0].items()), default=None)
        if kin is not None:
            left.remove(kin)
        yield (old, *kin) if kin is not None else (old, None, False)
    yield from ((None, item, hidden) for item, hidden in left)


def _unsaid(before: Any, after: Any) -> bool:
    """Neither says anything: the provider makes zero of null when it plans an update."""
    return before in NOTHING and (after in NOTHING or after in (0, False))


def _computed(row: Property, *, made: bool) -> bool:
    """Within what the program writes, AWS fills in what was never there."""
    return row.after == LATER and row.before in NOTHING and not row.forces and not made


def _along(path: Path, other: Path) -> bool:
    """One of them leads through the other."""
    short = min(len(path), len(other))
    return path[:short] == other[:short]


def _any(marked: Any) -> bool:
    """Something in a plan's marks is true."""
    if isinstance(marked, dict):
        return any(_any(item) for item in marked.values())
    return any(_any(item) for item in marked) if isinstance(marked, list) else marked is True


def _objects(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def _opened(value: Any) -> Any:
    """A text of JSON as what it says."""
    if not isinstance(value, str) or not value.startswith(("{", "[")):
        return value
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        return value


def _spelled(path: Path) -> str:
    text = ""
    for step in path:
        named = isinstance(step, str) and not step.startswith("[")
        text += f".{step}" if named and text else str(step) if isinstance(step, str) else f"[{step}]"
    return text


def _without_repeated_tags(found: list[Property]) -> list[Property]:
    """A tag of the resource's own is in tags_all too."""
    if any(row.path == "tags_all" for row in found):
        return [row for row in found if row.path != "tags"]
    own = {row.path.replace("tags.", "tags_all.", 1) for row in found if row.path.startswith("tags.")}
    return [row for row in found if row.path not in own]
