"""How fast policies answer beside an OPA server on the same inputs: `python -m benchmarks.policy [--rounds N]`, JSON to stdout.

Engines take turns in the same run, each asked as the platform asks it. `wasm` and `regopy`: those in the API's process; `opa`: a
server over loopback HTTP; `decision`: evaluation by regopy, the default, and the durable record (input object, row and event;
SQLite, synchronous=FULL). Inputs differ in their time from round to round, so nothing is remembered. Milliseconds.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tests  # noqa: F401  # torch before the embedded engine: see there
from services.core.events import Subject
from services.sentinelnet.backends import opa, regopy, wasm
from tests.peers import need
from tests.sentinelnet import BUNDLE, GOOD, NOW, SAM, Platform, opa_server

ASIDE = ("provision", "apply")
"""Actions of `infra check`: asked once for a pull request, with a whole environment as input, and never recorded."""
DATASETS = 100
"""Data sets of the large input: the most that one job may name."""


def milliseconds(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return (time.perf_counter() - start) * 1000


def summary(times: list[float]) -> dict[str, float]:
    """Median and 95th percentile."""
    ordered = sorted(times)
    return {"p50": round(ordered[len(ordered) // 2], 2), "p95": round(ordered[int(len(ordered) * 0.95)], 2)}


def large() -> dict[str, Any]:
    """A training with as many data sets as a job may name."""
    first = GOOD["train"]["datasets"][0]
    return GOOD["train"] | {"datasets": [first | {"id": f"sha256:{number:064x}"} for number in range(DATASETS)]}


def measure(folder: Path, url: str, rounds: int) -> dict[str, Any]:
    engines = {"wasm": wasm.open_engine(need("opa")), "regopy": regopy.open_engine(), "opa": opa.open_engine(url)}
    platform = Platform(folder)
    platform.publish()
    inputs = {action: (action, facts) for action, facts in GOOD.items() if action not in ASIDE}
    inputs |= {f"train, {DATASETS} data sets": ("train", large())}
    times: dict[str, dict[str, list[float]]] = {name: {what: [] for what in (*engines, "decision")} for name in inputs}
    for number in range(-2, rounds):
        for name, (action, facts) in inputs.items():
            asked = {**facts, "action": action, "now": NOW + number}
            took = {
                what: milliseconds(lambda engine=engine, asked=asked: engine.evaluate(BUNDLE, asked))
                for what, engine in engines.items()
            }
            took["decision"] = milliseconds(
                lambda action=action, asked=asked: platform.net.decide(action, asked, Subject("run", "run-1"), SAM)
            )
            # The first rounds compile and connect.
            for what in took if number >= 0 else ():
                times[name][what].append(took[what])
    return {name: {what: summary(values) for what, values in found.items()} for name, found in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder, opa_server(need("opa")) as url:
        found = measure(Path(folder), url, rounds)
    print(json.dumps({"rounds": rounds, "milliseconds": found, "goals": goals(found)}, indent=2))


def goals(found: dict[str, Any]) -> dict[str, bool]:
    """Whether a check with its durable record takes at most 50 ms, and engine wasm no longer than OPA's server, at p95."""
    return {
        "decision p95 <= 50 ms": all(item["decision"]["p95"] <= 50 for item in found.values()),
        "wasm p95 <= OPA p95": all(item["wasm"]["p95"] <= item["opa"]["p95"] for item in found.values()),
    }


if __name__ == "__main__":
    main()
