"""One suite over every compute backend, on real Ray; KubeRay, Kueue and pods are stand-ins on a real API server."""

import contextlib
import os
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from services.core.clock import system_clock
from services.core.digests import scan_tree, tree_digest
from services.core.errors import Unavailable
from services.core.kube import Kube
from services.core.objects import ObjectStore
from services.training import source
from services.training.backends.kuberay import MANAGER, KubeRay
from services.training.backends.ray_local import PASSED_ON, RayLocal
from services.training.domain import Compute
from services.training.environment import TRAINING_VARIABLES
from services.training.placing import Placing
from services.training.ports import ComputeBackend, Order, Progress
from services.training.trainer import SETTINGS
from tests.fakes.kuberay import KubeRayStandIn
from tests.kube.apiserver import ApiServer, free_port
from tests.kube.conftest import definitions, install
from tests.kube.objects import IMAGE
from tests.kube.rig import NAMESPACES
from tests.peers import ROOT
from tests.serving import wait_for
from tests.training import EXAMPLE, Stage, job_json, repository

pytest.importorskip("ray")
pytest.importorskip("sklearn")

pytestmark = pytest.mark.timeout(900)  # a run starts Ray, once or twice
OVER_S = 420.0
CPUS = 4
EPOCHS = 8
"""So many that a run can be cancelled in its first ones."""
DATASET = "optical-digits@1.0"
BACKENDS: dict[str, Callable[[Path, ObjectStore], contextlib.AbstractContextManager[ComputeBackend]]] = {}


@dataclass
class Pods:
    """A Ray cluster and a driver for each running job, as processes here: what KubeRay would start in pods."""

    volume: Path
    ended: Callable[[str, bool], None] = lambda run, well: None
    _up: dict[str, list[subprocess.Popen[bytes]]] = field(default_factory=dict)
    _folders: dict[str, str] = field(default_factory=dict)

    def start(self, run: str) -> None:
        # Short, because sockets lie below it.
        home = self._folders[run] = tempfile.mkdtemp(prefix="t")
        port = free_port()
        environ = {name: os.environ[name] for name in PASSED_ON if name in os.environ} | TRAINING_VARIABLES | SETTINGS
        environ |= {"RAY_AUTH_TOKEN": "a" * 64, "HOME": home, "PYTHONPATH": str(ROOT), "TMPDIR": home}
        ray = shutil.which("ray", path=str(Path(sys.executable).parent)) or "ray"
        head = [ray, "start", "--head", "--block", f"--port={port}", f"--num-cpus={CPUS}", "--include-dashboard=false"]
        head += [f"--temp-dir={home}/ray", "--object-store-memory=134217728", "--node-ip-address=127.0.0.1"]
        driver = [sys.executable, "-m", "services.training.driver", str(self.volume / run)]
        self._up[run] = [_process(head, environ, home)]
        threading.Thread(target=self._drive, args=(run, driver, environ | {"RAY_ADDRESS": f"127.0.0.1:{port}"}, home)).start()

    def end(self, run: str) -> None:
        for process in self._up.pop(run, []):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        shutil.rmtree(self._folders.pop(run, ""), ignore_errors=True)

    def _drive(self, run: str, command: list[str], environ: dict[str, str], home: str) -> None:
        time.sleep(5)  # the head's own start
        while run in self._up:
            process = _process(command, environ, home)
            self._up.get(run, []).append(process)
            status = process.wait()
            if status in (0, 1) and (self.volume / run / "out/result.json").exists():
                self.ended(run, status == 0)
                return
            time.sleep(1)


def _process(command: list[str], environ: dict[str, str], folder: str) -> subprocess.Popen[bytes]:
    with (Path(folder) / "log").open("ab") as log:
        return subprocess.Popen(command, env=environ, cwd=folder, stdout=log, stderr=log, start_new_session=True)


def backend(open_: Callable[[Path, ObjectStore], Iterator[ComputeBackend]]) -> None:
    BACKENDS[open_.__name__] = contextlib.contextmanager(open_)


@backend
def ray_local(folder: Path, store: ObjectStore) -> Iterator[ComputeBackend]:
    compute = RayLocal(folder / "compute", store, os.environ)
    yield compute
    compute.close()


@backend
def kuberay(folder: Path, store: ObjectStore) -> Iterator[ComputeBackend]:
    found = [text for text in definitions() if b"rayjobs.ray.io" in text or b"workloads.kueue" in text]
    (folder / "server").mkdir()
    (folder / "volume").mkdir()
    server = ApiServer(folder / "server")
    server.start()
    try:
        install(server, found)
        admin = Kube(server.access(), "tests")
        admin.apply(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "training-dev"}})
        placing = Placing(
            namespace="training-dev", image=IMAGE, ray_version="2.60.0", volume="runs", runs=folder / "volume",
            compute=Compute(queue="q", priority="p", cpu="1", memory="1Gi"), limit_s=3600,
        )  # fmt: skip
        compute = KubeRay(lambda: Kube(server.access(), MANAGER), placing, folder / "own", store, system_clock)
        pods = Pods(folder / "volume")
        with KubeRayStandIn(Kube(server.access(), "stand-in"), pods_start=pods.start, pods_end=pods.end) as controllers:
            pods.ended = lambda run, well: controllers.succeed(run) if well else controllers.fail(run)
            yield compute
        compute.close()
        for run in list(pods._up):
            pods.end(run)
    finally:
        server.stop()


