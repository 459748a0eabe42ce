"""Both databases give the same answers under contention, and errors of theirs are ours."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fastapi import APIRouter
from fastapi.testclient import TestClient
from sqlalchemy import Column, Integer, MetaData, Table, insert, literal, select

from services.api.app import build_app
from services.core.database import begin, open_engine
from services.core.errors import BadInput, Conflict, Unavailable
from services.core.events import EventDraft, Subject
from services.core.outbox import BATCH_BYTES, Outbox, Relay, outbox_table
from tests import databases
from tests.fakes.audit_bus import MemoryAuditBus
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


def test_of_equal_writes_at_once_one_is_made_and_the_others_find_it(bench: Bench) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(bench.once, [number for number in range(10) for _ in range(8)]))
    assert sum(made) == 10
    assert Relay(bench.engine, bench.outbox, bench.bus).flush() == 10
    assert [event["seq"] for event in bench.bus.events] == list(range(1, 11))


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
