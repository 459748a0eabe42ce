"""What every object store owes: immutable bytes by their digest, whole or not there at all."""

import base64
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from services.core import backends, object_backends
from services.core.digests import sha256
from services.core.errors import BadInput, BadSetting, Unavailable
from services.core.ids import new_id
from services.core.object_backends.s3 import S3Store
from services.core.objects import CorruptObject, NoSuchObject, ObjectStore, WrongChecksum
from tests import s3
from tests.peers import need
from tests.ports import free_port

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


class S3Bench:
    """A bucket of its own with object lock, on a real server, and a hand that may write it past our backend."""

    def __init__(self, url: str) -> None:
        self.client, self.bucket = s3.client(url), new_id("test")[:40]
        self.client.create_bucket(Bucket=self.bucket, ObjectLockEnabledForBucket=True)
        self.store: ObjectStore = S3Store(self.client, self.bucket, "objects", 1)

    def corrupt(self, digest: str, data: bytes) -> None:
        """A newer version: the first one cannot be changed."""
        self.client.put_object(Bucket=self.bucket, Key=f"objects/{digest[7:]}", Body=data)

    def visible(self) -> set[str]:
        listed = self.client.list_objects_v2(Bucket=self.bucket).get("Contents", [])
        return {"sha256:" + item["Key"].removeprefix("objects/") for item in listed}

    def take_away(self) -> None:
        self.store = S3Store(s3.client(f"http://127.0.0.1:{free_port()}"), self.bucket, "objects", 1)


Bench = FolderBench | S3Bench
BACKENDS = ("folder", "s3")


def test_every_backend_is_tested_here() -> None:
    assert list(BACKENDS) == backends.names(object_backends)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with s3.served(need("versitygw"), tmp_path_factory.mktemp("s3")) as url:
        yield url


@pytest.fixture(params=BACKENDS)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
    return FolderBench(tmp_path) if request.param == "folder" else S3Bench(request.getfixturevalue("server"))


@pytest.fixture
def s3_bench(server: str) -> S3Bench:
    return S3Bench(server)


@pytest.fixture
def store(bench: Bench) -> ObjectStore:
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


def test_a_wrong_checksum_leaves_nothing_visible(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"weights")
    with pytest.raises(WrongChecksum):
        bench.store.put_file(tmp_path / "f", ABSENT)
    assert bench.visible() == set()
    assert not bench.store.has(ABSENT)


def test_a_file_that_cannot_be_read_to_its_end_leaves_nothing_visible(bench: Bench, tmp_path: Path) -> None:
    # A folder opens on no system as a file: the source fails while it is read.
    with pytest.raises((Unavailable, IsADirectoryError)):
        bench.store.put_file(tmp_path)
    assert bench.visible() == set()


def test_a_store_that_does_not_answer_is_told_as_retryable(bench: Bench) -> None:
    bench.take_away()
    with pytest.raises(Unavailable):
        bench.store.put(b"x")


def test_what_is_there_is_never_written_again(bench: Bench) -> None:
    digest = bench.store.put(b"first")
    bench.corrupt(digest, b"other")
    assert bench.store.put(b"first") == digest
    with pytest.raises(CorruptObject):
        bench.store.get(digest)


def test_a_corrupt_object_is_told_and_not_handed_out(bench: Bench, tmp_path: Path) -> None:
    digest = bench.store.put(b"weights")
    bench.corrupt(digest, b"Weights")
    with pytest.raises(CorruptObject, match=digest):
        bench.store.get(digest)
    with pytest.raises(CorruptObject, match=digest):
        bench.store.copy_to(digest, tmp_path / "copy")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("copy")] == []


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


def test_the_same_bytes_from_several_writers_at_once_are_one_object(bench: Bench, tmp_path: Path) -> None:
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


def test_an_object_in_the_bucket_cannot_be_deleted_by_anyone_before_its_time(s3_bench: S3Bench) -> None:
    digest = s3_bench.store.put(b"weights")
    at = {"Bucket": s3_bench.bucket, "Key": f"objects/{digest[7:]}"}
    head = s3_bench.client.head_object(**at, ChecksumMode="ENABLED")
    assert (head["ObjectLockMode"], base64.b64decode(head["ChecksumSHA256"]).hex()) == ("COMPLIANCE", digest[7:])
    for bypass in (False, True):
        with pytest.raises(ClientError, match=r"AccessDenied|ObjectLocked|InvalidRequest"):
            s3_bench.client.delete_object(**at, VersionId=head["VersionId"], BypassGovernanceRetention=bypass)
    assert s3_bench.store.get(digest) == b"weights"


def test_the_bucket_is_opened_by_its_location(s3_bench: S3Bench, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3.ACCESS.items():
        monkeypatch.setenv({"region_name": "AWS_DEFAULT_REGION"}.get(name, name.upper()), value)
    backend = backends.load(object_backends, "s3", env="prod")
    store = backend.open_store(f"s3://{s3_bench.bucket}/objects?retention_days=1&endpoint={server}")
    assert s3_bench.store.get(store.put(b"x")) == b"x"
    with pytest.raises(Unavailable):
        backend.open_store(f"s3://{s3_bench.bucket}-none/objects?retention_days=1&endpoint={server}").put(b"x")


@pytest.mark.parametrize(
    "location",
    [
        "", "bucket", "s3://", "s3://b", "s3://b?retention_days=0", "s3://b?retention_days=x", "s3://b?retention_days=1&mode=off",
        "s3://b?retention_days", "http://b?retention_days=1",
    ],
)
def test_a_location_without_bucket_or_retention_is_refused(location: str) -> None:
    with pytest.raises(BadSetting):
        backends.load(object_backends, "s3").open_store(location)
