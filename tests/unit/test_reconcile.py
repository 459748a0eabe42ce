"""Reconciliation finds every difference between state and log, each by what it is about, and none while others write."""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import (
    Boolean,
    Column,
    Float,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    UniqueConstraint,
    and_,
    delete,
    insert,
    literal,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.sql import visitors

from services.api.rules import RULES, Rule
from services.api.tables import metadata, outbox
from services.core.canonical import canonical, parse
from services.core.database import begin
from services.core.digests import sha256
from services.core.events import EventDraft, Subject
from services.registry.tables import datasets, flags, promotions
from services.serving.canary import Counts
from services.serving.tables import deployments, rollouts, routes
from services.training.tables import runs
from tests import databases
from tests.faults.flow import DARIO, EVE, STEPS, Flow, ready
from tests.registry import API, RITA, TOM, Rig, copied, opened
from tests.unit.test_serving_service import phase

Row = dict[str, Any]

UNTOLD = {
    "artifacts": {"meta", "uploaded_at"},
    "dataset_approvals": {"envelope"},
    "datasets": {"registered_at"},
    "decisions": {"at"},
    "deployments": {"bundle", "created_at", "files", "manifest"},
    "evaluations": {"issued_at"},
    "idempotency": {"actor", "at", "body", "key", "request", "status"},
    "model_versions": {"code_ref", "metrics", "registered_at", "signer_id"},
    "policies": {"at"},
    "prediction_batches": {"batch", "deployment", "first", "last", "object"},
    "promotions": {"requested_at", "summary"},
    "rollout_pairs": {"canary_right", "label", "probe", "rollout", "stable_right"},
    "rollouts": {"created_at", "since", "step"},
    "runs": {"finished_at", "started_at"},
}
"""Columns that no event tells of, by table; `rules` says why."""


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with opened(tmp_path) as rig:
        rig.promoted()
        rig.relay.flush()
        yield rig


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flow]:
    """Each step of the flow was done, and runs and rollouts are in each of their states. Tests leave it as they found it."""
    closed, order = ready(tmp_path_factory.mktemp("reconcile"))
    flow = Flow(copied(closed, closed.folder.parent / "flow"), order)
    for step in STEPS:
        step.act(flow, step.prepare(flow, flow.tag()))
    flow.quarantine.enforce()
    _train(flow)
    _roll_out(flow)
    assert problems(flow) == []
    yield flow
    flow.close()


def _train(flow: Flow) -> None:
    flow.training.cancel(flow.started("cancelled"), TOM)
    failed, again, completed = (str(flow.training.start(flow.order, TOM)["id"]) for _ in range(3))
    for run in (failed, again, completed):
        flow.compute.fail(run, "killed")
    flow.training.step()
    for run in (again, completed):
        flow.training.retry(run, EVE)
    flow.compute.finish(completed, finished_at=flow.rig.clock())
    flow.training.step()


def _roll_out(flow: Flow) -> None:
    flow.rolling("starting", 0)
    good = flow.rolling("good")
    flow.backend.seen = Counts((phase(0.1, 150), phase(0.5, 1500)))
    for _ in range(6):
        flow.rollouts.advance(good)
    for looks in (0, 2):
        flow.rollouts.abort(flow.rolling(f"aborted{looks}", looks), "not today", DARIO)
    held = [flow.rolling(name) for name in ("undecided", "extended", "completed")]
    flow.rig.now += 86_400
    flow.backend.seen = Counts((phase(0.1, 12),))
    for rollout in held:
        flow.rollouts.advance(rollout)
    flow.rollouts.extend(held[1], 500, 3600.0, "a quiet day", DARIO)
    flow.rollouts.complete(held[2], "seen by hand", DARIO)


def problems(flow: Flow) -> list[str]:
    return list(flow.rig.reconciler.run()["problems"])


@contextmanager
def replaced(flow: Flow, table: Table, *pairs: tuple[Row | None, Row | None]) -> Iterator[None]:
    """Rows in the place of others; None: there is none. As it was at the end."""
    _put(flow, table, pairs)
    yield
    _put(flow, table, [(new, old) for old, new in pairs])


def _put(flow: Flow, table: Table, pairs: Iterable[tuple[Row | None, Row | None]]) -> None:
    with begin(flow.rig.engine) as connection:
        for old, new in pairs:
            if old is None:
                connection.execute(insert(table).values(**(new or {})))
                continue
            this = and_(*(column == old[column.name] for column in table.primary_key))
            connection.execute(delete(table).where(this) if new is None else update(table).where(this).values(**new))


