"""As services.serving.predictor, with plants."""

import os
import signal
from pathlib import Path
from typing import Any

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")


def main() -> None:
    from benchmarks.planted.plants import FILE, Planted, plant_of
    from services.core.processes import die_with_parent
    from services.serving.bootstrap import run_predictors

    die_with_parent(os.getppid())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    events = os.dup(1)
    os.dup2(2, 1)
    file = Path(os.environ["AI_INFRA_HOME"]) / FILE

    def around(order: Any, app: Any) -> Planted:
        return Planted(app, plant_of(file, order.number), order.number)

    run_predictors(os.environ, commands=0, events=events, around=around)


if __name__ == "__main__":
    main()
