"""An object store that breaks at a chosen write."""

from pathlib import Path
from typing import BinaryIO

from services.core.objects import ObjectStore


class Crash(BaseException):
    """The process died here."""


class BreakingStore:
    """breaks: which put (from 0) dies; persists: whether its bytes were stored before."""

    def __init__(self, inner: ObjectStore, breaks: int, *, persists: bool) -> None:
        self._inner, self._breaks, self._persists = inner, breaks, persists
        self.puts = 0

    def put(self, data: bytes) -> str:
        number, self.puts = self.puts, self.puts + 1
        if number == self._breaks and not self._persists:
            raise Crash
        digest = self._inner.put(data)
        if number == self._breaks:
            raise Crash
        return digest

    def put_file(self, path: Path, expected: str | None = None) -> str:
        return self._inner.put_file(path, expected)

    def get(self, digest: str) -> bytes:
        return self._inner.get(digest)

    def open(self, digest: str) -> BinaryIO:
        return self._inner.open(digest)

    def copy_to(self, digest: str, path: Path) -> None:
        self._inner.copy_to(digest, path)

    def has(self, digest: str) -> bool:
        return self._inner.has(digest)

    def size(self, digest: str) -> int:
        return self._inner.size(digest)
