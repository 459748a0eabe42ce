"""Children that die with their parent (Linux: prctl(2), PR_SET_PDEATHSIG)."""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


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
