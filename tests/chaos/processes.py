"""The platform's processes, forked from one that has imported everything: a restart then costs a tenth of a second.

Each runs the `main` that `python -m services.…` runs, on its own, and dies of SIGKILL as that would.
"""

import contextlib
import importlib
import os
import signal
import subprocess
from collections.abc import Mapping
from multiprocessing import get_context
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from services.core.processes import SUPERVISOR
from services.supervisor import Platform
from services.training.processes import marked

MAINS = {"api": "services.api.bootstrap", "router": "services.serving.bootstrap", "signing-proxy": "services.signing.bootstrap"}


def _run(name: str, log: Path, environ: Mapping[str, str]) -> None:
    handle = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    os.setsid()
    os.environ.clear()
    os.environ.update(environ)
    # The process that it goes down with is the one it was forked from, which goes down with the campaign.
    os.environ[SUPERVISOR] = str(os.getppid())
    raise SystemExit(importlib.import_module(MAINS[name]).main())


def _command(pid: int) -> bytes:
    """Empty for a process that ended meanwhile."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # the thread ended meanwhile
            found += map(int, task.read_text().split())
    return found


class _Forked:
    """The part of subprocess.Popen that the supervisor uses."""

    def __init__(self, process: ForkServerProcess) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid or 0

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def send_signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def wait(self, timeout: float | None = None) -> int | None:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
        return self._process.exitcode


class ForkedPlatform(Platform):
    """The supervisor's platform with quick starts. Processes may die as often as a campaign wants."""

    def alive(self, name: str) -> list[int]:
        """Process ids behind a name: one of ours, or what router and API start, who also start them again when they die.

        name: trainer drives a Ray cluster, or is its driver's parent; ray is any other process of that; forkserver is the parent of
        the predictors; evaluator measures one version.
        """
        if name in ("trainer", "ray"):
            pids = marked(str(self.home.root / "training"))
            return [pid for pid in pids if (b"services.training.trainer" in _command(pid)) == (name == "trainer")]
        if name in ("forkserver", "predictor"):
            forkservers = _children(self.processes["router"].pid)
            return forkservers if name == "forkserver" else [pid for parent in forkservers for pid in _children(parent)]
        if name == "evaluator":
            return [pid for pid in _children(self.processes["api"].pid) if b"services.training.evaluator" in _command(pid)]
        return [self.processes[name].pid]

    def mend(self) -> None:
        self.restarts.clear()
        super().mend()

    def _spawn(self, name: str) -> None:
        context = get_context("forkserver")
        # This module first: it is of the package that loads torch before the policy engine.
        context.set_forkserver_preload([__name__, *MAINS.values()])
        process = context.Process(target=_run, args=(name, self._log(name), self._environ()), daemon=True)
        process.start()
        self.processes[name] = _Forked(process)  # type: ignore[assignment]
