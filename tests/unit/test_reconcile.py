"""Reconciliation finds every difference between state and log, each by what it is about, and none while others write."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import delete, insert, select, update

from services.api.tables import outbox
from services.core.canonical import canonical, parse
from services.core.database import begin
from services.core.events import EventDraft, Subject
from services.registry import tables
from tests.registry import API, RITA, TOM, Rig, opened


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with opened(tmp_path) as rig:
        rig.promoted()
        rig.relay.flush()
        yield rig


def row_without_event(rig: Rig) -> str:
    values = {"licence": "MIT", "pii": "none", "parents": [], "registered_by": TOM, "registered_at": 1}
    with begin(rig.engine) as connection:
        connection.execute(insert(tables.datasets).values(id="sha256:" + "0" * 64, name="ghost", version="1", **values))
    return f"data set sha256:{'0' * 64} has no dataset.registered event"


def event_without_row(rig: Rig) -> str:
    with begin(rig.engine) as connection:
        gone = connection.execute(select(tables.evaluations.c.payload)).scalar()
        connection.execute(delete(tables.evaluations))
    return f"a evaluation.recorded event names {gone}, which no evaluation is"


def edited_stage(rig: Rig) -> str:
    with begin(rig.engine) as connection:
        connection.execute(update(tables.model_versions).values(stage="prod"))
    return "model version digits@1 is in prod; the log says staging"


def edited_risk_class(rig: Rig) -> str:
    with begin(rig.engine) as connection:
        connection.execute(update(tables.model_versions).values(risk_class="low"))
    return "model version digits@1 is in staging; the log says staging (or another artifact or risk class)"


def version_without_event(rig: Rig) -> str:
    with begin(rig.engine) as connection:
        row = connection.execute(select(tables.model_versions)).mappings().one()
        connection.execute(insert(tables.model_versions).values(**dict(row) | {"number": 2}))
    return "model version digits@2 has no model.registered event"


def deleted_version(rig: Rig) -> str:
    with begin(rig.engine) as connection:
        connection.execute(delete(tables.model_versions))
    return "a model.registered event names digits@1, which no model version is"


def completed_by_hand(rig: Rig) -> str:
    promotion = rig.request(to="prod")
    with begin(rig.engine) as connection:
        connection.execute(update(tables.promotions).where(tables.promotions.c.id == promotion).values(state="completed"))
    return f"completed promotion {promotion} has no promotion.completed event"


def edited_outbox(rig: Rig) -> str:
    with begin(rig.engine) as connection:
        row = connection.execute(select(outbox).where(outbox.c.seq == 3)).one()
        event = parse(row.event) | {"actor": RITA}
        connection.execute(update(outbox).where(outbox.c.seq == 3).values(event=canonical(event)))
    return f"event {row.id} has another content in the log"


def deleted_from_outbox(rig: Rig) -> str:
    with begin(rig.engine) as connection:
        row = connection.execute(select(outbox).where(outbox.c.seq == 3)).one()
        connection.execute(delete(outbox).where(outbox.c.seq == 3))
    return f"the log has event {row.id}, which the platform's outbox does not have"


def marked_as_sent(rig: Rig) -> str:
    with begin(rig.engine) as connection:
        event = rig.outbox.emit(connection, EventDraft("policyCheck", API, Subject("x", "y")))
        connection.execute(update(outbox).where(outbox.c.id == event).values(log_index=7))
    return f"event {event} is not in the log"


def malformed_event(rig: Rig) -> str:
    with begin(rig.engine) as connection:
        event = rig.outbox.emit(connection, EventDraft("quarantine.set", API, Subject("model", "digits@1")))
    return f"event {event} of type quarantine.set lacks"


def test_a_platform_as_it_should_be_has_no_problem(rig: Rig) -> None:
    found = rig.reconciler.run()
    assert (found["problems"], found["events"]) == ([], rig.audit.size())
    assert found["rows"] == 10


@pytest.mark.parametrize(
    "spoil",
    [
        row_without_event, event_without_row, edited_stage, edited_risk_class, version_without_event, deleted_version,
        completed_by_hand, edited_outbox, deleted_from_outbox, marked_as_sent, malformed_event,
    ],
)  # fmt: skip
def test_each_difference_is_named(rig: Rig, spoil: Callable[[Rig], str]) -> None:
    said = spoil(rig)
    problems = rig.reconciler.run()["problems"]
    assert len(problems) == 1
    assert said in problems[0]


def test_writes_at_the_same_time_are_no_difference(rig: Rig) -> None:
    done = threading.Event()

    def write() -> None:
        for number in range(15):
            rig.dataset(f"set-{number}")
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    problems = []
    while not done.is_set():
        problems += rig.reconciler.run()["problems"]
    writer.join()
    assert problems + rig.reconciler.run()["problems"] == []
