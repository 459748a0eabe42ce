"""Policy checks, as rows of the common report; measured by benchmarks.policy. The worst of all inputs counts, not their mean."""

import tempfile
from pathlib import Path
from typing import Any

from benchmarks.harness import Row, Size, Target, against, alone, say
from benchmarks.policy import measure as measured
from tests.peers import find
from tests.sentinelnet import opa_server


def measure(size: Size) -> list[Row]:
    """Milliseconds at p95: a check with its durable record, and the embedded engine alone against an OPA server."""
    program = find("opa")
    if program is None:
        raise SystemExit("opa is not here: `make peers` builds it")
    say("policy: every kind of input, on both engines in turn")
    found = []
    with opa_server(program) as url:
        for _ in range(size.rounds):
            with tempfile.TemporaryDirectory() as folder:
                found.append(measured(Path(folder), url, size.of(40, 3)))
    worst = max(found[0], key=lambda name: sum(_p95(round, name, "engine") / _p95(round, name, "opa") for round in found))
    slowest = [max(_p95(round, name, "decision") for name in round) for round in found]
    ours, theirs = ([_p95(round, worst, engine) for round in found] for engine in ("engine", "opa"))
    durable = f"the slowest of {len(found[0])} inputs; recorded in SQLite, synchronous=FULL"
    return [
        alone("policy check with its record, p95", "ms", slowest, Target(50.0, "lower", "figure"), durable),
        against(
            "policy engine alone, p95", "ms", ours, theirs, "OPA server", Target(1.0, "lower", "ratio"),
            f"the input that is worst for the embedded engine: {worst}; OPA over loopback HTTP",
        ),
    ]  # fmt: skip


def _p95(found: dict[str, Any], name: str, what: str) -> float:
    return float(found[name][what]["p95"])
