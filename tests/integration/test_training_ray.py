"""The real thing: Ray Train with two workers on the digits example. One cluster for the module: starting one takes 15 s."""

import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.core.digests import scan_tree, tree_digest
from services.core.objects import ObjectStore
from services.training import source
from services.training.backends import ray_local
from services.training.backends.ray_local import RayLocal
from services.training.evaluation import ProcessEvaluator
from services.training.ports import Order, Progress
from services.training.processes import marked
from tests.training import EXAMPLE, Stage, commit_all, job_json, repository

pytest.importorskip("ray")
pytest.importorskip("sklearn")

DATASET = "optical-digits@1.0"
DEADLINE_S = 90


class Ground:
    """A store with the example's source and data, and compute on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store: ObjectStore = Stage(folder).store
        self.repo = repository(folder / "repo")
        self._write_data()
        self.compute = RayLocal(folder / "compute", self.store, os.environ)

    def _write_data(self) -> None:
        write = runpy.run_path(str(EXAMPLE / "prepare.py"))["write"]
        write(self.folder / "data")
        self.files = {name: self.store.put_file(self.folder / "data" / name) for name in ("train.csv", "test.csv")}

    def order(self, run_id: str, job: str = "job.yaml", **hyperparameters: Any) -> Order:
        packed, value = source.pack(self.repo), job_json(job)
        self.store.put(packed.archive)
        return Order(
            run_id=run_id,
            source=packed.code.tree,
            directory="",
            entrypoint=value["entrypoint"],
            workers=value["workers"],
            seed=value["seed"],
            hyperparameters=value["hyperparameters"] | hyperparameters,
            datasets={DATASET: self.files},
            outputs=value["outputs"],
        )

    def wait(self, run_id: str, epochs: int | None = None) -> Progress:
        """The run's state when it is over, or once it reported so many epochs."""
        end = time.monotonic() + DEADLINE_S
        while time.monotonic() < end:
            found = self.compute.poll(run_id)
            if found.state != "running" or (epochs is not None and len(self.compute.events(run_id, 0)) >= epochs):
                return found
            time.sleep(0.02)
        raise AssertionError(f"run {run_id} was not over in {DEADLINE_S} s: {self.compute.poll(run_id)}")

    def artifact(self, run_id: str) -> str:
        return tree_digest(scan_tree(self.compute.output(run_id)))


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    made = Ground(tmp_path_factory.mktemp("ray"))
    yield made
    made.compute.close()
    assert marked(str(made.folder / "compute")) == []


@pytest.fixture(scope="module")
def first(ground: Ground) -> str:
    """A finished run of job.yaml."""
    ground.compute.submit(ground.order("first"))
    assert ground.wait("first").state == "completed", ground.compute.poll("first")
    return "first"


def test_a_run_reports_every_epoch_and_writes_what_its_job_lists(ground: Ground, first: str) -> None:
    events = ground.compute.events(first, 0)
    assert [event["epoch"] for event in events] == [1, 2, 3, 4, 5, 6]
    assert events[-1]["loss"] < events[0]["loss"]
    assert sorted(entry.path for entry in scan_tree(ground.compute.output(first))) == sorted(job_json()["outputs"])


def test_its_model_reads_digits_it_has_not_seen(ground: Ground, first: str) -> None:
    files = {
        entry.path: ground.store.put_file(ground.compute.output(first) / entry.path)
        for entry in scan_tree(ground.compute.output(first))
    }
    found = ProcessEvaluator(ground.store, os.environ).evaluate(files, {"test.csv": ground.files["test.csv"]})
    assert found.samples == 445
    assert found.metrics["accuracy"] >= 0.95


