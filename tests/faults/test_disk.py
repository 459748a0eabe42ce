"""A disk that takes no more: what it refuses says so, with the remedy, under every step of the flow and for each that writes."""

import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import event

from services.audit.folder import FolderStore
from services.core.database import Writer, begin, open_engine
from services.core.digests import sha256
from services.core.errors import Unavailable
from services.core.object_backends.folder import open_store
from services.core.outbox import Outbox
from services.core.storage import FULL, why
from services.sentinelnet.trial import tried
from services.serving.predictor.spool import Spool
from services.serving.router.records import RecordLog
from services.serving.router.tables import outbox
from services.training.domain import StartRun
from services.training.evaluation import ProcessEvaluator
from services.witness.folder import FolderState
from tests import databases
from tests.fakes.writes import Writes
from tests.faults.flow import ROUTER, STEPS, Flow, Step, ready
from tests.faults.host import SmallDisk, full_disk, read_only, small_disk
from tests.faults.table import opened
from tests.registry import Rig, copied
from tests.sentinelnet import BUNDLE
from tests.unit.test_platform_http import as_, problem


@pytest.fixture
def flow() -> Iterator[Flow]:
    with opened() as flow:
        yield flow


@pytest.fixture
def disk() -> Iterator[SmallDisk]:
    with small_disk(8) as disk:
        yield disk


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> tuple[Rig, StartRun]:
    return ready(tmp_path_factory.mktemp("platform"))


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_a_full_disk_refuses_each_step_by_name_until_there_is_room(
    platform: tuple[Rig, StartRun], disk: SmallDisk, step: Step
) -> None:
    rig, order = platform
    flow = Flow(copied(rig, disk.path / "home", writes=Writes()), order)
    it = step.prepare(flow, flow.tag())
    disk.fill()
    with pytest.raises(Unavailable, match=f"{FULL}$"):
        step.act(flow, it)
    disk.make_room()
    assert flow.problems() == []
    step.act(flow, it)
    assert flow.problems() == []
    flow.close()


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_files_that_may_not_grow_refuse_each_step_until_they_may(flow: Flow, step: Step) -> None:
    it = step.prepare(flow, flow.tag())
    with full_disk(), pytest.raises(Unavailable, match=r"File too large|disk I/O error \(SQLITE_IOERR_\w+\): see "):
        step.act(flow, it)
    assert flow.problems() == []
    step.act(flow, it)
    assert flow.problems() == []


def test_half_a_record_does_not_stand_before_the_next_one(flow: Flow) -> None:
    flow.recorded("first")
    (segment,) = (flow.rig.folder / "router").glob("*.jsonl")
    with full_disk(segment.stat().st_size + 10), pytest.raises(Unavailable, match=f"{FULL}$"):
        flow.recorded("second")
    flow.recorded("third")
    assert flow.records.seal() == 2
    assert flow.problems() == []


def _spool(folder: Path) -> Callable[[], None]:
    spool = Spool(folder, lambda: 7)

    def append() -> None:
        spool.expect()
        spool.append({"n": 1})

    return append


WRITERS: dict[str, Callable[[Path], Callable[[], object]]] = {
    "the object store did not take the write": lambda folder: lambda store=open_store(str(folder)): store.put(b"x" * 5000),
    "tile/0/000 of the log could not be written": lambda folder: lambda: FolderStore(folder).write("tile/0/000", b"x" * 5000),
    "a.example of the witness could not be kept": lambda folder: lambda state=FolderState(folder): state.write("a.example", b"x"),
    "the prediction could not be recorded": _spool,
}
"""By what is refused: what opens a folder, and then writes."""


@pytest.mark.parametrize("refused", WRITERS)
def test_a_folder_whose_disk_is_full_keeps_nothing_and_says_so(disk: SmallDisk, refused: str) -> None:
    write = WRITERS[refused](disk.path / "folder")
    disk.fill()
    with pytest.raises(Unavailable, match=f"^{refused}: {FULL}$"):
        write()
    kept = {path.name for path in disk.path.rglob("*") if path.is_file() and path.stat().st_size and path.name != "filler"}
    assert kept <= {"inflight"}
    disk.make_room()
    write()


def test_records_that_no_new_segment_can_be_made_for_wait_in_the_old_one(flow: Flow, tmp_path: Path) -> None:
    folder = tmp_path / "records"
    records = RecordLog(folder, flow.router_engine, Outbox(outbox, ROUTER, flow.rig.clock), flow.rig.clock, ROUTER, segment_bytes=1)
    for name in ("first", "second"):
        records.expect()
        records.append(flow.record(name))
        with read_only(folder), pytest.raises(Unavailable, match="records could not be sealed: Permission denied"):
            records.seal()
    assert records.seal() == 2
    records.close()
    assert flow.problems() == []


@pytest.fixture
def client(flow: Flow) -> TestClient:
    return flow.http


