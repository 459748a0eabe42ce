"""A bundle that nobody signed, tried in a process of its own.

The embedded engine bounds neither depth, time nor memory: some 20,000 brackets end its process, a rule over large ranges never
ends. Whoever may simulate a bundle could do that to the process that decides and keeps the log.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.core.bundle import BadBundle, Bundle, to_tar
from services.core.dsse import encode64
from services.core.errors import BadInput, Unavailable
from services.core.storage import writing
from services.core.verdict import Report, Verdict

TIMEOUT_S = 30.0
"""For one page of decisions, which takes about a second."""

MAX_MEMORY = 1 << 30
"""Bytes that are resident; one page takes a tenth of it. The engine's allocator does not start under a limit of the system's."""

MAX_ANSWER = 64 << 20
WAIT_S = 10.0
_LOOK_S = 0.1
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

_one = threading.Lock()
"""One trial at a time, whoever asks: they are no reason for decisions to be slow."""


class TrialFailed(BadInput):
    """The bundle ended the engine, or took more time or memory than a trial may."""


@dataclass(frozen=True)
class Trial:
    """verdicts: one for each input; reads: rule → what its METADATA says that it reads."""

    verdicts: list[Verdict]
    reads: Mapping[str, list[str]]


def tried(
    bundle: Bundle, inputs: Sequence[Mapping[str, Any]], *, timeout_s: float = TIMEOUT_S, max_memory: int = MAX_MEMORY
) -> Trial:
    """What the bundle says to each input, once it is found to be one that could become active.

    Raises:
        BadBundle: it could not, see rego.check_bundle. TrialFailed. Unavailable: another trial runs, or the disk is full; retry.
    """
    order = json.dumps({"bundle": encode64(to_tar(bundle)), "inputs": list(inputs)}).encode()
    if not _one.acquire(timeout=WAIT_S):
        raise Unavailable("another bundle is being simulated; retry")
    try:
        answer = json.loads(_run(order, timeout_s, max_memory))
    finally:
        _one.release()
    if "refused" in answer:
        raise BadBundle(answer["refused"])
    return Trial([_verdict(item) for item in answer["verdicts"]], answer["reads"])


def _run(order: bytes, timeout_s: float, max_memory: int) -> bytes:
    passed = {name: os.environ[name] for name in ("PATH", "LANG", "LD_LIBRARY_PATH") if name in os.environ}
    with writing("the bundle could not be put aside"), tempfile.TemporaryFile() as file:
        file.write(order)
        file.seek(0)
        with subprocess.Popen(
            [sys.executable, "-m", "services.sentinelnet.trier", str(int(timeout_s) + 1)],
            stdin=file,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=passed | {"PYTHONPATH": str(Path(__file__).parents[2])},
        ) as child:
            try:
                out = _answer(child, time.monotonic() + timeout_s, max_memory)
            finally:
                child.kill()
    if child.returncode != 0 or len(out) > MAX_ANSWER:
        raise TrialFailed(f"the bundle cannot be simulated: the engine ended with status {child.returncode}")
    return out


def _answer(child: subprocess.Popen[bytes], deadline: float, max_memory: int) -> bytes:
    while True:
        try:
            return child.communicate(timeout=_LOOK_S)[0]
        except subprocess.TimeoutExpired as error:
            if time.monotonic() > deadline:
                raise TrialFailed("the bundle cannot be simulated: it takes too long") from error
            if _resident(child.pid) > max_memory:
                raise TrialFailed(f"the bundle cannot be simulated: it takes over {max_memory} bytes of memory") from error


def _resident(pid: int) -> int:
    """Bytes of a process in memory; 0 where there is no /proc: then the time is the bound."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES
    except (OSError, IndexError):
        return 0


def _verdict(value: Mapping[str, Any]) -> Verdict:
    return Verdict(value["verdict"], tuple(Report.from_json(item) for item in value["rules"]))
