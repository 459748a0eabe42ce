"""The fault table: every write of the flow fails, before or after it took effect.

    [TEST_DATABASE=postgresql] python -m tests.faults.table [--json] [--step NAME]

For each step of `flow.STEPS` a dry run lists its writes by component. Then, for each of them and each mode: the caller is refused
with a retryable error, reconciliation and verification find nothing, the same call again succeeds, and they find nothing again.
"""

import argparse
import json
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
from tests.fakes.writes import MODES, Fault, Mode, Writes
from tests.faults.flow import STEPS, Flow, Step, ready
from tests.registry import Rig, copied

COMPONENTS = ("api", "proxy", "appender", "router")
MEMORY = next((path for path in ("/dev/shm",) if os.access(path, os.W_OK)), None)
"""A file system in memory, where there is one: there a commit waits for no disk. No fault here depends on one."""


@dataclass(frozen=True)
class Cell:
    """One fault and what came of it; `wrong` is empty when all is as it should be."""

    step: str
    component: str
    write: str
    number: int
    mode: Mode
    refused: str = ""
    wrong: tuple[str, ...] = ()


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


def writes_of(flow: Flow, step: Step) -> list[tuple[str, str]]:
    """(component, what) of each write of a step, in order."""
    it = step.prepare(flow, flow.tag())
    flow.writes.begin()
    step.act(flow, it)
    return list(flow.writes.seen)


def cells_of(writes: list[tuple[str, str]], step: Step) -> Iterator[Cell]:
    """What has to be tried."""
    numbers: Counter[str] = Counter()
    for component, what in writes:
        for mode in MODES:
            yield Cell(step.name, component, what, numbers[component], mode)
        numbers[component] += 1


def tried(flow: Flow, step: Step, cell: Cell) -> Cell:
    """The cell with what came of it."""
    it, wrong = step.prepare(flow, flow.tag()), list[str]()
    flow.writes.begin(Fault(cell.component, cell.number, cell.mode))
    refused = ""
    try:
        step.act(flow, it)
        wrong.append("the caller was not told")
    except AiInfraError as error:
        refused = type(error).__name__
        if not error.retryable:
            wrong.append(f"not retryable: {refused}: {error}")
    wrong += [f"after the fault: {problem}" for problem in flow.problems()]
    try:
        step.act(flow, it)
    except AiInfraError as error:
        wrong.append(f"the same call again: {type(error).__name__}: {error}")
    wrong += [f"after the repeat: {problem}" for problem in flow.problems()]
    return Cell(**asdict(cell) | {"refused": refused, "wrong": tuple(wrong)})


def table(steps: tuple[Step, ...] = STEPS) -> Iterator[Cell]:
    """Every cell, each step on a platform of its own."""
    for step in steps:
        with opened() as flow:
            for cell in cells_of(writes_of(flow, step), step):
                yield tried(flow, step, cell)


def markdown(cells: list[Cell]) -> str:
    """Writes of each step by component; every write was made to fail in both modes."""
    lines = ["| step | " + " | ".join(COMPONENTS) + " | wrong |", "|---|" + "---|" * (len(COMPONENTS) + 1)]
    for step in STEPS:
        own = [cell for cell in cells if cell.step == step.name]
        counts = Counter(cell.component for cell in own)
        numbers = [str(counts[name] // len(MODES) or "") for name in COMPONENTS]
        lines.append(f"| {step.name} | {' | '.join(numbers)} | {sum(bool(cell.wrong) for cell in own)} |")
    total = f"{len(cells)} cells = {len(cells) // len(MODES)} writes × {len(MODES)} modes"
    return "\n".join([*lines, "", f"{total}; wrong: {sum(bool(cell.wrong) for cell in cells)}"])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.table", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="every cell as a line of JSON")
    parser.add_argument("--step", help="one step only")
    options = parser.parse_args()
    cells = []
    for cell in table(tuple(step for step in STEPS if options.step in (None, step.name))):
        cells.append(cell)
        if options.json:
            print(json.dumps(asdict(cell)), flush=True)
        elif cell.wrong:
            print(f"{cell.step}: {cell.component} {cell.number} {cell.write} {cell.mode}: {cell.wrong[0]}", file=sys.stderr)
    if not options.json:
        print(markdown(cells))
    return 1 if any(cell.wrong for cell in cells) else 0


if __name__ == "__main__":
    raise SystemExit(main())
