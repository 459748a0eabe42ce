"""The router's prediction records: appended to segment files and sealed in batches.

A record is with the operating system before its answer leaves, and on the disk when its batch is sealed: a killed process loses
only what had not been written; a machine that stops may lose the unsealed tail.
"""

import logging
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, func, insert, select

from services.core import merkle
from services.core.canonical import parse
from services.core.clock import Clock
from services.core.database import begin
from services.core.ids import made_at
from services.core.outbox import Outbox
from services.core.storage import writing
from services.serving.errors import UnknownPrediction
from services.serving.owed import Owed
from services.serving.records import (
    BATCH_MS,
    BATCH_RECORDS,
    append_line,
    line_of,
    root_of,
    sealed_event,
    whole_record,
    with_proof,
)
from services.serving.router.tables import batches, predictions

SEGMENT_BYTES = 64 << 20
CLOCKS_MS = 3_600_000
"""How far the clocks of the API, which makes rollouts, and of the router may be apart."""

log = logging.getLogger(__name__)


@dataclass
class Batch:
    """Lines of one segment from `start`, in order. opened: epoch milliseconds of the first one."""

    segment: int
    start: int
    opened: int = 0
    length: int = 0
    ids: list[str] = field(default_factory=list)
    leaves: list[bytes] = field(default_factory=list)
    lost: int = 0
    recovered: bool = False

    def add(self, record_id: str, line: bytes) -> None:
        """line: with its line end."""
        self.ids.append(record_id)
        self.leaves.append(merkle.leaf_hash(line[:-1]))
        self.length += len(line)