def rows_of(flow: Flow, rule: Rule) -> list[Row]:
    """Those that the rule is about."""
    with flow.rig.engine.connect() as connection:
        return [dict(row) for row in connection.execute(select(rule.table).where(rule.where)).mappings()]


def id_of(flow: Flow, rule: Rule, row: Row) -> str:
    this = and_(*(column == row[column.name] for column in rule.table.primary_key))
    with flow.rig.engine.connect() as connection:
        return str(connection.execute(select(rule.key).where(this)).scalar_one())


def other(flow: Flow, column: Column[Any], value: Any) -> Any:
    """Another value that the column takes."""
    if column.foreign_keys:
        with flow.rig.engine.connect() as connection:
            unused = deployments.c.id.not_in(select(rollouts.c.canary))
            return connection.execute(select(deployments.c.id).where(unused & (deployments.c.id != value))).scalar()
    if isinstance(column.type, String):
        return ("y" if str(value).startswith("x") else "x") + str(value or "")[1:]
    if isinstance(column.type, Boolean):
        return not value
    if isinstance(column.type, Integer | Float):
        return value + 1000
    return b"[]" if isinstance(column.type, LargeBinary) else {"another": "value"}


def unique(table: Table) -> set[str]:
    """Columns that no two rows may have alike."""
    together = [item.columns.keys() for item in table.constraints if isinstance(item, UniqueConstraint)]
    return {name for names in (table.primary_key.columns.keys(), *together) for name in names}


def columns_of(rule: Rule) -> dict[str, Column[Any]]:
    """Column that is told of → a column of the table that it comes from."""
    found = {column.name: column for column in rule.rows.selected_columns if column.name not in ("id", "routed")}
    return {name: _sources(column, rule.table)[0] for name, column in found.items()}


def _sources(expression: Any, table: Table) -> list[Column[Any]]:
    return [item for item in visitors.iterate(expression) if isinstance(item, Column) and item.table is table]


def test_every_column_of_the_platform_database_is_compared_or_listed() -> None:
    compared: dict[str, set[str]] = {table: set(columns) for table, columns in UNTOLD.items()}
    for rule in RULES:
        for item in visitors.iterate(rule.rows):
            if isinstance(item, Column):
                assert item.name not in UNTOLD.get(item.table.name, ())
                compared.setdefault(item.table.name, set()).add(item.name)
    assert compared == {table.name: {c.name for c in table.c} for table in metadata.sorted_tables if table is not outbox}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_row_that_was_written_by_hand_has_no_event(flow: Flow, rule: Rule) -> None:
    row = rows_of(flow, rule)[0]
    again = row | {name: other(flow, rule.table.c[name], row[name]) for name in unique(rule.table)}
    if rule.name == "canary":
        again["canary"] = other(flow, rollouts.c.canary, row["canary"])
    with replaced(flow, rule.table, (None, again)):
        assert f"{rule.name} {id_of(flow, rule, again)} has no {rule.made_by} event" in problems(flow)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_an_event_whose_row_was_deleted_has_none(flow: Flow, rule: Rule) -> None:
    for row in rows_of(flow, rule):
        item = id_of(flow, rule, row)
        try:
            with replaced(flow, rule.table, (row, None)):
                assert f"a {rule.made_by} event names {item}, which no {rule.name} is" in problems(flow)
            return
        except IntegrityError:
            pass  # another row refers to it
    pytest.fail("no row could be deleted")


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_each_column_that_was_edited_is_named(flow: Flow, rule: Rule) -> None:
    rows = {id_of(flow, rule, row): row for row in rows_of(flow, rule)}
    for name, column in columns_of(rule).items():
        pairs = [(row, row | {column.name: other(flow, column, row[column.name])}) for row in rows.values()]
        with replaced(flow, rule.table, *pairs):
            found = problems(flow)
        told = {item for item, row in rows.items() if is_told(rule, name, row)}
        assert {item for item in rows if any(text.startswith(f"{rule.name} {item}: {name} is ") for text in found)} == told


def is_told(rule: Rule, name: str, row: Row) -> bool:
    """Whether there was an event yet that tells of the column."""
    if rule.name == "rollout" and row["rule"] is None:
        return name in ("canary", "event", "reason", "state", "weight")
    last = {"run": ("metrics", "rerun_of"), "promotion": ("decision_id",)}
    return name not in last.get(rule.name, ()) or row["state"] == "completed"


