"""Ray on this machine: one trainer process with one cluster, started with the first run, ended with the API process."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from services.core.objects import ObjectStore
from services.training.environment import TRAINING_VARIABLES, Environment, describe
from services.training.errors import BadJob, ComputeUnavailable
from services.training.ports import Order, Progress, Usage
from services.training.processes import MARK, end_marked
from services.training.runfolder import RunFolder
from services.training.trainer import MIN_CPUS

PRODUCTION = False

PASSED_ON = ("PATH", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "SSL_CERT_FILE", "TZ")
"""Variables of the API process that training sees. Others may hold its secrets."""


def open_compute(folder: Path, store: ObjectStore, environ: Mapping[str, str]) -> "RayLocal":
    """folder: where runs are worked on; survives a restart. Opening it starts and ends nothing."""
    return RayLocal(folder, store, environ)


class RayLocal:
    """Implements ComputeBackend. Safe to call from several threads."""

    def __init__(self, folder: Path, store: ObjectStore, environ: Mapping[str, str]) -> None:
        self._folder, self._store = folder.resolve(), store
        self._environ = {name: environ[name] for name in PASSED_ON if name in environ} | TRAINING_VARIABLES
        self._lock = threading.RLock()
        self._trainer: subprocess.Popen[bytes] | None = None
        self._private: Path | None = None
        self._given: set[str] = set()
        """Runs that the present trainer was given and that were not seen to end."""
        self._folder.mkdir(parents=True, exist_ok=True)

    def environment(self) -> Environment:
        return describe()

    def submit(self, order: Order) -> None:
        with self._lock:
            if order.run_id in self._given:
                return
            if order.gpus:
                raise BadJob("compute.gpus: training on this machine uses none; take them out, or train in a cluster")
            if order.workers > max(MIN_CPUS, os.cpu_count() or 1):
                raise BadJob(f"workers: this machine runs at most {max(MIN_CPUS, os.cpu_count() or 1)}")
            # The trainer first: starting it ends what an earlier API process left, which may still write into the run's folder.
            pipe = self._running()
            folder = self._of(order.run_id)
            folder.prepare(order, self._store)
            try:
                pipe.write(json.dumps({"run": str(folder.path)}).encode() + b"\n")
                pipe.flush()
            except OSError as error:
                raise ComputeUnavailable(f"the trainer did not take the run: {error}") from error
            self._given.add(order.run_id)

    def poll(self, run_id: str) -> Progress:
        with self._lock:
            folder = self._of(run_id)
            if (ended := folder.progress()) is not None:
                self._given.discard(run_id)
                return ended
            if run_id not in self._given:
                return Progress("unknown")
            status = None if self._trainer is None else self._trainer.poll()
            if self._trainer is not None and status is None:
                return Progress("running")
            # The trainer is dead. A run that it had not begun loses nothing: it is submitted again.
            log = self._log_tail()
            self._stop()
            if not folder.started():
                return Progress("unknown")
            return Progress("failed", error=f"the trainer ended while it worked on the run: {_how(status)}{log}")

    def events(self, run_id: str, after: int) -> list[dict[str, Any]]:
        return self._of(run_id).events(after)

    def output(self, run_id: str) -> Path:
        return self._of(run_id).output

    def usage(self, run_id: str) -> Usage | None:
        return self._of(run_id).usage()

    def held(self) -> set[str]:
        with self._lock:
            return set(self._given)

    def cancel(self, run_id: str) -> None:
        with self._lock:
            if run_id in self._given:
                # Ray has no dependable way to stop one job of a driver. Others that wait are submitted again by the next poll.
                self._stop()
            self._of(run_id).reopen()

    def forget(self, run_id: str) -> None:
        with self._lock:
            if run_id not in self._given:
                self._of(run_id).remove()

    def close(self) -> None:
        with self._lock:
            self._stop()

    def _of(self, run_id: str) -> RunFolder:
        return RunFolder(self._folder / run_id)

    def _running(self) -> IO[bytes]:
        """Standard input of the trainer, which is started if there is none."""
        if self._trainer is not None and self._trainer.poll() is None and self._trainer.stdin is not None:
            return self._trainer.stdin
        self._stop()
        # Sockets want a short path, so the folder lies where temporary files do; mkdtemp makes it private.
        self._private = Path(tempfile.mkdtemp(prefix="ai-infra-"))
        top = str(Path(__file__).parents[3])
        with (self._private / "trainer.log").open("wb") as log:
            self._trainer = subprocess.Popen(
                [sys.executable, "-m", "services.training.trainer", str(self._private)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._private,
                env=self._environ | {MARK: str(self._folder), "HOME": str(self._private), "PYTHONPATH": top},
                start_new_session=True,
            )
        assert self._trainer.stdin is not None
        return self._trainer.stdin

    def _stop(self) -> None:
        if self._trainer is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._trainer.pid, signal.SIGKILL)
            if self._trainer.stdin is not None:
                with contextlib.suppress(OSError):
                    self._trainer.stdin.close()
            self._trainer.wait()
            self._trainer = None
        end_marked(str(self._folder))
        if self._private is not None:
            shutil.rmtree(self._private, ignore_errors=True)
            self._private = None
        self._given.clear()

    def _log_tail(self) -> str:
        path = None if self._private is None else self._private / "trainer.log"
        text = path.read_text(errors="replace").strip()[-500:] if path is not None and path.exists() else ""
        return f"; it said last: {text}" if text else ""


def _how(status: int | None) -> str:
    if status is None:
        return "it was stopped"
    return f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
