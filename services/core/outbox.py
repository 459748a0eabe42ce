"""The transactional outbox: a state change and its audit event are one transaction; a relay carries events to the log.

Each database has one outbox and is one source. Delivery is at least once; the log is idempotent by event id.
"""

import functools
import itertools
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Insert,
    Integer,
    LargeBinary,
    MetaData,
    Row,
    Select,
    String,
    Table,
    Update,
    bindparam,
    func,
    insert,
    select,
    update,
)

from services.core import tracing
from services.core.canonical import canonical, parse
from services.core.clock import Clock
from services.core.database import begin
from services.core.errors import Unavailable
from services.core.events import EventDraft
from services.core.ids import new_id
from services.core.logentry import NO_PREVIOUS, leaf_bytes, require_event
from services.core.metrics import Gauge
from services.core.transactions import known

BATCH = 500
BATCH_BYTES = 1 << 20
"""Of the events of one batch; with JSON's escapes they stay below the 4 MiB that a body may have."""
UNNOTED = 50
"""Events whose index is noted at once where nobody calls `flush`; a process that starts sends as many again."""
STEP_BACK_MS = 60_000
"""How far the clock may be behind the last event: such events take the last one's time. The log's check allows as much."""


class ClockSteppedBack(Unavailable):
    """The clock is further behind the last event than that: an event would be told at a time before its cause."""


class AuditBus(Protocol):
    """Where events become entries of the log."""

    def append(self, events: list[dict[str, Any]]) -> list[int]:
        """The log index of each event, durable when this returns.

        Args:
            events: as EventDraft.to_event makes them, in the order of their source's seq. An event that the log has
                already (same id, same body) keeps its index.
        Raises:
            Unavailable: the log did not answer; send the same events again.
            Conflict: a gap in the source's seq, or a known id with another body; do not retry.
        """


def outbox_table(metadata: MetaData) -> Table:
    """The outbox of the database that `metadata` describes. log_index stays null until the event is in the log."""
    return Table(
        "outbox",
        metadata,
        Column("seq", Integer, primary_key=True, autoincrement=False),
        Column("id", String(80), nullable=False, unique=True),
        Column("event", LargeBinary, nullable=False),
        Column("log_index", Integer, nullable=True, index=True),
    )


@dataclass(frozen=True)
class Outbox:
    """source: the SPIFFE URI of the process that owns the database."""

    table: Table
    source: str
    clock: Clock

    def emit(self, connection: Connection, draft: EventDraft) -> str:
        """The id of the event, written with the next seq of this source in the caller's own transaction.

        The connection is of `core.database.begin`, which lets one writer at a time take the next seq.
        Raises:
            BadInput, TooLarge: no entry of the log could hold it. It must not be written: no later event would pass it.
            ClockSteppedBack: retry when the clock is right.
        """
        last_seq, last_ts = known(connection).get(self.table) or self._last(connection)
        seq, ts = last_seq + 1, self._after(last_ts)
        event_id = new_id("evt")
        event = draft.to_event(event_id=event_id, source=self.source, seq=seq, ts=ts, trace_id=tracing.trace_id())
        leaf_bytes(require_event(event), NO_PREVIOUS)
        connection.execute(_insert(self.table), {"seq": seq, "id": event_id, "event": canonical(event)})
        known(connection)[self.table] = (seq, ts)
        return event_id

    def _last(self, connection: Connection) -> tuple[int, int]:
        """seq and time of the newest event; zeros before the first."""
        row = connection.execute(_newest(self.table)).first()
        return (0, 0) if row is None else (row.seq, parse(row.event)["ts"])

    def _after(self, last: int) -> int:
        """The time of an event that follows one of the time `last`."""
        now = self.clock()
        if now < last - STEP_BACK_MS:
            raise ClockSteppedBack(
                f"the clock is {(last - now) // 1000} s behind the last event of {self.source}: set it right, then repeat the call"
            )
        return max(now, last)


@functools.cache
def _newest(table: Table) -> Select[tuple[int, bytes]]:
    """Made once for each table: putting a statement together costs more than the database takes to answer it."""
    return select(table.c.seq, table.c.event).order_by(table.c.seq.desc()).limit(1)


@functools.cache
def _waiting(table: Table) -> Select[tuple[int, str, bytes]]:
    waiting = table.c.log_index.is_(None) & (table.c.seq > bindparam("after"))
    return select(table.c.seq, table.c.id, table.c.event).where(waiting).order_by(table.c.seq).limit(BATCH)


@functools.cache
def _indexes(table: Table) -> Select[tuple[str, int]]:
    listed = table.c.id.in_(bindparam("ids", expanding=True))
    return select(table.c.id, table.c.log_index).where(listed & table.c.log_index.is_not(None))


