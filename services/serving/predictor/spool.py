"""Prediction records on the disk of a predictor's pod, until the API has them: one file for each batch, a canonical JSON line each.

A record is with the operating system before its answer leaves. A container that is killed and started again goes on with what lies
there; with the pod goes what the API had not taken yet.
"""

import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.core.canonical import canonical, parse
from services.core.clock import Clock
from services.core.errors import BadJson, Unavailable
from services.core.ids import new_id
from services.serving.owed import Owed

BATCH_RECORDS = 2000
BATCH_MS = 2000
LIMIT_BYTES = 256 << 20
"""Of all that waits: some hundred thousand records. The folder's volume holds more."""

DIGITS = 10
"""Of the number that a file's name begins with; the batch's id follows."""


@dataclass(frozen=True)
class Batch:
    """id: unique everywhere; records: in the order written; recovered: left by a process before this one."""

    id: str
    records: list[dict[str, Any]]
    recovered: bool


class Spool:
    """`expect` and `append` belong to one thread, the rest to another one. A batch is called by its file's name.

    lost: records that a killed predecessor had begun and not written; 0 after a clean stop. Whoever tells of them sets it to 0.
    """

    def __init__(self, folder: Path, clock: Clock, limit: int = LIMIT_BYTES) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder, self._clock, self._limit = folder, clock, limit
        self._owed = Owed(folder / "inflight")
        self.lost = self._owed.open()
        self._lock = threading.Lock()
        self._recovered = frozenset(path.stem for path in list(folder.glob("*.jsonl")) if _holds_records(path))
        self._bytes = sum(self._path(name).stat().st_size for name in self._recovered)
        self._number = max((int(name[:DIGITS]) for name in self._recovered), default=0)
        self._file, self._length, self._count, self._opened = self._begin(), 0, 0, 0

    def expect(self) -> None:
        """A prediction began: its record is owed."""
        self._owed.begin()

    def append(self, record: dict[str, Any]) -> None:
        """Writes a record that was expected.

        Raises:
            Unavailable: the disk did not take it, or too many wait for the API; the record is owed and will be counted as lost.
        """
        line = canonical(record) + b"\n"
        with self._lock:
            if self._bytes + len(line) > self._limit:
                raise Unavailable("the prediction could not be recorded: too many records wait for the API")
            try:
                written = os.write(self._file, line)
            except OSError as error:
                raise Unavailable(f"the prediction could not be recorded: {error}") from error
            if written != len(line):
                # The half line must not stand before the next one.
                os.ftruncate(self._file, self._length)
                raise Unavailable("the prediction could not be recorded: the disk is full")
            self._opened = self._opened or self._clock()
            self._length, self._bytes, self._count = self._length + written, self._bytes + written, self._count + 1
            if self._count >= BATCH_RECORDS:
                self._next()
        self._owed.end()

    def waiting(self, *, all_of_them: bool = False) -> list[str]:
        """The batches to hand on, oldest first. The open one is among them once it is BATCH_MS old, or if all are wanted."""
        with self._lock:
            if self._count and (all_of_them or self._clock() - self._opened >= BATCH_MS):
                self._next()
            return sorted(path.stem for path in self._folder.glob("*.jsonl") if path.stem != self._name)

    def read(self, batch: str) -> Batch:
        lines = self._path(batch).read_bytes().splitlines()
        return Batch(batch[DIGITS + 1 :], [parse(line) for line in lines], batch in self._recovered)

    def done(self, batch: str) -> None:
        """Somebody else keeps it now."""
        path = self._path(batch)
        with self._lock:
            self._bytes -= path.stat().st_size
            path.unlink()

    def close(self) -> None:
        """After the last request and the last batch: nothing is owed."""
        self._owed.close()
        os.close(self._file)

    def _next(self) -> None:
        os.close(self._file)
        self._file, self._length, self._count, self._opened = self._begin(), 0, 0, 0

    def _begin(self) -> int:
        """The file of the next batch, open."""
        self._number += 1
        self._name = f"{self._number:0{DIGITS}d}-{new_id('bat')}"
        return os.open(self._path(self._name), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_EXCL, 0o600)

    def _path(self, batch: str) -> Path:
        return self._folder / f"{batch}.jsonl"


def _holds_records(path: Path) -> bool:
    """Whether a file that was left has whole lines; it is cut to them, and goes if there are none."""
    kept = 0
    for line in path.read_bytes().splitlines(keepends=True):
        if not _is_whole(line):
            break
        kept += len(line)
    if kept:
        os.truncate(path, kept)
    else:
        path.unlink()
    return kept > 0


def _is_whole(line: bytes) -> bool:
    try:
        parse(line)
    except BadJson:
        return False
    return line.endswith(b"\n")