STATES = {
    runs: ("running", "completed", "failed", "cancelled"),
    promotions: ("requested", "completed"),
    deployments: ("serving", "quarantined", "stopped"),
    rollouts: ("starting", "running", "undecided", "completed", "rolled_back", "aborted"),
}


@pytest.mark.parametrize("table", STATES, ids=lambda table: table.name)
def test_each_state_that_was_set_by_hand_is_named(flow: Flow, table: Table) -> None:
    for state in STATES[table]:
        with flow.rig.engine.connect() as connection:
            row = dict(connection.execute(select(table).where(table.c.state == state)).mappings().first() or {})
        assert row, f"no row is {state}"
        for new in set(STATES[table]) - {state}:
            with replaced(flow, table, (row, row | {"state": new})):
                found = problems(flow)
            assert len(found) == 1, (state, new)
            assert row["id"] in found[0]


def test_a_flag_that_was_lifted_or_set_again_by_hand_is_named(flow: Flow) -> None:
    with flow.rig.engine.connect() as connection:
        row = dict(connection.execute(select(flags).where(flags.c.clearance.is_not(None))).mappings().first() or {})
        active = dict(connection.execute(select(flags).where(flags.c.clearance.is_(None))).mappings().first() or {})
    for found, clearance in ((row, None), (active, row["clearance"])):
        with replaced(flow, flags, (found, found | {"clearance": clearance})):
            (problem,) = problems(flow)
        assert problem.startswith(f"flag {found['id']}: clearance is {clearance!r}, the log says ")


def test_a_route_that_was_moved_or_deleted_is_named(flow: Flow) -> None:
    with flow.rig.engine.connect() as connection:
        row = dict(connection.execute(select(routes)).mappings().first() or {})
    moved = other(flow, routes.c.stable, row["stable"])
    lost = f"deployment {row['stable']}: routed is False, the log says True"
    with replaced(flow, routes, (row, None)):
        assert problems(flow) == [lost]
    with replaced(flow, routes, (row, row | {"stable": moved})):
        assert lost in problems(flow)
    with replaced(flow, routes, (row, row | {"model": "another"})):
        assert problems(flow) == [lost]
    with replaced(flow, routes, (None, row | {"model": "another", "stable": moved})):
        assert problems(flow) == []


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


def end_of_outbox_deleted(rig: Rig) -> str:
    with begin(rig.engine) as connection:
        row = connection.execute(select(outbox).order_by(outbox.c.seq.desc()).limit(1)).one()
        connection.execute(delete(outbox).where(outbox.c.seq == row.seq))
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


def changed_before_it_was_made(rig: Rig) -> str:
    payload = {"reason": "undeployed", "state": "quarantined"}
    with begin(rig.engine) as connection:
        event = rig.outbox.emit(connection, EventDraft("deploy.stopped", API, Subject("deployment", "dep-1"), payload))
    return f"event {event} of type deploy.stopped changes dep-1, which no event before it made"


def lifted_in_the_log_alone(rig: Rig) -> str:
    flag = rig.flag()
    with begin(rig.engine) as connection:
        draft = EventDraft("quarantine.lifted", API, Subject("model", "digits@1"), {"flag": flag}, signature_ref=sha256(b"x"))
        rig.outbox.emit(connection, draft)
    return f"flag {flag}: clearance is None, the log says {sha256(b'x')!r}"


@pytest.mark.parametrize(
    "spoil",
    [
        edited_outbox, deleted_from_outbox, end_of_outbox_deleted, marked_as_sent, malformed_event, changed_before_it_was_made,
        lifted_in_the_log_alone,
    ],
)  # fmt: skip
def test_each_difference_is_named(rig: Rig, spoil: Callable[[Rig], str]) -> None:
    said = spoil(rig)
    problems = rig.reconciler.run()["problems"]
    assert len(problems) == 1
    assert said in problems[0]


@pytest.mark.skipif(databases.CHOICE != "sqlite", reason="PostgreSQL takes no text that is not JSON")
@pytest.mark.parametrize("parents", ["[", "[" * 100_000])
def test_json_that_cannot_be_read_is_a_difference_too(rig: Rig, parents: str) -> None:
    with begin(rig.engine) as connection:
        connection.execute(update(datasets).where(datasets.c.name == "digits").values(parents=literal(parents, Text)))
    (problem,) = rig.reconciler.run()["problems"]
    assert f": parents is '{parents[:50]}" in problem
    assert ", the log says " in problem


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
