"""Canary campaign on real servers: false rollbacks, planted regressions, and what lies below the test's sight.

    python -m benchmarks.canary --out canary.json                 the whole campaign; again: goes on where it stopped
    python -m benchmarks.canary --out c.json --only latency-2x --rounds 3
    python -m benchmarks.canary --list

One rig of processes is kept warm: the controller over a real database, the router process, KServe predictors with planted faults
(benchmarks.planted), and a load generator of its own. Each rollout starts a new canary process. Every verdict is computed again
from the sealed prediction records alone (benchmarks.recount); a rollout whose records do not give its counts fails the campaign.
"""

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from benchmarks import canary_page
from benchmarks.load import LoadProcess
from benchmarks.planted.plants import FILE, Plant, write_plants
from benchmarks.recount import last_batch, recount
from services.core.errors import Unavailable
from services.serving.controller import Controller
from services.serving.domain import DeploymentSpec, Probe, RolloutSpec
from services.serving.rollouts import Rollouts
from tests.fakes.serving import ListedProbes
from tests.serving import MODEL, World, api_of, router_of, row, wait_for

ACTOR = "spiffe://ai-infra.local/person/dario"
CLIENTS = 6
PROBES = 4000
ENDED = ("completed", "rolled_back", "aborted", "undecided")
TIMEOUT_S = 600.0
SEALED_S = 20.0
STILL_S = 0.5

SPEC: dict[str, Any] = {
    "environment": "staging", "margins": {"quality": 0.02},
    "golden": {"dataset": "golden@1", "limit": PROBES, "atOnce": 250},
    "minRequestsPerStep": 300, "maxRequestsPerStep": 6000, "calibrationRequests": 400, "calibrationS": 4.0,
}
"""Margins of errors and latency, alpha, tolerance and steps are the product's defaults."""


NONE = Plant()


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """expect: the state that each rollout must end in; "not detectable": whatever it ends in is shown and nothing is claimed.

    spec: over SPEC; burst: load that comes and goes; pause: of each client, in seconds.
    """

    name: str
    plant: Plant = NONE
    rounds: int = 20
    expect: str = "rolled_back"
    spec: dict[str, Any] = field(default_factory=dict)
    burst: int = 0
    clients: int = CLIENTS
    pause: float = 0.0


NO_QUALITY = {"compares": ["errors", "latency"], "golden": None}
SCENARIOS = (
    Scenario(name="same-calm", rounds=20, expect="completed"),
    Scenario(name="same-bursts", rounds=20, expect="completed", burst=16),
    # Cold for as long as the warm-up, whose answers are not judged, and for twice as long.
    Scenario(name="same-cold", rounds=10, expect="completed", plant=Plant(cold=20)),
    Scenario(name="cold-past-warm-up", rounds=5, plant=Plant(cold=40)),
    Scenario(name="latency-2x", plant=Plant(factor=2.0)),
    Scenario(name="latency-1.5x", plant=Plant(factor=1.5)),
    Scenario(name="tenth-5x", plant=Plant(factor=5.0, share=0.1)),
    Scenario(name="errors+5pp", plant=Plant(errors=0.055)),
    Scenario(name="accuracy-5pp", plant=Plant(wrong=0.08)),
    Scenario(name="class-30pp", plant=Plant(wrong_class="3", wrong_in_class=0.3)),
    Scenario(name="hung", plant=Plant(hang_after=60)),
    Scenario(
        name="errors+1pp-mirrored", plant=Plant(errors=0.015),
        spec={
            "compares": ["errors", "latency"], "golden": None, "steps": [5, 100], "mirror": 1.0, "margins": {"errors": 0.005},
            "minRequestsPerStep": 12_000, "maxRequestsPerStep": 12_000,
        },
    ),
    Scenario(
        name="errors+1pp-unpaired", plant=Plant(errors=0.015), rounds=5, expect="not detectable",
        spec=NO_QUALITY | {"margins": {"errors": 0.005}, "maxRequestsPerStep": 2000},
    ),
    Scenario(
        name="accuracy-2pp-500-pairs", plant=Plant(wrong=0.05), rounds=5, expect="not detectable",
        spec={
            "golden": {"dataset": "golden@1", "limit": 500, "atOnce": 50}, "margins": {"quality": 0.01}, "maxRequestsPerStep": 2000,
        },
    ),
    Scenario(
        name="latency-1.2x", plant=Plant(factor=1.2), rounds=5, expect="not detectable",
        spec=NO_QUALITY | {"maxRequestsPerStep": 2000},
    ),
    Scenario(
        name="latency-1.2x-untolerated", plant=Plant(factor=1.2), rounds=5,
        spec=NO_QUALITY | {"maxRequestsPerStep": 2000, "latencyTolerance": 1.0, "margins": {"latency": 0.01}},
    ),
    Scenario(
        name="too-little-traffic", rounds=5, expect="undecided", clients=1, pause=0.2, spec={"maxStepS": 4.0, "calibrationS": 1.0},
    ),
)


