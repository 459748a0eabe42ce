"""What runs on every Ray Train worker: a person's training function, found in the unpacked source. Ray finds this by its name."""

import importlib
import json
import sys
from pathlib import Path
from typing import Any


def run(config: dict[str, Any]) -> None:
    """config: folder of the run, its entrypoint, and what the function is called with."""
    import torch

    torch.set_num_threads(1)
    source = Path(config["folder"]) / "source" / config["directory"]
    sys.path.insert(0, str(source))
    module, _, name = config["entrypoint"].partition(":")
    function = getattr(importlib.import_module(module), name)
    function(config["call"])


def note(folder: Path, metrics: dict[str, Any]) -> None:
    """Appends one epoch's metrics to the run's events: one JSON line. NaN is written as it is, and refused by the reader."""
    with (folder / "events.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(metrics) + "\n")