class RecordLog:
    """Writer and reader of the records. `expect`, `append` and `withdraw` belong to one thread; `seal` may run in another.

    lost: records that a killed predecessor had begun and not written; 0 after a clean stop. It may be one too many: a record that
    was written in the instant before the kill.
    """

    def __init__(
        self, folder: Path, engine: Engine, outbox: Outbox, clock: Clock, actor: str, segment_bytes: int = SEGMENT_BYTES
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._engine, self._outbox, self._clock, self._actor = folder, engine, outbox, clock, actor
        self._segment_bytes = segment_bytes
        self._lock = threading.Lock()
        self._sealing = threading.Lock()
        self._closed: list[Batch] = []
        self._owed = Owed(folder / "inflight")
        self.lost = self._owed.open()
        self._file, self._open = self._open_segment(self._recover())

    def expect(self) -> None:
        """A prediction began: its record is owed."""
        self._owed.begin()

    def withdraw(self) -> None:
        """What was expected was no prediction: no record is owed."""
        self._owed.end()

    def append(self, record: dict[str, Any]) -> None:
        """Writes a record that was expected.

        Raises:
            Unavailable: the disk did not take it; the record is owed and will be counted as lost.
        """
        line = line_of(record)
        with self._lock:
            append_line(self._file, self._open.start + self._open.length, line)
            self._open.opened = self._open.opened or self._clock()
            self._open.add(record["id"], line)
        self._owed.end()

    def due(self) -> bool:
        """Whether there is a batch to seal now."""
        batch = self._open
        old = bool(batch.ids) and self._clock() - batch.opened >= BATCH_MS
        return bool(self._closed) or old or len(batch.ids) >= BATCH_RECORDS

    def seal(self) -> int:
        """Seals what was appended so far; how many records. Raises Unavailable: the batches stay, call again."""
        sealed = 0
        with self._sealing, writing("prediction records could not be sealed"):
            self._close()
            while self._closed:
                self._write(self._closed[0])
                self._owed.told(self._closed[0].lost)
                sealed += len(self._closed[0].ids)
                self._closed.pop(0)
        return sealed

    def close(self) -> None:
        """Seals the rest and says that nothing is owed."""
        self.seal()
        self._owed.close()
        os.close(self._file)

    def find(self, record_id: str) -> dict[str, Any]:
        """A record, with its place in its batch and the proof that the batch's root covers it.

        Returns:
            {"record", "sealed": {"batch", "event", "index", "size", "root", "proof": [hex]} or None before its batch is sealed}.
        Raises:
            UnknownPrediction.
        """
        query = select(predictions.c.position, batches).join(batches).where(predictions.c.id == record_id)
        with self._engine.connect() as connection:
            row = connection.execute(query).mappings().first()
        if row is None:
            return {"record": self._unsealed(record_id), "sealed": None}
        return with_proof(row, self._lines(row["segment"], row["start"], row["length"]), row["position"])

    def of_rollout(self, rollout: str) -> Iterator[dict[str, Any]]:
        """Every record of a rollout, in the order written; may run in any thread, and long: it reads what was written since the
        rollout was made."""
        mark, since = rollout.encode("ascii"), made_at(rollout) - CLOCKS_MS
        for number in self._segments():
            path = self._path(number)
            if path.stat().st_mtime_ns // 1_000_000 < since:
                continue
            with path.open("rb") as file:
                for line in file:
                    if mark in line and line.endswith(b"\n"):
                        record = parse(line)
                        if record["rollout"] is not None and record["rollout"]["id"] == rollout:
                            yield record

    def _unsealed(self, record_id: str) -> dict[str, Any]:
        with self._lock:
            waiting = [*self._closed, self._open]
            found = [(batch, batch.ids.index(record_id)) for batch in waiting if record_id in batch.ids]
        if not found:
            raise UnknownPrediction(f"no prediction {record_id[:100]!r}: the header x-request-id of an answer is its id")
        batch, position = found[0]
        value: dict[str, Any] = parse(self._lines(batch.segment, batch.start, batch.length)[position])
        return value

    def _lines(self, segment: int, start: int, length: int) -> list[bytes]:
        with self._path(segment).open("rb") as file:
            file.seek(start)
            return file.read(length).split(b"\n")[:-1]

    def _close(self) -> None:
        with self._lock:
            batch = self._open
            if not batch.ids:
                return
            end = batch.start + batch.length
            if end < self._segment_bytes:
                self._closed.append(batch)
                self._open = Batch(batch.segment, end)
                return
            # A disk that refuses either leaves the batch open, and it goes on.
            os.fsync(self._file)
            file, following = self._open_segment(batch.segment + 1)
            os.close(self._file)
            self._closed.append(batch)
            self._file, self._open = file, following

    def _write(self, batch: Batch) -> None:
        # 1. The lines are on the disk. A crash after it leaves an unsealed tail, which the next start seals.
        with self._path(batch.segment).open("rb") as file:
            os.fsync(file.fileno())
        root = root_of(batch.leaves)
        # 2. Batch, index and event, in one transaction. From here the records are sealed.
        with begin(self._engine) as connection:
            if batch.ids and connection.execute(select(predictions).where(predictions.c.id == batch.ids[0])).first() is not None:
                return  # an earlier call sealed it, and did not learn that its commit had taken effect
            number = (connection.execute(select(func.max(batches.c.id))).scalar() or 0) + 1
            draft = sealed_event(self._actor, number, root, batch.ids, recovered=batch.recovered, lost=batch.lost)
            event = self._outbox.emit(connection, draft)
            values = {"segment": batch.segment, "start": batch.start, "length": batch.length}
            connection.execute(
                insert(batches).values(id=number, **values, records=len(batch.ids), root=root, event=event)
            )
            if batch.ids:
                rows = [{"id": name, "batch": number, "position": at} for at, name in enumerate(batch.ids)]
                connection.execute(insert(predictions), rows)

    def _recover(self) -> int:
        """Seals what a predecessor left; the number of the segment to go on with."""
        segments = self._segments()
        for number in segments:
            batch = self._tail(number)
            if batch.ids:
                self._closed.append(batch)
        if self.lost and not self._closed:
            last = segments[-1] if segments else 1
            self._closed.append(Batch(last, self._sealed_end(last), recovered=True))
        if self._closed:
            self._closed[-1].lost = self.lost
            found = sum(len(batch.ids) for batch in self._closed)
            log.warning("recovered %d unsealed prediction records; %d were lost", found, self.lost)
        return segments[-1] if segments else 1

    def _tail(self, number: int) -> Batch:
        start, path = self._sealed_end(number), self._path(number)
        batch = Batch(number, start, self._clock(), recovered=True)
        with path.open("rb+") as file:
            file.seek(start)
            for line in file.read().splitlines(keepends=True):
                record = whole_record(line)
                if record is None:
                    break
                batch.add(record["id"], line)
            file.truncate(start + batch.length)
        return batch

    def _sealed_end(self, segment: int) -> int:
        query = select(func.max(batches.c.start + batches.c.length)).where(batches.c.segment == segment)
        with self._engine.connect() as connection:
            return int(connection.execute(query).scalar() or 0)

    def _open_segment(self, number: int) -> tuple[int, Batch]:
        path = self._path(number)
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        return file, Batch(number, path.stat().st_size)

    def _segments(self) -> list[int]:
        return sorted(int(path.stem) for path in self._folder.glob("*.jsonl"))

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:08d}.jsonl"
