"""Training at scale on simulated nodes: `python -m benchmarks.scale [--nodes N] [--jobs N] [--write deployment.md]`.

The API server, scheduler and controllers are Kubernetes' own; nodes and the running of pods are kwok's. Pods are those that
KubeRay would make of our RayJobs, and KServe of our InferenceServices: the builders' own templates, workers with the node selector
that Kueue adds for the flavour to which it admits a job. Kueue itself, which would hold jobs back by quota and priority before any
pod exists, is not here; nor is Karpenter (it would buy nodes), nor KubeRay.
"""

import argparse
import ssl
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import httpx

from components.platform.queues import FLAVOURS
from components.platform.taints import CAPACITY, GPU, HAS_GPU, SPOT
from services.core.digests import sha256
from services.serving.inference import DEPLOYMENT, Place, Predictor, inference_service
from services.serving.predictor.order import Order
from services.training.rayjob import RayJobArgs, ray_job
from tests.kube.apiserver import ADMIN, ApiServer
from tests.peers import need

NAMESPACE: Final = "training-prod"
ZONE: Final = "topology.kubernetes.io/zone"
WORKERS: Final = 4
COPIES: Final = 3
"""Of a model: one for each zone."""
RESOURCES: Final = {"requests": {"cpu": "1", "memory": "2Gi"}}
STILL_S: Final = 10.0
"""Seconds without a newly placed pod after which the rest is taken to wait."""
LONGEST_S: Final = 600.0
MARKS: Final = ("<!-- scale -->", "<!-- /scale -->")
Object = dict[str, Any]


@dataclass(frozen=True)
class Pool:
    """Nodes of one kind. gpus: of each; spot: they may be taken away."""

    name: str
    nodes: int
    cpu: int
    memory_gib: int
    gpus: int = 0
    spot: bool = False

    def node(self, number: int) -> Object:
        taints = ([GPU] if self.gpus else []) + ([SPOT] if self.spot else [])
        capacity = "spot" if self.spot else "on-demand"
        labels = {
            "kubernetes.io/hostname": f"{self.name}-{number}",
            ZONE: f"zone-{'abc'[number % 3]}",
            "karpenter.sh/capacity-type": capacity,
            CAPACITY: capacity,
        }
        can = {"cpu": str(self.cpu), "memory": f"{self.memory_gib}Gi", "pods": "58", "ephemeral-storage": "200Gi"}
        can |= {"nvidia.com/gpu": str(self.gpus)} if self.gpus else {}
        return {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": f"{self.name}-{number}", "labels": labels | (HAS_GPU if self.gpus else {})},
            "spec": {"taints": taints},
            "status": {"capacity": can, "allocatable": can},
        }


@dataclass(frozen=True)
class Outcome:
    """seconds: from the first pod until the last one that was placed; waits: each pod's own, in whole seconds.

    together: of a model's replicas, the most in one zone; 0 without a model.
    """

    name: str
    nodes: int
    pods: int
    placed: int
    seconds: float
    waits: list[int]
    pending: Counter[str]
    misplaced: Counter[str]
    together: int


