"""The training backend `kuberay` on a real API server: queues, ends, competing writers, restarts, kills. KubeRay, Kueue and the
volume are stand-ins: a folder here."""

import itertools
import logging
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.core.errors import Unavailable
from services.core.kube import Access, Kube, Resource
from services.core.kubewatch import Mirror
from services.core.statements import RunInputs
from services.training.backends.kuberay import MANAGER, KubeRay
from services.training.domain import Compute
from services.training.placing import Placing
from services.training.rayjob import CLUSTER_ROLES, JOBS, RUN, SELECTOR, doing, role
from services.training.runfolder import RunFolder
from tests.fakes.kuberay import KubeRayStandIn, write_end
from tests.kube.apiserver import TRAINING, ApiServer
from tests.kube.conftest import definitions, install
from tests.kube.objects import IMAGE
from tests.kube.rig import NAMESPACES, Dying, Killed
from tests.serving import wait_for
from tests.training import TARA, Stage, repository

NUMBERS = itertools.count()
BINDINGS = Resource("rbac.authorization.k8s.io", "v1", "rolebindings")
COMPUTE = Compute(queue="team-a", priority="research", cpu="4", memory="16Gi", gpus=1, spot=True)
FILES = {"model.safetensors": b"weights", "config.json": b"{}", "README.md": b"a card"}


@dataclass
class Rig:
    """Training as the API process has it. stage: holds database and objects, which outlive the rig's compute."""

    stage: Stage
    compute: KubeRay
    placing: Placing

    def start(self, **changes: Any) -> str:
        return str(self.stage.service.start(self.order(**changes), TARA)["id"])

    def order(self, **changes: Any) -> Any:
        repo = self.stage.folder / "repo"
        if not repo.exists():
            repository(repo)
            self.stage.add_dataset()
        return self.stage.order(repo, **changes)

    def run(self, run: str) -> dict[str, Any]:
        return self.stage.service.get(run)

    def step(self) -> None:
        """One turn of the loop, however the cluster is."""
        try:
            self.stage.service.step()
        except Unavailable:
            return

    def reach(self, run: str, state: str) -> dict[str, Any]:
        def done() -> bool:
            self.step()
            return bool(self.run(run)["state"] == state)

        wait_for(done, f"run {run} is {state}")
        return self.run(run)

    def see(self, kube: Kube, run: str, state: str, what: str) -> None:
        """Turns of the loop until the run's job is in a state, in KubeRay's words; empty for no job."""

        def done() -> bool:
            self.step()
            return state_of(kube, self.placing.namespace, run) == state

        wait_for(done, what)

    def volume(self, run: str) -> RunFolder:
        return RunFolder(self.placing.runs / run)

    def usage(self, kind: str) -> Any:
        (found,) = [event["payload"]["usage"] for event in self.stage.emitted() if event["type"] == kind]
        return found


def open_rig(
    root: Path, access: Access, namespace: str, transport: httpx.BaseTransport | None = None, stage: Stage | None = None
) -> Rig:
    """A process: its compute is new, database, objects and volume are what they were."""
    runs = root / "volume"
    runs.mkdir(exist_ok=True)
    placing = Placing(
        namespace=namespace, image=IMAGE, ray_version="2.60.0", volume="runs", runs=runs, compute=COMPUTE, limit_s=86_400
    )
    found = stage or Stage(root)
    compute = KubeRay(lambda: Kube(access, MANAGER, transport), placing, root / "own", found.store, found.clock)
    process = Stage(root)
    process.compute, process.signing = compute, found.signing
    process.environment = placing.environment()
    return Rig(process, compute, placing)


@pytest.fixture
def namespace(kube: Kube) -> Iterator[str]:
    """Of the test's own, in which the user of the TRAINING token has the backend's role, and nothing else."""
    name = f"training{next(NUMBERS)}"
    kube.apply(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    kube.apply(CLUSTER_ROLES, role())
    group = "rbac.authorization.k8s.io"
    binding = {
        "apiVersion": f"{group}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "ai-infra-training", "namespace": name},
        "subjects": [{"kind": "User", "name": "training", "apiGroup": group}],
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "ai-infra-training"},
    }
    kube.apply(BINDINGS, binding)
    yield name
    for item in kube.list(JOBS, name)["items"]:
        kube.delete(JOBS, item["metadata"]["name"], name)


