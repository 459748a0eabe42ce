"""Prediction records on the disk of a predictor's pod, until the API has them: one file for each batch, a canonical JSON line each.

A record is with the operating system before its answer leaves. A container that is killed and started again goes on with what lies
there; with the pod goes what the API had not taken yet.
"""

import logging
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.core.canonical import canonical, parse
from services.core.clock import Clock
from services.core.errors import Unavailable
from services.core.ids import new_id
from services.serving.owed import Owed
from services.serving.records import BATCH_MS, BATCH_RECORDS, MOST_RECORDS, append_line, line_of, whole_record

LIMIT_BYTES = 256 << 20
"""Of all that waits: some hundred thousand records. The folder's volume holds more."""
BLOCK = 4096
"""Bytes of the disk that a file takes at least."""
DIGITS = 10
"""Of the number that a file's name begins with; the batch's id follows."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Batch:
    """id: unique everywhere; records: in the order written; recovered: left by a process before this one; lost: records that were
    begun and not written, told of in a batch without records."""

    id: str
    records: list[dict[str, Any]]
    recovered: bool
    lost: int = 0


class Spool:
    """`expect` and `append` belong to one thread, the rest to another one. A batch is called by its file's name."""

    def __init__(self, folder: Path, clock: Clock, limit: int = LIMIT_BYTES) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder, self._clock, self._limit = folder, clock, limit
        self._owed, self._loss = Owed(folder / "inflight"), folder / "loss.json"
        self._owed.open()
        self._lock = threading.Lock()
        self._closed = [path.stem for path in sorted(folder.glob("*.jsonl")) if _holds_records(path)]
        self._recovered = frozenset(self._closed)
        self._bytes = sum(_cost(self._path(name).stat().st_size) for name in self._closed)
        last = self._closed[-1] if self._closed else ""
        self._name, self._file = self._create(int(last[:DIGITS] or 0) + 1)
        self._length = self._count = self._opened = 0

    def expect(self) -> None:
        """A prediction began: its record is owed."""
        self._owed.begin()

    def append(self, record: dict[str, Any]) -> None:
        """Writes a record that was expected.

        Raises:
            Unavailable: the disk did not take it, or too many wait for the API. Nothing is owed: the answer must not be given.
        """
        line = line_of(record)
        try:
            with self._lock:
                self._write(line)
                if self._count >= BATCH_RECORDS or self._is_old():
                    self._next()
        finally:
            self._owed.end()

    def waiting(self, *, all_of_them: bool = False) -> list[str]:
        """The batches to hand on, oldest first. The open one is among them once it is BATCH_MS old, or if all are wanted."""
        with self._lock:
            if self._count and (all_of_them or self._is_old()):
                self._next()
            return list(self._closed)

    def read(self, batch: str) -> Batch:
        lines = self._path(batch).read_bytes().splitlines()
        return Batch(batch[DIGITS + 1 :], [parse(line) for line in lines], batch in self._recovered)

    def done(self, batch: str) -> None:
        """Somebody else keeps it now."""
        with self._lock:
            self._closed.remove(batch)
            self._bytes -= _cost(self._path(batch).stat().st_size)
        self._path(batch).unlink()

    def refused(self, batch: str) -> None:
        """Nobody will ever take it: it is put aside, and its records are lost."""
        self._owed.add(len(self.read(batch).records))
        with self._lock:
            self._closed.remove(batch)
        self._path(batch).rename(self._path(batch).with_suffix(".refused"))

    def loss(self) -> Batch | None:
        """What was lost and is not told yet, under an id that stays until it is."""
        if not self._owed.untold:
            return None
        if not self._loss.exists():
            partial = self._loss.with_suffix(".partial")
            partial.write_bytes(canonical({"id": new_id("bat"), "lost": self._owed.untold}))
            partial.rename(self._loss)
        found = parse(self._loss.read_bytes())
        return Batch(found["id"], [], recovered=True, lost=found["lost"])

    def told(self, loss: Batch) -> None:
        """A crash in between tells it twice: it is not forgotten."""
        self._loss.unlink()
        self._owed.told(loss.lost)

    def close(self) -> None:
        """After the last request and the last batch: nothing is begun."""
        self._owed.close()
        os.close(self._file)

    def _write(self, line: bytes) -> None:
        more = _cost(self._length + len(line)) - _cost(self._length)
        if self._bytes + more > self._limit:
            raise Unavailable("the prediction could not be recorded: too many records wait for the API")
        if self._count >= MOST_RECORDS:
            raise Unavailable("the prediction could not be recorded: there is no file for another batch")
        append_line(self._file, self._length, line)
        self._opened = self._opened or self._clock()
        self._length, self._bytes, self._count = self._length + len(line), self._bytes + more, self._count + 1

    def _is_old(self) -> bool:
        """Also when the clock was set back: a batch spans no more time than it should."""
        return not 0 <= self._clock() - self._opened < BATCH_MS

    def _next(self) -> None:
        """Closes the batch, if there is a file for another one; else it goes on, and this is tried again."""
        try:
            name, file = self._create(int(self._name[:DIGITS]) + 1)
        except OSError as error:
            log.warning("no file for another batch of prediction records: %s", error)
            return
        os.close(self._file)
        self._closed.append(self._name)
        self._name, self._file = name, file
        self._length = self._count = self._opened = 0

    def _create(self, number: int) -> tuple[str, int]:
        name = f"{number:0{DIGITS}d}-{new_id('bat')}"
        return name, os.open(self._path(name), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_EXCL, 0o600)

    def _path(self, batch: str) -> Path:
        return self._folder / f"{batch}.jsonl"


def _cost(size: int) -> int:
    """Bytes of the disk that a file of this size counts for."""
    return max(BLOCK, size) if size else 0


def _holds_records(path: Path) -> bool:
    """Whether a file that was left has whole lines; it is cut to them, and goes if there are none."""
    kept = 0
    for line in path.read_bytes().splitlines(keepends=True):
        if whole_record(line) is None:
            break
        kept += len(line)
    if kept:
        os.truncate(path, kept)
    else:
        path.unlink()
    return kept > 0
