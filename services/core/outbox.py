"""The transactional outbox: a state change and its audit event are one transaction; a relay carries events to the log.

Each database has one outbox and is one source. Delivery is at least once; the log is idempotent by event id.
"""

import functools
import itertools
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

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
    waiting = table.c.log_index.is_(None)
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


def _runs(seqs: Iterable[int], indexes: Iterable[int]) -> Iterator[dict[str, int]]:
    """The rows that follow each other in the log as in the outbox, first and last: as a rule, one run of all. A row between that
    is not among them has its index already, and it is the same: the log has a source's events in their order."""
    for ahead, pairs in itertools.groupby(zip(seqs, indexes, strict=True), key=lambda pair: pair[1] - pair[0]):
        run = [seq for seq, _ in pairs]
        yield {"first": run[0], "last": run[-1], "ahead": ahead}


class Relay:
    """Moves outbox rows to the log, in order. Safe to call from several threads; one flush runs at a time."""

    def __init__(self, engine: Engine, outbox: Outbox, bus: AuditBus) -> None:
        self._engine, self._outbox, self._bus = engine, outbox, bus
        self._lock = threading.Lock()

    def pending(self) -> int:
        """How many events are not known to be in the log yet."""
        with self._engine.connect() as connection:
            found: int = connection.execute(_unsent(self._outbox.table)).scalar_one()
        return found

    def flush(self) -> int:
        """How many events were moved: all that were written before the call.

        Raises:
            Unavailable: the log or the database did not answer; the rows stay and go with the next flush.
        """
        return len(self._flush())

    def wait_for(self, event_ids: list[str]) -> dict[str, int]:
        """The log index of each event, after a flush: what signing and promotion call before they go on.

        Raises:
            Unavailable: an event is not in the log yet; retry.
        """
        with tracing.step("audit append"):
            return self._wait_for(event_ids)

    def _wait_for(self, event_ids: list[str]) -> dict[str, int]:
        found = self._flush()
        if not found.keys() >= set(event_ids):
            # Another flush took them.
            with self._engine.connect() as connection:
                rows = connection.execute(_indexes(self._outbox.table), {"ids": event_ids})
                found = {row.id: row.log_index for row in rows}
        if not found.keys() >= set(event_ids):
            raise Unavailable("an event did not reach the audit log; retry")
        return {event_id: found[event_id] for event_id in event_ids}

    def _flush(self) -> dict[str, int]:
        """Id → log index of each event that was moved."""
        moved: dict[str, int] = {}
        left = True
        with self._lock:
            while left:
                batch, left = self._pending()
                if not batch:
                    break
                # 1. Append. A crash after it leaves rows without an index: the next flush sends them again, and the log
                #    answers with the same indexes.
                indexes = self._bus.append([parse(row.event) for row in batch])
                # 2. Note the indexes.
                with begin(self._engine, durable=False) as connection:
                    for run in _runs((row.seq for row in batch), indexes):
                        connection.execute(_note(self._outbox.table), run)
                moved |= {row.id: index for row, index in zip(batch, indexes, strict=True)}
        return moved

    def _pending(self) -> tuple[list[Row[tuple[int, str, bytes]]], bool]:
        """The next batch, and whether more events wait than it holds."""
        with self._engine.connect() as connection:
            rows = list(connection.execute(_waiting(self._outbox.table)))
        sizes = itertools.accumulate(len(row.event) for row in rows)
        # One event is at most an entry of the log, so there is always one that fits.
        batch = [row for row, size in zip(rows, sizes, strict=True) if size <= BATCH_BYTES]
        return batch, len(batch) < len(rows) or len(rows) == BATCH


def pending_gauge(relay: Relay) -> Gauge:
    """For whoever owns the outbox that the relay empties."""
    return Gauge("ai_infra_outbox_pending_events", "Events that are not known to be in the log yet.", relay.pending)
