"""`ai-infra witness` as a process of its own: killed and started again it remembers, and stock checkers take what it cosigned."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
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


class Killing(httpx.Client):
    """The way to a witness. share: of the time that its last answer took, after which the next request kills it."""

    def __init__(self, kill: Callable[[], None]) -> None:
        super().__init__(timeout=20)
        self.share: float | None = None
        self.struck = threading.Event()
        self._kill, self._took = kill, 0.0

    def post(self, *args: Any, **options: Any) -> httpx.Response:
        if self.share is not None:
            threading.Timer(self.share * self._took, self._strike).start()
        begun = time.monotonic()
        try:
            return super().post(*args, **options)
        finally:
            self._took = time.monotonic() - begun

    def _strike(self) -> None:
        self._kill()
        self.struck.set()


def opened(home: Home, told: dict[str, Any], way: httpx.Client | None = None) -> AuditLog:
    vkey = tlog.parse_witness_vkey(told["vkey"])
    return AuditLog(home.engine, home.store, home.signer, home.vkey, [Witness(told["url"], vkey, way, pause_s=0.0)], 1)


def kept(told: dict[str, Any], home: Home) -> int:
    """Entries under the checkpoint that the witness cosigned last; 0 before the first."""
    if not home.folder.exists():
        return 0
    answer = httpx.post(told["url"] + "/add-checkpoint", content=b"old 0\n\n" + home.note().encode())
    assert answer.status_code == 409
    return int(answer.text)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def test_a_witness_killed_at_any_moment_goes_on_from_what_it_kept(home: Home, tmp_path: Path) -> None:
    need("fsck")
    log = tmp_path / "log.vkey"
    log.write_text(home.vkey.text + "\n")
    keys, answered, sizes = set(), list[bool](), {0}
    for share in (0, 0.25, 0.5, 0.75, 1):
        with witness(tmp_path / "witness", log) as told:
            assert kept(told, home) in sizes
            way = Killing(told["kill"])
            audit = opened(home, told, way)
            append(audit, 80, audit.size() + 1)
            audit.require_cosigned()
            before = audit.size()
            append(audit, 1, before + 1)
            way.share = share
            audit.publish()
            way.struck.wait()
            keys.add(told["vkey"])
        answered.append(set(audit.witnessed().values()) != {None})
        # What it cosigned it has kept; what it has kept, nobody need have a cosignature of.
        sizes = {before + 1} if answered[-1] else {before, before + 1}
    assert (len(keys), False in answered) == (1, True)
    with witness(tmp_path / "witness", log) as told:
        assert kept(told, home) in sizes
        opened(home, told).require_cosigned()
        assert kept(told, home) == before + 1
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
