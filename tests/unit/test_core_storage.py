"""Databases, the outbox and its relay, identifiers and backends."""

import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, event, insert, select, update

from services.core import backends, object_backends
from services.core.database import begin, open_engine
from services.core.errors import BadInput, BadSetting, Conflict, Unavailable
from services.core.events import EventDraft, Subject
from services.core.ids import new_id
from services.core.outbox import BATCH, UNNOTED, Outbox, Relay, outbox_table
from services.sentinelnet import backends as policy_backends
from tests.fakes.audit_bus import MemoryAuditBus

metadata = MetaData()
OUTBOX = outbox_table(metadata)
THINGS = Table("things", metadata, Column("id", Integer, primary_key=True))
DRAFT = EventDraft("policyCheck", "spiffe://x/person/a", Subject("thing", "1"))


class Bench:
    """A database with an outbox, and a log in memory."""

    def __init__(self, folder: Path) -> None:
        self.engine = open_engine(f"sqlite:///{folder / 'database.db'}")
        metadata.create_all(self.engine)
        self.bus = MemoryAuditBus()
        self.outbox = Outbox(OUTBOX, "spiffe://x/service/a", lambda: 7)
        self.relay = Relay(self.engine, self.outbox, self.bus)

    def write(self, number: int) -> str:
        with begin(self.engine) as connection:
            connection.execute(insert(THINGS).values(id=number))
            return self.outbox.emit(connection, DRAFT)

    def things(self) -> list[int]:
        with self.engine.connect() as connection:
            return list(connection.execute(select(THINGS.c.id)).scalars())


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_database_is_durable_and_enforces_its_keys(bench: Bench) -> None:
    with bench.engine.connect() as connection:
        names = ("journal_mode", "synchronous", "foreign_keys")
        found = {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names}
    assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_exception_rolls_the_whole_transaction_back(bench: Bench, error: type[BaseException]) -> None:
    def write() -> None:
        with begin(bench.engine) as connection:
            connection.execute(insert(THINGS).values(id=1))
            bench.outbox.emit(connection, DRAFT)
            raise error

    with pytest.raises(error):
        write()
    assert bench.things() == []
    assert bench.relay.flush() == 0


def test_a_database_that_is_gone_is_retryable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable), begin(open_engine(f"sqlite:///{tmp_path / 'absent' / 'database.db'}")):
        raise AssertionError("a transaction on nothing")


