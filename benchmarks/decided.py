"""Policy checks, as rows of the common report; measured by benchmarks.policy. The worst of all inputs counts, not their mean."""

import tempfile
from pathlib import Path
from typing import Any

from benchmarks.harness import Row, Size, Target, against, alone, say
from benchmarks.policy import measure as measured
from tests.peers import find
from tests.sentinelnet import opa_server


def measure(size: Size) -> list[Row]:
    """Milliseconds at p95: a check with its durable record, and each engine in the process alone against an OPA server."""
    program = find("opa")
    if program is None:
        raise SystemExit("opa is not here: `make peers` builds it")
    say("policy: every kind of input, on all engines in turn")
    found = []
    with opa_server(program) as url:
        for _ in range(size.rounds):
            with tempfile.TemporaryDirectory() as folder:
                found.append(measured(Path(folder), url, size.of(40, 3)))
    slowest = [max(_p95(round, name, "decision") for name in round) for round in found]
    durable = f"the slowest of {len(found[0])} inputs, on regopy; recorded in SQLite, synchronous=FULL"
    chosen = "OPA's compiler made WebAssembly of the policies; a choice, not the default, and refused where env is prod"
    return [
        alone("policy check with its record, p95", "ms", slowest, Target(50.0, "lower", "figure"), durable),
        _beside_opa(found, "wasm", Target(1.0, "lower", "ratio"), chosen),
        _beside_opa(found, "regopy", None, "the default, which needs nothing beside Python, and the offline verifier's"),
    ]


def _beside_opa(found: list[dict[str, Any]], engine: str, target: Target | None, note: str) -> Row:
    worst = max(found[0], key=lambda name: sum(_p95(round, name, engine) / _p95(round, name, "opa") for round in found))
    ours, theirs = ([_p95(round, worst, what) for round in found] for what in (engine, "opa"))
    note = f"{note}; its worst input beside OPA over loopback HTTP: {worst}"
    return against(f"policy engine alone ({engine}), p95", "ms", ours, theirs, "OPA server", target, note)


def _p95(found: dict[str, Any], name: str, what: str) -> float:
    return float(found[name][what]["p95"])
