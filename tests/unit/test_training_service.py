"""Runs: what is recorded before, during and after; what a policy, another machine or a restart changes."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.statement import Statement

from services.core import dsse
from services.core.digests import FileEntry, sha256, tree_digest
from services.core.errors import BadInput, NotFound, Unavailable
from services.core.facts import run_key
from services.core.statements import Provenance, expect
from services.training.environment import Environment, describe
from services.training.errors import BadJob, InputsDiffer, TrainingRefused, UnknownRun, WrongState
from services.training.ports import Progress, Usage
from tests.fakes.training import FakeCompute
from tests.training import BUILDER, ENVIRONMENT, LOCK, TARA, Stage, repository


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return repository(tmp_path / "repo")


def started(stage: Stage, repo: Path, **changes: Any) -> str:
    stage.add_dataset()
    return str(stage.service.start(stage.order(repo, **changes), TARA)["id"])


def completed(stage: Stage, repo: Path) -> str:
    run_id = started(stage, repo)
    stage.compute.finish(run_id)
    stage.service.step()
    return run_id


def test_a_run_records_its_seven_inputs_and_their_key(stage: Stage, repo: Path) -> None:
    dataset = stage.add_dataset()
    order = stage.order(repo)
    run = stage.service.start(order, TARA)
    assert run["inputs"] == {
        "codeRef": order.code.to_json(),
        "image": ENVIRONMENT.image,
        "dependencyLock": LOCK,
        "datasets": [dataset],
        "hyperparameters": order.job.hyperparameters,
        "seed": 7,
        "environment": dict(ENVIRONMENT.settings)
        | {"directory": "", "entrypoint": "train:train_loop", "outputs": "README.md,config.json,model.safetensors", "workers": "2"},
    }
    assert run["runKey"] == run_key(run["inputs"])
    assert (run["state"], run["startedBy"], run["epochs"], run["progress"]) == ("running", TARA, 6, [])
    assert stage.types() == ["train.started"]
    assert stage.emitted()[-1]["subject"] == {"kind": "run", "id": run["id"], "digest": run["runKey"]}


def test_a_run_hands_compute_the_recorded_bytes(stage: Stage, repo: Path) -> None:
    run_id = started(stage, repo)
    (found,) = stage.compute.orders
    record = stage.service.get(run_id)["inputs"]
    assert (found.run_id, found.source, found.seed, found.workers) == (run_id, record["codeRef"]["tree"], 7, 2)
    files = {item["path"]: item["sha256"] for item in stage.datasets.get("optical-digits@1.0")["manifest"]["files"]}
    assert found.datasets == {"optical-digits@1.0": files}


def test_the_policy_is_asked_about_every_data_set_and_its_ancestors(stage: Stage, repo: Path) -> None:
    parent = stage.add_dataset(version="0.9", pii="present")
    child = stage.add_dataset({"train.csv": b"x\n", "test.csv": b"y\n"}, parents=[parent])
    stage.service.start(stage.order(repo), TARA)
    (facts,) = stage.policy.asked
    assert {item["id"]: item["pii"] for item in facts["datasets"]} == {parent: "present", child: "none"}
    assert (facts["action"], facts["job"]["purpose"], facts["flags"]) == ("train", "commercial", [])


def test_a_refused_run_leaves_nothing_but_the_decision(stage: Stage, repo: Path) -> None:
    stage.add_dataset()
    stage.policy.verdict, stage.policy.rules = "deny", [{"rule": "dataset.pii", "verdict": "deny", "reasons": ["not approved"]}]
    with pytest.raises(TrainingRefused) as caught:
        stage.service.start(stage.order(repo), TARA)
    assert [rule["rule"] for rule in caught.value.rules] == ["dataset.pii"]
    assert (stage.states(), stage.types(), stage.compute.orders) == ([], [], [])


def test_source_that_is_not_uploaded_is_refused(stage: Stage, repo: Path) -> None:
    stage.add_dataset()
    order = stage.order(repo)
    missing = order.model_copy(update={"code": order.code.model_copy(update={"tree": sha256(b"elsewhere")})})
    with pytest.raises(BadJob, match="upload it first"):
        stage.service.start(missing, TARA)
    assert stage.states() == []


@pytest.mark.parametrize(
    "change",
    [{"commit_object": ""}, {"commit_object": "***"}, {"directory": "../up"}, {"directory": "nowhere"}],
    ids=str,
)
def test_a_claim_that_the_archive_does_not_bear_out_is_refused(stage: Stage, repo: Path, change: dict[str, Any]) -> None:
    stage.add_dataset()
    with pytest.raises(BadInput):
        stage.service.start(stage.order(repo).model_copy(update=change), TARA)
    assert stage.states() == []


def test_an_entrypoint_that_is_not_committed_is_refused(stage: Stage, repo: Path) -> None:
    stage.add_dataset()
    with pytest.raises(BadJob, match=r"no other\.py: is it committed"):
        stage.service.start(stage.order(repo, entrypoint="other:loop"), TARA)


def test_an_unknown_data_set_is_not_found(stage: Stage, repo: Path) -> None:
    with pytest.raises(NotFound, match=r"optical-digits@1\.0"):
        stage.service.start(stage.order(repo), TARA)


def test_progress_is_what_the_run_reported(stage: Stage, repo: Path) -> None:
    run_id = started(stage, repo)
    stage.compute.reported[run_id] = [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25}]
    assert stage.service.progress(run_id, after=1) == [{"epoch": 2, "metrics": {"epoch": 2, "loss": 0.25}}]
    stage.compute.finish(run_id)
    stage.service.step()
    assert [item["epoch"] for item in stage.service.get(run_id)["progress"]] == [1, 2]


def test_a_completed_run_has_a_stored_artifact_and_events_for_both(stage: Stage, repo: Path) -> None:
    run_id = completed(stage, repo)
    run = stage.service.get(run_id)
    files = [
        FileEntry(path, len(data), sha256(data))
        for path, data in (("model.safetensors", b"weights"), ("config.json", b"{}"), ("README.md", b"a card"))
    ]
    assert (run["state"], run["artifactId"], run["finishedAt"]) == ("completed", tree_digest(files), 2_000_000)
    assert stage.artifacts.files(run["artifactId"]) == sorted(files)
    assert stage.types() == ["train.started", "artifact.uploaded", "train.completed"]
    found = stage.service.completed(run_id)
    assert (found.artifact_id, found.run_key, found.metrics) == (run["artifactId"], run["runKey"], {"epoch": 1, "loss": 0.5})
    assert stage.compute.poll(run_id).state == "unknown"


def test_the_provenance_is_signed_and_says_what_was_recorded(stage: Stage, repo: Path) -> None:
    run = stage.service.get(completed(stage, repo))
    envelope = dsse.parse(stage.store.get(run["provenance"]))
    assert dsse.verified_signers(envelope, stage.builder) == set(stage.builder)
    found = expect(Provenance, envelope.payload)
    assert (found.artifact_id, found.run_key, found.run_id, found.builder) == (run["artifactId"], run["runKey"], run["id"], BUILDER)
    assert (found.inputs.to_json(), found.finished_on) == (run["inputs"], 2_000)


def test_the_in_toto_library_accepts_the_provenance(stage: Stage, repo: Path) -> None:
    run = stage.service.get(completed(stage, repo))
    payload = dsse.parse(stage.store.get(run["provenance"])).payload
    message = json_format.Parse(payload.decode(), statement_pb2.Statement())
    Statement.copy_from_pb(message).validate()
    predicate = json.loads(payload)["predicate"]
    assert predicate["buildDefinition"]["resolvedDependencies"][0]["digest"]["gitCommit"] == run["inputs"]["codeRef"]["commit"]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"model.safetensors": b"w", "config.json": b"{}"}, "README.md"),
        ({"model.safetensors": b"w", "config.json": b"{}", "README.md": b"", "notes.txt": b""}, r"notes\.txt"),
    ],
)
def test_a_run_that_wrote_other_files_fails_and_names_them(stage: Stage, repo: Path, files: dict[str, bytes], said: str) -> None:
    run_id = started(stage, repo)
    stage.compute.finish(run_id, files)
    stage.service.step()
    run = stage.service.get(run_id)
    assert (run["state"], run["artifactId"]) == ("failed", None)
    assert re.search(said, run["error"])
    assert stage.types() == ["train.started", "train.failed"]


def test_a_symbolic_link_among_the_outputs_fails_the_run(stage: Stage, repo: Path) -> None:
    run_id = started(stage, repo)
    stage.compute.finish(run_id, {"config.json": b"{}", "README.md": b""})
    (stage.compute.output(run_id) / "model.safetensors").symlink_to("/etc/hostname")
    stage.service.step()
    assert stage.service.get(run_id)["error"] == "model.safetensors is a link or a device: trees hold plain files"


def test_a_metric_that_is_not_a_number_fails_the_run(stage: Stage, repo: Path) -> None:
    run_id = started(stage, repo)
    stage.compute.reported[run_id] = [{"epoch": 1, "loss": float("nan")}]
    assert stage.service.get(run_id)["progress"] == []
    stage.compute.finish(run_id)
    stage.service.step()
    assert stage.service.get(run_id)["error"] == "metric loss of epoch 1 is nan: no finite number"


def test_a_failed_run_gives_its_reason_and_a_retry_goes_on_with_it(stage: Stage, repo: Path) -> None:
    run_id = started(stage, repo)
    stage.compute.fail(run_id, "the trainer ended: killed by SIGKILL")
    stage.service.step()
    run = stage.service.get(run_id)
    assert (run["state"], run["error"]) == ("failed", "the trainer ended: killed by SIGKILL")
    assert stage.types()[-1] == "train.failed"
    again = stage.service.retry(run_id, TARA)
    assert (again["id"], again["state"], again["attempt"], again["error"]) == (run_id, "running", 2, None)
    stage.compute.finish(run_id)
    stage.service.step()
    assert stage.service.get(run_id)["state"] == "completed"
    assert [event["payload"].get("attempt") for event in stage.emitted()[1:] if event["type"].startswith("train.")] == [1, 1, 2, 2]


def test_a_retry_is_decided_again(stage: Stage, repo: Path) -> None:
    run_id = started(stage, repo)
    stage.compute.fail(run_id, "killed")
    stage.service.step()
    stage.policy.verdict = "deny"
    with pytest.raises(TrainingRefused):
        stage.service.retry(run_id, TARA)
    assert stage.service.get(run_id)["state"] == "failed"


def test_a_retry_whose_answer_was_lost_is_answered_by_the_run_that_goes_on(stage: Stage, repo: Path) -> None:
    run_id = started(stage, repo)
    stage.compute.fail(run_id, "killed")
    stage.service.step()
    first = stage.service.retry(run_id, TARA)
    assert stage.service.retry(run_id, TARA) == first
    assert (first["attempt"], stage.types()) == (2, ["train.started", "train.failed", "train.started"])


def test_a_run_that_is_not_over_cannot_be_retried(stage: Stage, repo: Path) -> None:
    with pytest.raises(WrongState, match="is running"):
        stage.service.retry(started(stage, repo), TARA)


def test_a_cancelled_run_stops_and_can_be_retried(stage: Stage, repo: Path) -> None:
    run_id = started(stage, repo)
    run = stage.service.cancel(run_id, TARA)
    assert (run["state"], stage.compute.stopped) == ("cancelled", [run_id])
    stage.service.step()
    assert stage.service.get(run_id)["state"] == "cancelled"
    assert stage.service.cancel(run_id, TARA)["error"] == run["error"]
    assert stage.types() == ["train.started", "train.failed"]
    assert stage.service.retry(run_id, TARA)["state"] == "running"


def test_a_completed_run_cannot_be_cancelled(stage: Stage, repo: Path) -> None:
    with pytest.raises(WrongState, match="cannot be cancelled"):
        stage.service.cancel(completed(stage, repo), TARA)


def test_a_rerun_trains_the_recorded_source_and_says_that_the_artifact_is_the_same(stage: Stage, repo: Path) -> None:
    first = completed(stage, repo)
    (repo / "train.py").write_text("raise SystemExit\n")
    again = stage.service.rerun(first, TARA)
    assert (again["rerunOf"], again["runKey"]) == (first, stage.service.get(first)["runKey"])
    assert stage.compute.orders[0].source == stage.compute.orders[1].source
    stage.compute.finish(again["id"])
    stage.service.step()
    run = stage.service.get(again["id"])
    assert (run["reproduced"], run["artifactId"]) == (True, stage.service.get(first)["artifactId"])


def test_a_rerun_with_another_result_says_so(stage: Stage, repo: Path) -> None:
    again = stage.service.rerun(completed(stage, repo), TARA)["id"]
    stage.compute.finish(again, {"model.safetensors": b"other", "config.json": b"{}", "README.md": b"a card"})
    stage.service.step()
    assert stage.service.get(again)["reproduced"] is False


@pytest.mark.parametrize(
    ("environment", "lock", "said"),
    [
        (Environment(ENVIRONMENT.settings, {"torch": "2.10.0", "ray": "2.60.0"}), LOCK, r'image\.packages\.torch was "2\.9\.0"'),
        (Environment(ENVIRONMENT.settings, {"torch": "2.9.0"}), LOCK, r'image\.packages\.ray was "2\.60\.0", is absent'),
        (
            Environment({"python": "CPython 3.12.1", "platform": "linux-x86_64"}, ENVIRONMENT.packages),
            LOCK,
            r"image\.settings\.python was",
        ),
        (ENVIRONMENT, sha256(b"another lock"), "dependencyLock was"),
    ],
)  # fmt: skip
def test_a_rerun_elsewhere_names_the_first_input_that_differs(
    stage: Stage, repo: Path, environment: Environment, lock: str, said: str
) -> None:
    first = completed(stage, repo)
    stage.environment, stage.lock = environment, lock
    with pytest.raises(InputsDiffer, match=said):
        stage.service.rerun(first, TARA)
    assert (len(stage.states()), len(stage.compute.orders)) == (1, 1)


def test_a_restart_submits_what_was_in_flight(stage: Stage, repo: Path) -> None:
    run_id = started(stage, repo)
    stage.compute.states.clear()
    stage.restarted().step()
    assert [order.run_id for order in stage.compute.orders] == [run_id, run_id]
    assert stage.compute.orders[0] == stage.compute.orders[1]


def test_what_was_in_flight_does_not_go_on_in_another_environment(stage: Stage, repo: Path) -> None:
    run_id = started(stage, repo)
    stage.compute.states.clear()
    stage.environment = Environment(ENVIRONMENT.settings, {"torch": "2.10.0", "ray": "2.60.0"})
    stage.restarted().step()
    run = stage.service.get(run_id)
    assert (run["state"], len(stage.compute.orders)) == ("failed", 1)
    assert 'image.packages.torch was "2.9.0", is "2.10.0"' in run["error"]


@pytest.mark.parametrize("end", ["cancelled", "completed"])
def test_what_compute_still_holds_of_a_run_that_is_over_is_removed(stage: Stage, repo: Path, end: str) -> None:
    """A crash came between the run's end and its removal; another run, and one that nobody here knows, are left alone."""
    run_id = completed(stage, repo) if end == "completed" else started(stage, repo)
    if end == "cancelled":
        stage.service.cancel(run_id, TARA)
    other = stage.service.start(stage.order(repo), TARA)["id"]
    stage.compute.states |= {run_id: Progress("running"), "run-of-somebody": Progress("running")}
    stage.restarted().step()
    assert set(stage.compute.states) == {other, "run-of-somebody"}
    assert stage.service.get(run_id)["state"] == end