class Rig:
    """A world with two versions that take turns as stable and canary."""

    def __init__(self, stack: ExitStack, root: Path) -> None:
        self._world = World(root)
        versions = (self._world.version(1), self._world.version(2, passes=1))
        self._api = stack.enter_context(api_of(self._world, *versions))
        self._golden = _golden()
        self._api.rollouts = Rollouts(self._api.serving, ListedProbes(self._golden))
        stack.enter_context(router_of(self._world, self._api, "benchmarks.planted.router"))
        self._load = stack.enter_context(LoadProcess(root / "people" / "dario"))
        self._url = f"{self._api.router_url}/env/staging/v2/models/{MODEL}/infer"
        self._records = root / "router"
        self._counters = self._records / "predictions" / "inflight"
        spec = DeploymentSpec(model=MODEL, number=1, environment="staging")
        self._ready(self._api.serving.deploy(spec, ACTOR)["id"])
        controller = Controller(self._api.rollouts, interval_s=0.02)
        controller.start()
        stack.callback(controller.stop)

    def rollout(self, scenario: Scenario) -> dict[str, Any]:
        """One rollout of the version that does not serve; what came of it."""
        stable = self._api.serving.get(self._api.serving.desired()["routes"][0]["stable"])
        self._ready(stable["id"])
        number = 3 - stable["number"]
        write_plants(self._world.root / FILE, {number: scenario.plant})
        self._still()
        spec = RolloutSpec.from_json({"model": MODEL, "number": number} | SPEC | scenario.spec)
        self._load.run(self._url, scenario.clients, scenario.burst, scenario.pause)
        begun, batch = time.monotonic(), last_batch(self._records)
        rollout = self._api.rollouts.start(spec, ACTOR)["id"]
        try:
            wait_for(lambda: self._api.rollouts.get(rollout)["state"] in ENDED, f"rollout {rollout} ends", TIMEOUT_S)
        finally:
            self._load.stop()
        found = self._api.rollouts.get(rollout)
        seconds = time.monotonic() - begun
        if found["state"] == "undecided":
            self._api.rollouts.abort(rollout, "the campaign goes on", ACTOR)
        return self._outcome(found, seconds, batch)

    def _still(self) -> None:
        """Returns when no request has come for a while: load of the rollout before would be taken for this one's."""
        before = b""
        while before != (before := self._counters.read_bytes()):
            time.sleep(STILL_S)

    def _outcome(self, found: dict[str, Any], seconds: float, batch: int) -> dict[str, Any]:
        counts = found["counts"] or {"phases": [], "pairs": {}, "mirroredErrors": [0, 0]}
        agrees = None
        if found["verdict"] is not None:
            agrees = self._recomputed(found, batch)
        return {
            "state": found["state"],
            "cause": (found["verdict"] or {}).get("cause", ""),
            "reason": found["reason"],
            "canary": sum(phase["canaryRequests"] for phase in counts["phases"]),
            "requests": sum(phase["requests"] for phase in counts["phases"]),
            "pairs": sum(row[0] for row in counts["pairs"].values()),
            "logE": (found["verdict"] or {}).get("logE", {}),
            "logClear": (found["verdict"] or {}).get("logClear", {}),
            "dispersion": (found["rule"] or {}).get("dispersion"),
            "seconds": round(seconds, 1),
            "recomputed": agrees,
        }

    def _recomputed(self, found: dict[str, Any], batch: int) -> bool:
        """Whether the sealed records give the counts and the verdict; batches are sealed within seconds."""
        deadline = time.monotonic() + SEALED_S
        while True:
            seen = recount(self._records, self._api.sealed, found, self._golden, batch)
            if seen.complete or time.monotonic() > deadline:
                return seen.agrees
            time.sleep(0.5)

    def _ready(self, deployment: str) -> None:
        def ready() -> int:
            try:
                return self._api.serving.backend.health(deployment).ready
            except Unavailable:
                return 0

        wait_for(ready, "the stable version is ready", 60)


