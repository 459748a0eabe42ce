"""The demo's home, which several tests look at from outside: made once a run."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The home that a demo left, and what it says that it showed."""
    folder = tmp_path_factory.mktemp("demo")
    command = [sys.executable, "-m", "services.cli", "demo", "--home", str(folder / "home"), "--json", str(folder / "demo.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    return folder / "home", json.loads((folder / "demo.json").read_text())
