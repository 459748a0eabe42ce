"""Memory and start of the platform against MLflow's default server: both with what they keep on disk already made, starts in turn.

Memory is the proportional set size (PSS) of the first process and all that descend from it, some seconds after the start, idle: the
supervisor, API, router and signing proxy; and MLflow's four workers, its job runner and their like. Nothing is left out:
what trains and what serves starts when it is first needed. What serving adds then is shown in a row of its own.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import peers
from benchmarks.harness import Row, Size, Target, against, alone, in_turn, say
from benchmarks.router import rig
from services.home import Home, create

SETTLE_S = 10


def measure(size: Size) -> list[Row]:
    """Seconds until ready, and MiB."""
    settle = size.of(SETTLE_S, 1)
    with tempfile.TemporaryDirectory() as folder:
        home = Home.at(Path(folder) / "home")
        create(home)
        say("footprint: both start once, unmeasured, and make their databases")
        contenders = {
            "ours": lambda: platform(home, settle),
            "mlflow": lambda: mlflow(Path(folder) / "mlflow", settle),
        }
        in_turn(1, contenders)
        say("footprint: starts in turn")
        found = in_turn(size.of(3, 1), contenders)
    ours, theirs = found["ours"], found["mlflow"]
    peer = "MLflow 3.17.2"
    return [
        against(
            "memory, idle", "MiB", [run[1] for run in ours], [run[1] for run in theirs], peer, Target(0.2, "lower", "ratio"),
            "PSS of all processes; nothing is deployed",
        ),
        alone(
            "memory of a served model", "MiB", [served(settle)],
            note="comes on top once something is deployed: PSS of the predictor and of the process that all predictors are forked "
            "from, which holds KServe and PyTorch",
        ),
        against(
            "start to ready", "s", [run[0] for run in ours], [run[0] for run in theirs], peer, Target(0.25, "lower", "ratio"),
            "from the command until every port answers; the second start",
        ),
    ]  # fmt: skip


def platform(home: Home, settle: float) -> tuple[float, float]:
    """Seconds to ready, and MiB."""
    ready = home.root / "run" / "endpoints.json"
    environ = os.environ | {"AI_INFRA_HOME": str(home.root), "AI_INFRA_PEOPLE": str(home.people)}
    command = [str(Path(sys.executable).with_name("ai-infra")), "up", "--port-base", "0"]
    start = time.perf_counter()
    process = subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        while not ready.exists():
            if process.poll() is not None:
                raise SystemExit(f"the platform ended with {process.returncode} instead of starting")
            time.sleep(0.01)
        taken = time.perf_counter() - start
        time.sleep(settle)
        return taken, pss_mib(family(process.pid))
    finally:
        peers.end(process)


def mlflow(folder: Path, settle: float) -> tuple[float, float]:
    """Seconds to ready, and MiB."""
    start = time.perf_counter()
    with peers.mlflow_server(folder) as (_, process):
        taken = time.perf_counter() - start
        time.sleep(settle)
        return taken, pss_mib(family(process.pid))


def served(settle: float) -> float:
    """MiB of what the router starts for one deployment."""
    with rig(passes=1) as made:
        time.sleep(settle)
        return pss_mib(family(made.router) - {made.router})


def pss_mib(processes: set[int]) -> float:
    total = 0
    for pid in processes:
        try:
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended meanwhile
        total += sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    return total / 1024


def family(first: int) -> set[int]:
    """The process and its descendants."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
    found, waiting = set(), [first]
    while waiting:
        pid = waiting.pop()
        found.add(pid)
        waiting += [child for child, parent in parents.items() if parent == pid]
    return found
