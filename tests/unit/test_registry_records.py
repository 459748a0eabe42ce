"""Data sets, artifacts, versions, evaluations and flags: what is recorded, what is refused, and that a refusal changes nothing."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.core.digests import FileEntry, sha256, tree_digest
from services.core.errors import BadInput, Conflict, NotFound, Refused, Unavailable
from services.core.objects import WrongChecksum
from services.core.statements import DatasetApproval, Evaluation, expect
from services.core.tls import person_id
from services.registry import models
from services.registry.artifacts import ArtifactUpload
from services.registry.datasets import DatasetRegistration
from services.registry.errors import AlreadyRegistered, UnknownArtifact, UnknownDataset, UnknownFlag, UnknownModel
from services.registry.models import EvaluationOrder, Registration, parse_reference
from services.registry.ports import Measured
from tests import signing as world
from tests.registry import EVA, GOOD, TOM, Rig, key_of, opened

EVE, STELLA = person_id("eve"), person_id("stella")


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with opened(tmp_path) as rig:
        size = rig.audit.size()
        yield rig
        assert rig.problems() == []
        assert rig.audit.size() >= size


def registration(rig: Rig, **changes: Any) -> DatasetRegistration:
    manifest: dict[str, Any] = rig.datasets.get("raw@1")["manifest"]
    return DatasetRegistration.from_json({"name": "new", "version": "1", "manifest": manifest | changes})


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"files": [FileEntry("a", 1, sha256(b"absent")).to_json()], "splits": {}}, BadInput),
        ({"files": []}, BadInput),
        ({"files": [{"path": "../a", "size": 0, "sha256": sha256(b"")}]}, BadInput),
        ({"splits": {"test": ["unknown.csv"]}}, BadInput),
        ({"parents": [sha256(b"unknown")]}, UnknownDataset),
        ({"pii": "maybe"}, BadInput),
        ({"licence": ""}, BadInput),
        ({"extra": 1}, BadInput),
    ],
    ids=repr,
)
def test_a_data_set_that_does_not_hold_is_not_registered(rig: Rig, changes: dict[str, Any], error: type[Exception]) -> None:
    before = rig.datasets.all()
    with pytest.raises(error):
        rig.datasets.register(registration(rig, **changes), TOM)
    assert rig.datasets.all() == before


def test_a_data_set_whose_file_has_another_size_is_not_registered(rig: Rig) -> None:
    files = rig.datasets.get("raw@1")["manifest"]["files"]
    with pytest.raises(WrongChecksum):
        rig.datasets.register(registration(rig, files=[files[0] | {"size": 1}, files[1]]), TOM)


def test_the_same_data_set_again_is_the_same_record(rig: Rig) -> None:
    before = rig.datasets.get("digits@1")
    assert rig.dataset("digits", pii="present", parents=[rig.datasets.get("raw@1")["id"]]) == before["id"]
    assert rig.datasets.get(before["id"]) == before
    assert len(rig.events("dataset.registered")) == 2


def test_a_name_never_stands_for_other_content_nor_content_for_another_name(rig: Rig) -> None:
    with pytest.raises(AlreadyRegistered):
        rig.dataset("digits", licence="MIT")
    with pytest.raises(AlreadyRegistered):
        rig.datasets.register(registration(rig), TOM)


def test_ancestors_are_all_sets_that_a_set_was_made_from(rig: Rig) -> None:
    raw, digits = (rig.datasets.get(name)["id"] for name in ("raw@1", "digits@1"))
    other = rig.dataset("other", parents=[digits, raw])
    assert rig.datasets.ancestors([other]) == sorted([raw, digits, other])


@pytest.mark.parametrize("who", ["tom", "ada"])
def test_only_a_steward_approves_a_data_set(rig: Rig, who: str) -> None:
    dataset = rig.dataset("private", pii="present")
    with pytest.raises(Refused):
        rig.approve_dataset(dataset, who)
    assert rig.datasets.get(dataset)["approvedBy"] == []


def test_an_approval_in_the_stewards_name_by_another_key_is_refused(rig: Rig) -> None:
    dataset = rig.dataset("private", pii="present")
    payload = DatasetApproval(dataset=dataset, reason="consent on file", issued_at=rig.now).to_statement()
    with pytest.raises(Refused):
        rig.datasets.approve(world.envelope(payload, key_of("ada")).to_bytes(), STELLA)


def test_a_second_signature_beside_the_stewards_does_not_spoil_the_approval(rig: Rig) -> None:
    dataset = rig.dataset("private", pii="present")
    payload = DatasetApproval(dataset=dataset, reason="consent on file", issued_at=rig.now).to_statement()
    for name in ("ada", "ben", "cyd", "dan"):
        signed = world.envelope(payload, key_of(name), key_of("stella")).to_bytes()
        assert rig.datasets.approve(signed, STELLA)["approvedBy"] == [STELLA]
    rig.register(rig.train("run-2", [dataset], {"w": b"2"}))
    rig.evaluate(2, "private@1")
    rig.promoted(2)
    assert rig.stage(2) == "staging"


def test_an_approval_of_an_unknown_set_is_told_as_such(rig: Rig) -> None:
    with pytest.raises(UnknownDataset):
        rig.approve_dataset(sha256(b"unknown"))


def upload(files: list[dict[str, Any]], artifact_id: str | None = None) -> ArtifactUpload:
    entries = [FileEntry.from_json(item) for item in files]
    return ArtifactUpload.from_json({"id": artifact_id or tree_digest(entries), "files": files, "meta": {"by": "hand"}})


def test_an_uploaded_artifact_is_its_files_and_what_is_said_of_it(rig: Rig) -> None:
    files = rig.files({"a": b"1", "b/c": b"2"})
    record = rig.artifacts.upload(upload(files), TOM)
    assert (record["files"], record["meta"], record["size"]) == (files, {"by": "hand"}, 2)
    assert rig.artifacts.upload(upload(files[::-1]), TOM) == record


def test_an_artifact_that_is_not_its_files_does_not_become_visible(rig: Rig) -> None:
    files = rig.files({"a": b"1"})
    bad = [
        upload(files, sha256(b"another")),
        upload([files[0] | {"size": 7}]),
        upload([files[0] | {"sha256": sha256(b"not uploaded")}]),
        upload([files[0] | {"path": "model.sig"}]),
    ]
    for item in bad:
        with pytest.raises(BadInput):
            rig.artifacts.upload(item, TOM)
        with pytest.raises(UnknownArtifact):
            rig.artifacts.get(item.id)
    assert len(rig.events("artifact.uploaded")) == 1


@pytest.mark.parametrize("path", ["../a", "/a", "a/../../b", "a\\b", "a\0"])
def test_a_path_that_leaves_the_tree_is_refused(rig: Rig, path: str) -> None:
    files = [{"path": path, "size": 0, "sha256": rig.store.put(b"")}]
    with pytest.raises(BadInput):
        rig.artifacts.upload(ArtifactUpload.from_json({"id": sha256(b""), "files": files}), TOM)


def test_a_version_holds_where_it_comes_from(rig: Rig) -> None:
    version, run = rig.models.get("digits", 1), rig.runs.found["run-1"]
    assert version["ancestors"] == rig.datasets.ancestors(run.datasets)
    assert version["signer_id"] in rig.trust.signer_with_role("builder")
    assert {key: version[key] for key in ("artifact_id", "run_key", "datasets", "code_ref", "provenance", "stage")} == {
        "artifact_id": run.artifact_id, "run_key": run.run_key, "datasets": run.datasets, "code_ref": run.code_ref,
        "provenance": run.provenance, "stage": "dev",
    }  # fmt: skip


def test_a_run_is_one_version_also_when_it_is_registered_by_several_at_once(rig: Rig) -> None:
    run = rig.train("run-2", [rig.datasets.get("raw@1")["id"]], {"w": b"2"})
    gate, found = threading.Barrier(3), list[int]()

    def register() -> None:
        gate.wait()
        found.append(rig.register(run)["number"])

    threads = [threading.Thread(target=register) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (found, len(rig.models.all())) == ([2, 2, 2], 2)


def test_a_run_that_is_registered_keeps_its_risk_class(rig: Rig) -> None:
    with pytest.raises(AlreadyRegistered):
        rig.register(rig.runs.found["run-1"], "low")


@pytest.mark.parametrize("model", ["", "Digits", "a/b", "../x", "a@1", "x" * 101, "ä", "a\n"])
def test_a_name_that_no_statement_can_hold_is_refused(rig: Rig, model: str) -> None:
    with pytest.raises(BadInput):
        rig.models.register(model, Registration(run="run-1", risk_class="low"), TOM)
    assert len(rig.models.all()) == 1


def test_only_completed_runs_and_known_parents_are_registered(rig: Rig) -> None:
    rig.runs.running.add("run-9")
    for run, parents, error in (("run-9", [], Conflict), ("none", [], NotFound), ("run-1", ["digits@7"], UnknownModel)):
        with pytest.raises(error):
            rig.models.register("digits", Registration(run=run, risk_class="high", parents=parents), TOM)
    assert len(rig.models.all()) == 1


@pytest.mark.parametrize(
    "text", ["digits", "@1", "digits@", "digits@x", "digits@-1", "digits@1.0", "digits@" + "1" * 10, "digits@\u0661"]
)
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(BadInput):
        parse_reference(text)


@pytest.mark.parametrize(("accuracy", "result"), [(0.97, "PASSED"), (0.5, "FAILED")])
def test_an_evaluation_is_recorded_passed_or_failed(rig: Rig, accuracy: float, result: str) -> None:
    rig.now += 1
    rig.evaluator.measured = Measured(360, GOOD.metrics | {"accuracy": accuracy})
    payload = rig.evaluate()
    envelope = rig.models.evaluation_envelope(payload)
    assert envelope is not None
    found = expect(Evaluation, world.dsse.parse(envelope).payload)
    assert (found.metrics["accuracy"], found.predicate_json()["result"]) == (accuracy, result)
    assert rig.events("evaluation.recorded")[-1]["payload"]["result"] == result


def test_the_evaluator_gets_the_models_files_and_the_files_of_the_split_alone(rig: Rig) -> None:
    rig.now += 1
    rig.evaluate()
    files, data = rig.evaluator.asked[-1]
    assert set(files) == {"model.safetensors", "config.json", "cards/README.md"}
    assert set(data) == {"test.csv"}


@pytest.mark.parametrize(
    "measured",
    [
        Measured(360, {"accuracy": float("nan")}),
        Measured(360, {"accuracy": 0.9, "perClass": {"0": {"recall": float("inf")}}}),
        Measured(360, {"accuracy": 0.9, "big": 2**60}),
        Measured(360, {}),
        Measured(360, {"accuracy": "high"}),
        Measured(0, {"accuracy": 0.9}),
        Unavailable("the evaluator died"),
        BadInput("the model cannot be read"),
    ],
    ids=repr,
)
def test_a_measurement_that_cannot_be_signed_leaves_no_evaluation(rig: Rig, measured: Measured | Exception) -> None:
    rig.now += 1
    before = rig.models.get("digits", 1)
    rig.evaluator.measured = measured
    with pytest.raises((BadInput, Unavailable)):
        rig.evaluate()
    assert rig.models.get("digits", 1) == before


def test_an_evaluation_on_an_unknown_split_is_refused(rig: Rig) -> None:
    with pytest.raises(BadInput, match="no split 'holdout'"):
        rig.models.evaluate("digits", 1, EvaluationOrder(dataset="digits@1", split="holdout"), EVA)


def test_an_evaluation_on_a_split_that_the_policies_do_not_take_is_refused_before_it_is_made(rig: Rig) -> None:
    asked = len(rig.evaluator.asked)
    with pytest.raises(BadInput, match=r"'train' is not a held-out one: evaluate on one that the policies take \(test\)"):
        rig.models.evaluate("digits", 1, EvaluationOrder(dataset="digits@1", split="train"), EVA)
    assert len(rig.evaluator.asked) == asked


def test_a_target_is_flagged_once_and_lifted_by_a_clearance(rig: Rig) -> None:
    flag = rig.flag("dataset", "raw@1")
    assert rig.flag("dataset", rig.datasets.get("raw@1")["id"]) == flag
    version = rig.models.get("digits", 1)
    assert [item["id"] for item in rig.evidences.flags(version)] == [flag]
    rig.flags.lift(flag, rig.clearance(flag), EVE)
    assert (rig.flags.active(), rig.evidences.flags(version)) == ([], [])
    assert rig.flag("dataset", "raw@1") != flag


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("ada", {}), ("stella", {}), ("eve", {"flag": "flag-other"}), ("eve", {"target": "digits@2"}), ("eve", {"kind": "dataset"}),
        ("eve", {"issued_at": 1}),
    ],
)  # fmt: skip
def test_a_clearance_by_another_or_for_another_flag_lifts_nothing(rig: Rig, name: str, changes: dict[str, Any]) -> None:
    flag = rig.flag()
    with pytest.raises(Refused) as caught:
        rig.flags.lift(flag, rig.clearance(flag, name, **changes), EVE)
    assert [rule["rule"] for rule in caught.value.rules] == ["serving.clearance"]
    assert [item["id"] for item in rig.flags.active()] == [flag]


@pytest.mark.parametrize("target", ["digits@9", "other@1"])
def test_what_does_not_exist_is_not_flagged(rig: Rig, target: str) -> None:
    with pytest.raises(NotFound):
        rig.flag("model", target)
    with pytest.raises(UnknownFlag):
        rig.flags.get("flag-none")


@pytest.mark.parametrize("sign", [True, False])
def test_what_a_registration_looks_up_is_found_by_index(rig: Rig, sign: bool) -> None:
    """On PostgreSQL in a table that was never analysed too, as in a new platform: it knows nothing of the rows then."""
    looked_up = models._LOOK_UP[sign].compile(rig.engine)
    values = looked_up.params | {"model": "digits", "run": "run-1", "artifact": sha256(b""), "risk": "low"}
    with rig.engine.connect() as connection:
        sqlite = connection.dialect.name == "sqlite"
        if not sqlite:
            # Of so few rows it would read all.
            connection.exec_driver_sql("SET enable_seqscan = off")
        parameters = tuple(values[name] for name in looked_up.positiontup or ()) if sqlite else values
        rows = connection.exec_driver_sql(f"EXPLAIN {'QUERY PLAN ' * sqlite}{looked_up}", parameters)
        plan = "\n".join(str(row) for row in rows)
    wanted = ("model_versions_artifact_id", "model_versions_high", "model_versions_model_run_id", "evaluations_artifact_id")
    assert [name for name in wanted if f"ix_{name}" not in plan] == [], plan
