"""The audit log: one durable append against a bare durable insert, appends in batches, and the check of everything.

Both sides of a single append are SQLite in WAL mode with synchronous=FULL on the same disk; the bare side inserts a row of the same
bytes and nothing else. The log signs no checkpoint while it appends.
"""

import sqlite3
import tempfile
from pathlib import Path

from benchmarks.harness import Row, Size, Target, against, alone, in_turn, say, seconds
from tests.audit import Home, events

BATCH = 500


def measure(size: Size) -> list[Row]:
    """Events a second."""
    single, batched = size.of(200, 20), size.of(20_000, 1_000)
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder) / "log")
        audit, bare = home.open(), Bare(Path(folder) / "bare.db")
        numbers = iter(range(size.rounds + 1))
        say(f"audit: {single} single appends in turn with bare inserts, {size.rounds} rounds")

        def append() -> float:
            batch = events(single, next(numbers) * single + 1)
            return single / seconds(lambda: [audit.append([event]) for event in batch])

        found = in_turn(size.rounds + 1, {"ours": append, "bare": lambda: bare.rate(single)})
        count = (size.rounds + 1) * single
        say(f"audit: {batched} events in batches, then the check of all")
        batches = [events(min(BATCH, batched - first), count + first + 1) for first in range(0, batched, BATCH)]
        appended = [len(batch) / seconds(lambda batch=batch: audit.append(batch)) for batch in batches]
        audit.publish()
        checked = [(count + batched) / seconds(home.check) for _ in range(size.rounds)]
    ours, theirs = found["ours"][1:], found["bare"][1:]
    durable = "durable when it returns: SQLite, WAL, synchronous=FULL"
    complete = "on one core: chain, tree, tiles, checkpoint"
    return [
        against("audit, single append", "1/s", ours, theirs, "bare SQLite insert", Target(0.6, "higher", "ratio"), durable),
        alone("audit, appends in batches", "1/s", appended, Target(20_000, "higher", "figure"), f"{BATCH} at once; {durable}"),
        alone("audit, check of the log", "1/s", checked, Target(60_000, "higher", "figure"), complete),
    ]


class Bare:
    """A table of one column on the same disk."""

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(path, isolation_level=None)
        for pragma in ("journal_mode=WAL", "synchronous=FULL"):
            self._database.execute(f"PRAGMA {pragma}")
        self._database.execute("CREATE TABLE leaves (id INTEGER PRIMARY KEY, leaf BLOB NOT NULL)")

    def rate(self, count: int) -> float:
        """Inserts a second, each a transaction."""
        leaf = bytes(600)

        def run() -> None:
            for _ in range(count):
                self._database.execute("INSERT INTO leaves (leaf) VALUES (?)", (leaf,))

        return count / seconds(run)
