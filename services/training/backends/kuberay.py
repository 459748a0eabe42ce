"""RayJobs on Kubernetes: Kueue admits them, KubeRay runs them. ADR 18 says how a job gets its inputs and returns its artifact.

A run has one RayJob, by its id, at most. What is known of a run lies in the cluster and in its folder on the volume, nothing in
this process alone: one that was killed anywhere is succeeded by the next, which asks both.
"""

import contextlib
import logging
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from services.core.clock import Clock, system_clock
from services.core.errors import Conflict, NotFound
from services.core.kube import Access, Kube, Object
from services.core.kubewatch import Mirror
from services.core.objects import ObjectStore
from services.training.environment import Environment
from services.training.errors import BadJob, ComputeUnavailable
from services.training.placing import Placing
from services.training.ports import Order, Progress, Usage
from services.training.rayjob import JOBS, SELECTOR, WORKLOADS, doing
from services.training.runfolder import RunFolder

PRODUCTION = True
MANAGER = "ai-infra-training"
"""Our name as a field manager."""
OVER = ("Complete", "Failed", "ValidationFailed")
"""States of a RayJob's deployment that KubeRay does not leave again. `Suspended` is none: the job waits in its queue."""
JOB_UID = "kueue.x-k8s.io/job-uid"

log = logging.getLogger(__name__)


def open_compute(folder: Path, store: ObjectStore, environ: Mapping[str, str]) -> "KubeRay":
    """Reads AI_INFRA_TRAINING_* (see `placing`) and AI_INFRA_KUBE_* (see core.kube). Opening it starts a thread that follows the
    cluster.

    folder: of this process alone; what runs wrote is copied there before it is judged.
    Raises:
        BadSetting: a variable is missing or wrong.
    """
    access = Access.from_env(environ)
    return KubeRay(lambda: Kube(access, MANAGER), Placing.from_env(environ), folder, store, system_clock)


@contextlib.contextmanager
def _volume() -> Iterator[None]:
    """A volume that does not answer now is no fault of the run."""
    try:
        yield
    except OSError as error:
        raise ComputeUnavailable(f"the volume of the runs: {error}") from error