def _golden() -> list[Probe]:
    rng = random.Random(4)
    made = [row(rng) for _ in range(PROBES)]
    return [Probe(f"golden:{index}", tuple(values), label) for index, (values, label) in enumerate(made)]


@contextmanager
def rig() -> Iterator[Rig]:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        yield Rig(stack, Path(folder))


def campaign(scenarios: list[Scenario], results: dict[str, list[dict[str, Any]]], save: Any) -> None:
    """Runs what is missing of each scenario; scenarios take turns, so that a busy hour is shared by all."""
    turns = [(turn, s) for turn in range(max(s.rounds for s in scenarios)) for s in scenarios]
    todo = [s for turn, s in turns if len(results.get(s.name, [])) <= turn < s.rounds]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with rig() as made, Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task("", total=len(todo))
        for scenario in todo:
            progress.update(bar, description=scenario.name)
            results.setdefault(scenario.name, []).append(made.rollout(scenario))
            progress.advance(bar)
            save()


def summary(scenarios: list[Scenario], results: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """By scenario: what was expected and seen, and whether it holds. `false`: rollbacks over all scenarios without a fault."""
    rows = {scenario.name: _row(scenario, results.get(scenario.name, [])) for scenario in scenarios}
    same = [item for scenario in scenarios if scenario.expect == "completed" for item in results.get(scenario.name, [])]
    false = sum(item["state"] == "rolled_back" for item in same)
    every = [item for found in results.values() for item in found]
    recomputed = all(item["recomputed"] is not False for item in every)
    holds = false <= 1 and recomputed and all(found["holds"] for found in rows.values())
    return {"holds": holds, "same": len(same), "falseRollbacks": false, "recomputed": recomputed, "scenarios": rows}


def _row(scenario: Scenario, found: list[dict[str, Any]]) -> dict[str, Any]:
    states = {state: sum(item["state"] == state for item in found) for state in ENDED}
    hit = [item for item in found if item["state"] == scenario.expect]
    shown = [item["canary"] for item in hit or found]
    holds = True
    if scenario.expect == "rolled_back":
        holds = len(hit) == len(found)
    elif scenario.expect == "undecided":
        holds = not states["completed"]
    return {
        "rollouts": len(found), "expect": scenario.expect, "holds": holds,
        "states": {state: count for state, count in states.items() if count},
        "causes": sorted({item["cause"] for item in hit}),
        "medianCanaryRequests": statistics.median(shown) if shown else None,
        "mostCanaryRequests": max(shown, default=None),
        "medianPairs": statistics.median(item["pairs"] for item in hit or found) if found else None,
        "medianSeconds": statistics.median(item["seconds"] for item in found) if found else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="results, read first if it exists")
    parser.add_argument("--only", action="append", help="one scenario; may be given more than once")
    parser.add_argument("--rounds", type=int, help="rollouts of each scenario, at most its own number")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    parser.add_argument("--page", type=Path, help="folder for a page with table and plot; canary_page joins campaigns")
    parser.add_argument("--title", default="Campaign", help="of the campaign on the page")
    parser.add_argument("--list", action="store_true", help="the scenarios")
    options = parser.parse_args()
    if options.list:
        print("\n".join(f"{scenario.name:26}{scenario.rounds:3} rollouts, {scenario.expect}" for scenario in SCENARIOS))
        return
    chosen = [s for s in SCENARIOS if options.only is None or s.name in options.only]
    if not chosen:
        raise SystemExit(f"--only: want one of {[scenario.name for scenario in SCENARIOS]}")
    chosen = [replace(s, rounds=min(s.rounds, options.rounds or s.rounds)) for s in chosen]
    results = json.loads(options.out.read_text())["results"] if options.out and options.out.exists() else {}

    def save() -> None:
        if options.out:
            value = {"summary": summary(chosen, results), "results": results}
            options.out.write_text(json.dumps(value, indent=1) + "\n")

    campaign(chosen, results, save)
    found = summary(chosen, results)
    print(json.dumps(found, indent=2) if options.json else "\n".join(canary_page.table(found)))
    if options.page:
        canary_page.write(options.page, {options.title: {"summary": found, "results": results}})
    raise SystemExit(0 if found["holds"] else 1)


if __name__ == "__main__":
    main()
