"""The router process as it is, but for the module of its predictors."""

import logging
import os

from services.core.processes import die_with_supervisor
from services.serving.bootstrap import run_router

if __name__ == "__main__":
    die_with_supervisor(os.environ)
    logging.basicConfig(level=logging.WARNING, format="router: %(message)s")
    run_router(os.environ, predictor="benchmarks.planted.predictor")