@functools.cache
def _unsent(table: Table) -> Select[int]:
    return select(func.count()).select_from(table).where(table.c.log_index.is_(None))


@functools.cache
def _insert(table: Table) -> Insert:
    return insert(table)


@functools.cache
def _note(table: Table) -> Update:
    between = table.c.seq.between(bindparam("first"), bindparam("last"))
    return update(table).where(between).values(log_index=table.c.seq + bindparam("ahead", type_=Integer))


class _Moved(NamedTuple):
    """An event that is in the log, at the index `at`."""

    seq: int
    at: int


def _runs(moved: Iterable[_Moved]) -> Iterator[dict[str, int]]:
    """The rows that follow each other in the log as in the outbox, first and last: as a rule, one run of all. A row between that
    is not among them has its index already, and it is the same: the log has a source's events in their order."""
    for ahead, run in itertools.groupby(moved, key=lambda event: event.at - event.seq):
        seqs = [event.seq for event in run]
        yield {"first": seqs[0], "last": seqs[-1], "ahead": ahead}


class Relay:
    """Moves outbox rows to the log, in order. Safe to call from several threads; one flush runs at a time.

    What is in the log is noted in the rows by `flush`, for many at once: who only waits for an event need not wait for that too.
    """

    def __init__(self, engine: Engine, outbox: Outbox, bus: AuditBus) -> None:
        self._engine, self._outbox, self._bus = engine, outbox, bus
        self._lock = threading.Lock()
        self._sent = 0
        self._moved: dict[str, _Moved] = {}

    def pending(self) -> int:
        """How many events are not known to be in the log yet."""
        # Without the lock, so that who looks need not wait for the log: what moves meanwhile may be counted or not.
        moved = len(self._moved)
        with self._engine.connect() as connection:
            found: int = connection.execute(_unsent(self._outbox.table)).scalar_one()
        return max(0, found - moved)

    def flush(self) -> int:
        """How many events were moved: all that were written before the call.

        Raises:
            Unavailable: the log or the database did not answer; the rows stay and go with the next flush.
        """
        with self._lock:
            count = self._move()
            self._note()
        return count

    def wait_for(self, event_ids: list[str]) -> dict[str, int]:
        """The log index of each event, once all are there: what signing and promotion call before they go on.

        Raises:
            Unavailable: an event is not in the log yet; retry.
        """
        with tracing.step("audit append"):
            return self._wait_for(event_ids)

    def _wait_for(self, event_ids: list[str]) -> dict[str, int]:
        with self._lock:
            self._move()
            found = {event_id: self._moved[event_id].at for event_id in event_ids if event_id in self._moved}
            if len(self._moved) >= UNNOTED:
                self._note()
        if not found.keys() >= set(event_ids):
            with self._engine.connect() as connection:
                rows = connection.execute(_indexes(self._outbox.table), {"ids": event_ids})
                found |= {row.id: row.log_index for row in rows}
        if not found.keys() >= set(event_ids):
            raise Unavailable("an event did not reach the audit log; retry")
        return {event_id: found[event_id] for event_id in event_ids}

    def _move(self) -> int:
        """How many events were appended. A crash after it, or before they are noted, leaves rows without an index: the next process
        sends them again, and the log answers with the same indexes."""
        count, left = 0, True
        while left:
            batch, left = self._pending()
            if not batch:
                break
            indexes = self._bus.append([parse(row.event) for row in batch])
            self._moved |= {row.id: _Moved(row.seq, index) for row, index in zip(batch, indexes, strict=True)}
            self._sent = batch[-1].seq
            count += len(batch)
            if len(self._moved) >= BATCH:
                self._note()
        return count

    def _note(self) -> None:
        """Writes the indexes of what was moved into its rows."""
        if not self._moved:
            return
        with begin(self._engine, durable=False) as connection:
            for run in _runs(self._moved.values()):
                connection.execute(_note(self._outbox.table), run)
        # Kept until here: who waits finds an event among these or in its row. Rows that lose their notes are sent again.
        self._moved, self._sent = {}, 0

    def _pending(self) -> tuple[list[Row[tuple[int, str, bytes]]], bool]:
        """The next batch, and whether more events wait than it holds."""
        with self._engine.connect() as connection:
            rows = list(connection.execute(_waiting(self._outbox.table), {"after": self._sent}))
        sizes = itertools.accumulate(len(row.event) for row in rows)
        # One event is at most an entry of the log, so there is always one that fits.
        batch = [row for row, size in zip(rows, sizes, strict=True) if size <= BATCH_BYTES]
        return batch, len(batch) < len(rows) or len(rows) == BATCH


def pending_gauge(relay: Relay) -> Gauge:
    """For whoever owns the outbox that the relay empties."""
    return Gauge("ai_infra_outbox_pending_events", "Events that are not known to be in the log yet.", relay.pending)
