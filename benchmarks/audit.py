"""How fast the audit log takes and checks events on this machine: `python -m benchmarks.audit [--events N]`, JSON to stdout.

Every append is durable when it returns (SQLite, WAL, synchronous=FULL). The checkpoint signer is the tests' fake, in this process.
"""

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.audit import Home, events

BATCH = 500


def rate(count: int, run: Callable[[], Any]) -> float:
    """Events a second."""
    start = time.perf_counter()
    run()
    return round(count / (time.perf_counter() - start), 1)


def peak_mib() -> float:
    """The most memory that this process has had so far."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def measure(folder: Path, count: int, single: int) -> dict[str, Any]:
    home = Home(folder)
    audit = home.open()
    batches = [events(min(BATCH, count - first), single + first + 1) for first in range(0, count, BATCH)]
    appended = {
        "append_single": rate(single, lambda: [audit.append([item]) for item in events(single)]),
        "append_batched": rate(count, lambda: [audit.append(batch) for batch in batches]),
    }
    total = single + count
    published = rate(total, audit.publish)
    before = peak_mib()
    proofs = 200
    return {
        "events": total,
        "events_per_second": {**appended, "publish": published, "verify": rate(total, home.check)},
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