class Ground:
    """A store with the example's source and data, and compute on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store: ObjectStore = Stage(folder).store
        self.repo = repository(folder / "repo")
        runpy.run_path(str(EXAMPLE / "prepare.py"))["write"](folder / "data")
        self.files = {name: self.store.put_file(folder / "data" / name) for name in ("train.csv", "test.csv")}
        self.compute: ComputeBackend

    def order(self, run_id: str, **hyperparameters: Any) -> Order:
        packed, value = source.pack(self.repo), job_json()
        self.store.put(packed.archive)
        return Order(
            run_id=run_id, source=packed.code.tree, directory="", entrypoint=value["entrypoint"], workers=2, seed=7,
            hyperparameters=value["hyperparameters"] | {"epochs": 2, "rows": 200} | hyperparameters,
            datasets={DATASET: self.files}, outputs=value["outputs"],
        )  # fmt: skip

    def run(self, order: Order, epochs: int | None = None) -> Progress:
        """The run's state when it is over, or once it reported so many epochs. What is unknown is submitted, as the loop does."""

        def over() -> Progress | None:
            try:
                found = self.compute.poll(order.run_id)
                if found.state == "unknown":
                    self.compute.submit(order)
                enough = epochs is not None and len(self.compute.events(order.run_id, 0)) >= epochs
            except Unavailable:
                return None
            return found if found.state in ("completed", "failed") or enough else None

        found: Progress = wait_for(over, f"run {order.run_id} is over", OVER_S)
        return found

    def artifact(self, run_id: str) -> str:
        return tree_digest(scan_tree(self.compute.output(run_id)))


@pytest.fixture(scope="module", params=sorted(BACKENDS))
def ground(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    made = Ground(tmp_path_factory.mktemp(request.param))
    with BACKENDS[request.param](made.folder, made.store) as made.compute:
        yield made


@pytest.fixture(scope="module")
def undisturbed(ground: Ground) -> str:
    """A run that nobody cancelled, over."""
    found = ground.run(ground.order("undisturbed", epochs=EPOCHS))
    assert (found.state, found.error) == ("completed", None)
    return "undisturbed"


def test_a_run_reports_every_epoch_and_writes_what_its_job_lists(ground: Ground, undisturbed: str) -> None:
    assert [event["epoch"] for event in ground.compute.events(undisturbed, 0)] == list(range(1, EPOCHS + 1))
    assert [event["epoch"] for event in ground.compute.events(undisturbed, EPOCHS - 1)] == [EPOCHS]
    assert sorted(entry.path for entry in scan_tree(ground.compute.output(undisturbed))) == sorted(job_json()["outputs"])
    usage = ground.compute.usage(undisturbed)
    assert usage is not None
    assert (usage.workers, usage.gpus, usage.spot) == (2, 0, False)


def test_a_run_whose_code_fails_says_why(ground: Ground) -> None:
    found = ground.run(replace(ground.order("broken"), entrypoint="train:nothing"))
    assert found.state == "failed"
    assert "nothing" in (found.error or "")


def test_a_cancelled_run_is_unknown_and_goes_on_to_the_same_bytes(ground: Ground, undisturbed: str) -> None:
    """The order of one that was cancelled in its first epochs gives what an undisturbed run gives."""
    order = ground.order("cancelled", epochs=EPOCHS)
    ground.run(order, epochs=1)
    ground.compute.cancel("cancelled")
    assert ground.compute.poll("cancelled").state == "unknown"
    assert ground.run(order).state == "completed"
    assert [event["epoch"] for event in ground.compute.events("cancelled", 0)] == list(range(1, EPOCHS + 1))
    assert ground.artifact("cancelled") == ground.artifact(undisturbed)
    ground.compute.forget("cancelled")
    assert (ground.compute.poll("cancelled").state, ground.compute.events("cancelled", 0)) == ("unknown", [])


def test_an_unknown_run_is_no_error(ground: Ground) -> None:
    wait_for(lambda: _in_touch(ground.compute), "the backend knows what there is")
    ground.compute.cancel("never")
    ground.compute.forget("never")
    assert ground.compute.poll("never") == Progress("unknown")
    assert (ground.compute.events("never", 0), ground.compute.usage("never")) == ([], None)
    assert "never" not in ground.compute.held()


def _in_touch(compute: ComputeBackend) -> bool:
    try:
        compute.held()
    except Unavailable:
        return False
    return True
