"""`python -m services.serving.predictor.mounted FOLDER --port PORT --records FOLDER`: the predictor in a cluster.

Exit status as of `services.serving.initialiser`.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

# Before numpy and torch are imported.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="services.serving.predictor.mounted", description="Serves one initialised model.")
    parser.add_argument("folder", type=Path, help="the folder that the storage initialiser was given")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--records", type=Path, required=True, help="folder of prediction records that wait for the API")
    options = parser.parse_args(arguments)
    from services.core.errors import AiInfraError
    from services.serving.initialiser import report
    from services.serving.predictor.bootstrap import run_mounted

    try:
        run_mounted(os.environ, options.folder, options.port, options.records)
    except AiInfraError as error:
        return report(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
