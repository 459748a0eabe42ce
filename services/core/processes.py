"""Children that die with their parent (Linux: prctl(2), PR_SET_PDEATHSIG)."""

import ctypes
import os
import signal
import sys
from collections.abc import Mapping

PR_SET_PDEATHSIG = 1
SUPERVISOR = "AI_INFRA_SUPERVISOR"
"""Environment variable with the process id of the supervisor that a process goes down with; absent where something else watches."""


def die_with_parent(parent: int) -> None:
    """Has the kernel kill this process when the thread that started it ends. parent: the pid that started it.

    Elsewhere than on Linux it does nothing: there a killed router leaves predictors behind, which answer nobody else.
    """
    if not sys.platform.startswith("linux"):
        return
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    # The parent may have died before the call: then nobody sends the signal any more.
    if os.getppid() != parent:
        os._exit(1)


def die_with_supervisor(environ: Mapping[str, str]) -> None:
    """Each process of the embedded platform calls this first: a killed `ai-infra up` leaves none of them behind."""
    supervisor = environ.get(SUPERVISOR, "")
    if supervisor.isdigit():
        die_with_parent(int(supervisor))
