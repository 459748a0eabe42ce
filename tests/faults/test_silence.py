"""A database server that is gone without a word is given up. See silence.py, which has to cut off a network of its own."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import postgres

OWN_NETWORK = ["unshare", "-n" if os.geteuid() == 0 else "-rn"]


def can_cut_off() -> bool:
    if not all(map(shutil.which, ("unshare", "ip"))):
        return False
    return subprocess.run([*OWN_NETWORK, "ip", "link", "set", "lo", "up"], capture_output=True).returncode == 0


def test_a_statement_whose_server_is_gone_without_a_word_is_told_as_retryable(tmp_path: Path) -> None:
    if not can_cut_off():
        pytest.skip("no network of one's own can be made here (`unshare -n`, `ip`)")
    server = postgres.start(tmp_path)
    try:
        socket = next(path for path in Path(server.get_uri().partition("host=")[2]).glob(".s.PGSQL.*") if path.suffix != ".lock")
        command = [*OWN_NETWORK, sys.executable, "-m", "tests.faults.silence", str(socket)]
        told = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=200).stdout)
    finally:
        server.cleanup()
    assert set(told) == {"idle", "waiting"}
    for error in told.values():
        assert "the database did not answer" in error
