"""The trainer: a process of its own that holds one Ray cluster and runs one training job after another.

    python -m services.training.trainer PRIVATE_FOLDER

Standard input: one JSON line {"run": folder} for each run. Its end is the order to stop: the API process holds the other end, so
the trainer goes when the API goes, however that happens. A run's folder is the whole conversation (see `runfolder`).

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
from pathlib import Path
from queue import SimpleQueue

from services.core.processes import die_with_parent
from services.training import prefork
from services.training.driving import drive
from services.training.processes import MARK, end_marked
from services.training.runfolder import RunFolder

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
        drive(RunFolder(Path(json.loads(orders.get())["run"])))


def _listen(orders: SimpleQueue[str], folder: Path, nursery: int) -> None:
    for line in sys.stdin:
        orders.put(line)
    # The API is gone or wants us gone. What is worth keeping is in the runs' folders, so nothing has to end gently.
    end_marked(os.environ[MARK], spare=nursery)
    shutil.rmtree(folder, ignore_errors=True)
    # The kernel ends this process with the nursery.
    os.kill(nursery, signal.SIGKILL)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
