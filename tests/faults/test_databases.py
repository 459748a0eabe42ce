"""Both databases give the same answers under contention, and errors of theirs are ours."""

import itertools
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from fastapi import APIRouter
from fastapi.testclient import TestClient
from sqlalchemy import Column, Engine, Integer, MetaData, Table, insert, literal, select
from sqlalchemy.exc import OperationalError

from services.api.app import build_app
from services.core.database import begin, open_engine
from services.core.errors import BadInput, Conflict, Unavailable
from services.core.events import EventDraft, Subject
from services.core.outbox import BATCH_BYTES, Outbox, Relay, outbox_table
from services.core.turns import Shared, Turns
from tests import databases
from tests.fakes.audit_bus import MemoryAuditBus
from tests.fakes.statements import around_statements
from tests.unit.test_platform_http import AsCaller, as_, problem

metadata = MetaData()
OUTBOX = outbox_table(metadata)
THINGS = Table("things", metadata, Column("id", Integer, primary_key=True))
SOURCE = "spiffe://x/service/a"


@pytest.fixture(params=["sqlite", "postgresql"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator["Bench"]:
    found = Bench(databases.url(tmp_path, "database", request.param))
    yield found
    found.engine.dispose()


class Bench:
    """A database with an outbox and a table, and a log in memory."""

    def __init__(self, url: str) -> None:
        self.engine, self.bus = open_engine(url), MemoryAuditBus()
        metadata.create_all(self.engine)
        self.outbox = Outbox(OUTBOX, SOURCE, lambda: 7)

    def once(self, number: int) -> bool:
        """Whether this call wrote the row: what every use case does that is idempotent by name."""
        with begin(self.engine) as connection:
            if connection.execute(select(THINGS).where(THINGS.c.id == number)).first() is not None:
                return False
            connection.execute(insert(THINGS).values(id=number))
            self.outbox.emit(connection, EventDraft("policyCheck", SOURCE, Subject("thing", str(number))))
            return True

    def slowly(self, number: int) -> None:
        """Writes it in a transaction that takes so long that others come meanwhile."""
        with begin(self.engine) as connection:
            connection.execute(insert(THINGS).values(id=number))
            time.sleep(0.002)

    def things(self) -> set[int]:
        with self.engine.connect() as connection:
            return set(connection.execute(select(THINGS.c.id)).scalars())


def test_of_equal_writes_at_once_one_is_made_and_the_others_find_it(bench: Bench) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(bench.once, [number for number in range(10) for _ in range(8)]))
    assert sum(made) == 10
    assert Relay(bench.engine, bench.outbox, bench.bus).flush() == 10
    assert [event["seq"] for event in bench.bus.events] == list(range(1, 11))


class Commits:
    """Counts an engine's commits; fails them instead, if told to."""

    def __init__(self, engine: Engine, *, fail: bool = False) -> None:
        self.count, self.fail = 0, fail
        around_statements(engine, self._before, lambda *_: None)

    def _before(self, statement: str, alone: bool) -> None:
        if statement == "COMMIT":
            self.count += 1
            if self.fail:
                raise OperationalError(statement, {}, OSError("the disk is full"))


def at_once(write: Callable[[int], object], numbers: range) -> set[int]:
    """The numbers whose write was acknowledged, of eight threads'."""

    def acknowledged(number: int) -> bool:
        try:
            write(number)
        except (Unavailable, BadInput, RuntimeError):
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        return {number for number, made in zip(numbers, pool.map(acknowledged, numbers), strict=True) if made}


def test_writers_at_once_share_commits_and_each_fails_for_itself(bench: Bench) -> None:
    commits = Commits(bench.engine)

    def write(number: int) -> None:
        with begin(bench.engine) as connection:
            connection.execute(insert(THINGS).values(id=number))
            bench.outbox.emit(connection, EventDraft("policyCheck", SOURCE, Subject("thing", str(number))))
            time.sleep(0.002)  # the others come meanwhile
            if number % 3 == 0:
                raise BadInput("after its writes")

    assert at_once(write, range(80)) == bench.things() == {number for number in range(80) if number % 3}
    assert commits.count < len(bench.things()) / 2
    Relay(bench.engine, bench.outbox, bench.bus).flush()
    assert [event["seq"] for event in bench.bus.events] == list(range(1, len(bench.things()) + 1))


def test_of_a_shared_transaction_that_breaks_nobody_is_told_that_it_was_committed(bench: Bench) -> None:
    ending = "ROLLBACK" if bench.engine.dialect.name == "sqlite" else "SELECT pg_terminate_backend(pg_backend_pid())"

    def write(number: int) -> None:
        with begin(bench.engine) as connection:
            connection.execute(insert(THINGS).values(id=number))
            time.sleep(0.002)
            if number % 10 == 9:
                connection.exec_driver_sql(ending)

    acknowledged = at_once(write, range(80))
    assert acknowledged == bench.things()
    assert not any(number % 10 == 9 for number in acknowledged)
    assert bench.once(100)


def test_a_commit_that_fails_is_told_to_all_who_share_it(bench: Bench) -> None:
    commits = Commits(bench.engine, fail=True)
    assert at_once(bench.slowly, range(40)) == bench.things() == set()
    assert commits.count < 40
    commits.fail = False
    assert at_once(bench.slowly, range(40)) == bench.things() == set(range(40))


def test_a_savepoint_that_cannot_be_made_takes_nothing_from_the_parts_before(bench: Bench) -> None:
    made = itertools.count(1)

    def strike(statement: str, alone: bool) -> None:
        if statement.startswith("SAVEPOINT") and next(made) % 3 == 0:
            raise OperationalError(statement, {}, OSError("no memory"))

    around_statements(bench.engine, strike, lambda *_: None)
    assert at_once(bench.slowly, range(80)) == bench.things()
    assert next(made) > 3


def test_a_write_whose_time_is_over_keeps_no_turn() -> None:
    """Turns that are given in the moment in which the waiting ends. Giving one takes long here, line by line."""
    turns, stop, start = Turns(), time.monotonic() + 1.0, threading.Barrier(8)
    made, ended = set[Shared](), set[Shared]()
    no_connection: Any = None

    def slowly(frame: Any, _event: str, _argument: Any) -> Any:
        if frame.f_code is not Turns.pass_on.__code__:
            return None
        time.sleep(1e-4)
        return slowly

    def write(number: int) -> int:
        chance, late = random.Random(number), 0
        start.wait()
        while time.monotonic() < stop:
            try:
                shared = turns.take(True, chance.random() * 2e-3) or Shared(no_connection, True)
                made.add(shared)
            except Unavailable:
                late += 1
                continue
            sys.settrace(slowly)
            passed_on = turns.pass_on(shared)
            sys.settrace(None)
            if not passed_on:
                ended.add(shared)
                turns.end()
        return late

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(write, range(8))) > 0
    assert made == ended
    assert turns.take(True, 1.0) is None