def test_what_a_run_took_stands_in_its_last_event(stage: Stage, repo: Path) -> None:
    run_id = started(stage, repo)
    stage.compute.used[run_id] = Usage(seconds=60, workers=2, gpus=4, spot=True)
    stage.compute.finish(run_id)
    stage.service.step()
    usage = {"seconds": 60, "workers": 2, "workerSeconds": 120, "gpuSeconds": 480, "spot": True}
    assert [event["payload"].get("usage") for event in stage.emitted() if event["type"] == "train.completed"] == [usage]


def test_a_run_waits_while_the_signer_is_away(stage: Stage, repo: Path) -> None:
    run_id = started(stage, repo)
    stage.compute.finish(run_id)

    def away() -> None:
        raise Unavailable("the signing proxy did not answer")

    stage.signing.fault = away
    with pytest.raises(Unavailable):
        stage.service.step()
    assert (stage.service.get(run_id)["state"], stage.types()) == ("running", ["train.started"])
    stage.signing.fault = lambda: None
    stage.service.step()
    assert stage.service.get(run_id)["state"] == "completed"


def test_an_unfinished_run_cannot_be_registered(stage: Stage, repo: Path) -> None:
    with pytest.raises(WrongState, match="is running, not completed"):
        stage.service.completed(started(stage, repo))


