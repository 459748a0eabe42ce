"""A training run as a RayJob, and the rights of who makes one, as pure functions.

Kueue admits the job; KubeRay starts its cluster and ends it with the job. What runs in it has no credentials: no token of the API
server, no certificate, no role in the cloud. It sees two folders of its own run on a shared volume, the inputs read-only (ADR 18).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from services.core.canonical import canonical
from services.core.digests import sha256
from services.core.kube import Object, Resource
from services.training.environment import TRAINING_VARIABLES
from services.training.runfolder import INPUTS, WORK

JOBS = Resource("ray.io", "v1", "rayjobs")
WORKLOADS = Resource("kueue.x-k8s.io", "v1beta2", "workloads")
CLUSTER_ROLES = Resource("rbac.authorization.k8s.io", "v1", "clusterroles")
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
RATHER_SPOT = {
    "nodeAffinity": {
        "preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 100, "preference": {"matchExpressions": [{"key": key, "operator": "In", "values": [value]}]}}
            for key, value in (("karpenter.sh/capacity-type", "spot"), ("eks.amazonaws.com/capacityType", "SPOT"))
        ]
    }
}
"""Who may be on spot nodes leaves the others to those who may not; where Kueue's flavour names nodes, its selector does so."""
GPU = "nvidia.com/gpu"
GPU_TOLERATION = {"key": GPU, "operator": "Exists", "effect": "NoSchedule"}
SPOT_TOLERATION = {"key": "ai-infra/spot", "operator": "Exists", "effect": "NoSchedule"}
FOLDER: Final = "/run/training"
"""Where a pod sees its run's folder."""
COMMAND: Final = f"python -m services.training.driver {FOLDER}"
SUBMITTER: Final = "submitter"
_HEALTH: Final = {"httpGet": {"path": "/api/healthz", "port": 52365}, "timeoutSeconds": 5}
PROBES: Final = {
    "readinessProbe": _HEALTH | {"initialDelaySeconds": 5, "periodSeconds": 5, "failureThreshold": 10},
    # Ten minutes: one that computes on all of its processors answers late, and is not to be ended for it.
    "livenessProbe": _HEALTH | {"initialDelaySeconds": 30, "periodSeconds": 10, "failureThreshold": 60},
}
"""Of the agent of Ray's dashboard, on head and workers alike: here it asks for no token. Where there are none KubeRay 1.5 adds some
of its own, by a `wget` that the image lacks."""
KEPT: Final = {"karpenter.sh/do-not-disrupt": "true"}
"""Karpenter ends no node under such a pod to save money: a head that goes takes the job with it, a worker its last epoch."""
PLACING: Final = ("affinity", "nodeSelector", "schedulingGates", "tolerations")
"""Fields of a pod that Kueue changes when it admits the job: they say where, not what."""

CODE: Final = (
    "authOptions", "autoscalerOptions", "enableInTreeAutoscaling", "gcsFaultToleranceOptions", "historyServerOptions", "rayVersion",
)  # fmt: skip
"""Fields of a cluster, beside its pods, that bring programs in, or let others command it."""


@dataclass(frozen=True, kw_only=True)
class RayJobArgs:
    """One run in a cluster.

    account: a service account that may do nothing; image: with its digest; workers: their number; requests: of one worker,
    quantities by resource, which are its limits too; gpus: of one worker; spot: workers may be on nodes that are taken away; queue:
    a Kueue LocalQueue; priority: a WorkloadPriorityClass; volume: a PersistentVolumeClaim that every node can mount, with a folder
    for each run (see `runfolder`); limit_s: seconds after which the run is failed.
    """

    run_id: str
    namespace: str
    account: str
    image: str
    ray_version: str
    workers: int
    requests: Mapping[str, str]
    gpus: int
    spot: bool
    queue: str
    priority: str
    volume: str
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
            "labels": _labels(args) | {"kueue.x-k8s.io/queue-name": args.queue, "kueue.x-k8s.io/priority-class": args.priority},
        },
        "spec": {
            "entrypoint": COMMAND,
            "submissionMode": "K8sJobMode",
            # A second attempt would start beside a person's retry: attempts are counted in the run's own record.
            "backoffLimit": 0,
            "activeDeadlineSeconds": args.limit_s,
            # The cluster goes at once. The job stays until its end has been read: KubeRay's time to live is that of the cluster.
            "shutdownAfterJobFinishes": True,
            "ttlSecondsAfterFinished": 0,
            "submitterPodTemplate": _template(args, SUBMITTER, {"cpu": "500m", "memory": "512Mi"}, mounts=()),
            "rayClusterSpec": {
                "rayVersion": args.ray_version,
                # KubeRay makes a token for each cluster: without one, code of another run could command this one's workers.
                "authOptions": {"mode": "token"},
                "headGroupSpec": {
                    # No tasks on the head: losing it loses the job, so it stays small and on-demand.
                    "rayStartParams": {"num-cpus": "0", "dashboard-host": "0.0.0.0"},  # noqa: S104  # in its pod's network
                    "template": _template(args, "ray-head", {"cpu": "1", "memory": "4Gi"}),
                },
                "workerGroupSpecs": [
                    {
                        "groupName": "workers",
                        "replicas": args.workers,
                        "minReplicas": args.workers,
                        "maxReplicas": args.workers,
                        "rayStartParams": {},
                        "template": _template(args, "ray-worker", _worker(args), spot=args.spot, gpu=args.gpus > 0),
                    }
                ],
            },
        },
    }


