"""A diff for people: lines of a terminal, and the Markdown of a comment on a pull request. It decides nothing."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from infra.differences import LATER, SENSITIVE, Property
from infra.rows import SCOPE, Action, Diff, Row

SYMBOLS: dict[Action, str] = {"create": "+", "update": "~", "replace": "±", "delete": "-", "forget": "o", "move": ">"}
SAID: dict[Action, str] = {
    "create": "to create",
    "update": "to update",
    "replace": "to replace",
    "delete": "to delete",
    "forget": "to leave to the account",
    "move": "to rename",
}
REFUSED: dict[Action, str] = {"replace": "replaced", "delete": "deleted", "forget": "left to the account"}
REMEDY = "take the protection away in a change of its own first, and be sure that nothing needs it; or keep it"
LIMIT = 60_000
"""Characters of a comment. GitHub takes 65,536."""
WIDEST = 300
"""Characters of one value that are shown."""


@dataclass(frozen=True)
class Line:
    """kind: what it is about, for colours: an action, or title, quiet or refused."""

    kind: str
    text: str


def lines(diff: Diff) -> Iterator[Line]:
    yield Line("title", f"{diff.stack} against {diff.base} ({diff.commit[:12]}): {summary(diff)}")
    yield Line("quiet", SCOPE)
    yield from (Line("quiet", note) for note in diff.notes)
    for row in diff.rows:
        yield Line(row.action, _headline(row))
        yield from (Line("forces" if item.forces else "property", f"    {line}") for item, line in _properties(row))
    for row in diff.refused:
        yield Line("refused", f"refused: {_refusal(row)}")


def summary(diff: Diff) -> str:
    return ", ".join(f"{number} {SAID[action]}" for action, number in diff.counts.items()) or "no changes"


def markdown(diff: Diff, limit: int = LIMIT) -> str:
    """A comment that begins with a marker, by which the next one finds and replaces it. limit: characters."""
    title = f"### `{diff.stack}`: {summary(diff)}"
    head = [f"<!-- ai-infra infra diff {diff.stack} -->", title, "", f"Against `{diff.base}`. {SCOPE}"]
    head += [f"- {_escaped(note)}" for note in diff.notes]
    head += [f"\n**Refused:** {_escaped(_refusal(row))}" for row in diff.refused]
    if not diff.rows:
        return "\n".join(head) + "\n"
    table = ["", "| | resource | what changes |", "|---|---|---|"]
    # Half of the room for what changes, the other for how: each says what it leaves out.
    room = limit - len("\n".join([*head, *table])) - 500
    rows = _fitting([_table_row(row) for row in diff.rows], room // 2)
    room -= sum(len(row) + 1 for row in rows)
    details = _fitting(["\n".join(_details(row)) for row in diff.rows if row.properties], room)
    return "\n".join([*head, *table, *rows, *_left_out(diff, rows), *_folded(diff, details)]) + "\n"


def _left_out(diff: Diff, rows: Sequence[str]) -> list[str]:
    missing = len(diff.rows) - len(rows)
    return ["", f"{missing} of {len(diff.rows)} rows are left out: `ai-infra infra diff` prints all."] if missing else []


def _folded(diff: Diff, details: Sequence[str]) -> list[str]:
    missing = sum(bool(row.properties) for row in diff.rows) - len(details)
    said = ["", f"Properties of {missing} resources are left out: `ai-infra infra diff` prints all."] if missing else []
    if not details:
        return said
    text = "\n".join(details)
    fence = "`" * max(3, *(len(ticks) + 1 for ticks in re.findall("`+", text)), 3)
    return ["", "<details><summary>Property by property</summary>", "", f"{fence}text", text, fence, "", "</details>", *said]


def _fitting(parts: Sequence[str], room: int) -> list[str]:
    """As many of the first ones as there is room for."""
    found = []
    for part in parts:
        room -= len(part) + 1
        if room < 0:
            break
        found.append(part)
    return found


def _table_row(row: Row) -> str:
    notes = [f"renamed from `{row.moved_from}`"] if row.moved_from else []
    notes += ["**protected**"] if row.protected else []
    forcing = [f"`{_cell(item.path)}` forces replacement" for item in row.properties if item.forces]
    others = [f"`{_cell(item.path)}`" for item in row.properties if not item.forces] if row.action != "create" else []
    more = [*others[:5], f"{len(others) - 5} more"] if len(others) > 6 else others
    return f"| {SYMBOLS[row.action]} {row.action} | `{_cell(row.address)}` | {', '.join([*notes, *forcing, *more])} |"


def _details(row: Row) -> Iterator[str]:
    yield _headline(row)
    yield from (f"    {line}" for _, line in _properties(row))


def _headline(row: Row) -> str:
    marks = [f"from {row.moved_from}"] if row.moved_from else []
    marks += ["protected"] if row.protected else []
    marked = f" ({', '.join(marks)})" if marks else ""
    return f"{SYMBOLS[row.action]} {row.address}  {row.action}{marked}"


def _properties(row: Row) -> Iterator[tuple[Property, str]]:
    for item in row.properties:
        before, after = _values(item)
        change = after if row.action == "create" else f"{before} → {after}"
        # Keys are the program's: one with a line end in it could write lines of its own.
        yield item, f"{_visible(item.path)}: {change}{'  # forces replacement' if item.forces else ''}"


def _refusal(row: Row) -> str:
    return f"{row.address} is protected and would be {REFUSED[row.action]}: {REMEDY}"


def _values(item: Property) -> tuple[str, str]:
    """Before and after. Of long ones that part is shown in which they begin to differ."""
    before, after = _value(item.before), _value(item.after)
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(before, after, strict=False)))
    return _cut(before, same), _cut(after, same)


def _value(value: Any) -> str:
    return str(value) if value in (SENSITIVE, LATER) else _visible(json.dumps(value, ensure_ascii=False))


def _cut(text: str, same: int) -> str:
    """same: characters at the beginning that need not be shown."""
    if len(text) <= WIDEST:
        return text
    start = max(0, min(same - WIDEST // 2, len(text) - WIDEST))
    end = "…" if start + WIDEST < len(text) else ""
    return f"{'…' if start else ''}{text[start : start + WIDEST]}{end} ({len(text)} characters)"


def _visible(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text)


def _cell(text: str) -> str:
    return _visible(text).replace("`", " ").replace("|", "\\|")


def _escaped(text: str) -> str:
    """Names as they are, and nothing of HTML."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("_", "\\_").replace("*", "\\*")