def pools(nodes: int, on_demand: int, jobs: int) -> list[Pool]:
    """nodes, on_demand: with GPUs, all of them and those not on spot; jobs: whose heads the others have room for."""
    core = Pool("core", max(4, jobs // 2), 4, 16)
    return [core, Pool("gpu", on_demand, 8, 32, 1), Pool("gpu-spot", nodes - on_demand, 8, 32, 1, spot=True)]


def pods(jobs: int) -> Iterator[Object]:
    """Of so many jobs: a head and its workers. One job in five does not take spot nodes."""
    for number in range(jobs):
        args = RayJobArgs(
            run_id=f"run-{number:04}", namespace=NAMESPACE, account="training", image=f"registry.example/ray@{sha256(b'image')}",
            ray_version="2.60.0", workers=WORKERS, requests={"cpu": "6", "memory": "24Gi"}, gpus=1, spot=number % 5 != 0,
            queue="research", priority="research", volume="runs", limit_s=3600,
        )  # fmt: skip
        cluster = ray_job(args)["spec"]["rayClusterSpec"]
        yield _pod(f"{args.run_id}-head", "head", args.spot, cluster["headGroupSpec"]["template"])
        for worker in range(WORKERS):
            yield _kept(_pod(f"{args.run_id}-worker-{worker}", "worker", args.spot, cluster["workerGroupSpecs"][0]["template"]))


def replicas(models: int) -> Iterator[Object]:
    """Predictors of so many models, COPIES of each."""
    for number in range(models):
        digest = sha256(str(number).encode())
        order = Order(
            deployment=f"dep-{number:032x}", environment="prod", model=f"model-{number}", number=1, artifact_id=digest, files=(),
            manifest=digest, bundle=digest,
        )  # fmt: skip
        predictor = inference_service(Place(), Predictor(order=order, replicas=COPIES))["spec"]["predictor"]
        container = {"name": "predictor", "image": f"registry.example/predictor@{digest}", "resources": RESOURCES}
        spec = {"containers": [container], "topologySpreadConstraints": predictor["topologySpreadConstraints"]}
        for copy in range(COPIES):
            template = {"metadata": {"labels": predictor["labels"]}, "spec": spec}
            yield _pod(f"{order.model}-{copy}", "predictor", False, template)


def _pod(name: str, part: str, spot: bool, template: Object) -> Object:
    labels = template["metadata"]["labels"] | {"part": part, "spot": str(spot).lower()}
    metadata = {"name": name, "namespace": NAMESPACE, "labels": labels}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}


def _kept(worker: Object) -> Object:
    """Kept to the nodes of a flavour, as Kueue does: the first one that has GPUs and whose taints the worker tolerates."""
    tolerated = {item["key"] for item in worker["spec"]["tolerations"]}
    with_gpus = (flavour for flavour in FLAVOURS.values() if "nodeTaints" in flavour)
    chosen = next(flavour for flavour in with_gpus if {taint["key"] for taint in flavour["nodeTaints"]} <= tolerated)
    return worker | {"spec": worker["spec"] | {"nodeSelector": dict(chosen["nodeLabels"])}}


class Simulated:
    """A cluster of the given nodes. Use `simulated`."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def make(self, path: str, items: Sequence[Object]) -> None:
        def post(item: Object) -> None:
            response = self._client.post(path, json=item)
            if not response.is_success:
                raise SystemExit(f"{path}: {response.text[:400]}")

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(post, items))

    def list(self, path: str) -> list[Object]:
        found: list[Object] = self._client.get(path).raise_for_status().json()["items"]
        return found

    def clear(self, path: str) -> None:
        self._client.request("DELETE", path, params={"gracePeriodSeconds": "0"}).raise_for_status()


@contextmanager
def simulated(folder: Path) -> Iterator[Simulated]:
    server = ApiServer(folder)
    server.start()
    config = server.kubeconfig(folder)
    fast = ("--kube-api-qps=500", "--kube-api-burst=500")
    commands = {
        "kube-scheduler": [f"--kubeconfig={config}", "--leader-elect=false", "--secure-port=0", *fast],
        "kube-controller-manager": [
            f"--kubeconfig={config}", "--leader-elect=false", "--secure-port=0", *fast,
            "--controllers=node-lifecycle-controller,persistentvolume-binder-controller,pod-garbage-collector-controller",
        ],
        "kwok": [
            f"--kubeconfig={config}", "--manage-all-nodes=true", "--node-lease-duration-seconds=40",
            f"--config={Path(__file__).with_name('kwok-stages.yaml')}",
        ],
    }  # fmt: skip
    running = []
    try:
        for name, flags in commands.items():
            with (folder / f"{name}.log").open("wb") as log:
                running.append(subprocess.Popen([need(name), *flags], stdout=log, stderr=log))
        context = ssl.create_default_context(cafile=str(server.identity.ca))
        headers = {"Authorization": f"Bearer {ADMIN}"}
        with httpx.Client(base_url=server.url, verify=context, headers=headers, timeout=60) as client:
            yield Simulated(client)
    finally:
        for process in running:
            process.kill()
            process.wait()
        server.stop()


def ground(cluster: Simulated) -> None:
    """The namespace and the volume of all runs."""
    volume = {"capacity": {"storage": "1Ti"}, "accessModes": ["ReadWriteMany"], "storageClassName": ""}
    source = {"nfs": {"server": "files.example", "path": "/"}}
    claim = {"accessModes": ["ReadWriteMany"], "storageClassName": "", "resources": {"requests": {"storage": "1Ti"}}}
    cluster.make("/api/v1/namespaces", [{"metadata": {"name": NAMESPACE}}])
    cluster.make("/api/v1/persistentvolumes", [{"metadata": {"name": "runs"}, "spec": volume | source}])
    path = f"/api/v1/namespaces/{NAMESPACE}/persistentvolumeclaims"
    cluster.make(path, [{"metadata": {"name": "runs"}, "spec": claim}])
    _until(lambda: [item for item in cluster.list(path) if item["status"].get("phase") == "Bound"], "the volume is bound")


def run(cluster: Simulated, name: str, wanted: list[Pool], made: list[Object]) -> Outcome:
    """Nodes anew, then all pods at once."""
    path = f"/api/v1/namespaces/{NAMESPACE}/pods"
    cluster.clear("/api/v1/nodes")
    cluster.clear(path)
    _until(lambda: not cluster.list(path), "earlier pods are gone")
    nodes = [pool.node(number) for pool in wanted for number in range(pool.nodes)]
    say(f"{name}: {len(nodes)} nodes")
    cluster.make("/api/v1/nodes", nodes)
    _until(lambda: all(map(_ready, cluster.list("/api/v1/nodes"))), "all nodes are ready")
    say(f"{name}: {len(made)} pods")
    begun = time.monotonic()
    cluster.make(path, made)
    last, placed = begun, 0
    while time.monotonic() - last < STILL_S and placed < len(made):
        now = len([item for item in cluster.list(path) if item["spec"].get("nodeName")])
        if now > placed:
            placed, last = now, time.monotonic()
        time.sleep(0.25)
    return judged(name, cluster.list("/api/v1/nodes"), cluster.list(path), last - begun)


def judged(name: str, nodes: list[Object], found: list[Object], seconds: float) -> Outcome:
    by_name = {node["metadata"]["name"]: node for node in nodes}
    placed = [pod for pod in found if pod["spec"].get("nodeName")]
    waits = [int((_condition(pod)[1] - _time(pod["metadata"]["creationTimestamp"])).total_seconds()) for pod in placed]
    pending = Counter(_reason(pod) for pod in found if not pod["spec"].get("nodeName"))
    misplaced = Counter(fault for pod in placed if (fault := _fault(pod, by_name[pod["spec"]["nodeName"]])))
    models = [pod for pod in placed if DEPLOYMENT in pod["metadata"]["labels"]]
    zones = Counter((_model(pod), by_name[pod["spec"]["nodeName"]]["metadata"]["labels"][ZONE]) for pod in models)
    together = max(zones.values(), default=0)
    return Outcome(name, len(nodes), len(found), len(placed), seconds, sorted(waits), pending, misplaced, together)


def _model(pod: Object) -> str:
    return str(pod["metadata"]["labels"][DEPLOYMENT])


def _fault(pod: Object, node: Object) -> str | None:
    """Where a pod must not be, by what we promise and not by what the pod says."""
    labels, part = node["metadata"]["labels"], pod["metadata"]["labels"]["part"]
    spot, gpu = labels[CAPACITY] == "spot", "nvidia.com/gpu.present" in labels
    if part in ("head", "predictor") and (spot or gpu):
        return f"a {part} on a spot or GPU node"
    if spot and pod["metadata"]["labels"]["spot"] == "false":
        return "a worker on spot that may not be there"
    return "a worker without a GPU" if part == "worker" and not gpu else None


def _reason(pod: Object) -> str:
    """part and capacity of a pod that waits."""
    labels = pod["metadata"]["labels"]
    return f"{labels['part']}{'' if labels['part'] == 'head' else ', spot' if labels['spot'] == 'true' else ', on-demand'}"


def _condition(pod: Object) -> tuple[str, datetime]:
    found = next(item for item in pod["status"]["conditions"] if item["type"] == "PodScheduled")
    return found["status"], _time(found["lastTransitionTime"])


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _ready(node: Object) -> bool:
    conditions = {item["type"]: item["status"] for item in node["status"].get("conditions", [])}
    return conditions.get("Ready") == "True" and not any(
        taint["key"].startswith("node.kubernetes.io/") for taint in node["spec"].get("taints", [])
    )


def _until(condition: Any, what: str) -> None:
    deadline = time.monotonic() + LONGEST_S
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"not within {LONGEST_S:.0f} s: {what}")
        time.sleep(0.5)


def table(outcomes: Sequence[Outcome]) -> str:
    columns = (
        "nodes", "pods", "placed", "pending", "misplaced", "most of a model in a zone", "all of them after",
        "a pod waits, median / p95",
    )  # fmt: skip
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    for found in outcomes:
        waits = found.waits
        told = f"{waits[len(waits) // 2]} s / {waits[len(waits) * 95 // 100]} s" if waits else "–"
        pending = ", ".join(f"{count} ({part})" for part, count in sorted(found.pending.items())) or "0"
        wrong = ", ".join(f"{count} ({what})" for what, count in sorted(found.misplaced.items())) or "0"
        counts = (found.name, found.pods, found.placed, pending, wrong, found.together or "–", f"{found.seconds:.0f} s", told)
        lines.append(f"| {' | '.join(map(str, counts))} |")
    return "\n".join(lines)


def say(text: str) -> None:
    sys.stderr.write(f"scale: {text}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=1000, help="with GPUs")
    parser.add_argument("--jobs", type=int, default=100, help=f"each of {WORKERS + 1} pods")
    parser.add_argument("--write", type=Path, help="a page whose table, between its two marks, is replaced")
    args = parser.parse_args()
    few = args.jobs * WORKERS * 3 // 4
    with tempfile.TemporaryDirectory() as folder, simulated(Path(folder)) as cluster:
        ground(cluster)
        jobs, plenty = list(pods(args.jobs)), pools(args.nodes, args.nodes * 3 // 10, args.jobs)
        served = list(replicas(args.jobs // 2))
        found = [
            run(cluster, f"{args.nodes} with GPUs, 3 in 10 on-demand", plenty, jobs),
            run(cluster, f"spot is gone: {few} on-demand", pools(few, few, args.jobs), jobs),
            run(cluster, f"{len(served) // COPIES} models of {COPIES} predictors, beside empty GPU nodes", plenty, served),
        ]
    text = table(found)
    print(text)
    if args.write is not None:
        before, _, rest = args.write.read_text().partition(MARKS[0])
        args.write.write_text(f"{before}{MARKS[0]}\n{text}\n{MARKS[1]}{rest.partition(MARKS[1])[2]}")


if __name__ == "__main__":
    main()
