"""A stand-in for KubeRay's and Kueue's controllers, and for the garbage collector: it is *none of them*.

It writes the fields of the RayJob and of its Workload that the real ones write, in their order, and runs no pods. How long they
take, what they do with a spec that cannot be placed, and when they call a cluster lost cannot be learned from it.
"""

import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from services.core.errors import NotFound
from services.core.kube import Kube, Object, Resource
from services.training.backends.kuberay import JOB_UID
from services.training.rayjob import JOBS, WORKLOADS
from services.training.runfolder import RunFolder
from tests.fakes.controller import StandIn

GPU_NODES: Final = {"nodeSelector": {"pool": "gpu"}}
PLACED: Final = {"key": "kueue-stand-in", "operator": "Exists"}
"""What Kueue adds to a pod when it admits it to a flavour."""

log = logging.getLogger(__name__)


class _StatusOf(Resource):
    def one(self, name: str, namespace: str = "") -> str:
        return f"{super().one(name, namespace)}/status"


JOB_STATUS = _StatusOf(JOBS.group, JOBS.version, JOBS.plural)
WORKLOAD_STATUS = _StatusOf(WORKLOADS.group, WORKLOADS.version, WORKLOADS.plural)


@dataclass
class KubeRayStandIn(StandIn):
    """room: whether Kueue admits jobs; ends: run → what KubeRay says of its end; pods_start, pods_end: told of a run whose pods do;
    now: seconds since the epoch."""

    kube: Kube
    room: bool = True
    ends: dict[str, Object] = field(default_factory=dict)
    pods_start: Callable[[str], None] = lambda run: None
    pods_end: Callable[[str], None] = lambda run: None
    now: Callable[[], int] = lambda: int(datetime.now(UTC).timestamp())
    _up: set[str] = field(default_factory=set)

    def succeed(self, run: str) -> None:
        self.ends[run] = {"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED", "message": "Job finished successfully."}

    def fail(self, run: str, reason: str = "AppFailed", message: str = "") -> None:
        self.ends[run] = {"jobDeploymentStatus": "Failed", "jobStatus": "FAILED", "reason": reason, "message": message}

    def give_up(self, run: str) -> None:
        """Kueue, once a job was requeued too often."""
        (job,) = [item for item in self.kube.list(JOBS)["items"] if item["metadata"]["name"] == run]
        (workload,) = self.kube.list(WORKLOADS, labels=f"{JOB_UID}={job['metadata']['uid']}")["items"]
        self._merge(WORKLOADS, workload, {"spec": {"active": False}})

    def look(self) -> None:
        """One look at all jobs: Kueue's first, then KubeRay's."""
        jobs = self.kube.list(JOBS)["items"]
        for gone in self._up - {job["metadata"]["name"] for job in jobs}:
            self._down(gone)
        for job in jobs:
            try:
                if "deletionTimestamp" in job["metadata"]:
                    self._collect(job)
                elif not _over(job):
                    self._place(job)
                    self._carry(self.kube.get(JOBS, job["metadata"]["name"], job["metadata"]["namespace"]))
            except NotFound:
                log.info("%s is gone meanwhile", job["metadata"]["name"])

    def _collect(self, job: Object) -> None:
        """What the job owns is gone, so the finalizer that waited for it goes."""
        self._down(job["metadata"]["name"])
        self._merge(JOBS, job, {"metadata": {"finalizers": None}})

    def _place(self, job: Object) -> None:
        """Kueue: a Workload for each job, which is suspended until there is room, and again when there is none."""
        found = self.kube.list(WORKLOADS, job["metadata"]["namespace"], labels=f"{JOB_UID}={job['metadata']['uid']}")["items"]
        if not found:
            self._merge(JOBS, job, {"spec": {"suspend": True}})
            self.kube.apply(WORKLOADS, _workload(job))
            return
        (workload,) = found
        suspended = job["spec"].get("suspend", False)
        if suspended and self.room:
            self._admitted(workload, True)
            self._merge(JOBS, job, {"spec": {"suspend": False, "rayClusterSpec": _placed(job["spec"]["rayClusterSpec"])}})
        elif not suspended and not self.room:
            self._admitted(workload, False)
            self._merge(JOBS, job, {"spec": {"suspend": True}})

    def _carry(self, job: Object) -> None:
        """KubeRay: one step of a job's state machine."""
        status, name = job.get("status", {}), job["metadata"]["name"]
        state = status.get("jobDeploymentStatus", "")
        if job["spec"].get("suspend", False):
            self._down(name)
            if state != "Suspended":
                self._say(job, {"jobDeploymentStatus": "Suspended"})
        elif state in ("", "Suspended"):
            names = {"jobId": f"{name}-id", "rayClusterName": f"{name}-cluster"}
            self._say(job, names | {"jobDeploymentStatus": "Initializing", "startTime": self._time()})
        elif state == "Initializing":
            self._up.add(name)
            self.pods_start(name)
            self._say(job, status | {"jobDeploymentStatus": "Running", "jobStatus": "RUNNING"})
        elif name in self.ends:
            self._say(job, status | self.ends.pop(name) | {"endTime": self._time()})
            # shutdownAfterJobFinishes, after ttlSecondsAfterFinished: none.
            self._down(name)

    def _down(self, run: str) -> None:
        if run in self._up:
            self._up.discard(run)
            self.pods_end(run)

    def _admitted(self, workload: Object, yes: bool) -> None:
        status = workload.get("status", {})
        before = status.get("conditions", [])
        past = int(status.get("accumulatedPastExecutionTimeSeconds", 0))
        if not yes:
            past += sum(self.now() - _seconds(item["lastTransitionTime"]) for item in before if item["status"] == "True")
        condition = {
            "type": "Admitted",
            "status": "True" if yes else "False",
            "reason": "Admitted" if yes else "Preempted",
            "message": "",
            "lastTransitionTime": self._time(),
        }
        said = {"conditions": [condition], "accumulatedPastExecutionTimeSeconds": past}
        self.kube.apply(WORKLOAD_STATUS, _bare(workload) | {"status": said}, force=True)

    def _say(self, job: Object, status: Object) -> None:
        said = {"observedGeneration": job["metadata"]["generation"]} | {key: value for key, value in status.items() if value != ""}
        self.kube.apply(JOB_STATUS, _bare(job) | {"status": said}, force=True)

    def _merge(self, resource: Resource, item: Object, change: Object) -> None:
        """A JSON merge patch, as the controllers send it."""
        path = resource.one(item["metadata"]["name"], item["metadata"]["namespace"])
        headers = {"Content-Type": "application/merge-patch+json"}
        self.kube._call("PATCH", path, params={"fieldManager": "kueue"}, content=json.dumps(change), headers=headers)

    def _time(self) -> str:
        return datetime.fromtimestamp(self.now(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def write_end(volume: Path, run: str, files: dict[str, bytes], *, error: str | None = None, epochs: int = 1) -> None:
    """What a driver leaves in the run's folder, without training: metrics, a checkpoint, files, and how it ended."""
    folder = RunFolder(volume / run)
    shutil.rmtree(folder.output, ignore_errors=True)
    folder.output.mkdir(parents=True)
    (folder.work / "checkpoints").mkdir(exist_ok=True)
    (folder.work / "checkpoints" / "state").write_text(f"epoch {epochs}")
    lines = [json.dumps({"epoch": epoch, "loss": 1 / epoch}) + "\n" for epoch in range(1, epochs + 1)]
    (folder.work / "events.jsonl").write_text("".join(lines))
    for path, data in files.items():
        (folder.output / path).write_bytes(data)
    state = "completed" if error is None else "failed"
    said = {"attempt": folder.attempt(), "state": state, "error": error, "startedAt": 1_900_000, "finishedAt": 2_000_000}
    (folder.work / "result.json").write_text(json.dumps(said))


def _over(job: Object) -> bool:
    return job.get("status", {}).get("jobDeploymentStatus") in ("Complete", "Failed")


def _bare(item: Object) -> Object:
    meta = {"name": item["metadata"]["name"], "namespace": item["metadata"]["namespace"]}
    return {"apiVersion": item["apiVersion"], "kind": item["kind"], "metadata": meta}


def _workload(job: Object) -> Object:
    meta = job["metadata"]
    owner = {"apiVersion": job["apiVersion"], "kind": job["kind"], "name": meta["name"], "uid": meta["uid"]}
    pod = {"containers": [{"name": "ray-head", "image": "none"}]}
    return {
        "apiVersion": f"{WORKLOADS.group}/{WORKLOADS.version}",
        "kind": "Workload",
        "metadata": {
            "name": f"rayjob-{meta['name']}-{meta['uid'][:5]}",
            "namespace": meta["namespace"],
            "labels": {JOB_UID: meta["uid"]},
            "ownerReferences": [owner],
        },
        "spec": {
            "queueName": meta["labels"]["kueue.x-k8s.io/queue-name"],
            "podSets": [{"name": "head", "count": 1, "template": {"spec": pod}}],
        },
    }


def _placed(cluster: Object) -> Object:
    """The cluster's pods with what a flavour adds: in labels, node selectors and tolerations."""
    groups: list[Any] = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for group in groups:
        spec = group["template"]["spec"]
        group["template"]["metadata"]["labels"]["kueue.x-k8s.io/podset"] = group.get("groupName", "head")
        spec.update(GPU_NODES)
        spec["tolerations"] = [*(found for found in spec["tolerations"] if found != PLACED), PLACED]
    return cluster


def _seconds(time: str) -> int:
    return int(datetime.fromisoformat(time).timestamp())
