"""A cell of the fault table, and where those of the last whole run are kept: docs/faults.json and .md."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.fakes.writes import MODES, Mode

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / "docs" / "faults.json"
PAGE = ROOT / "docs" / "faults.md"
COMPONENTS = ("api", "proxy", "appender", "router")
DATABASES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}

HEAD = """# What a write that fails leaves

<!-- written by `python -m tests.faults.table --record` -->

The flow as steps on a platform in one process, with its databases, log, policies and signing service; keys, compute and what a
router counts are the tests' own. In each cell one write of one step fails: a commit, an object, a signature, a file of the log. It
fails before it took effect, or after it, when only the answer is lost. Then

- the caller must be refused with a retryable error. One write is not the caller's: the answer that is remembered for an
  `Idempotency-Key`. What was asked for has happened by then, and the caller must be told so;
- reconciliation and verification must find nothing;
- the same call again must succeed, and each event be there once. Twice may be decisions and signatures that had no effect yet,
  since a repeat decides anew, and `train.started`: a training that is ordered again after its answer was lost is a second run;
- reconciliation and verification must find nothing again.

"""

TAIL = """
*Appender*: the log's, in the API's process. The router's database is SQLite in both. [`faults.json`](faults.json) has every cell.
One step again:

```sh
TEST_DATABASE=postgresql python -m tests.faults.table --step promote
```

Not in this table: writes that share a commit, full disks, power cuts, a new bundle's look at live deployments (other tests of
`tests/faults` have them), witnesses (`tests/unit/test_audit_witnesses.py`), and processes that die ([kill9.md](kill9.md)).
"""


@dataclass(frozen=True)
class Cell:
    """One fault and what came of it. refused: the class of the error, empty for a caller who was told of success; wrong: empty
    when all is as it should be."""

    step: str
    component: str
    write: str
    number: int
    mode: Mode
    refused: str = ""
    wrong: tuple[str, ...] = ()


def read() -> dict[str, list[Cell]]:
    """Database → its cells."""
    found: dict[str, list[Cell]] = {}
    for item in json.loads(KEPT.read_text()) if KEPT.exists() else []:
        found.setdefault(item.pop("database"), []).append(Cell(**item | {"wrong": tuple(item["wrong"])}))
    return found


def record(database: str, cells: Sequence[Cell]) -> None:
    """Keeps the cells of a database beside those of the other, for machines and for people."""
    found = read() | {database: list(cells)}
    kept = {name: found[name] for name in DATABASES if name in found}
    lines = [json.dumps({"database": name} | asdict(cell)) for name, own in kept.items() for cell in own]
    KEPT.write_text("[\n" + ",\n".join(lines) + "\n]\n")
    PAGE.write_text(page(kept))


def page(found: Mapping[str, Sequence[Cell]]) -> str:
    """docs/faults.md."""
    columns = [_figures(cells) for cells in found.values()]
    lines = [_line("", *(DATABASES[name] for name in found)), _line("---", *("---" for _ in found))]
    lines += [_line(name, *(column[name] for column in columns)) for name in columns[0]]
    lines += ["", "Writes of each step, by component:", "", *steps(next(iter(found.values())))]
    return HEAD + "\n".join(lines) + "\n" + TAIL


def steps(cells: Sequence[Cell]) -> list[str]:
    """Writes of each step by component; every write was made to fail in both modes."""
    lines = [_line("step", *COMPONENTS, "wrong"), _line("---", *("---" for _ in COMPONENTS), "---")]
    for step in dict.fromkeys(cell.step for cell in cells):
        own = [cell for cell in cells if cell.step == step]
        counts = Counter(cell.component for cell in own)
        numbers = [str(counts[name] // len(MODES) or "") for name in COMPONENTS]
        lines.append(_line(step, *numbers, str(sum(bool(cell.wrong) for cell in own))))
    return lines


def total(cells: Sequence[Cell]) -> str:
    """The sum of all steps."""
    wrong = sum(bool(cell.wrong) for cell in cells)
    return f"{len(cells)} cells = {len(cells) // len(MODES)} writes × {len(MODES)} modes; wrong: {wrong}"


def _figures(cells: Sequence[Cell]) -> dict[str, str]:
    figures = {
        "steps": len({cell.step for cell in cells}),
        "writes": len(cells) // len(MODES),
        "cells": len(cells),
        "– refused with a retryable error": sum(bool(cell.refused) for cell in cells),
        "– told of success, as it has happened": sum(not cell.refused for cell in cells),
        "**wrong**": sum(bool(cell.wrong) for cell in cells),
    }
    return {name: str(number) for name, number in figures.items()}


def _line(*values: str) -> str:
    return f"| {' | '.join(values)} |"
