"""What training needs from outside."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from sqlalchemy import Connection

from services.core.digests import FileEntry
from services.registry.ports import Decision, Events, Measured, Policy, Run, Signing
from services.training.domain import Compute
from services.training.environment import Environment

__all__ = [
    "Artifacts", "ComputeBackend", "Datasets", "Decision", "Events", "Flags", "Measured", "Order", "Policy", "Progress", "Run",
    "Signing", "Usage",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Order:
    """One run, as compute needs it.

    source: digest of the tar archive; directory: of the job inside it; entrypoint: `module:function`, called on every worker;
    datasets: reference → path → digest; outputs: paths that rank 0 writes; compute: None for what the backend has by default.
    """

    run_id: str
    source: str
    directory: str
    entrypoint: str
    workers: int
    seed: int
    hyperparameters: dict[str, Any]
    datasets: Mapping[str, Mapping[str, str]]
    outputs: list[str]
    compute: Compute | None = None

    @property
    def gpus(self) -> int:
        return 0 if self.compute is None else self.compute.gpus

    @property
    def spot(self) -> bool:
        return self.compute is not None and self.compute.spot


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What an attempt took: seconds for which its workers had their places, how many they were, and GPUs of each."""

    seconds: int
    workers: int
    gpus: int
    spot: bool

    def to_json(self) -> dict[str, Any]:
        return {
            "seconds": self.seconds,
            "workers": self.workers,
            "workerSeconds": self.seconds * self.workers,
            "gpuSeconds": self.seconds * self.workers * self.gpus,
            "spot": self.spot,
        }


@dataclass(frozen=True)
class Progress:
    """Where a run is. unknown: never submitted here, or forgotten. finished_at: epoch milliseconds; error: for people."""

    state: Literal["unknown", "running", "completed", "failed"]
    finished_at: int = 0
    error: str | None = None


class ComputeBackend(Protocol):
    """Runs training somewhere. Every method but `environment` may raise ComputeUnavailable, or Unavailable (retry)."""

    def environment(self) -> Environment:
        """What training runs in now: recorded with each run."""

    def submit(self, order: Order) -> None:
        """Starts the run, or goes on with it from its last checkpoint. A run that is already running is left alone.

        Raises:
            BadJob: the archive cannot be unpacked, or the job asks for what there is not here. NoSuchObject, CorruptObject: an
                object of the order; do not retry.
        """

    def poll(self, run_id: str) -> Progress:
        """The run's state now. A run whose process died is failed, with the reason. Raises BadJob."""

    def events(self, run_id: str, after: int) -> list[dict[str, Any]]:
        """Metrics of each epoch, {"epoch", …numbers}, those behind the first `after` ones; empty for an unknown run."""

    def output(self, run_id: str) -> Path:
        """Folder of a completed run's files; stays until `forget`. Raises BadJob: they are no plain files."""

    def usage(self, run_id: str) -> Usage | None:
        """What the present or last attempt took so far; None where nobody measured it."""

    def held(self) -> set[str]:
        """Runs that something is still there of, at work or ended, that costs or hides something."""

    def cancel(self, run_id: str) -> None:
        """Stops the run if it is running, and forgets how it ended: from now on it is unknown. Its checkpoints stay."""

    def forget(self, run_id: str) -> None:
        """Removes everything of a run that is not running."""

    def close(self) -> None:
        """Lets go. Running runs can be submitted again, elsewhere or later; what ends with this process is the backend's matter."""


class Datasets(Protocol):
    """The registry."""

    def get(self, reference: str) -> dict[str, Any]:
        """{"id", "licence", "pii", "approvedBy", "manifest": {"files": [{path, size, sha256}], …}}. Raises NotFound."""

    def ancestors(self, references: list[str]) -> list[str]:
        """Ids of the data sets and of all that they were made from, sorted."""


class Artifacts(Protocol):
    """The registry."""

    def record(
        self, connection: Connection, files: list[FileEntry], actor: str, *, run_id: str | None, meta: dict[str, str]
    ) -> str:
        """The artifact's id, its row and event written in the caller's transaction unless they are there. The caller has stored
        every file and the file list before."""


class Flags(Protocol):
    """Active safety flags on data sets."""

    def __call__(self, datasets: list[str]) -> list[dict[str, Any]]:
        """Each {id, kind, target, reason, since}, sorted by id."""
