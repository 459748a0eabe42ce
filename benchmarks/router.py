"""Predictions through the router against the same predictor asked directly, and with twice the clients that keep it busy.

    python -m benchmarks.router [--clients 8] [--seconds 5] [--rounds 5]
    python -m benchmarks.router --overload

Both paths are mTLS and answer the same requests of the same load generator, which runs in a process of its own (benchmarks.load);
rounds take turns, each time the other path first, so that a machine that slows down slows both. The router adds routing, hashing
and a durable prediction record. The predictor is KServe with a model of `--passes` passes. With `--overload` twice as many clients
as keep the predictor busy ask without a pause: those above the limit are answered 429 with Retry-After, and the accepted ones must
not wait much longer.
"""

import argparse
import json
import os
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.harness import in_turn
from benchmarks.load import LoadProcess
from services.core.errors import Unavailable
from services.serving.domain import DeploymentSpec
from tests.serving import MODEL, World, api_of, router_of, wait_for

MUST = {"p95": 1.15, "rps": 0.97}
OVERLOAD = 2
PASSES = 8


class Rig:
    """A deployed version. direct, routed: its addresses, and whose certificate may ask there; router: the router's process."""

    def __init__(self, load: LoadProcess, direct: tuple[str, Path], routed: tuple[str, Path], router: int) -> None:
        self.load, self.direct, self.routed, self.router = load, direct, routed, router

    def measure(self, target: tuple[str, Path], clients: int, seconds: float) -> dict[str, Any]:
        """As LoadProcess.measure, with the router's processor time for each answer in microseconds."""
        url, identity = target
        before = _cpu_s(self.router)
        found = self.load.measure(url, clients, seconds, identity=identity)
        spent = (_cpu_s(self.router) - before) / (seconds + 1.0)
        return found | {"router_cpu_us": round(1e6 * spent / found["rps"], 1) if found["rps"] else None}


@contextmanager
def rig(passes: int) -> Iterator[Rig]:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        person, service = world.root / "people" / "dario", world.certs / "router"
        with (
            api_of(world, world.version(1, passes=passes)) as api,
            router_of(world, api) as router,
            LoadProcess(person) as load,
        ):
            spec = DeploymentSpec(model=MODEL, number=1, environment="staging")
            deployment = api.serving.deploy(spec, "spiffe://ai-infra.local/person/dario")["id"]

            def ready() -> int:
                try:
                    return api.serving.backend.health(deployment).ready
                except Unavailable:
                    return 0

            wait_for(ready, "the predictor is ready", 60)
            pid = api.serving.backend.health(deployment).detail[0]["pid"]
            direct = f"https://127.0.0.1:{port_of(pid)}/v2/models/{MODEL}/infer"
            routed = f"{api.router_url}/env/staging/v2/models/{MODEL}/infer"
            assert router.process is not None
            yield Rig(load, (direct, service), (routed, person), router.process.pid)


def compare(clients: int, seconds: float, rounds: int, passes: int) -> dict[str, Any]:
    """Medians over the rounds, and the ratio of each round's pair: what one moment does to both cancels."""
    with rig(passes) as made:
        paths = {"direct": made.direct, "routed": made.routed}
        found = in_turn(rounds, {name: partial(made.measure, path, clients, seconds) for name, path in paths.items()})
    direct, routed = found["direct"], found["routed"]
    p95 = [r["accepted_ms"]["p95"] / d["accepted_ms"]["p95"] for d, r in zip(direct, routed, strict=True)]
    rps = [r["rps"] / d["rps"] for d, r in zip(direct, routed, strict=True)]
    ratios = {"p95": _spread(p95), "rps": _spread(rps)}
    return {
        "work": "router before KServe", "clients": clients, "seconds": seconds, "rounds": rounds, "passes": passes,
        "cores": os.cpu_count(), "direct": _medians(direct), "router": _medians(routed), "router/direct": ratios, "must": MUST,
        "reached": ratios["p95"]["median"] <= MUST["p95"] and ratios["rps"]["median"] >= MUST["rps"],
    }


def overload(clients: int, seconds: float, rounds: int, passes: int) -> dict[str, Any]:
    """`clients` keep the predictor busy without any refusal; in turn with them, twice as many ask. Those refused ask again at once,
    so that the router refuses far more requests than it accepts.

    Raises:
        SystemExit: the smaller number was refused too, or twice as many were not answered in part and refused in part.
    """
    calm: list[dict[str, Any]] = []
    full: list[dict[str, Any]] = []
    with rig(passes) as made:
        for _ in range(rounds):
            calm.append(made.measure(made.routed, clients, seconds))
            full.append(made.measure(made.routed, OVERLOAD * clients, seconds))
    before, under = (sorted({status for run in runs for status in run["statuses"]}) for runs in (calm, full))
    if "429" in before or not {"200", "429"} <= set(under):
        raise SystemExit(f"no overload: {clients} clients were answered {before}, {OVERLOAD * clients} were answered {under}")
    ratio = _spread([f["accepted_ms"]["p95"] / c["accepted_ms"]["p95"] for c, f in zip(calm, full, strict=True)])
    return {
        "work": "router under overload", "clients": clients, "seconds": seconds, "rounds": rounds, "passes": passes,
        "unloaded": _medians(calm), "overloaded": _medians(full), "accepted p95, overloaded/unloaded": ratio, "must": 2.0,
        "per second": {status: round(_rate(full, status, seconds), 1) for status in ("200", "429")},
        "reached": ratio["median"] <= 2.0,
    }


def _rate(runs: list[dict[str, Any]], status: str, seconds: float) -> float:
    return statistics.median(run["statuses"].get(status, 0) / seconds for run in runs)


def _medians(runs: list[dict[str, Any]]) -> dict[str, Any]:
    middle = {key: round(statistics.median(run[key] for run in runs), 2) for key in ("rps", "client_cpu", "router_cpu_us")}
    cuts = {key: round(statistics.median(run["accepted_ms"][key] for run in runs), 2) for key in ("p50", "p95", "p99")}
    return middle | {f"{key}_ms": value for key, value in cuts.items()}


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": round(statistics.median(values), 3), "least": round(min(values), 3), "most": round(max(values), 3)}


def _cpu_s(pid: int) -> float:
    """Processor seconds of a process so far (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def port_of(pid: int) -> int:
    """The port that a process listens on (Linux: its sockets' inodes in /proc/net/tcp)."""
    inodes = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        target = str(link.readlink())
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and fields[9] in inodes:
            return int(fields[1].split(":")[1], 16)
    raise LookupError(f"process {pid} listens on no port")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--passes", type=int, default=PASSES, help="forward passes of the model for one answer")
    parser.add_argument("--overload", action="store_true")
    options = parser.parse_args()
    task = overload if options.overload else compare
    print(json.dumps(task(options.clients, options.seconds, options.rounds, options.passes), indent=2))