@pytest.fixture
def rig(cluster: ApiServer, namespace: str, tmp_path: Path) -> Iterator[Rig]:
    found = open_rig(tmp_path, cluster.access(TRAINING), namespace)
    yield found
    found.compute.close()


@pytest.fixture
def kuberay(cluster: ApiServer) -> Iterator[KubeRayStandIn]:
    with KubeRayStandIn(Kube(cluster.access(), "kuberay-stand-in")) as found:
        yield found


def state_of(kube: Kube, namespace: str, run: str) -> str:
    """Of a job, in KubeRay's words; empty if there is no job."""
    jobs = {item["metadata"]["name"]: item for item in kube.list(JOBS, namespace)["items"]}
    return str(jobs[run].get("status", {}).get("jobDeploymentStatus", "New")) if run in jobs else ""


def running(kube: Kube, namespace: str, run: str) -> None:
    wait_for(lambda: state_of(kube, namespace, run) == "Running", f"the job of {run} is running")


def finish(rig: Rig, kube: Kube, kuberay: KubeRayStandIn, run: str, epochs: int = 2) -> None:
    """The driver comes to its end, and KubeRay says so."""
    running(kube, rig.placing.namespace, run)
    write_end(rig.placing.runs, run, FILES, epochs=epochs)
    kuberay.succeed(run)


def test_a_run_is_queued_admitted_and_ends_as_a_signed_artifact(rig: Rig, kube: Kube, kuberay: KubeRayStandIn) -> None:
    run = rig.start()
    job = kube.get(JOBS, run, rig.placing.namespace)
    assert job["metadata"]["labels"] == {
        "app.kubernetes.io/managed-by": "ai-infra",
        RUN: run,
        "kueue.x-k8s.io/queue-name": "team-a",
        "kueue.x-k8s.io/priority-class": "research",
    }
    finish(rig, kube, kuberay, run)
    found = rig.reach(run, "completed")
    assert [entry.path for entry in rig.stage.artifacts.recomputed(found["artifactId"])] == sorted(FILES)
    assert [item["epoch"] for item in found["progress"]] == [1, 2]
    assert rig.stage.types() == ["train.started", "artifact.uploaded", "train.completed"]
    wait_for(lambda: state_of(kube, rig.placing.namespace, run) == "", "the job is removed")
    assert not rig.volume(run).path.exists()
    assert list((rig.stage.folder / "own").glob("*")) == []


def test_a_run_records_the_image_and_the_gpus_that_it_trains_with(rig: Rig) -> None:
    inputs = rig.run(rig.start())["inputs"]
    assert (inputs["environment"]["image"], inputs["environment"]["gpus"]) == (IMAGE, "1")
    assert inputs["image"] == rig.placing.environment().image


def test_a_job_says_itself_where_it_waits_and_with_what_it_trains(rig: Rig, kube: Kube) -> None:
    own = {"queue": "team-b", "priority": "production", "cpu": "8", "memory": "32Gi", "gpus": 4, "spot": False}
    run = rig.start(compute=own)
    job = kube.get(JOBS, run, rig.placing.namespace)
    labels = job["metadata"]["labels"]
    assert [labels[f"kueue.x-k8s.io/{name}"] for name in ("queue-name", "priority-class")] == ["team-b", "production"]
    (group,) = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    worker = group["template"]["spec"]
    assert worker["containers"][0]["resources"]["limits"] == {"cpu": "8", "memory": "32Gi", "nvidia.com/gpu": "4"}
    assert [found["key"] for found in worker["tolerations"]] == ["nvidia.com/gpu"]
    assert rig.run(run)["inputs"]["environment"]["gpus"] == "4"