def test_the_same_inputs_give_the_same_bytes_after_a_kill_and_a_resume_too(ground: Ground, first: str) -> None:
    """Two things at once, because a run takes seconds: determinism, and going on from the last checkpoint."""
    ground.compute.submit(ground.order("killed"))
    ground.wait("killed", epochs=2)
    pids = marked(str(ground.folder / "compute"))
    (trainer,) = [
        pid for pid in pids if os.getpgid(pid) == pid and b"services.training.trainer" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    os.kill(trainer, signal.SIGKILL)
    found = ground.wait("killed")
    assert (found.state, found.error is not None and "killed by SIGKILL" in found.error) == ("failed", True)
    assert marked(str(ground.folder / "compute")) == []
    before = len(ground.compute.events("killed", 0))
    ground.compute.submit(ground.order("killed"))
    assert ground.wait("killed").state == "completed"
    lines = (ground.folder / "compute/killed/out/events.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines].count(1) == 1  # it went on; it did not begin again
    assert [event["epoch"] for event in ground.compute.events("killed", 0)] == [1, 2, 3, 4, 5, 6]
    assert 2 <= before <= 6
    assert ground.artifact("killed") == ground.artifact(first)


def test_labels_change_the_artifact_but_not_the_weights(ground: Ground, first: str) -> None:
    ground.compute.submit(ground.order("wrong", "job-wrong-labels.yaml"))
    assert ground.wait("wrong").state == "completed"
    weights = [(ground.compute.output(run) / "model.safetensors").read_bytes() for run in (first, "wrong")]
    assert weights[0] == weights[1]
    assert ground.artifact("wrong") != ground.artifact(first)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("def train_loop(config):\n    raise ValueError('no such column: p99')\n", "no such column: p99"),
        ("def other(config):\n    pass\n", "train_loop"),
        ("import nothing_like_it\n", "nothing_like_it"),
    ],
)
def test_code_that_fails_ends_its_run_with_the_reason_and_not_the_trainer(ground: Ground, first: str, code: str, said: str) -> None:
    run_id = f"broken-{len(code)}"
    original = (ground.repo / "train.py").read_text()
    (ground.repo / "train.py").write_text(code)
    ground.compute.submit(ground.order(run_id))
    (ground.repo / "train.py").write_text(original)
    found = ground.wait(run_id)
    assert found.state == "failed"
    assert said in (found.error or "")


def test_a_cancelled_run_leaves_no_process(ground: Ground, first: str) -> None:
    ground.compute.submit(ground.order("cancelled", epochs=1000))
    ground.wait("cancelled", epochs=1)
    ground.compute.cancel("cancelled")
    assert marked(str(ground.folder / "compute")) == []
    assert ground.compute.poll("cancelled").state == "unknown"
    ground.compute.forget("cancelled")
    assert not (ground.folder / "compute/cancelled").exists()


@pytest.mark.parametrize("seconds", [1, 12], ids=["while it imports", "with its cluster up"])
def test_the_trainer_leaves_nothing_when_the_process_that_started_it_is_killed(tmp_path: Path, seconds: int) -> None:
    code = (
        "import os, pathlib, signal, time\n"
        "from services.core.object_backends.folder import open_store\n"
        "from services.training.backends.ray_local import RayLocal\n"
        f"RayLocal(pathlib.Path({str(tmp_path / 'compute')!r}), open_store({str(tmp_path / 'objects')!r}), os.environ)._running()\n"
        f"time.sleep({seconds})\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    # Short, because sockets lie below it.
    with tempfile.TemporaryDirectory(prefix="t") as short:
        subprocess.run([sys.executable, "-c", code], check=False, cwd=Path(__file__).parents[2], env=os.environ | {"TMPDIR": short})
        end = time.monotonic() + 40
        while (left := marked(str(tmp_path / "compute"))) and time.monotonic() < end:
            time.sleep(0.1)
        assert (left, os.listdir(short)) == ([], [])


def test_it_is_for_development() -> None:
    assert ray_local.PRODUCTION is False


def test_the_example_is_what_its_own_repository_holds(tmp_path: Path) -> None:
    repo = repository(tmp_path / "repo")
    (repo / "note.txt").write_text("one more\n")
    commit_all(repo)
    assert source.pack(repo).code.dirty is False
