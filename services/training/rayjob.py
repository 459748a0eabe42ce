"""A training run as a RayJob, as a pure function. Kueue admits it; KubeRay starts its cluster and ends it with the job."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from services.core.kube import Object, Resource

JOBS = Resource("ray.io", "v1", "rayjobs")
MANAGED = {"app.kubernetes.io/managed-by": "ai-infra"}
SELECTOR = "app.kubernetes.io/managed-by=ai-infra"
RUN = "ai-infra/run"
ON_DEMAND = {
    "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [
                {
                    "matchExpressions": [
                        {"key": "karpenter.sh/capacity-type", "operator": "NotIn", "values": ["spot"]},
                        {"key": "eks.amazonaws.com/capacityType", "operator": "NotIn", "values": ["SPOT"]},
                    ]
                }
            ]
        }
    }
}
"""Nodes of Karpenter and of managed node groups alike say what they are by a label; each has its own."""
GPU = "nvidia.com/gpu"
GPU_TOLERATION = {"key": GPU, "operator": "Exists", "effect": "NoSchedule"}
SPOT_TOLERATION = {"key": "ai-infra/spot", "operator": "Exists", "effect": "NoSchedule"}
CHECKPOINTS = "/checkpoints"
KEEP_S = 600
"""Seconds that a finished job stays, to be read by whoever missed its end."""


@dataclass(frozen=True, kw_only=True)
class RayJobArgs:
    """One run in a cluster.

    image: with its digest; command: run on the head as the job; workers: their number; requests: of one worker, quantities by
    resource, which are its limits too; gpus: of one worker; spot: workers may be on nodes that are taken away; queue: a Kueue
    LocalQueue; priority: a WorkloadPriorityClass; checkpoints: a PersistentVolumeClaim that every node can mount; it keeps each
    run's checkpoints under the run's id; limit_s: seconds after which the run is failed.
    """

    run_id: str
    namespace: str
    account: str
    image: str
    ray_version: str
    command: str
    workers: int
    requests: Mapping[str, str]
    gpus: int
    spot: bool
    queue: str
    priority: str
    checkpoints: str
    limit_s: int

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[^@\s]+@sha256:[0-9a-f]{64}", self.image):
            raise ValueError(f"image {self.image!r} has no digest: pin it as NAME@sha256:…")
        if self.workers < 1 or self.gpus < 0 or self.limit_s < 1:
            raise ValueError(f"workers and limit_s are 1 or more, gpus 0 or more: got {self.workers}, {self.limit_s}, {self.gpus}")


def ray_job(args: RayJobArgs) -> Object:
    """The RayJob. `suspend` is left out: it is Kueue's, which starts and preempts the job by it."""
    return {
        "apiVersion": f"{JOBS.group}/{JOBS.version}",
        "kind": "RayJob",
        "metadata": {
            "name": args.run_id,
            "namespace": args.namespace,
            "labels": MANAGED
            | {RUN: args.run_id, "kueue.x-k8s.io/queue-name": args.queue, "kueue.x-k8s.io/priority-class": args.priority},
        },
        "spec": {
            "entrypoint": args.command,
            "submissionMode": "K8sJobMode",
            # A second attempt would start beside a person's retry: attempts are counted in the run's own record.
            "backoffLimit": 0,
            "activeDeadlineSeconds": args.limit_s,
            "shutdownAfterJobFinishes": True,
            "ttlSecondsAfterFinished": KEEP_S,
            "submitterPodTemplate": {"spec": _pod(args, "submitter", {"cpu": "500m", "memory": "512Mi"}, spot=False)},
            "rayClusterSpec": {
                "rayVersion": args.ray_version,
                "headGroupSpec": {
                    # No tasks on the head: losing it loses the job, so it stays small and on-demand.
                    "rayStartParams": {"num-cpus": "0", "dashboard-host": "0.0.0.0"},  # noqa: S104  # in its pod's network
                    "template": {"spec": _pod(args, "ray-head", {"cpu": "1", "memory": "4Gi"}, spot=False)},
                },
                "workerGroupSpecs": [
                    {
                        "groupName": "workers",
                        "replicas": args.workers,
                        "minReplicas": args.workers,
                        "maxReplicas": args.workers,
                        "rayStartParams": {},
                        "template": {"spec": _pod(args, "ray-worker", _worker(args), spot=args.spot, gpu=args.gpus > 0)},
                    }
                ],
            },
        },
    }


def _worker(args: RayJobArgs) -> dict[str, str]:
    return dict(args.requests) | ({GPU: str(args.gpus)} if args.gpus else {})


def _pod(args: RayJobArgs, name: str, resources: Mapping[str, str], *, spot: bool, gpu: bool = False) -> Object:
    placing: Object = {} if spot else {"affinity": ON_DEMAND}
    tolerations = ([GPU_TOLERATION] if gpu else []) + ([SPOT_TOLERATION] if spot else [])
    container: Object = {
        "name": name,
        "image": args.image,
        "env": [
            {"name": "AI_INFRA_RUN", "value": args.run_id},
            {"name": "AI_INFRA_CHECKPOINTS", "value": f"{CHECKPOINTS}/{args.run_id}"},
            {"name": "RAY_TRAIN_V2_ENABLED", "value": "1"},
            {"name": "RAY_USAGE_STATS_ENABLED", "value": "0"},
        ],
        "resources": {"requests": dict(resources), "limits": dict(resources)},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": [
            {"name": "checkpoints", "mountPath": CHECKPOINTS},
            {"name": "scratch", "mountPath": "/tmp"},  # noqa: S108  # the container's own
            {"name": "memory", "mountPath": "/dev/shm"},  # noqa: S108  # Ray's object store
        ],
    }
    return placing | {
        "serviceAccountName": args.account,
        "automountServiceAccountToken": False,
        "restartPolicy": "Never",
        "tolerations": tolerations,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [
            {"name": "checkpoints", "persistentVolumeClaim": {"claimName": args.checkpoints}},
            {"name": "scratch", "emptyDir": {"sizeLimit": "20Gi"}},
            {"name": "memory", "emptyDir": {"medium": "Memory"}},
        ],
    }
