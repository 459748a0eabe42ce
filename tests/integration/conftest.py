"""The demo's home, which several tests look at from outside: made once a run, whichever process of it asks first."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The home that a demo left, and what it says that it showed. Each process has a copy, of one that nobody served afterwards."""
    mine = tmp_path_factory.mktemp("demo") / "copy"
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    with (shared / "demo.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (shared / "demo.made").exists():
            _run(shared / "demo.making")
            (shared / "demo.making").rename(shared / "demo.made")
    shutil.copytree(shared / "demo.made", mine, symlinks=True)
    return mine / "home", json.loads((mine / "demo.json").read_text())


def _run(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)  # of a process that failed in it
    folder.mkdir()
    command = [sys.executable, "-m", "services.cli", "demo", "--home", str(folder / "home"), "--json", str(folder / "demo.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
