"""The trainer: a process of its own that holds one Ray cluster and runs one training job after another.

    python -m services.training.trainer PRIVATE_FOLDER

Standard input: one JSON line {"run": folder} for each run. Its end is the order to stop: the API process holds the other end, so
the trainer goes when the API goes, however that happens. A run's folder is the whole conversation:

    order.json     what to run (see `backends.ray_local`)      started      the trainer took the run
    events.jsonl   metrics of each epoch                       result.json  {"state", "error", "finishedAt"}: it is over
    checkpoints/   Ray Train's; a later attempt goes on there  output/      what rank 0 wrote

Ray's own logs go to PRIVATE_FOLDER/ray; nothing is read from or written to the home directory.
"""

import contextlib
import json
import os
import secrets
import shutil
import signal
import sys
import threading
import time
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from services.core.processes import die_with_parent
from services.training import prefork
from services.training.processes import MARK, end_marked

PRELOAD = (
    "numpy", "pandas", "pyarrow", "pyarrow.fs", "pyarrow.dataset", "pyarrow.parquet", "torch", "torch.distributed", "torch._dynamo",
    "torch.nn.parallel", "torch.optim", "safetensors.torch", "pydantic", "aiohttp", "requests", "yaml", "fsspec", "jsonschema",
    "google.protobuf.descriptor_pb2", "psutil", "msgpack", "filelock", "click",
)  # fmt: skip
"""What Ray's workers import beside Ray."""

SETTINGS = {
    # jemalloc's thread would make forking unsafe.
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
    "RAY_AUTH_MODE": "token",
    "RAY_TRAIN_V2_ENABLED": "1",
    # Ray Train looks at its workers every 2 s by default: an epoch takes a tenth of that.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.1",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
    "GLOO_SOCKET_IFNAME": "lo",
}
UNUSED = ("DatasetsCallback", "PlacementGroupCleanerCallback", "StateManagerCallback")
"""Parts of Ray Train that start an actor, and so a process, for each run: for Ray Data, which we do not use, and for clusters that
outlive their controller, which ours does not."""
OBJECT_STORE_BYTES = 128 << 20
MIN_CPUS = 4


def main() -> int:
    folder = Path(sys.argv[1])
    os.environ.update(SETTINGS)
    os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    # Temporary files of training code and of torch go when the trainer goes.
    os.environ["TMPDIR"] = os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder)
    nursery = os.getpid()
    return prefork.run(folder, PRELOAD, lambda: _drive(folder, nursery))


def _drive(folder: Path, nursery: int) -> int:
    """The Ray driver."""
    die_with_parent(nursery)
    sys.executable = str(prefork.launcher(folder))
    orders: SimpleQueue[str] = SimpleQueue()
    threading.Thread(target=_listen, args=(orders, folder, nursery), daemon=True).start()
    import ray

    ray.init(
        num_cpus=max(MIN_CPUS, os.cpu_count() or 1),
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=OBJECT_STORE_BYTES,
        _temp_dir=str(folder / "ray"),
    )
    while True:
        _run(Path(json.loads(orders.get())["run"]))


def _listen(orders: SimpleQueue[str], folder: Path, nursery: int) -> None:
    for line in sys.stdin:
        orders.put(line)
    # The API is gone or wants us gone. What is worth keeping is in the runs' folders, so nothing has to end gently.
    end_marked(os.environ[MARK], spare=nursery)
    shutil.rmtree(folder, ignore_errors=True)
    # The kernel ends this process with the nursery.
    os.kill(nursery, signal.SIGKILL)


def _run(folder: Path) -> None:
    (folder / "started").touch()
    try:
        _fit(folder, json.loads((folder / "order.json").read_text()))
        result: dict[str, Any] = {"state": "completed", "error": None}
    except Exception as error:  # whatever a person's code raises ends their run, not the trainer
        result = {"state": "failed", "error": f"{type(error).__name__}: {error}"}
    result["finishedAt"] = time.time_ns() // 1_000_000
    aside = folder / "result.json.new"
    aside.write_text(json.dumps(result))
    aside.rename(folder / "result.json")


def _fit(folder: Path, order: dict[str, Any]) -> None:
    from ray.train import RunConfig, ScalingConfig, UserCallback
    from ray.train.torch import TorchConfig, TorchTrainer

    from services.training import worker

    class Notes(UserCallback):  # type: ignore[misc]
        def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
            worker.note(folder, metrics[0])

    class Trainer(TorchTrainer):  # type: ignore[misc]
        def _create_default_callbacks(self) -> list[Any]:
            return [found for found in super()._create_default_callbacks() if type(found).__name__ not in UNUSED]

    trainer = Trainer(
        worker.run,
        train_loop_config={
            "folder": str(folder),
            "directory": order["directory"],
            "entrypoint": order["entrypoint"],
            "call": {
                "hyperparameters": order["hyperparameters"],
                "seed": order["seed"],
                "datasets": {name: str(folder / path) for name, path in order["datasets"].items()},
                "output": str(folder / "output"),
            },
        },
        scaling_config=ScalingConfig(num_workers=order["workers"]),
        torch_config=TorchConfig(backend="gloo"),
        run_config=RunConfig(name="checkpoints", storage_path=str(folder), callbacks=[Notes()]),
    )
    trainer.fit()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
