"""The fault table's cells are known: no new write is missed. One cell in a few is tried here, by `table` all of them."""

from collections import Counter

import pytest

from tests.fakes.writes import MODES
from tests.faults.flow import STEPS, Step
from tests.faults.table import COMPONENTS, Cell, cells_of, markdown, opened, tried, writes_of

WRITES = {
    "register a data set": {"api": 2},
    "approve a data set": {"api": 2},
    "order a training": {"api": 5, "appender": 1},
    "finish a training": {"api": 6, "proxy": 5, "appender": 2},
    "register a version": {"api": 2, "proxy": 5, "appender": 2},
    "evaluate": {"api": 2, "proxy": 5, "appender": 2},
    "request a promotion": {"api": 2},
    "approve a promotion": {"api": 2},
    "promote": {"api": 10, "proxy": 15, "appender": 9},
    "deploy": {"api": 4, "appender": 1},
    "start a rollout": {"api": 4, "appender": 1},
    "rollout: the canary is ready": {"api": 1},
    "rollout: traffic begins": {"api": 1},
    "rollout: a step": {"api": 2},
    "rollout: back": {"api": 2},
    "set a flag": {"api": 1},
    "quarantine": {"api": 1},
    "lift a flag": {"api": 5, "appender": 1},
    "resume": {"api": 2, "appender": 1},
    "undeploy": {"api": 1},
    "publish policies": {"api": 5},
    "record a prediction": {"router": 1},
    "seal predictions": {"router": 1},
    "keep a predictor's records": {"api": 2},
    "deliver the router's events": {"appender": 1, "router": 1},
    "deliver the platform's events": {"api": 1, "appender": 1},
    "publish a checkpoint": {"proxy": 2, "appender": 3},
}
"""How often each component writes in each step."""
SAMPLED = 5
"""One cell of so many, and at least one of each step. Odd, since a write's two modes follow each other."""


def sample(number: int, cells: list[Cell]) -> list[Cell]:
    """Those of the step of this number that are tried here."""
    return cells[number % min(SAMPLED, len(cells)) :: SAMPLED]


@pytest.mark.parametrize(("number", "step"), list(enumerate(STEPS)), ids=lambda value: getattr(value, "name", ""))
def test_the_writes_of_a_step_are_known_and_one_that_fails_is_made_good_by_a_repeat(number: int, step: Step) -> None:
    with opened() as flow:
        writes = writes_of(flow, step)
        assert Counter(component for component, _ in writes) == WRITES[step.name]
        chosen = sample(number, list(cells_of(writes, step)))
        assert [cell.wrong for cell in (tried(flow, step, cell) for cell in chosen)] == [()] * len(chosen)


def known_cells(step: Step) -> list[Cell]:
    return list(cells_of([(name, "w") for name, count in WRITES[step.name].items() for _ in range(count)], step))


def test_the_table_counts_every_write_of_the_flow() -> None:
    cells = [cell for step in STEPS for cell in known_cells(step)]
    assert len(cells) == 250
    assert markdown(cells).endswith("250 cells = 125 writes × 2 modes; wrong: 0")


def test_every_component_and_mode_is_tried_here() -> None:
    tried_here = {(cell.component, cell.mode) for n, step in enumerate(STEPS) for cell in sample(n, known_cells(step))}
    assert tried_here == {(component, mode) for component in COMPONENTS for mode in MODES}