def test_an_unknown_run_is_not_found(stage: Stage) -> None:
    with pytest.raises(UnknownRun, match="no run 'run-1'"):
        stage.service.get("run-1")


def test_this_machine_is_described_the_same_twice() -> None:
    found = describe()
    assert found.description == describe().description
    assert {"python", "platform", "cpu", "libc", "OMP_NUM_THREADS"} <= set(found.settings)
    assert "torch" in found.packages
    assert "ai-infra" not in found.packages


class StumblingCompute(FakeCompute):
    """Stumbles over one run, as over an answer of its code that nobody thought of."""

    stumbles_over = ""

    def poll(self, run_id: str) -> Progress:
        if run_id == self.stumbles_over:
            raise ValueError("an answer that nobody thought of")
        return super().poll(run_id)


def test_a_run_that_compute_stumbles_over_keeps_no_later_one_from_its_end_and_can_be_cancelled(tmp_path: Path, repo: Path) -> None:
    compute = StumblingCompute()
    stage = Stage(tmp_path, compute)
    compute.stumbles_over = first = started(stage, repo)
    second = str(stage.service.start(stage.order(repo), TARA)["id"])
    compute.finish(second)
    with pytest.raises(ValueError, match="nobody thought of"):
        stage.service.step()
    assert stage.states() == ["running", "completed"]
    assert stage.service.cancel(first, TARA)["state"] == "cancelled"
    stage.service.step()


@pytest.mark.parametrize("text", ["no\0memory", "no\ud800memory"])
def test_a_reason_that_no_database_takes_is_told_without_what_it_does_not_take(stage: Stage, repo: Path, text: str) -> None:
    run_id = started(stage, repo)
    stage.compute.fail(run_id, text)
    stage.service.step()
    assert stage.service.get(run_id)["error"] == "no?memory"


def test_an_output_that_may_not_be_read_ends_the_run(stage: Stage, repo: Path) -> None:
    run_id = started(stage, repo)
    stage.compute.finish(run_id)
    unreadable = stage.compute.output(run_id) / "config.json"
    unreadable.chmod(0)
    if os.access(unreadable, os.R_OK):
        pytest.skip("this user (root) may read every file")
    stage.service.step()
    assert "config.json may not be read" in stage.service.get(run_id)["error"]