def test_writers_at_once_take_turns_and_seqs_have_no_gap(bench: Bench) -> None:
    threads = [threading.Thread(target=lambda n=n: [bench.write(n * 10 + i) for i in range(10)]) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (bench.relay.flush(), len(bench.things())) == (40, 40)
    assert [event["seq"] for event in bench.bus.events] == list(range(1, 41))


def test_an_event_goes_to_the_log_once_and_says_where_it_is(bench: Bench) -> None:
    first, second = bench.write(1), bench.write(2)
    assert bench.relay.wait_for([second, first]) == {first: 0, second: 1}
    assert bench.relay.flush() == 0
    event = bench.bus.events[0]
    assert (event["id"], event["source"], event["seq"], event["ts"]) == (first, "spiffe://x/service/a", 1, 7)


@pytest.mark.parametrize("fault", ["fails", "persists_then_fails"])
def test_a_log_that_does_not_answer_gets_the_events_later_and_once(bench: Bench, fault: str) -> None:
    event = bench.write(1)
    bench.bus.faults = {0: fault}
    with pytest.raises(Unavailable):
        bench.relay.wait_for([event])
    assert bench.relay.wait_for([event]) == {event: 0}
    assert len(bench.bus.events) == 1


def test_rows_have_the_indexes_that_the_log_gave_them_where_others_told_it_something_in_between(bench: Bench) -> None:
    other = {"source": "spiffe://x/service/b", "seq": 1, "id": "evt-other"}
    written = [bench.write(number) for number in (1, 2)]
    bench.bus.faults = {0: "persists_then_fails"}
    with pytest.raises(Unavailable):
        bench.relay.flush()
    assert bench.bus.append([other]) == [2]
    written += [bench.write(number) for number in (3, 4)]
    assert bench.relay.flush() == 4
    with bench.engine.connect() as connection:
        noted = connection.execute(select(OUTBOX.c.id, OUTBOX.c.log_index).order_by(OUTBOX.c.seq)).all()
    assert noted == list(zip(written, [0, 1, 3, 4], strict=True))


def test_indexes_are_noted_for_many_at_once_and_known_before_that(bench: Bench) -> None:
    notes, events = notes_of(bench), list[str]()
    for number in range(UNNOTED):
        assert len(notes) == 0
        events.append(bench.write(number))
        assert bench.relay.wait_for(events[-1:]) == {events[-1]: number}
    assert len(notes) == 1
    assert bench.relay.wait_for(events) == {name: at for at, name in enumerate(events)}
    assert (bench.relay.pending(), bench.relay.flush(), len(notes)) == (0, 0, 1)


def notes_of(bench: Bench) -> list[str]:
    """Statements by which indexes are noted, from here on."""
    found = list[str]()

    def note(_connection: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        if statement.startswith("UPDATE"):
            found.append(statement)

    event.listen(bench.engine, "before_cursor_execute", note)
    return found


def test_a_process_that_ends_before_it_notes_leaves_events_to_be_sent_again(bench: Bench) -> None:
    events = [bench.write(number) for number in range(3)]
    assert bench.relay.wait_for(events) == {name: at for at, name in enumerate(events)}
    following = Relay(bench.engine, bench.outbox, bench.bus)
    assert (bench.relay.pending(), following.pending()) == (0, 3)
    assert following.flush() == 3
    assert (following.pending(), len(bench.bus.events)) == (0, 3)
    assert following.wait_for(events) == {name: at for at, name in enumerate(events)}


def test_notes_that_cannot_be_written_are_written_later(bench: Bench) -> None:
    def refuse(_connection: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        if statement.startswith("UPDATE"):
            raise Unavailable("no")

    events = [bench.write(number) for number in range(UNNOTED)]
    event.listen(bench.engine, "before_cursor_execute", refuse)
    for wait in (bench.relay.flush, lambda: bench.relay.wait_for(events)):
        with pytest.raises(Unavailable):
            wait()
    event.remove(bench.engine, "before_cursor_execute", refuse)
    assert bench.relay.wait_for(events) == {name: at for at, name in enumerate(events)}
    assert (bench.relay.pending(), len(bench.bus.events)) == (0, UNNOTED)


def test_notes_that_a_crash_of_the_database_took_are_made_again(bench: Bench) -> None:
    events = [bench.write(number) for number in range(3)]
    assert bench.relay.flush() == 3
    with begin(bench.engine) as connection:
        connection.execute(update(OUTBOX).values(log_index=None))
    assert bench.relay.wait_for(events) == {name: at for at, name in enumerate(events)}
    assert (bench.relay.flush(), bench.relay.pending(), len(bench.bus.events)) == (0, 0, 3)


def test_of_a_backlog_each_batch_is_noted_before_the_next_is_sent(bench: Bench) -> None:
    with begin(bench.engine) as connection:
        for _ in range(BATCH + 1):
            bench.outbox.emit(connection, DRAFT)
    bench.bus.faults = {1: "fails"}
    with pytest.raises(Unavailable):
        bench.relay.flush()
    assert Relay(bench.engine, bench.outbox, bench.bus).pending() == 1


def test_an_event_that_nobody_wrote_is_not_waited_for(bench: Bench) -> None:
    with pytest.raises(Unavailable):
        bench.relay.wait_for(["evt-none"])


def test_a_gap_is_no_matter_of_retrying(bench: Bench) -> None:
    bench.write(1)
    bench.write(2)
    with begin(bench.engine) as connection:
        connection.execute(OUTBOX.delete().where(OUTBOX.c.seq == 1))
    with pytest.raises(Conflict):
        bench.relay.flush()


def test_only_known_types_of_events_are_written() -> None:
    with pytest.raises(BadInput, match="is no event type"):
        EventDraft("made.up", "spiffe://x/person/a", Subject("thing", "1"))


def test_ids_are_unique_and_sort_by_the_time_they_were_made() -> None:
    ids = [new_id("evt") for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert [item[:16] for item in ids] == sorted(item[:16] for item in ids)
    assert all(len(item) == len("evt-") + 32 for item in ids)


def test_the_folder_is_the_register_of_backends() -> None:
    assert "folder" in backends.names(object_backends)
    assert backends.load(object_backends, "folder").PRODUCTION is False


@pytest.mark.parametrize(("package", "name"), [(object_backends, "tape"), (object_backends, ""), (object_backends, "os.path")])
def test_an_unknown_backend_is_refused(package: ModuleType, name: str) -> None:
    with pytest.raises(BadSetting, match="is none of"):
        backends.load(package, name)


@pytest.mark.parametrize(("package", "name"), [(object_backends, "folder"), (policy_backends, "regopy")])
def test_production_refuses_what_is_for_development(package: ModuleType, name: str) -> None:
    with pytest.raises(BadSetting, match="is for development, env is prod"):
        backends.load(package, name, env="prod")
