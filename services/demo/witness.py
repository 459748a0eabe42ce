"""The demo's witness: a process of its own, with key and state outside the home, as another party would run it."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from services.commands.witness import NAME
from services.core.errors import BadSetting
from services.core.processes import SUPERVISOR
from services.home import Home, add_witnesses
from services.witness.bootstrap import vkey

READY_S = 30.0


def folder(home: Home) -> Path:
    """Where the witness of a demo's home keeps its key and the checkpoints that it cosigned."""
    return home.root.with_name(home.root.name + "-witness")


@dataclass
class WitnessProcess:
    """`ai-infra witness` for the log of a home. port: of loopback, the same after a restart."""

    home: Home
    port: int = field(default_factory=lambda: _free_port())
    process: "subprocess.Popen[bytes] | None" = field(default=None, repr=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Ready to be asked. Raises BadSetting: it does not start."""
        told = ["--state", str(folder(self.home)), "--log", str(self.home.root / "log.vkey"), "--port", str(self.port)]
        with (self.home.root / "logs" / "witness.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "services.cli", "witness", *told],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | {SUPERVISOR: str(os.getpid())},
            )
        deadline = time.monotonic() + READY_S
        while not _listens(self.port):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise BadSetting(f"the witness does not start: see {self.home.root / 'logs' / 'witness.log'}")
            time.sleep(0.05)

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(timeout=15)
            self.process = None


@contextmanager
def witnessed(home: Home) -> Iterator[WitnessProcess]:
    """A witness that must cosign the home's log. The platform is started within the context, so that it knows the witness."""
    witness = WitnessProcess(home)
    witness.start()
    try:
        add_witnesses(home, {vkey(folder(home), NAME): witness.url}, threshold=1)
        yield witness
    finally:
        witness.stop()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
