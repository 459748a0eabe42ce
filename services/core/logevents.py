"""Checks the entries of an audit log one after the other: form, chain, seq per source, ids, times. It knows nothing of tiles.

Memory stays flat, but for one number a source. Ids must be unique over the whole log, which no constant memory can tell, so they go
to a temporary SQLite file that vanishes with the check.
"""

import sqlite3
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from services.core.errors import BadInput
from services.core.logentry import NO_PREVIOUS, chain_hash, parse_leaf
from services.core.logfindings import MAX_PROBLEMS, Findings, Kind
from services.core.tlog import TILE_WIDTH

TIME_BACK_MS = 60_000
"""How far a source's time may go back between two of its events: clocks are set, and machines resume."""

Each = Callable[[int, dict[str, Any], bytes], None]
"""(index, event without prevHash, leaf)"""


@dataclass
class _Source:
    """last: highest seq so far; missing: ranges of seq skipped, first to last; ts: latest time so far."""

    last: int = 0
    ts: int = 0
    missing: list[tuple[int, int]] = field(default_factory=list)

    def fill(self, seq: int) -> bool:
        """Whether this seq was skipped before; it is no longer."""
        # The ranges are in order. Whoever forges a log chooses how many there are, so they are not read one by one.
        at = bisect_right(self.missing, seq, key=lambda part: part[0]) - 1
        if at < 0 or self.missing[at][1] < seq:
            return False
        first, last = self.missing[at]
        self.missing[at : at + 1] = [part for part in ((first, seq - 1), (seq + 1, last)) if part[0] <= part[1]]
        return True


class EventChecker:
    """Checks entries one after the other: form, chain, seq, ids, time. Feed it in index order, then finish, then close."""

    def __init__(self, found: Findings, each: Each) -> None:
        self._found, self._each = found, each
        self._previous: str | None = NO_PREVIOUS
        self._sources: dict[str, _Source] = {}
        # An empty name is a temporary file of SQLite's own, unlinked when it is closed.
        self._ids = sqlite3.connect("", isolation_level=None)
        for statement in ("PRAGMA journal_mode=OFF", "PRAGMA synchronous=OFF", "BEGIN"):
            self._ids.execute(statement)
        self._ids.execute("CREATE TABLE ids (id TEXT PRIMARY KEY, at INTEGER) WITHOUT ROWID")
        self._new_ids: list[tuple[str, int]] = []
        # Entries that do not follow the one before them → the hash of the one that they follow.
        self.breaks: dict[int, str] = {}

    def close(self) -> None:
        self._ids.close()

    def skip(self) -> None:
        """Entries are missing here: the next one has no predecessor to be compared with."""
        self._previous = None

    def feed(self, index: int, leaf: bytes) -> None:
        """One entry."""
        expected, self._previous = self._previous, chain_hash(leaf)
        try:
            event, prev_hash = parse_leaf(leaf)
        except BadInput as error:
            self._found.add(Kind.BAD_EVENT, str(error), index)
            return
        if expected not in (None, prev_hash):
            if len(self.breaks) < MAX_PROBLEMS:
                self.breaks[index] = prev_hash
            else:
                self._found.more += 1
        self._new_ids.append((event["id"], index))
        if len(self._new_ids) >= TILE_WIDTH:
            self._check_ids()
        self._check_source(index, event["source"], event["seq"], event["ts"])
        self._each(index, event, leaf)

    def finish(self) -> None:
        """Reports what only the end can tell: ids used again, and gaps. Why the chain broke at `breaks`, a log's tree tells."""
        self._check_ids()
        for name, source in self._sources.items():
            for first, last in source.missing:
                self._found.add(Kind.GAP, f"{name}: seq {first} to {last} is nowhere in the log")

    def _check_ids(self) -> None:
        new, self._new_ids = self._new_ids, []
        before = self._ids.total_changes
        self._ids.executemany("INSERT OR IGNORE INTO ids VALUES (?, ?)", new)
        if self._ids.total_changes - before == len(new):
            return
        for event_id, index in new:
            (first,) = self._ids.execute("SELECT at FROM ids WHERE id = ?", (event_id,)).fetchone()
            if first != index:
                self._found.add(Kind.REUSED_ID, f"{event_id} is the id of entry {first} too", index)

    def _check_source(self, index: int, name: str, seq: int, ts: int) -> None:
        source = self._sources.get(name)
        if source is None:
            source = self._sources[name] = _Source()
        if seq == source.last + 1:
            source.last = seq
        elif seq > source.last:
            if len(source.missing) < MAX_PROBLEMS:
                source.missing.append((source.last + 1, seq - 1))
            else:
                self._found.more += 1
            source.last = seq
        elif source.fill(seq):
            self._found.add(Kind.REORDERED, f"{name}: seq {seq} stands after a later one", index)
        else:
            self._found.add(Kind.REUSED_SEQ, f"{name}: seq {seq} stands in the log twice", index)
        if ts >= source.ts:
            source.ts = ts
        elif ts < source.ts - TIME_BACK_MS:
            self._found.add(Kind.TIME_BACK, f"{name}: {source.ts - ts} ms before an earlier event of its", index)
