"""What every object store owes: immutable bytes by their digest, whole or not there at all."""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from services.core import backends, object_backends
from services.core.digests import sha256
from services.core.errors import BadInput, Unavailable
from services.core.objects import CorruptObject, NoSuchObject, ObjectStore, WrongChecksum

ABSENT = sha256(b"nobody stored this")


class FolderBench:
    """A folder store and a hand at its files."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "objects"
        self.store: ObjectStore = backends.load(object_backends, "folder").open_store(str(self.root))

    def corrupt(self, digest: str, data: bytes) -> None:
        path = self._path(digest)
        path.chmod(0o600)
        path.write_bytes(data)

    def visible(self) -> set[str]:
        found = {path for path in self.root.rglob("*") if path.is_file()}
        assert not any(path.parent.name == "incoming" for path in found), "a partial file was left"
        return {f"sha256:{path.parent.name}{path.name}" for path in found}

    def take_away(self) -> None:
        (self.root / "incoming").rmdir()
        (self.root / "incoming").write_bytes(b"")

    def _path(self, digest: str) -> Path:
        return self.root / digest[7:9] / digest[9:]


BENCHES: dict[str, Callable[[Path], FolderBench]] = {"folder": FolderBench}


def test_every_backend_is_tested_here() -> None:
    assert sorted(BENCHES) == backends.names(object_backends)


@pytest.fixture(params=sorted(BENCHES))
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> FolderBench:
    return BENCHES[request.param](tmp_path)


@pytest.fixture
def store(bench: FolderBench) -> ObjectStore:
    return bench.store


@pytest.mark.parametrize("data", [b"", b"x", os.urandom((1 << 20) + 1)], ids=["empty", "byte", "over a chunk"])
def test_bytes_come_back_by_their_digest(store: ObjectStore, tmp_path: Path, data: bytes) -> None:
    digest = store.put(data)
    assert (digest, store.get(digest), store.has(digest), store.size(digest)) == (sha256(data), data, True, len(data))
    with store.open(digest) as source:
        assert source.read() == data
    store.copy_to(digest, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == data


def test_a_file_is_stored_under_the_digest_that_was_promised(store: ObjectStore, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"weights")
    assert store.put_file(tmp_path / "f", sha256(b"weights")) == store.put_file(tmp_path / "f") == sha256(b"weights")
    assert store.get(sha256(b"weights")) == b"weights"


def test_a_wrong_checksum_leaves_nothing_visible(bench: FolderBench, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"weights")
    with pytest.raises(WrongChecksum):
        bench.store.put_file(tmp_path / "f", ABSENT)
    assert bench.visible() == set()
    assert not bench.store.has(ABSENT)


def test_a_file_that_cannot_be_read_to_its_end_leaves_nothing_visible(bench: FolderBench, tmp_path: Path) -> None:
    # A folder opens on no system as a file: the source fails while it is read.
    with pytest.raises((Unavailable, IsADirectoryError)):
        bench.store.put_file(tmp_path)
    assert bench.visible() == set()


def test_a_store_that_does_not_answer_is_told_as_retryable(bench: FolderBench) -> None:
    bench.take_away()
    with pytest.raises(Unavailable):
        bench.store.put(b"x")


def test_what_is_there_is_never_written_again(bench: FolderBench) -> None:
    digest = bench.store.put(b"first")
    bench.corrupt(digest, b"other")
    assert bench.store.put(b"first") == digest
    with pytest.raises(CorruptObject):
        bench.store.get(digest)


def test_a_corrupt_object_is_told_and_not_handed_out(bench: FolderBench, tmp_path: Path) -> None:
    digest = bench.store.put(b"weights")
    bench.corrupt(digest, b"Weights")
    with pytest.raises(CorruptObject, match=digest):
        bench.store.get(digest)
    with pytest.raises(CorruptObject, match=digest):
        bench.store.copy_to(digest, tmp_path / "copy")
    assert [path.name for path in tmp_path.iterdir()] == ["objects"]


@pytest.mark.parametrize("method", ["get", "open", "size"])
def test_an_absent_object_is_told_as_such(store: ObjectStore, method: str) -> None:
    with pytest.raises(NoSuchObject, match=ABSENT):
        getattr(store, method)(ABSENT)
    assert not store.has(ABSENT)


def test_an_absent_object_is_copied_nowhere(store: ObjectStore, tmp_path: Path) -> None:
    with pytest.raises(NoSuchObject):
        store.copy_to(ABSENT, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "sha256:", ABSENT.upper(), f"{ABSENT}/x", "incoming"])
@pytest.mark.parametrize("method", ["get", "open", "size", "has"])
def test_what_is_no_digest_reaches_no_file(store: ObjectStore, method: str, name: str) -> None:
    with pytest.raises(BadInput):
        getattr(store, method)(name)


def test_the_same_bytes_from_several_writers_at_once_are_one_object(bench: FolderBench, tmp_path: Path) -> None:
    data = os.urandom(1 << 18)
    (tmp_path / "f").write_bytes(data)
    answers: list[Any] = []
    gate = threading.Barrier(4)

    def write(by_file: bool) -> None:
        gate.wait()
        answers.append(bench.store.put_file(tmp_path / "f", sha256(data)) if by_file else bench.store.put(data))

    threads = [threading.Thread(target=write, args=(number % 2 == 0,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [sha256(data)] * 4
    assert (bench.visible(), bench.store.get(sha256(data))) == ({sha256(data)}, data)
