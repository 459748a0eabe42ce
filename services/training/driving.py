"""Carries one run to its end with Ray Train, in a process that has Ray: the trainer on this machine, or a RayJob's driver.

It reads `in` of the run's folder and writes `out` (see `runfolder`).
"""

import json
import shutil
import time
from pathlib import Path
from typing import Any

from services.training import worker
from services.training.runfolder import RunFolder

UNUSED = ("DatasetsCallback", "PlacementGroupCleanerCallback", "StateManagerCallback")
"""Parts of Ray Train that start an actor, and so a process, for each run: for Ray Data, which we do not use, and for clusters that
outlive their controller, which ours does not."""
LOST_WORKERS = 5
"""How often a run on spot nodes begins again at its last checkpoint before it is failed; an error of its own code counts too."""


def drive(folder: RunFolder) -> bool:
    """Whether the run completed. An attempt that had come to its end before, and is begun again, is left as it ended.

    A kill leaves the folder without a result; whoever begins again does so at the last checkpoint that is whole.
    """
    if (ended := folder.result()) is not None:
        return bool(ended["state"] == "completed")
    attempt, begun = folder.attempt(), time.time_ns() // 1_000_000
    _clear(folder)
    try:
        _fit(folder, folder.order())
        result: dict[str, Any] = {"state": "completed", "error": None}
    except Exception as error:  # whatever a person's code raises ends their run, not the trainer
        result = {"state": "failed", "error": f"{type(error).__name__}: {error}"}
    aside = folder.work / "result.json.new"
    aside.write_text(json.dumps(result | {"attempt": attempt, "startedAt": begun, "finishedAt": time.time_ns() // 1_000_000}))
    aside.rename(folder.work / "result.json")
    return bool(result["state"] == "completed")


def _clear(folder: RunFolder) -> None:
    """Takes what a killed driver left half-way: some output, and perhaps half a line, of which the next one must not be part."""
    (folder.work / "started").touch()
    shutil.rmtree(folder.output, ignore_errors=True)
    folder.output.mkdir()
    events = folder.work / "events.jsonl"
    if events.exists() and not (data := events.read_bytes()).endswith(b"\n"):
        events.write_bytes(data[: data.rfind(b"\n") + 1])


def _fit(folder: RunFolder, order: dict[str, Any]) -> None:
    from ray.train import FailureConfig, RunConfig, ScalingConfig, UserCallback
    from ray.train.torch import TorchConfig, TorchTrainer

    class Notes(UserCallback):  # type: ignore[misc]
        def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
            _note(folder.work, metrics[0])

    class Trainer(TorchTrainer):  # type: ignore[misc]
        def _create_default_callbacks(self) -> list[Any]:
            return [found for found in super()._create_default_callbacks() if type(found).__name__ not in UNUSED]

    gpus = order["gpus"]
    trainer = Trainer(
        worker.run,
        train_loop_config={
            "source": str(folder.inputs / "source" / order["directory"]),
            "entrypoint": order["entrypoint"],
            "call": {
                "hyperparameters": order["hyperparameters"],
                "seed": order["seed"],
                "datasets": {name: str(folder.inputs / path) for name, path in order["datasets"].items()},
                "output": str(folder.output),
            },
        },
        scaling_config=ScalingConfig(
            num_workers=order["workers"], use_gpu=gpus > 0, resources_per_worker={"GPU": gpus} if gpus else None
        ),
        torch_config=TorchConfig(backend="nccl" if gpus else "gloo"),
        run_config=RunConfig(
            name="checkpoints",
            storage_path=str(folder.work),
            callbacks=[Notes()],
            failure_config=FailureConfig(max_failures=LOST_WORKERS if order["spot"] else 0),
        ),
    )
    trainer.fit()


def _note(work: Path, metrics: dict[str, Any]) -> None:
    """Appends one epoch's metrics: one JSON line. NaN is written as it is, and refused by the reader."""
    with (work / "events.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(metrics) + "\n")
