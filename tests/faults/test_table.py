"""The fault table's cells are known: no new write is missed. One cell in a few is tried here, by `table` all of them; what it found
last is in docs/faults.md."""

from collections import Counter

import pytest

from services.core.events import TYPES
from tests.fakes.writes import MODES
from tests.faults.cells import COMPONENTS, DATABASES, PAGE, Cell, page, read, total
from tests.faults.flow import STEPS, Step
from tests.faults.table import Dry, cells_of, dry, opened, tried

SIGNED = {"signature.requested", "signature.made"}
KNOWN: dict[str, tuple[dict[str, int], set[str]]] = {
    "register a data set": ({"api": 2}, {"dataset.registered"}),
    "approve a data set": ({"api": 2}, {"dataset.approved"}),
    "order a training": ({"api": 4, "appender": 1}, {"policyCheck", "train.started"}),
    "finish a training": ({"api": 6, "proxy": 3, "appender": 2}, {"artifact.uploaded", "train.completed", *SIGNED}),
    "a training fails": ({"api": 1}, {"train.failed"}),
    "retry a training": ({"api": 3, "appender": 1}, {"policyCheck", "train.started"}),
    "cancel a training": ({"api": 1}, {"train.failed"}),
    "repeat a training": ({"api": 4, "appender": 1}, {"policyCheck", "train.started"}),
    "upload an artifact": ({"api": 2}, {"artifact.uploaded"}),
    "register a version": ({"api": 2, "proxy": 3, "appender": 2}, {"model.registered", *SIGNED}),
    "evaluate": ({"api": 2, "proxy": 3, "appender": 2}, {"evaluation.recorded", *SIGNED}),
    "request a promotion": ({"api": 2}, {"promotion.requested"}),
    "approve a promotion": ({"api": 2}, {"promotion.approved"}),
    "promote": ({"api": 8, "proxy": 9, "appender": 9}, {"policyCheck", "promotion.completed", *SIGNED}),
    "deploy": ({"api": 4, "appender": 1}, {"policyCheck", "deploy.started"}),
    "start a rollout": ({"api": 4, "appender": 1}, {"policyCheck", "deploy.started"}),
    "rollout: the canary is ready": ({"api": 1}, set()),
    "rollout: traffic begins": ({"api": 1}, {"rollout.started"}),
    "rollout: a step": ({"api": 2}, {"rollout.step"}),
    "rollout: full traffic": ({"api": 2}, {"rollout.completed", "deploy.stopped"}),
    "rollout: back": ({"api": 2}, {"rollback", "deploy.stopped"}),
    "rollout: undecided": ({"api": 2}, {"rollout.step"}),
    "extend a rollout": ({"api": 1}, {"rollout.extended"}),
    "complete a rollout": ({"api": 1}, {"rollout.completed", "deploy.stopped"}),
    "abort a rollout": ({"api": 1}, {"rollback", "deploy.stopped"}),
    "set a flag": ({"api": 1}, {"quarantine.set"}),
    "set a flag over HTTP, with an Idempotency-Key": ({"api": 2}, {"quarantine.set"}),
    "quarantine": ({"api": 1}, {"deploy.stopped"}),
    "quarantine within a rollout": ({"api": 1}, {"rollback", "deploy.stopped"}),
    "lift a flag": ({"api": 4, "appender": 1}, {"policyCheck", "quarantine.lifted"}),
    "resume": ({"api": 2, "appender": 1}, {"deploy.started"}),
    "undeploy": ({"api": 1}, {"deploy.stopped"}),
    "publish policies": ({"api": 5}, {"policyCheck", "policy.published"}),
    "record a prediction": ({"router": 1}, set()),
    "seal predictions": ({"router": 1}, {"predictions.sealed"}),
    "keep a predictor's records": ({"api": 2}, {"predictions.sealed"}),
    "deliver the router's events": ({"appender": 1, "router": 1}, set()),
    "deliver the platform's events": ({"api": 1, "appender": 1}, set()),
    "publish a checkpoint": ({"proxy": 2, "appender": 3}, set()),
}
"""How often each component writes in each step, and the types of the events that it tells of."""
SAMPLED = 7
"""One cell of so many, and at least one of each step. Odd, since a write's two modes follow each other."""


def sample(number: int, step: Step, cells: list[Cell]) -> list[Cell]:
    """Those of the step of this number that are tried here; of a write that the caller is not told of both, for no other step has
    one."""
    chosen = cells[number % min(SAMPLED, len(cells)) :: SAMPLED]
    return [cell for cell in cells if cell in chosen or cell.write == step.not_told]


@pytest.mark.parametrize(("number", "step"), list(enumerate(STEPS)), ids=lambda value: getattr(value, "name", ""))
def test_the_writes_of_a_step_are_known_and_one_that_fails_is_made_good_by_a_repeat(number: int, step: Step) -> None:
    with opened() as flow:
        run = dry(flow, step)
        assert (Counter(component for component, _ in run.writes), set(run.events)) == KNOWN[step.name]
        chosen = sample(number, step, list(cells_of(run, step)))
        assert [cell.wrong for cell in (tried(flow, step, cell, run.events) for cell in chosen)] == [()] * len(chosen)


def known_cells(step: Step) -> list[Cell]:
    writes = [(name, "w") for name, count in KNOWN[step.name][0].items() for _ in range(count)]
    return list(cells_of(Dry(tuple(writes), Counter()), step))


def test_every_type_of_event_is_told_of_by_a_step() -> None:
    assert set[str]().union(*(events for _, events in KNOWN.values())) == TYPES


def test_every_component_and_mode_is_tried_here() -> None:
    tried_here = {(cell.component, cell.mode) for n, step in enumerate(STEPS) for cell in sample(n, step, known_cells(step))}
    assert tried_here == {(component, mode) for component in COMPONENTS for mode in MODES}


@pytest.mark.parametrize("database", DATABASES)
def test_the_last_record_is_of_every_write_and_found_nothing(database: str) -> None:
    cells = read()[database]
    assert Counter((cell.step, cell.component, cell.number, cell.mode) for cell in cells) == Counter(
        (cell.step, cell.component, cell.number, cell.mode) for step in STEPS for cell in known_cells(step)
    )
    assert total(cells).endswith("; wrong: 0")


def test_the_page_says_what_the_record_is() -> None:
    assert page(read()) == PAGE.read_text()
