"""What runs on every Ray Train worker: a person's training function, found in the unpacked source. Ray finds this by its name."""

import importlib
import sys
from typing import Any


def run(config: dict[str, Any]) -> None:
    """config: folder of the job's source, its entrypoint, and what the function is called with."""
    import torch

    torch.set_num_threads(1)
    sys.path.insert(0, config["source"])
    module, _, name = config["entrypoint"].partition(":")
    function = getattr(importlib.import_module(module), name)
    function(config["call"])
