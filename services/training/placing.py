"""Where a cluster trains: the settings of the backend `kuberay`, and a run's RayJob by them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Self

from services.core import settings
from services.core.errors import BadInput, BadSetting
from services.core.kube import Object
from services.training.domain import Compute
from services.training.environment import TRAINING_VARIABLES, Environment
from services.training.ports import Order
from services.training.rayjob import RayJobArgs, ray_job

ACCOUNT = "training"
NAMESPACE, VOLUME = "training", "runs"
DAY_S = 86_400
WORKER_CPU, WORKER_MEMORY_GIB = 4, 16
"""What a worker gets that says nothing else. Node pools have to hold it (`stacks.config_capacity`)."""


@dataclass(frozen=True, kw_only=True)
class Placing:
    """namespace: of the jobs; image: that they run, with its digest; volume: a claim there of the volume that we see at `runs`;
    compute: of jobs that do not say it; limit_s: seconds after which a run is failed."""

    namespace: str
    image: str
    ray_version: str
    volume: str
    runs: Path
    compute: Compute
    limit_s: int

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """AI_INFRA_TRAINING_ and: NAMESPACE (without the environment), IMAGE, VOLUME, RUNS, QUEUE, PRIORITY, CPU, MEMORY, GPUS,
        SPOT, LIMIT_S.

        Raises:
            BadSetting: naming the variable, and what it should hold.
        """
        runs = Path(_needed(environ, "RUNS", "the folder where this process sees the volume of the runs"))
        if not runs.is_dir():
            raise BadSetting(f"AI_INFRA_TRAINING_RUNS={runs}: no such folder; mount the volume of the runs there")
        image = _needed(environ, "IMAGE", "the image that jobs run, as NAME@sha256:…")
        if not re.fullmatch(r"[^@\s]+@sha256:[0-9a-f]{64}", image):
            raise BadSetting(f"AI_INFRA_TRAINING_IMAGE={image}: it has no digest; pin it as NAME@sha256:…")
        try:
            ray_version = metadata.version("ray")
        except metadata.PackageNotFoundError as error:
            raise BadSetting("Ray is not installed: KubeRay has to be told its version; install the extra `train`") from error
        namespace = environ.get("AI_INFRA_TRAINING_NAMESPACE", NAMESPACE)
        return cls(
            namespace=f"{namespace}-{settings.environment(environ)}",
            image=image,
            ray_version=ray_version,
            volume=environ.get("AI_INFRA_TRAINING_VOLUME", VOLUME),
            runs=runs,
            compute=_compute(environ),
            limit_s=int(settings.number(environ, "AI_INFRA_TRAINING_LIMIT_S", DAY_S, 60, 30 * DAY_S)),
        )

    def environment(self) -> Environment:
        """The image stands for interpreter, packages and libraries. GPUs decide too; processors are of one kind a node pool."""
        return Environment({"gpus": str(self.compute.gpus), "image": self.image} | TRAINING_VARIABLES, {})

    def compute_of(self, order: Order) -> Compute:
        return order.compute or self.compute

    def job(self, order: Order) -> Object:
        wanted = self.compute_of(order)
        return ray_job(
            RayJobArgs(
                run_id=order.run_id,
                namespace=self.namespace,
                account=ACCOUNT,
                image=self.image,
                ray_version=self.ray_version,
                workers=order.workers,
                requests={"cpu": wanted.cpu, "memory": wanted.memory},
                gpus=wanted.gpus,
                spot=wanted.spot,
                queue=wanted.queue,
                priority=wanted.priority,
                volume=self.volume,
                limit_s=self.limit_s,
            )
        )


def _needed(environ: Mapping[str, str], name: str, what: str) -> str:
    if not (found := environ.get(f"AI_INFRA_TRAINING_{name}", "")):
        raise BadSetting(f"AI_INFRA_TRAINING_{name} is not set: the backend kuberay wants {what}")
    return found


def _compute(environ: Mapping[str, str]) -> Compute:
    spot = environ.get("AI_INFRA_TRAINING_SPOT", "no")
    if spot not in ("yes", "no"):
        raise BadSetting(f"AI_INFRA_TRAINING_SPOT={spot!r}: want yes or no")
    value = {
        "queue": _needed(environ, "QUEUE", "the LocalQueue of jobs that name none"),
        "priority": _needed(environ, "PRIORITY", "the WorkloadPriorityClass of jobs that name none"),
        "cpu": environ.get("AI_INFRA_TRAINING_CPU", str(WORKER_CPU)),
        "memory": environ.get("AI_INFRA_TRAINING_MEMORY", f"{WORKER_MEMORY_GIB}Gi"),
        "gpus": int(settings.number(environ, "AI_INFRA_TRAINING_GPUS", 0, 0, 16)),
        "spot": spot == "yes",
    }
    try:
        return Compute.from_json(value)
    except BadInput as error:
        raise BadSetting(f"AI_INFRA_TRAINING_*: {error}") from error
