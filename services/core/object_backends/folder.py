"""A folder: two hex digits, then the rest of the digest. Files are read-only once written."""

import hashlib
import os
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from services.core.digests import CHUNK, require_digest, sha256
from services.core.durable import sync_folder
from services.core.errors import Unavailable
from services.core.objects import CorruptObject, NoSuchObject, ObjectStore, WrongChecksum
from services.core.storage import writing

PRODUCTION = False


def open_store(location: str) -> ObjectStore:
    """location: the folder's path; made if it is not there."""
    root = Path(location)
    (root / "incoming").mkdir(parents=True, exist_ok=True)
    return FolderStore(root)


class FolderStore:
    """Objects become visible by a hard link, which fails if the name exists: write-once even between processes."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def put(self, data: bytes) -> str:
        digest = sha256(data)
        return digest if self.has(digest) else self._write([data], digest)

    def put_file(self, path: Path, expected: str | None = None) -> str:
        with path.open("rb") as source:
            return self._write(iter(lambda: source.read(CHUNK), b""), expected)

    def get(self, digest: str) -> bytes:
        with self.open(digest) as source:
            data = source.read()
        if sha256(data) != digest:
            raise CorruptObject(f"object {digest} does not have the bytes that its name says")
        return data

    def open(self, digest: str) -> BinaryIO:
        try:
            return self._path(digest).open("rb")
        except FileNotFoundError as error:
            raise NoSuchObject(f"no object {digest}") from error
        except OSError as error:
            raise Unavailable(f"object {digest} cannot be read: {error}") from error

    def copy_to(self, digest: str, path: Path) -> None:
        partial = path.with_name(path.name + ".partial")
        hasher = hashlib.sha256()
        with self.open(digest) as source, partial.open("wb") as target:
            while chunk := source.read(CHUNK):
                hasher.update(chunk)
                target.write(chunk)
        if "sha256:" + hasher.hexdigest() != digest:
            partial.unlink()
            raise CorruptObject(f"object {digest} does not have the bytes that its name says")
        partial.rename(path)

    def has(self, digest: str) -> bool:
        return self._path(digest).exists()

    def size(self, digest: str) -> int:
        try:
            return self._path(digest).stat().st_size
        except FileNotFoundError as error:
            raise NoSuchObject(f"no object {digest}") from error

    def _path(self, digest: str) -> Path:
        digits = require_digest(digest).removeprefix("sha256:")
        return self._root / digits[:2] / digits[2:]

    def _write(self, chunks: Iterable[bytes], expected: str | None) -> str:
        with writing("the object store did not take the write"):
            handle, name = tempfile.mkstemp(dir=self._root / "incoming")
            aside = Path(name)
            try:
                # 1. Write aside. A crash here leaves a file in incoming/ that no digest names: harmless.
                hasher = hashlib.sha256()
                with os.fdopen(handle, "wb") as target:
                    for chunk in chunks:
                        hasher.update(chunk)
                        target.write(chunk)
                    target.flush()
                    os.fsync(target.fileno())
                digest = "sha256:" + hasher.hexdigest()
                if expected is not None and digest != expected:
                    raise WrongChecksum(f"the bytes have digest {digest}, not {expected}")
                # 2. Name it. From here it is visible, and whole.
                self._publish(aside, self._path(digest))
                return digest
            finally:
                aside.unlink(missing_ok=True)

    def _publish(self, aside: Path, path: Path) -> None:
        if not path.parent.exists():
            path.parent.mkdir(exist_ok=True)
            sync_folder(self._root)
        aside.chmod(0o444)
        with suppress(FileExistsError):
            os.link(aside, path)
        sync_folder(path.parent)
