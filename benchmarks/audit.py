"""How fast the audit log takes and checks events on this machine: `python -m benchmarks.audit [--events N]`, JSON to stdout.

Every append is durable when it returns (SQLite, WAL, synchronous=FULL). The checkpoint signer is the tests' fake, in this process.
The peer is a bare SQLite table in the same folder: one INSERT of the same leaf a transaction, by blocks in turn with our appends.
"""

import argparse
import json
import resource
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from services.audit.service import AuditLog
from tests.audit import Home, chained, events

BATCH, BLOCK = 500, 50


def rate(count: int, run: Callable[[], Any]) -> float:
    """Events a second."""
    start = time.perf_counter()
    run()
    return round(count / (time.perf_counter() - start), 1)


def peak_mib() -> float:
    """The most memory that this process has had so far."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def single_appends(audit: AuditLog, folder: Path, count: int) -> dict[str, float]:
    """Medians over blocks of 50, ours and bare SQLite's in turn, and the median of their ratios."""
    bare = sqlite3.connect(folder / "bare.db", isolation_level=None)
    bare.execute("PRAGMA journal_mode=WAL")
    bare.execute("PRAGMA synchronous=FULL")
    bare.execute("CREATE TABLE leaves (at INTEGER PRIMARY KEY, leaf BLOB NOT NULL)")
    ours, theirs = [], []
    for first in range(0, count, BLOCK):
        block = events(BLOCK, first + 1)
        leaves = [(first + at, leaf) for at, leaf in enumerate(chained(block))]
        theirs.append(rate(BLOCK, partial(_insert, bare, leaves)))
        ours.append(rate(BLOCK, partial(_append, audit, block)))
    bare.close()
    return {
        "append_single": statistics.median(ours),
        "bare_sqlite_full_insert": statistics.median(theirs),
        "append_single_of_bare": round(statistics.median(a / b for a, b in zip(ours, theirs, strict=True)), 3),
    }


def _insert(bare: sqlite3.Connection, leaves: list[tuple[int, bytes]]) -> None:
    for leaf in leaves:
        bare.execute("INSERT INTO leaves VALUES (?, ?)", leaf)


def _append(audit: AuditLog, block: list[dict[str, Any]]) -> None:
    for item in block:
        audit.append([item])


def measure(folder: Path, count: int, single: int) -> dict[str, Any]:
    home = Home(folder)
    audit = home.open()
    single = -(-single // BLOCK) * BLOCK
    batches = [events(min(BATCH, count - first), single + first + 1) for first in range(0, count, BATCH)]
    appended = {
        **single_appends(audit, folder, single),
        "append_batched": rate(count, lambda: [audit.append(batch) for batch in batches]),
    }
    total = audit.size()
    published = rate(total, audit.publish)
    before, used = peak_mib(), time.process_time()
    verified = rate(total, home.check)
    used = time.process_time() - used
    proofs = 200
    return {
        "events": total,
        "events_per_second": {
            **appended,
            "publish": published,
            "verify": verified,
            "verify_by_processor_time": round(total / used, 1),
        },
        "verify_grew_memory_by_mib": round(peak_mib() - before, 1),
        "proofs_per_second": rate(proofs, lambda: [audit.prove(number * total // proofs) for number in range(proofs)]),
        "log_bytes_per_event": round(sum(path.stat().st_size for path in home.folder.rglob("*") if path.is_file()) / total, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=20_000, help="events appended in batches")
    parser.add_argument("--single", type=int, default=500, help="events appended one by one")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(Path(folder), arguments.events, arguments.single), indent=2))


if __name__ == "__main__":
    main()
