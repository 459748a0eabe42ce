"""What did not wait for the disk is gone after a power cut, and is made good; what was acknowledged is there."""

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Engine, insert, select

from services.core.database import begin, open_engine
from services.core.errors import Conflict
from services.core.outbox import Relay
from tests import databases, postgres
from tests.faults.test_databases import OUTBOX, THINGS, Bench

HOW_DURABLE: dict[str, tuple[str, dict[bool, object]]] = {
    "sqlite": ("PRAGMA synchronous", {True: 2, False: 1}),
    "postgresql": ("SHOW synchronous_commit", {True: "on", False: "off"}),
}
"""By database: what asks a transaction, and its answer when durable and when not."""


@pytest.fixture(params=sorted(HOW_DURABLE))
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Engine:
    return Bench(databases.url(tmp_path, "database", request.param)).engine


def indexes(bench: Bench) -> list[tuple[int, int | None]]:
    """(seq, index that is noted) of each row of the outbox."""
    with bench.engine.connect() as connection:
        rows = connection.execute(select(OUTBOX.c.seq, OUTBOX.c.log_index).order_by(OUTBOX.c.seq))
        return [(row.seq, row.log_index) for row in rows]


def things(bench: Bench) -> list[int]:
    with bench.engine.connect() as connection:
        return list(connection.execute(select(THINGS.c.id).order_by(THINGS.c.id)).scalars())


def delivers_once(bench: Bench, numbers: list[int]) -> None:
    """The next flush sends what has no index; the log has each event once, under the index that it had before."""
    before = [event["seq"] for event in bench.bus.events]
    Relay(bench.engine, bench.outbox, bench.bus).flush()
    assert things(bench) == numbers
    assert [event["seq"] for event in bench.bus.events] == before
    assert indexes(bench) == [(seq, index) for index, seq in enumerate(before)]


def test_sqlite_loses_notes_at_most_and_the_next_flush_makes_them_again(tmp_path: Path) -> None:
    bench, journal = Bench(f"sqlite:///{tmp_path / 'database.db'}"), tmp_path / "database.db-wal"
    assert [bench.once(number) for number in (1, 2, 3)] == [True] * 3
    on_disk = journal.stat().st_size  # a durable commit syncs the journal
    assert Relay(bench.engine, bench.outbox, bench.bus).flush() == 3
    assert journal.stat().st_size > on_disk
    folder = tmp_path / "after"
    folder.mkdir()
    shutil.copy(tmp_path / "database.db", folder)
    shutil.copy(journal, folder)
    os.truncate(folder / journal.name, on_disk)
    after = Bench(f"sqlite:///{folder / 'database.db'}")
    after.bus = bench.bus
    assert indexes(after) == [(1, None), (2, None), (3, None)]
    delivers_once(after, [1, 2, 3])
    bench.engine.dispose()
    after.engine.dispose()


def test_postgresql_that_dies_keeps_what_it_acknowledged_and_notes_are_made_again(tmp_path: Path) -> None:
    server = postgres.start(tmp_path)
    bench = Bench(server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1))
    assert [bench.once(number) for number in (1, 2, 3)] == [True] * 3
    assert Relay(bench.engine, bench.outbox, bench.bus).flush() == 3
    process = server.get_postmaster_info().process
    os.kill(process.pid, signal.SIGQUIT)  # at once, and what was not written out is lost
    process.wait(10)
    server.ensure_postgres_running()
    delivers_once(bench, [1, 2, 3])
    bench.engine.dispose()
    server.cleanup()


def test_only_the_transaction_that_said_so_does_not_wait_for_the_disk(engine: Engine) -> None:
    question, answers = HOW_DURABLE[engine.dialect.name]

    def asked(durable: bool, then: Callable[[], None] = lambda: None) -> object:
        with begin(engine, durable=durable) as connection:
            answer = connection.exec_driver_sql(question).scalar()
            then()
        return answer

    def broken() -> None:
        raise ZeroDivisionError

    assert [asked(durable) for durable in (True, False, True)] == [answers[True], answers[False], answers[True]]
    with pytest.raises(ZeroDivisionError):
        asked(False, broken)
    assert asked(True) == answers[True]
    engine.dispose()


def test_equal_inserts_at_once_are_one_and_conflicts(engine: Engine) -> None:
    made: list[bool] = []

    def write() -> None:
        try:
            with begin(engine) as connection:
                connection.execute(insert(THINGS).values(id=1))
            made.append(True)
        except Conflict:
            made.append(False)

    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == [False] * 7 + [True]
    engine.dispose()


def test_a_write_transaction_within_another_is_refused_at_once(engine: Engine, tmp_path: Path) -> None:
    other = open_engine(f"sqlite:///{tmp_path / 'other.db'}")

    def write() -> None:
        with begin(engine) as connection:
            connection.execute(insert(THINGS).values(id=1))
            with begin(other), begin(engine):
                pass

    began = time.monotonic()
    with pytest.raises(RuntimeError, match="begin within begin"):
        write()
    assert time.monotonic() - began < 1
    # The outer one was rolled back, and the next one is not within it.
    with begin(engine) as connection:
        assert connection.execute(select(THINGS)).all() == []
    engine.dispose()
    other.dispose()