def test_a_pod_has_no_credentials_and_sees_its_own_run_alone(rig: Rig, kube: Kube) -> None:
    run = rig.start()
    spec = kube.get(JOBS, run, rig.placing.namespace)["spec"]
    cluster = spec["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        mounts = {item["mountPath"]: item for item in pod["containers"][0]["volumeMounts"] if item["name"] == "runs"}
        assert pod["automountServiceAccountToken"] is False
        assert {path: (item["subPath"], item.get("readOnly", False)) for path, item in mounts.items()} == {
            "/run/training/in": (f"{run}/in", True),
            "/run/training/out": (f"{run}/out", False),
        }


def test_nothing_is_submitted_twice(rig: Rig, kube: Kube, cluster: ApiServer, kuberay: KubeRayStandIn) -> None:
    run = rig.start()
    running(kube, rig.placing.namespace, run)
    before = kube.get(JOBS, run, rig.placing.namespace)["metadata"]
    attempt = rig.volume(run).attempt()
    second = open_rig(rig.stage.folder, cluster.access(TRAINING), rig.placing.namespace, stage=rig.stage)
    row = rig.run(run)
    order = rig.stage.service._order(run, rig.order().job, _inputs(row))
    for compute in (rig.compute, second.compute, rig.compute):
        compute.submit(order)
    second.compute.close()
    after = kube.get(JOBS, run, rig.placing.namespace)["metadata"]
    assert (after["uid"], after["generation"], rig.volume(run).attempt()) == (before["uid"], before["generation"], attempt)


def _inputs(row: dict[str, Any]) -> Any:
    return RunInputs.from_json(row["inputs"])


def test_a_preempted_run_waits_goes_on_and_pays_for_the_time_that_it_had(rig: Rig, kube: Kube, kuberay: KubeRayStandIn) -> None:
    now = [1000]
    kuberay.now = lambda: now[0]
    run = rig.start()
    running(kube, rig.placing.namespace, run)
    now[0] += 100
    kuberay.room = False
    wait_for(lambda: state_of(kube, rig.placing.namespace, run) == "Suspended", "the job is preempted")
    rig.step()
    assert rig.run(run)["state"] == "running"
    now[0] += 5000
    kuberay.room = True
    running(kube, rig.placing.namespace, run)
    now[0] += 50
    finish(rig, kube, kuberay, run)
    rig.reach(run, "completed")
    assert rig.usage("train.completed") == {
        "seconds": 150, "workers": 2, "workerSeconds": 300, "gpuSeconds": 300, "spot": True,
    }  # fmt: skip


def test_a_run_that_kueue_gives_up_fails_and_leaves_no_job(rig: Rig, kube: Kube, kuberay: KubeRayStandIn) -> None:
    kuberay.room = False
    run = rig.start()
    rig.see(kube, run, "Suspended", "the job waits")
    assert rig.run(run)["state"] == "running"
    kuberay.give_up(run)
    assert "Kueue has given up" in rig.reach(run, "failed")["error"]
    rig.see(kube, run, "", "its job is gone")


Ending = Callable[[Rig, KubeRayStandIn, str], None]


def _broken_code(rig: Rig, kuberay: KubeRayStandIn, run: str) -> None:
    write_end(rig.placing.runs, run, {}, error="ValueError: no such column: p99")
    kuberay.fail(run)


def _stopped(rig: Rig, kuberay: KubeRayStandIn, run: str) -> None:
    kuberay.ends[run] = {"jobDeploymentStatus": "Complete", "jobStatus": "STOPPED", "message": "Job was intentionally stopped."}


def _no_result(rig: Rig, kuberay: KubeRayStandIn, run: str) -> None:
    kuberay.succeed(run)


def _too_long(rig: Rig, kuberay: KubeRayStandIn, run: str) -> None:
    kuberay.fail(run, "DeadlineExceeded", "The RayJob has passed the activeDeadlineSeconds.")


def _only_the_driver_says_so(rig: Rig, kuberay: KubeRayStandIn, run: str) -> None:
    write_end(rig.placing.runs, run, FILES)
    kuberay.fail(run, "AppFailed", "exit status 137")


def _other_files(rig: Rig, kuberay: KubeRayStandIn, run: str) -> None:
    write_end(rig.placing.runs, run, {"model.safetensors": b"weights", "notes.txt": b"x"})
    kuberay.succeed(run)


def _link(rig: Rig, kuberay: KubeRayStandIn, run: str) -> None:
    write_end(rig.placing.runs, run, FILES)
    (rig.volume(run).output / "config.json").unlink()
    (rig.volume(run).output / "config.json").symlink_to("/etc/hostname")
    kuberay.succeed(run)


ENDINGS: dict[str, tuple[Ending, str]] = {
    "broken code": (_broken_code, "ValueError: no such column: p99"),
    "stopped by somebody": (_stopped, "Job was intentionally stopped"),
    "no result": (_no_result, "ended without a result"),
    "over its limit": (_too_long, "DeadlineExceeded: The RayJob has passed"),
    "a result that KubeRay does not confirm": (_only_the_driver_says_so, "AppFailed: exit status 137"),
    "other files than listed": (_other_files, "missing ['README.md', 'config.json'], not listed ['notes.txt']"),
    "a link among the outputs": (_link, "outputs are plain files"),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_a_run_that_fails_says_why_and_leaves_no_job(rig: Rig, kube: Kube, kuberay: KubeRayStandIn, name: str) -> None:
    ending, said = ENDINGS[name]
    run = rig.start()
    running(kube, rig.placing.namespace, run)
    ending(rig, kuberay, run)
    assert said in rig.reach(run, "failed")["error"]
    rig.see(kube, run, "", "the job is removed")
    assert rig.stage.types()[-1] == "train.failed"


def test_a_retry_goes_on_from_the_checkpoints_and_forgets_how_it_failed(rig: Rig, kube: Kube, kuberay: KubeRayStandIn) -> None:
    run = rig.start()
    running(kube, rig.placing.namespace, run)
    _broken_code(rig, kuberay, run)
    rig.reach(run, "failed")
    assert rig.stage.service.retry(run, TARA)["attempt"] == 2
    for _ in range(5):
        rig.step()
    assert rig.run(run)["state"] == "running"
    rig.see(kube, run, "Running", "the second attempt runs")
    assert (rig.volume(run).work / "checkpoints/state").read_text() == "epoch 1"
    finish(rig, kube, kuberay, run)
    rig.reach(run, "completed")


def test_what_a_driver_of_an_earlier_attempt_still_writes_is_not_believed(rig: Rig, kube: Kube, kuberay: KubeRayStandIn) -> None:
    run = rig.start()
    running(kube, rig.placing.namespace, run)
    write_end(rig.placing.runs, run, FILES, error="SystemExit: terminated")
    late = (rig.volume(run).work / "result.json").read_bytes()
    kube.delete(JOBS, run, rig.placing.namespace)
    rig.stage.service.cancel(run, TARA)
    rig.stage.service.retry(run, TARA)
    rig.see(kube, run, "Running", "the second attempt runs")
    (rig.volume(run).work / "result.json").write_bytes(late)
    kube.delete(JOBS, run, rig.placing.namespace)
    rig.see(kube, run, "Running", "the job is made again")
    assert rig.run(run)["state"] == "running"


def test_a_cancelled_run_leaves_its_checkpoints_and_can_go_on(rig: Rig, kube: Kube, kuberay: KubeRayStandIn) -> None:
    run = rig.start()
    running(kube, rig.placing.namespace, run)
    write_end(rig.placing.runs, run, {}, epochs=3)
    assert rig.stage.service.cancel(run, TARA)["state"] == "cancelled"
    wait_for(lambda: state_of(kube, rig.placing.namespace, run) == "", "the job is gone")
    assert rig.usage("train.failed")["workers"] == 2
    rig.stage.service.retry(run, TARA)
    rig.see(kube, run, "Running", "it goes on")
    assert (rig.volume(run).work / "checkpoints/state").read_text() == "epoch 3"


def test_pods_of_an_attempt_are_gone_before_the_next_is_submitted(rig: Rig, kube: Kube) -> None:
    """No controller runs here: what the job owns never goes, so neither does the job."""
    run = rig.start()
    rig.stage.service.cancel(run, TARA)
    rig.stage.service.retry(run, TARA)
    for _ in range(5):
        rig.step()
    assert "deletionTimestamp" in kube.get(JOBS, run, rig.placing.namespace)["metadata"]
    assert rig.run(run)["state"] == "running"
    kube._call(
        "PATCH", JOBS.one(run, rig.placing.namespace), content=b'{"metadata": {"finalizers": null}}',
        headers={"Content-Type": "application/merge-patch+json"},
    )  # fmt: skip
    rig.see(kube, run, "New", "the next attempt is submitted")


CHANGES: dict[str, dict[str, Any]] = {
    "another command": {"entrypoint": "python -m theirs"},
    "another environment": {"runtimeEnvYAML": "env_vars: {LD_PRELOAD: /theirs.so}"},
    "an autoscaler of theirs": {"rayClusterSpec": {"autoscalerOptions": {"image": "theirs"}}},
    "start parameters": {"rayClusterSpec": {"headGroupSpec": {"rayStartParams": {"x": "; theirs"}}}},
    "a cluster that obeys everybody": {"rayClusterSpec": {"authOptions": {"mode": "disabled"}}},
    "a store of theirs": {"rayClusterSpec": {"gcsFaultToleranceOptions": {"redisAddress": "theirs:6379"}}},
    "a job that waits for theirs": {"submissionMode": "InteractiveMode"},
    "another cluster": {"clusterSelector": {"ray.io/cluster": "theirs"}},
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_job_that_somebody_changes_fails_for_good_and_names_them(
    rig: Rig, kube: Kube, kuberay: KubeRayStandIn, cluster: ApiServer, name: str
) -> None:
    run = rig.start()
    running(kube, rig.placing.namespace, run)
    theirs = {"apiVersion": "ray.io/v1", "kind": "RayJob", "metadata": {"name": run, "namespace": rig.placing.namespace}}
    Kube(cluster.access(), "somebody").apply(JOBS, _whole(theirs | {"spec": CHANGES[name]}), force=True)
    error = rig.reach(run, "failed")["error"]
    assert "changed by" in error
    assert "somebody" in error
    rig.see(kube, run, "", "the job is removed")
    rig.stage.service.retry(run, TARA)
    assert "changed by" in rig.reach(run, "failed")["error"]
    assert state_of(kube, rig.placing.namespace, run) == ""


def _whole(wanted: dict[str, Any]) -> dict[str, Any]:
    """The definition wants a head with a template in each cluster that is named."""
    cluster = wanted["spec"].get("rayClusterSpec")
    if cluster is not None:
        head = cluster.setdefault("headGroupSpec", {})
        head.setdefault("template", {})
    return wanted


def test_what_kueue_changes_when_it_places_a_job_is_no_change(rig: Rig, kube: Kube, kuberay: KubeRayStandIn) -> None:
    run = rig.start()
    running(kube, rig.placing.namespace, run)
    job = kube.get(JOBS, run, rig.placing.namespace)
    assert job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["nodeSelector"] == {"pool": "gpu"}
    assert rig.volume(run).expected() == doing(job)


def test_a_job_that_somebody_deletes_is_made_again(rig: Rig, kube: Kube, kuberay: KubeRayStandIn) -> None:
    run = rig.start()
    running(kube, rig.placing.namespace, run)
    first = kube.get(JOBS, run, rig.placing.namespace)["metadata"]["uid"]
    kube.delete(JOBS, run, rig.placing.namespace)

    def again() -> bool:
        rig.step()
        found = [item["metadata"]["uid"] for item in kube.list(JOBS, rig.placing.namespace)["items"]]
        return found not in ([], [first])

    wait_for(again, "another job is there")
    finish(rig, kube, kuberay, run)
    rig.reach(run, "completed")


def test_a_job_deleted_after_its_driver_ended_has_ended(rig: Rig, kube: Kube, kuberay: KubeRayStandIn) -> None:
    run = rig.start()
    running(kube, rig.placing.namespace, run)
    write_end(rig.placing.runs, run, FILES)
    kube.delete(JOBS, run, rig.placing.namespace)
    assert rig.reach(run, "completed")["attempt"] == 1


def test_somebody_elses_jobs_in_the_namespace_are_left_alone(rig: Rig, kube: Kube, kuberay: KubeRayStandIn) -> None:
    run = rig.start()
    running(kube, rig.placing.namespace, run)
    job = kube.get(JOBS, run, rig.placing.namespace)
    meta = {"name": "by-hand", "namespace": rig.placing.namespace, "labels": job["metadata"]["labels"]}
    kube.apply(JOBS, {"apiVersion": job["apiVersion"], "kind": "RayJob", "metadata": meta, "spec": {"entrypoint": "x"}})
    wait_for(lambda: rig.compute.held() == {run, "by-hand"}, "both are seen")
    rig.stage.service.step()
    assert state_of(kube, rig.placing.namespace, "by-hand") != ""


@pytest.mark.parametrize("answered", [False, True], ids=["before the write", "after the write"])
@pytest.mark.parametrize("act", ["start", "finish", "cancel", "retry", "tampered"])
def test_a_process_killed_at_a_write_is_succeeded_by_the_next(
    kube: Kube, kuberay: KubeRayStandIn, cluster: ApiServer, namespace: str, tmp_path: Path, act: str, answered: bool
) -> None:
    """The write: the job is applied; or removed, at the run's end, after its cancellation, before its retry, after its refusal."""
    access = cluster.access(TRAINING)
    before = open_rig(tmp_path, access, namespace)
    before.order()
    run = "" if act == "start" else _begun(before, kube, kuberay, act)
    before.compute.close()
    dying = Dying(ssl.create_default_context(cafile=str(access.ca)), 1, answered)
    killed = open_rig(tmp_path, access, namespace, dying, before.stage)
    wait_for(lambda: in_touch(killed), "the mirror is in touch")
    with pytest.raises(Killed):
        _act(killed, act, run)
    killed.compute.close()
    assert dying.writes == 1
    after = open_rig(tmp_path, access, namespace, None, before.stage)
    run = run or str(after.stage.service.all()[0]["id"])
    _carried_on(after, kube, kuberay, act, run)
    after.compute.close()


def _begun(rig: Rig, kube: Kube, kuberay: KubeRayStandIn, act: str) -> str:
    run = rig.start()
    running(kube, rig.placing.namespace, run)
    if act == "finish":
        finish(rig, kube, kuberay, run)
        wait_for(lambda: state_of(kube, rig.placing.namespace, run) == "Complete", "the job is over")
    if act == "retry":
        kuberay.fail(run)
        # The row is failed; what is left is the next process's.
        wait_for(lambda: rig.compute.poll(run).state == "failed", "the job is over")
        rig.stage.service._fail(run, "failed", "AppFailed", TARA)
    if act == "tampered":
        theirs = {"apiVersion": "ray.io/v1", "kind": "RayJob", "metadata": {"name": run, "namespace": rig.placing.namespace}}
        kube.apply(JOBS, theirs | {"spec": {"entrypoint": "theirs"}}, force=True)
    return run


def _act(rig: Rig, act: str, run: str) -> None:
    if act == "start":
        rig.start()
    elif act == "cancel":
        rig.stage.service.cancel(run, TARA)
    elif act == "retry":
        rig.stage.service.retry(run, TARA)
    else:
        for _ in range(100):
            rig.step()


def _carried_on(rig: Rig, kube: Kube, kuberay: KubeRayStandIn, act: str, run: str) -> None:
    if act == "start":
        rig.see(kube, run, "Running", "the next process submits it")
        finish(rig, kube, kuberay, run)
        rig.reach(run, "completed")
    rig.see(kube, run, "", "no job is left")
    rig.step()
    ends = {"start": "completed", "finish": "completed", "cancel": "cancelled", "retry": "failed", "tampered": "failed"}
    assert rig.run(run)["state"] == ends[act]
    last = "train.completed" if ends[act] == "completed" else "train.failed"
    assert rig.stage.types().count(last) == 1
    if act in ("cancel", "retry"):
        rig.stage.service.retry(run, TARA)
        rig.see(kube, run, "Running", "it can go on")


def in_touch(rig: Rig) -> bool:
    try:
        rig.compute.held()
    except Unavailable:
        return False
    return True


def test_a_process_killed_while_it_copies_inputs_leaves_no_job_and_the_next_copies_them(
    rig: Rig, kube: Kube, cluster: ApiServer
) -> None:
    order = rig.order()
    store = rig.stage.store

    class Breaking:
        def __getattr__(self, name: str) -> Any:
            return getattr(store, name)

        def copy_to(self, digest: str, path: Path) -> None:
            path.write_bytes(b"half")
            raise Killed

    rig.compute._store = Breaking()
    with pytest.raises(Killed):
        rig.stage.service.start(order, TARA)
    run = str(rig.stage.service.all()[0]["id"])
    assert state_of(kube, rig.placing.namespace, run) == ""
    after = open_rig(rig.stage.folder, cluster.access(TRAINING), rig.placing.namespace, stage=rig.stage)
    after.see(kube, run, "New", "the next process submits it")
    after.compute.close()
    copied = {path.name: path.read_bytes() for path in (rig.volume(run).inputs / "datasets/0").iterdir()}
    assert copied == {"train.csv": b"label,p0\n1,2\n", "test.csv": b"label,p0\n1,3\n"}


def test_a_restarted_api_server_is_found_again_and_an_expired_watch_lists_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    found = [text for text in definitions() if b"rayjobs.ray.io" in text or b"workloads.kueue" in text]
    (tmp_path / "server").mkdir()
    server = ApiServer(tmp_path / "server")
    server.start()
    try:
        install(server, found)
        admin = Kube(server.access(), "tests")
        namespace = "training-own"
        admin.apply(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
        rig = open_rig(tmp_path, server.access(), namespace)
        with KubeRayStandIn(Kube(server.access(), "kuberay-stand-in")) as kuberay:
            run = rig.start()
            running(admin, namespace, run)
            # History that the watch of jobs does not see, so that what it asks for is older than the restarted server's.
            for number in range(20):
                admin.apply(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": f"other-{number}"}})
            server.kill()
            wait_for(lambda: not in_touch(rig), "the loss is noticed")
            with pytest.raises(Unavailable):
                rig.stage.service.step()
            assert rig.run(run)["state"] == "running"
            write_end(rig.placing.runs, run, FILES)
            kuberay.succeed(run)
            server.compact()
            server.start()
            rig.reach(run, "completed")
        assert "the watch expired" in caplog.text
        rig.compute.close()
    finally:
        server.stop()


def test_a_mirror_of_one_namespace_asks_for_no_other(kube: Kube, cluster: ApiServer, namespace: str) -> None:
    mirror = Mirror(Kube(cluster.access(TRAINING), "tests"), JOBS, SELECTOR, namespace)
    mirror.start()
    wait_for(lambda: _objects(mirror) == {}, "the namespace is listed")
    everywhere = Mirror(Kube(cluster.access(TRAINING), "tests"), JOBS, SELECTOR, "")
    everywhere.start()
    wait_for(lambda: "forbidden" in _trouble(everywhere), "the role ends at its namespace")
    mirror.stop()
    everywhere.stop()


def _objects(mirror: Mirror) -> Any:
    try:
        return mirror.objects()
    except Unavailable:
        return None


def _trouble(mirror: Mirror) -> str:
    try:
        mirror.objects()
    except Unavailable as error:
        return str(error)
    return ""
