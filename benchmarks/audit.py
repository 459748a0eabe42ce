"""The audit log: one durable append against a bare durable insert, appends in batches, and the check of everything.

The bare peer is Python's `sqlite3` with a table of index, id and leaf, the id unique as in any log that takes an event only once.
It lies on the same file system, in WAL mode with synchronous=FULL as ours does, and gets the same ids and leaves, made beforehand;
each INSERT is a transaction. Blocks of 20 alternate, so that what slows the disk down slows both. Ours also checks the event,
writes it as canonical JSON, chains it, and keeps what it is looked up by. The log signs no checkpoint while it appends.

The check is first that of the offline verifier, then `AuditLog.verify`, which `ai-infra audit verify` calls: the same, and the
table against what was published. Both run in one thread.
"""

import resource
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.harness import Row, Size, Target, against, alone, say, seconds
from services.audit.service import AuditLog
from services.core.ids import new_id
from tests.audit import Home, chained, event

BATCH, BLOCK = 500, 20
DURABLE = "durable when it returns: SQLite, WAL, synchronous=FULL"


def measure(size: Size) -> list[Row]:
    """Events a second."""
    single, batched = size.of(400, BLOCK), size.of(20_000, 1_000)
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder) / "log")
        audit, bare, source = home.open(), Bare(Path(folder) / "bare.db"), Source()
        say(f"audit: {single} single appends in turn with bare inserts, {size.rounds} rounds")
        paired = [in_blocks(audit, bare, source, single) for _ in range(size.rounds + 1)][1:]
        say(f"audit: {batched} events in batches, then the check of all")
        batches = [source.events(min(BATCH, batched - first)) for first in range(0, batched, BATCH)]
        appended = [len(batch) / seconds(lambda batch=batch: audit.append(batch)) for batch in batches]
        audit.publish()
        checks = [
            check("audit, check of the log", "chain, tree, tiles, checkpoint", size, source.last, home.check),
            check("audit, check of log and table", "what `ai-infra audit verify` does", size, source.last, audit.verify),
        ]
    ours, theirs = zip(*paired, strict=True)
    return [
        against("audit, single append", "1/s", ours, theirs, "bare SQLite insert", Target(0.6, "higher", "ratio"), DURABLE),
        alone("audit, appends in batches", "1/s", appended, Target(20_000, "higher", "figure"), f"{BATCH} at once; {DURABLE}"),
        *checks,
    ]


class Source:
    """Events of one source, with ids as outboxes make them. last: how many there were."""

    def __init__(self) -> None:
        self.last = 0

    def events(self, count: int) -> list[dict[str, Any]]:
        """The next ones."""
        first, self.last = self.last + 1, self.last + count
        return [event(seq, id=new_id("evt")) for seq in range(first, self.last + 1)]


class Bare:
    """The peer."""

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(path, isolation_level=None)
        for pragma in ("journal_mode=WAL", "synchronous=FULL"):
            self._database.execute(f"PRAGMA {pragma}")
        self._database.execute("CREATE TABLE leaves (at INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, leaf BLOB NOT NULL)")

    def insert(self, rows: list[tuple[int, str, bytes]]) -> None:
        """Each row is a transaction."""
        for row in rows:
            self._database.execute("INSERT INTO leaves VALUES (?, ?, ?)", row)


def in_blocks(audit: AuditLog, bare: Bare, source: Source, count: int) -> tuple[float, float]:
    """Events a second, ours and the peer's, over as many appends one by one."""
    ours = theirs = 0.0
    for _ in range(0, count, BLOCK):
        block = source.events(BLOCK)
        rows = [(item["seq"], item["id"], leaf) for item, leaf in zip(block, chained(block), strict=True)]
        theirs += seconds(lambda rows=rows: bare.insert(rows))
        ours += seconds(lambda block=block: [audit.append([item]) for item in block])
    return count / ours, count / theirs


def check(work: str, what: str, size: Size, count: int, run: Callable[[], Any]) -> Row:
    """Entries checked a second: by the wall clock, and in the note by processor time, which other processes do not lengthen."""
    before, rates, own = peak_mib(), [], []
    for _ in range(size.rounds):
        used = time.process_time()
        rates.append(count / seconds(run))
        own.append(count / (time.process_time() - used))
    grew = f"memory grew by {peak_mib() - before:.0f} MiB"
    note = f"on one core: {what}; {statistics.median(own):,.0f} a second of processor time; {grew}"
    return alone(work, "1/s", rates, Target(60_000, "higher", "figure"), note)


def peak_mib() -> float:
    """The most memory that this process has had so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
