"""Offline verification of one prediction: the command as a stranger runs it, in an empty folder, on one core, with Python's start.

    python -m benchmarks.verify [--model-mib 64] [--events 1000] [--rounds 5]

The archive comes from a real platform (tests.predictions): log, signatures, decisions, deployment, record. The model's files are
random bytes of the stated size; the log is filled up to the stated number of events. Memory is the peak of the process.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.harness import FULL, Row, Size, Target, alone
from services.core.database import begin
from services.core.events import EventDraft, Subject
from tests.predictions import Served
from tests.registry import API, Rig, opened

MUST_S = 3.0
MIB = 1 << 20


def measure(size: Size = FULL) -> list[Row]:
    """Seconds and peak memory for a 64 MB model."""
    model, events = size.of(64, 1), size.of(1000, 100)
    with tempfile.TemporaryDirectory() as folder:
        archive, trust = build(Path(folder), model * MIB, events)
        runs = [verified(archive, trust) for _ in range(size.rounds)]
    note = f"{model} MB model, log of {events} events, one core, from the start of Python to the verdict"
    return [
        alone("offline verification of one prediction", "s", [run["s"] for run in runs], Target(MUST_S, "lower", "figure"), note),
        alone("offline verification, peak memory", "MiB", [run["peak_mib"] for run in runs], None, note),
    ]


def build(folder: Path, model_bytes: int, events: int) -> tuple[Path, Path]:
    """An archive of one of a hundred predictions, and the trust file."""
    with opened(folder) as rig:
        dataset = rig.datasets.get("digits@1")["id"]
        rig.register(rig.train("run-2", [dataset], {"model.safetensors": os.urandom(model_bytes), "config.json": b"{}"}))
        rig.evaluate(2)
        rig.promoted(2)
        _fill(rig, events)
        served = Served(rig, number=2)
        ids = [served.predict(seal=False) for _ in range(100)]
        served.seal()
        archive = served.archive(ids[50], folder / "evidence.zip", weights_up_to=model_bytes + MIB)
        (folder / "trust.json").write_bytes(rig.trust.to_bytes())
        served.close()
    return archive, folder / "trust.json"


LAUNCH = """
import json, os, resource, subprocess, sys, time
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
start = time.perf_counter()
done = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE)
took, used = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
report = json.loads(done.stdout)
found = {"s": round(took, 3), "cpu_s": round(used.ru_utime + used.ru_stime, 3), "peak_mib": round(used.ru_maxrss / 1024, 1)}
print(json.dumps(found | {"exit": done.returncode, "verified": report["verified"], "links": len(report["links"])}))
"""
"""In a process of its own: a child's peak memory is never told below that of the process that forked it."""


def verified(archive: Path, trust: Path) -> dict[str, Any]:
    """Wall clock, processor time and peak memory of one run of the command; it must verify."""
    command = [sys.executable, "-m", "services.cli", "verify", str(archive), "--trust", str(trust), "--json"]
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    with tempfile.TemporaryDirectory() as empty:
        done = subprocess.run([sys.executable, "-c", LAUNCH, *command], cwd=empty, env=environ, capture_output=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    assert (found["exit"], found["verified"]) == (0, True), found
    return found


def _fill(rig: Rig, events: int) -> None:
    """Events of others: what a log mostly holds."""
    with begin(rig.engine) as connection:
        for number in range(events):
            payload = {"number": number, "text": "x" * 300}
            rig.outbox.emit(connection, EventDraft("train.started", API, Subject("run", f"run-{number}"), payload))
    rig.relay.flush()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--model-mib", type=int, default=64)
    options.add_argument("--events", type=int, default=1000)
    options.add_argument("--rounds", type=int, default=5)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        archive, trust = build(Path(folder), given.model_mib * MIB, given.events)
        runs = [verified(archive, trust) for _ in range(given.rounds)]
        size = archive.stat().st_size
    seconds = sorted(run["s"] for run in runs)
    print(json.dumps(
        {"must_s": MUST_S, "median_s": seconds[len(seconds) // 2], "met": seconds[len(seconds) // 2] <= MUST_S,
         "archive_bytes": size, "events": given.events, "runs": runs}, indent=2,
    ))  # fmt: skip


if __name__ == "__main__":
    main()