def test_an_error_that_is_caught_within_a_transaction_does_not_pass_for_a_commit(tmp_path: Path) -> None:
    engine = open_engine(databases.url(tmp_path, "database", "postgresql"))
    with pytest.raises(RuntimeError, match="caught within"), begin(engine) as connection, suppress(BadInput):
        connection.exec_driver_sql("SELECT 1/0")
    engine.dispose()


def test_a_text_that_a_database_cannot_hold_is_its_senders_error(bench: Bench) -> None:
    asked = select(literal("a\0b"))
    with bench.engine.connect() as connection:
        if bench.engine.dialect.name == "sqlite":
            assert connection.execute(asked).scalar() == "a\0b"
        else:
            with pytest.raises(BadInput, match="NUL"):
                connection.execute(asked)


def test_a_name_that_is_taken_is_a_conflict(bench: Bench) -> None:
    bench.once(1)
    with pytest.raises(Conflict, match="took this name"), begin(bench.engine) as connection:
        connection.execute(insert(THINGS).values(id=1))


@pytest.mark.parametrize("state", ["40001", "40P01", "55P03", "53100", "57P01"], ids=lambda state: f"SQLSTATE {state}")
def test_what_postgresql_breaks_off_may_be_repeated(state: str, tmp_path: Path) -> None:
    engine = open_engine(databases.url(tmp_path, "database", "postgresql"))
    with pytest.raises(Unavailable), begin(engine) as connection:
        connection.exec_driver_sql(f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{state}'; END $$")
    with begin(engine) as connection:
        assert connection.exec_driver_sql("SELECT 1").scalar() == 1
    engine.dispose()


def test_a_database_that_is_away_is_told_in_reads_too(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="did not answer"):
        open_engine(f"sqlite:///{tmp_path / 'absent' / 'database.db'}").connect()


def test_a_write_whose_database_is_away_is_a_retryable_503(tmp_path: Path) -> None:
    away, router = open_engine(f"sqlite:///{tmp_path / 'absent' / 'database.db'}"), APIRouter()
    calls: list[int] = []
    router.post("/v1/thing")(lambda: calls.append(1))
    app = build_app([router], [], away, lambda: 7, lambda: None, lambda: None)
    with TestClient(AsCaller(app), raise_server_exceptions=False) as client:
        answer = client.post("/v1/thing", headers=as_("eve", **{"idempotency-key": "k"}))
    assert (problem(answer, 503)["retryable"], answer.headers["retry-after"], calls) == (True, "1", [])


def test_a_batch_of_the_relay_is_bounded_by_its_bytes(bench: Bench) -> None:
    sizes: list[int] = []

    class Bus(MemoryAuditBus):
        def append(self, events: list[dict[str, object]]) -> list[int]:
            sizes.append(sum(len(str(event["payload"])) for event in events))
            return super().append(events)

    with begin(bench.engine) as connection:
        for _ in range(40):
            bench.outbox.emit(connection, EventDraft("policyCheck", SOURCE, Subject("x", "y"), {"text": "x" * 60_000}))
    assert Relay(bench.engine, bench.outbox, Bus()).flush() == 40
    assert len(sizes) == 3
    assert max(sizes) <= BATCH_BYTES