@pytest.mark.parametrize("size", [10, 1 << 20])
def test_an_upload_that_the_temporary_folder_has_no_room_for_is_a_retryable_503(
    client: TestClient, disk: SmallDisk, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(disk.path))
    data = b"x" * size
    disk.fill()
    answer = client.put(f"/v1/objects/{sha256(data)}", content=data, headers=as_("tom"))
    told = problem(answer, 503)
    assert (told["retryable"], told["detail"]) == (True, f"the upload could not be put aside: {FULL}")
    assert client.get(f"/v1/objects/{sha256(data)}", headers=as_("tom")).status_code == 404
    disk.make_room()
    assert client.put(f"/v1/objects/{sha256(data)}", content=data, headers=as_("tom")).status_code == 201
    assert list(disk.path.iterdir()) == []


ASIDE: dict[str, Callable[[Flow], object]] = {
    "the archive could not be put aside": lambda flow: flow.rig.evidences.build(flow.promoted("archived"), 1, None, 1 << 20),
    "model and data could not be laid out": lambda flow: ProcessEvaluator(flow.rig.store, {}).evaluate(
        {"model.safetensors": flow.rig.store.put(b"x" * 5000)}, {}
    ),
    "the bundle could not be put aside": lambda flow: tried(BUNDLE, []),
}


@pytest.mark.parametrize("refused", ASIDE)
def test_what_the_temporary_folder_has_no_room_for_is_refused_by_name_and_leaves_nothing_there(
    flow: Flow, disk: SmallDisk, refused: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(disk.path))
    disk.fill()
    with pytest.raises(Unavailable, match=f"^{refused}: {FULL}$"):
        ASIDE[refused](flow)
    disk.make_room()
    assert list(disk.path.iterdir()) == []


class Texts:
    """A database with one table, and as many bytes for it as a test says."""

    def __init__(self, url: str) -> None:
        self.engine = open_engine(url)
        self._writer = Writer(self.engine)

    def insert(self, size: int) -> None:
        with begin(self.engine) as connection:
            connection.exec_driver_sql(f"INSERT INTO texts VALUES ('{'x' * size}')")

    def insert_alone(self, size: int) -> None:
        """By SQLite's driver."""
        self._writer.insert("INSERT INTO texts VALUES (?)", ("x" * size,))

    def sizes(self) -> list[int]:
        with self.engine.connect() as connection:
            return list(connection.exec_driver_sql("SELECT length(text) FROM texts").scalars())


@pytest.fixture
def texts(tmp_path: Path) -> Iterator[Texts]:
    texts = Texts(databases.url(tmp_path, "texts", "sqlite"))
    with begin(texts.engine) as connection:
        connection.exec_driver_sql("CREATE TABLE texts (text TEXT)")
    yield texts
    texts.engine.dispose()


@pytest.mark.parametrize("insert", [Texts.insert, Texts.insert_alone])
def test_an_sqlite_database_that_may_have_no_more_pages_is_full_by_name(texts: Texts, insert: Callable[[Texts, int], None]) -> None:
    pages = {"may have": 10}
    limited = lambda connection, _record, _proxy: connection.execute(f"PRAGMA max_page_count={pages['may have']}")  # noqa: E731
    event.listen(texts.engine, "checkout", limited)
    with pytest.raises(Unavailable, match=f"^the database did not (answer|take the write): {FULL}$"):
        insert(texts, 100_000)
    assert texts.sizes() == []
    pages["may have"] = 1000
    insert(texts, 100_000)
    assert texts.sizes() == [100_000]


def test_an_sqlite_database_is_not_opened_on_a_full_disk(disk: SmallDisk) -> None:
    texts = Texts(databases.url(disk.path, "texts", "sqlite"))
    texts.engine.connect().close()
    texts.engine.dispose()
    disk.fill()
    with pytest.raises(Unavailable, match=f"^the database did not answer: {FULL}$"):
        texts.sizes()
    texts.engine.dispose()


def test_a_full_disk_of_postgresql_is_told_by_name_and_takes_writes_again(disk: SmallDisk, tmp_path: Path) -> None:
    texts, place = Texts(databases.url(tmp_path, "texts", "postgresql")), disk.path / "tablespace"
    with texts.engine.connect() as connection:
        owner = Path(str(connection.exec_driver_sql("SHOW data_directory").scalar())).stat()
        place.mkdir(mode=0o700)
        os.chown(place, owner.st_uid, owner.st_gid)
        connection.exec_driver_sql(f"CREATE TABLESPACE small LOCATION '{place}'")
        connection.exec_driver_sql("CREATE TABLE texts (text TEXT STORAGE EXTERNAL) TABLESPACE small")
    disk.fill()
    with pytest.raises(Unavailable, match=f"^the database did not answer: {FULL}$"):
        texts.insert(100_000)
    assert texts.sizes() == []
    disk.make_room()
    texts.insert(100_000)
    assert texts.sizes() == [100_000]
    with texts.engine.connect() as connection:
        connection.exec_driver_sql("DROP TABLE texts")
        connection.exec_driver_sql("DROP TABLESPACE small")
    texts.engine.dispose()


def test_a_quota_that_is_used_up_is_no_full_disk() -> None:
    """By its number: a quota is not had without an account of its own."""
    assert why(OSError(errno.EDQUOT, "Disk quota exceeded")).startswith("the quota on the disk is used up: make room")
    assert why(OSError(errno.EACCES, "Permission denied", "/x")) == "Permission denied"
