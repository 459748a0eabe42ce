"""Finding and ending processes that a dead process left behind. Linux; elsewhere only the process group is ended."""

import contextlib
import os
import signal
import time
from pathlib import Path

MARK = "AI_INFRA_TRAINER"
"""Environment variable that every process of a trainer inherits; its value names the trainer's folder."""
ROUNDS, PAUSE_S = 50, 0.02


def marked(value: str) -> list[int]:
    """Process ids, without this one, whose environment holds the mark with this value."""
    wanted, found = f"{MARK}={value}".encode(), []
    for folder in Path("/proc").glob("[0-9]*"):
        pid = int(folder.name)
        with contextlib.suppress(OSError):  # it ended meanwhile, or is another user's
            if pid != os.getpid() and wanted in (folder / "environ").read_bytes().split(b"\0"):
                found.append(pid)
    return found


def end_marked(value: str, spare: int = 0) -> None:
    """Kills them, until none but `spare` is left: Ray's processes start others while they die."""
    for _ in range(ROUNDS):
        pids = [pid for pid in marked(value) if pid != spare]
        if not pids:
            return
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(PAUSE_S)