class KubeRay:
    """Implements ComputeBackend. Safe to call from several threads.

    connect: a client of the API server, for each thread its own; folder: see `open_compute`.
    """

    def __init__(self, connect: Callable[[], Kube], placing: Placing, folder: Path, store: ObjectStore, clock: Clock) -> None:
        self._placing, self._folder, self._store, self._clock = placing, folder, store, clock
        self._lock = threading.Lock()
        """Held for one conversation with the API server, never while data is copied."""
        self._kube = connect()
        self._starting: set[str] = set()
        """Runs that a thread of ours is submitting."""
        self._judged: dict[str, tuple[str, bool]] = {}
        """Run → version of its job, and whether that one does what it was made for: digests cost more than a look."""
        self._jobs = Mirror(connect(), JOBS, SELECTOR, placing.namespace)
        self._workloads = Mirror(connect(), WORKLOADS, JOB_UID, placing.namespace)
        for mirror in (self._jobs, self._workloads):
            mirror.start()

    def environment(self) -> Environment:
        return self._placing.environment()

    @_volume()
    def submit(self, order: Order) -> None:
        with self._lock:
            if order.run_id in self._starting:
                return
            self._starting.add(order.run_id)
        try:
            self._submit(replace(order, compute=self._placing.compute_of(order)))
        finally:
            with self._lock:
                self._starting.discard(order.run_id)

    @_volume()
    def poll(self, run_id: str) -> Progress:
        if run_id in self._starting:
            return Progress("running")
        folder = self._of(run_id)
        if (refusal := folder.refusal()) is not None:
            self._remove(run_id)
            return Progress("failed", error=refusal)
        shown = self._jobs.objects().get((self._placing.namespace, run_id))
        # A run without an attempt was cancelled, whatever the mirror shows.
        if shown is not None and folder.attempt() and not _over(shown) and self._unchanged(shown):
            return self._at_work(shown)
        # The server's own word: the mirror may still show the job of an earlier attempt, or not yet show this one's.
        found = self._get(run_id)
        if found is None:
            # Somebody took the job away. If its driver came to its end before, that is how the run ended.
            return folder.progress() or Progress("unknown")
        if _leaving(found):
            return Progress("unknown")
        if not self._unchanged(found):
            return self._refuse(run_id, found)
        return _end(found, folder) if _over(found) else self._at_work(found)

    @_volume()
    def events(self, run_id: str, after: int) -> list[dict[str, Any]]:
        return self._of(run_id).events(after)

    @_volume()
    def output(self, run_id: str) -> Path:
        target = self._folder / run_id / "output"
        if not target.exists():
            self._of(run_id).copy_output(target)
        return target

    @_volume()
    def usage(self, run_id: str) -> Usage | None:
        found = self._get(run_id)
        return None if found is None else self._of(run_id).usage_of(self._seconds(found))

    def held(self) -> set[str]:
        return {item["metadata"]["name"] for item in self._jobs.objects().values() if not _leaving(item)}

    @_volume()
    def cancel(self, run_id: str) -> None:
        # 1. The job. A crash here leaves how it ended in the folder; whoever wants the run to go on cancels first, again.
        self._remove(run_id)
        # 2. How it ended. What its driver may still write is of an attempt that is over.
        self._forget_end(run_id)

    @_volume()
    def forget(self, run_id: str) -> None:
        # 1. The job, by which the run is held. 2. Its folders: a crash in between leaves files that nobody reads.
        self._remove(run_id)
        self._judged.pop(run_id, None)
        self._of(run_id).remove()
        shutil.rmtree(self._folder / run_id, ignore_errors=True)

    def close(self) -> None:
        """Jobs go on without us."""
        for mirror in (self._jobs, self._workloads):
            mirror.stop()

    def _submit(self, order: Order) -> None:
        folder = self._of(order.run_id)
        if (refusal := folder.refusal()) is not None:
            raise BadJob(refusal)
        if (found := self._get(order.run_id)) is not None:
            if not (_leaving(found) or _over(found)):
                return
            self._remove(order.run_id)
            raise ComputeUnavailable(f"the job of an earlier attempt of {order.run_id} is still going away")
        # 1. The inputs, and a new attempt. A crash leaves a part, which the next submit replaces, or all of them, which it keeps.
        self._forget_end(order.run_id)
        folder.prepare(order, self._store)
        job = self._placing.job(order)
        folder.expect(doing(job))
        # 2. The job. From here on Kueue may start it, also if we crash or never hear the answer: the next submit finds it.
        with self._lock, contextlib.suppress(Conflict):  # another process of ours was faster, and Kueue has placed its job already
            self._kube.apply(JOBS, job)

    def _at_work(self, job: Object) -> Progress:
        """Running, or waiting in its queue for that; failed if Kueue will start it no more, which the job itself never says."""
        if job["spec"].get("suspend"):
            uid = job["metadata"]["uid"]
            for workload in self._workloads.objects().values():
                if workload["metadata"]["labels"][JOB_UID] == uid and not workload["spec"].get("active", True):
                    return Progress("failed", error=_given_up(workload))
        return Progress("running")

    def _refuse(self, run_id: str, found: Object) -> Progress:
        """Ends a run whose job was changed. It can never go on: what its checkpoints hold may come from other code."""
        reason = (
            f"RayJob {self._placing.namespace}/{run_id} was changed by {_writers(found)}: it computes something else than what was"
            " recorded. Start another run with `ai-infra rerun`"
        )
        log.warning("%s", reason)
        # 1. The verdict. From here the run is failed, whatever becomes of the job.
        self._of(run_id).refuse(reason)
        # 2. The job. A crash before leaves it at work; the next poll finds the verdict and removes it.
        self._remove(run_id)
        return Progress("failed", error=reason)

    def _forget_end(self, run_id: str) -> None:
        self._of(run_id).reopen()
        shutil.rmtree(self._folder / run_id, ignore_errors=True)

    def _get(self, run_id: str) -> Object | None:
        with self._lock, contextlib.suppress(NotFound):
            return self._kube.get(JOBS, run_id, self._placing.namespace)
        return None

    def _remove(self, run_id: str) -> None:
        """The job shows as leaving until its last pod is gone: no two attempts work in one folder."""
        with self._lock:
            self._kube.delete(JOBS, run_id, self._placing.namespace, last=True)

    def _unchanged(self, job: Object) -> bool:
        """By our own note: whoever can change a job can change all that it says of itself."""
        name, version = job["metadata"]["name"], job["metadata"]["resourceVersion"]
        judged = self._judged.get(name)
        if judged is None or judged[0] != version:
            judged = self._judged[name] = (version, self._of(name).expected() == doing(job))
        return judged[1]

    def _seconds(self, job: Object) -> int:
        """Seconds for which the job's workers had their places; Kueue's count where it has one, as it outlasts preemption."""
        status = job.get("status", {})
        end = _millis(status.get("endTime")) or self._clock()
        with self._lock:
            found = self._kube.list(WORKLOADS, self._placing.namespace, labels=f"{JOB_UID}={job['metadata']['uid']}")["items"]
        if not found:
            return max(0, end - (_millis(status.get("startTime")) or end)) // 1000
        workload = found[0].get("status", {})
        admitted = [item for item in workload.get("conditions", []) if item["type"] == "Admitted" and item["status"] == "True"]
        now = sum(end - (_millis(item["lastTransitionTime"]) or end) for item in admitted)
        return int(workload.get("accumulatedPastExecutionTimeSeconds", 0)) + max(0, now) // 1000

    def _of(self, run_id: str) -> RunFolder:
        return RunFolder(self._placing.runs / run_id)


def _over(job: Object) -> bool:
    return job.get("status", {}).get("jobDeploymentStatus") in OVER


def _leaving(job: Object) -> bool:
    return "deletionTimestamp" in job["metadata"]


def _end(job: Object, folder: RunFolder) -> Progress:
    """How a job ended that KubeRay says is over. Only both together, its word and the driver's, are a success."""
    status, result = job["status"], folder.progress()
    if result is not None and (result.state == "failed" or status.get("jobStatus") == "SUCCEEDED"):
        return result
    said = [status.get(key, "") for key in ("reason", "message")]
    why = ": ".join(filter(None, said)) or f"its job is {status.get('jobStatus') or status['jobDeploymentStatus']}"
    return Progress("failed", _millis(status.get("endTime")) or 0, f"the RayJob ended without a result: {why}")


def _given_up(workload: Object) -> str:
    name = workload["metadata"]["name"]
    said = [item.get("message", "") for item in workload.get("status", {}).get("conditions", []) if item["type"] == "Evicted"]
    why = "".join(f": {message}" for message in said if message)
    return (
        f"Kueue has given up, its pods were not ready in time (Workload {name} is deactivated{why}); runbooks/gpu-pool-pending.md"
    )


def _writers(job: Object) -> str:
    """Who has written to the job besides us and its controllers' status."""
    entries = job["metadata"].get("managedFields", [])
    names = {entry["manager"] for entry in entries if entry["manager"] != MANAGER and "subresource" not in entry}
    return " or ".join(sorted(names)) or "somebody"


def _millis(time: str | None) -> int | None:
    return None if time is None else int(datetime.fromisoformat(time).timestamp() * 1000)
