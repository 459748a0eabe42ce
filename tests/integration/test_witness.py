"""`ai-infra witness` as a process of its own: killed and started again it remembers, and stock checkers take what it cosigned."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.audit.service import AuditLog
from services.audit.witnesses import Witness
from services.core import cosignature, tlog
from services.home import Home as DevelopmentHome
from services.home import create
from tests.audit import Home, append
from tests.integration.test_audit_fsck import fsck
from tests.peers import need

COMMAND = [sys.executable, "-m", "services.cli", "witness"]


@contextmanager
def witness(state: Path, log: Path) -> Iterator[dict[str, Any]]:
    """The process, and what it says when it is ready."""
    command = [*COMMAND, "--state", str(state), "--log", str(log), "--port", "0", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"})
    assert process.stdout is not None
    try:
        yield json.loads("".join(iter(process.stdout.readline, "}\n")) + "}") | {
            "kill": lambda: process.send_signal(signal.SIGKILL)
        }
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def opened(home: Home, told: dict[str, Any]) -> AuditLog:
    vkey = tlog.parse_witness_vkey(told["vkey"])
    return AuditLog(home.engine, home.store, home.signer, home.vkey, [Witness(told["url"], vkey, pause_s=0.0)], 1)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def test_a_witness_killed_at_any_moment_goes_on_from_what_it_kept(home: Home, tmp_path: Path) -> None:
    need("fsck")
    log = tmp_path / "log.vkey"
    log.write_text(home.vkey.text + "\n")
    keys = set()
    for size in (5, 300, 600):
        with witness(tmp_path / "witness", log) as told:
            audit = opened(home, told)
            append(audit, size - audit.size(), audit.size() + 1)
            audit.require_cosigned()
            keys.add(told["vkey"])
            kill: Callable[[], None] = told["kill"]
            kill()
        append(audit, 1, size + 1)
        checkpoint = audit.publish()
        assert checkpoint is not None
        assert set(audit.verify().witnesses.values()) == {None}
    assert len(keys) == 1
    with witness(tmp_path / "witness", log) as told:
        opened(home, told).require_cosigned()
        again = httpx.post(told["url"] + "/add-checkpoint", content=b"old 0\n\n" + home.note().encode())
    assert (again.status_code, again.text) == (409, "601\n")
    assert cosignature.cosigners(home.note().encode(), [tlog.parse_witness_vkey(keys.pop())])
    assert fsck(f"file://{home.folder}/", home.vkey.text, tmp_path)


def test_the_key_is_told_before_there_is_a_log(tmp_path: Path) -> None:
    command = [*COMMAND, "--state", str(tmp_path / "witness"), "--show-key", "--json"]
    told = [json.loads(subprocess.run(command, capture_output=True, check=True).stdout)["vkey"] for _ in range(2)]
    assert told[0] == told[1]
    assert tlog.parse_witness_vkey(told[0]).name == "ai-infra.local/witness"


def test_a_witness_keeps_out_of_a_platforms_home_and_may_lie_beside_a_trust_file(tmp_path: Path) -> None:
    def showing(state: Path) -> "subprocess.CompletedProcess[str]":
        return subprocess.run([*COMMAND, "--state", str(state), "--show-key"], capture_output=True, text=True, check=False)

    platform = DevelopmentHome.at(tmp_path / "platform")
    create(platform)
    refused = [showing(platform.root), showing(platform.root / "demo" / "witness")]
    assert [(done.returncode, f"the platform's home {platform.root}" in done.stderr) for done in refused] == [(2, True)] * 2
    verifiers = tmp_path / "verifier"
    verifiers.mkdir()
    shutil.copy(platform.root / "trust.json", verifiers)
    assert showing(verifiers / "witness").returncode == 0


def test_two_witnesses_on_one_folder_and_other_kinds_of_keys_are_refused(home: Home, tmp_path: Path) -> None:
    log = tmp_path / "log.vkey"
    log.write_text(home.vkey.text)
    with witness(tmp_path / "witness", log) as told:
        again = subprocess.run(
            [*COMMAND, "--state", str(tmp_path / "witness"), "--log", str(log), "--port", "0"],
            capture_output=True,
            text=True,
            check=False,
        )
        log.write_text(told["vkey"])
        wrong = subprocess.run(
            [*COMMAND, "--state", str(tmp_path / "other"), "--log", str(log), "--port", "0"],
            capture_output=True,
            text=True,
            check=False,
        )
    assert (again.returncode, "another witness" in again.stderr) == (2, True)
    assert (wrong.returncode != 0, "verifier key" in wrong.stderr) == (True, True)
