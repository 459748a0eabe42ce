"""The fault table: every write of the flow fails, before or after it took effect.

    [TEST_DATABASE=postgresql] python -m tests.faults.table [--step NAME | --record]

For each step of `flow.STEPS` a dry run lists its writes by component. Then, for each of them and each mode: the caller is refused
with a retryable error, reconciliation and verification find nothing, the same call again succeeds and happened once, and they find
nothing again. A minute.
"""

import argparse
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from services.core.errors import AiInfraError
from services.training.domain import StartRun
from tests import databases
from tests.fakes.writes import MODES, Fault, Writes
from tests.faults.cells import Cell, record, steps, total
from tests.faults.flow import AGAIN, STEPS, Flow, Step, ready
from tests.registry import Rig, copied

MEMORY = next((path for path in ("/dev/shm",) if os.access(path, os.W_OK)), None)
"""A file system in memory, where there is one: there a commit waits for no disk. No fault here depends on one."""


@cache
def _template() -> tuple[tempfile.TemporaryDirectory[str], Rig, StartRun]:
    folder = tempfile.TemporaryDirectory(prefix="ai-infra-faults-", dir=MEMORY)
    rig, order = ready(Path(folder.name))
    return folder, rig, order


@contextmanager
def opened() -> Iterator[Flow]:
    """A platform of its own that is ready for every step."""
    _, rig, order = _template()
    with tempfile.TemporaryDirectory(prefix="ai-infra-faults-", dir=MEMORY) as name:
        flow = Flow(copied(rig, Path(name) / "home", writes=Writes()), order)
        try:
            yield flow
        finally:
            flow.close()


@dataclass(frozen=True)
class Dry:
    """What a step does when nothing fails. writes: (component, what) of each, in order; events: how many of each type."""

    writes: tuple[tuple[str, str], ...]
    events: Counter[str]


def dry(flow: Flow, step: Step) -> Dry:
    it = step.prepare(flow, flow.tag())
    newest = flow.newest()
    flow.writes.begin()
    step.act(flow, it)
    return Dry(tuple(flow.writes.seen), flow.emitted(newest))


def cells_of(run: Dry, step: Step) -> Iterator[Cell]:
    """What has to be tried."""
    numbers: Counter[str] = Counter()
    for component, what in run.writes:
        for mode in MODES:
            yield Cell(step.name, component, what, numbers[component], mode)
        numbers[component] += 1


def tried(flow: Flow, step: Step, cell: Cell, events: Counter[str]) -> Cell:
    """The cell with what came of it. events: of the step when nothing fails."""
    it, wrong = step.prepare(flow, flow.tag()), list[str]()
    newest, happens = flow.newest(), Counter({name: n for name, n in events.items() if name not in AGAIN})
    flow.writes.begin(Fault(cell.component, cell.number, cell.mode))
    refused = ""
    try:
        step.act(flow, it)
        if cell.write != step.not_told:
            wrong.append("the caller was not told")
        wrong += [f"after the fault: {problem}" for problem in _other(happens, flow.emitted(newest))]
    except AiInfraError as error:
        refused = type(error).__name__
        if cell.write == step.not_told:
            wrong.append(f"the caller was refused what has happened: {error}")
        elif not error.retryable:
            wrong.append(f"not retryable: {refused}: {error}")
    wrong += [f"after the fault: {problem}" for problem in flow.problems()]
    try:
        step.act(flow, it)
    except AiInfraError as error:
        wrong.append(f"the same call again: {type(error).__name__}: {error}")
    wrong += [f"after the repeat: {problem}" for problem in _other(happens, flow.emitted(newest), step.twice)]
    wrong += [f"after the repeat: {problem}" for problem in flow.problems()]
    return Cell(**asdict(cell) | {"refused": refused, "wrong": tuple(wrong)})


def _other(wanted: Counter[str], found: Counter[str], twice: frozenset[str] = frozenset()) -> list[str]:
    """Where the events are not those that are wanted. What a repeat tells of beyond them is the next thing's, as of a next look."""
    return [
        f"{found[name]} events {name}, not {count}"
        for name, count in wanted.items()
        if found[name] != count and not (name in twice and found[name] == 2 * count)
    ]


def table(chosen: tuple[Step, ...] = STEPS) -> Iterator[Cell]:
    """Every cell, each step on a platform of its own."""
    for step in chosen:
        with opened() as flow:
            run = dry(flow, step)
            for cell in cells_of(run, step):
                yield tried(flow, step, cell, run.events)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.table", description=(__doc__ or "").splitlines()[0])
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--step", help="one step only")
    which.add_argument("--record", action="store_true", help="write the cells into docs/faults.json and docs/faults.md")
    options = parser.parse_args()
    cells = []
    for cell in table(tuple(step for step in STEPS if options.step in (None, step.name))):
        cells.append(cell)
        if cell.wrong:
            print(f"{cell.step}: {cell.component} {cell.number} {cell.write} {cell.mode}: {cell.wrong[0]}", file=sys.stderr)
    print("\n".join([*steps(cells), "", total(cells)]))
    if options.record:
        record(databases.CHOICE, cells)
    return 1 if any(cell.wrong for cell in cells) else 0


if __name__ == "__main__":
    raise SystemExit(main())
