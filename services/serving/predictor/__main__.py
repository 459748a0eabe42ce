"""`python -m services.serving.predictor`: the router starts it; see forkserver for what it reads and writes."""

import os
import signal
from collections.abc import Callable
from typing import Any

# Before numpy and torch are imported: their pools would start threads, which a fork does not copy.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")


def main(around: Callable[[Any, Any], Any] = lambda order, app: app) -> None:
    """around: as of `run_predictors`."""
    from services.core.processes import die_with_parent

    die_with_parent(os.getppid())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    events = os.dup(1)
    # Libraries print to stdout; the events' pipe is not theirs.
    os.dup2(2, 1)
    from services.serving.predictor.bootstrap import run_predictors

    run_predictors(os.environ, commands=0, events=events, around=around)


if __name__ == "__main__":
    main()
