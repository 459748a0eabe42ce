"""The router process as it is, but for the module of its predictors."""

import logging
import os

from services.core.processes import die_with_supervisor
from services.serving.bootstrap import run_router

if __name__ == "__main__":
    die_with_supervisor(os.environ)
    logging.basicConfig(level=logging.WARNING, format="router: %(message)s")
    # The campaign's model takes requests in parallel, and its bursts are no overload.
    environ = os.environ | {"AI_INFRA_PREDICT_MAX_IN_FLIGHT": "64"}
    run_router(environ, predictor="benchmarks.planted.predictor")