def doing(job: Object) -> str:
    """Digest of all that decides what a job computes: its command, and its pods but for their places. Fields are named one by one,
    so that another version's defaults change nothing."""
    spec = job["spec"]
    cluster = spec.get("rayClusterSpec", {})
    groups = [cluster.get("headGroupSpec", {}), *cluster.get("workerGroupSpecs", [])]
    said = {
        "job": {key: spec.get(key) for key in ("clusterSelector", "entrypoint", "runtimeEnvYAML", "submissionMode")},
        "cluster": {key: cluster.get(key) for key in CODE},
        # KubeRay puts start parameters into a shell's command line.
        "groups": [{"start": group.get("rayStartParams"), "pod": _without_places(group.get("template"))} for group in groups],
        "submitter": _without_places(spec.get("submitterPodTemplate")),
    }
    return sha256(canonical(said))


def _without_places(template: Object | None) -> Object:
    return {key: value for key, value in (template or {}).get("spec", {}).items() if key not in PLACING}


def role() -> Object:
    """All that the backend `kuberay` does in the namespace of training; to be bound there only."""
    return {
        "apiVersion": f"{CLUSTER_ROLES.group}/{CLUSTER_ROLES.version}",
        "kind": "ClusterRole",
        "metadata": {"name": "ai-infra-training", "labels": dict(MANAGED)},
        "rules": [
            {
                "apiGroups": [JOBS.group],
                "resources": [JOBS.plural],
                "verbs": ["get", "list", "watch", "create", "patch", "delete"],
            },
            {"apiGroups": [WORKLOADS.group], "resources": [WORKLOADS.plural], "verbs": ["list", "watch"]},
        ],
    }


def _labels(args: RayJobArgs) -> dict[str, str]:
    return MANAGED | {RUN: args.run_id}


def _worker(args: RayJobArgs) -> dict[str, str]:
    return dict(args.requests) | ({GPU: str(args.gpus)} if args.gpus else {})


def _template(
    args: RayJobArgs,
    name: str,
    resources: Mapping[str, str],
    *,
    mounts: tuple[str, ...] = (INPUTS, WORK),
    spot: bool = False,
    gpu: bool = False,
) -> Object:
    tolerations = ([GPU_TOLERATION] if gpu else []) + ([SPOT_TOLERATION] if spot else [])
    volume: Object = {"name": "runs", "persistentVolumeClaim": {"claimName": args.volume}}
    spec: Object = {
        "affinity": RATHER_SPOT if spot else ON_DEMAND,
        "serviceAccountName": args.account,
        "automountServiceAccountToken": False,
        "restartPolicy": "Never",
        "tolerations": tolerations,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [_container(args, name, resources, mounts)],
        "volumes": [
            *([volume] if mounts else []),
            {"name": "scratch", "emptyDir": {"sizeLimit": "20Gi"}},
            {"name": "memory", "emptyDir": {"medium": "Memory"}},
        ],
    }
    return {"metadata": {"labels": _labels(args), "annotations": dict(KEPT)}, "spec": spec}


def _container(args: RayJobArgs, name: str, resources: Mapping[str, str], mounts: tuple[str, ...]) -> Object:
    environment = TRAINING_VARIABLES | {
        "HOME": "/tmp",  # noqa: S108  # the container's own
        "RAY_TRAIN_V2_ENABLED": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    folders: list[dict[str, Any]] = [
        # A run sees its own folders only, and cannot change what it was given.
        {"name": "runs", "mountPath": f"{FOLDER}/{part}", "subPath": f"{args.run_id}/{part}"}
        | ({"readOnly": True} if part == INPUTS else {})
        for part in mounts
    ]
    return {
        "name": name,
        "image": args.image,
        "env": [{"name": key, "value": value} for key, value in sorted(environment.items())],
        "resources": {"requests": dict(resources), "limits": dict(resources)},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": [
            *folders,
            {"name": "scratch", "mountPath": "/tmp"},  # noqa: S108  # the container's own
            {"name": "memory", "mountPath": "/dev/shm"},  # noqa: S108  # Ray's object store
        ],
    } | ({} if name == SUBMITTER else PROBES)
