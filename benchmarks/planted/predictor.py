"""As services.serving.predictor, with plants."""

import os
from pathlib import Path
from typing import Any

from benchmarks.planted.plants import FILE, Planted, plant_of
from services.serving.predictor.__main__ import main


def planted(order: Any, app: Any) -> Planted:
    return Planted(app, plant_of(Path(os.environ["AI_INFRA_HOME"]) / FILE, order.number), order.number)


if __name__ == "__main__":
    main(planted)
