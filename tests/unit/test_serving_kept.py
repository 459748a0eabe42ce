"""Records that a cluster's predictors hand on: kept, sealed, and a prediction's evidence from them."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.api.adapters import ServedPredictions
from services.core.canonical import canonical
from services.core.digests import sha256
from services.core.errors import BadInput, Conflict, NotFound, Unavailable
from services.core.objects import CorruptObject
from services.core.tls import service_id
from services.serving.errors import UnknownDeployment, UnknownPrediction
from services.serving.kept import SPAN_MS, RecordBatch
from services.verify.report import Report
from services.verify.service import Own, verify
from tests.predictions import DARIO, SALT, Served, served

PREDICTOR = service_id("predictor")


class Predictors:
    """A cluster's, of a rig's deployment."""

    def __init__(self, platform: Served) -> None:
        self.platform = platform
        self.row = platform.serving.get(platform.deployment)

    def record(self, number: int = 1, made: int | None = None, **changes: Any) -> dict[str, Any]:
        at = self.platform.rig.clock() if made is None else made
        return {
            "id": f"prd-{at:012x}{number:020x}",
            "ts": at,
            "deployment": self.platform.deployment,
            "artifactId": self.row["artifact_id"],
            "inputDigest": sha256(SALT + b"in"),
            "outputDigest": sha256(b"out"),
            "latencyUs": 1200,
            "outcome": "ok",
            "status": 200,
            "rollout": None,
        } | changes

    def batch(self, *records: dict[str, Any], **changes: Any) -> RecordBatch:
        value = {"id": f"bat-{os.urandom(16).hex()}", "deployment": self.platform.deployment, "recovered": False, "lost": 0}
        return RecordBatch.from_json(value | {"records": list(records)} | changes)

    def hand_on(self, *records: dict[str, Any], **changes: Any) -> dict[str, Any]:
        return self.platform.kept.keep(self.batch(*records, **changes), PREDICTOR)


@pytest.fixture
def predictors(tmp_path: Path) -> Iterator[Predictors]:
    with served(tmp_path) as platform:
        yield Predictors(platform)


def sealed(platform: Served) -> list[dict[str, Any]]:
    platform.rig.relay.flush()
    return [entry.event for entry in platform.rig.audit.search(type="predictions.sealed", after=-1, limit=100)]


def verified(platform: Served, prediction: str, path: Path) -> Report:
    platform.seal()
    own = Own(input=b"in", salt=SALT, output=b"out")
    return verify(platform.archive(prediction, path / "e.zip"), platform.rig.trust, own=own)


def test_evidence_of_a_prediction_in_a_cluster_verifies(predictors: Predictors, tmp_path: Path) -> None:
    records = [predictors.record(number) for number in range(5)]
    predictors.hand_on(*records)
    report = verified(predictors.platform, records[3]["id"], tmp_path)
    assert report.broken is None
    (event,) = sealed(predictors.platform)
    assert (event["actor"], event["source"], event["payload"]["records"]) == (PREDICTOR, service_id("api"), 5)
    assert (event["payload"]["first"], event["payload"]["last"]) == (records[0]["id"], records[4]["id"])


def test_a_replaced_deployment_may_answer_until_its_pods_are_gone_and_one_under_quarantine_may_not(
    predictors: Predictors, tmp_path: Path
) -> None:
    platform = predictors.platform
    rig = platform.rig
    platform.serving.undeploy(platform.deployment, DARIO)
    platform.seal()
    rig.now += 10 * 60
    record = predictors.record()
    predictors.hand_on(record)
    assert verified(platform, record["id"], tmp_path).broken is None
    rig.now += 10 * 60
    late = predictors.record()
    predictors.hand_on(late)
    broken = verified(platform, late["id"], tmp_path).broken
    assert broken is not None
    assert "did not serve" in broken.detail


def test_a_batch_handed_on_twice_is_sealed_once(predictors: Predictors) -> None:
    batch = predictors.batch(predictors.record())
    answers = [predictors.platform.kept.keep(batch, PREDICTOR) for _ in range(2)]
    assert answers[0] == answers[1]
    assert len(sealed(predictors.platform)) == 1


def test_a_batch_with_other_records_under_its_id_is_refused(predictors: Predictors) -> None:
    batch = predictors.batch(predictors.record())
    predictors.platform.kept.keep(batch, PREDICTOR)
    with pytest.raises(Conflict, match="holds other records"):
        predictors.hand_on(predictors.record(2), id=batch.id)
    assert len(sealed(predictors.platform)) == 1


def test_lost_records_are_told_of(predictors: Predictors) -> None:
    predictors.hand_on(recovered=True, lost=3)
    predictors.hand_on(recovered=True, lost=2)
    payloads = [event["payload"] for event in sealed(predictors.platform)]
    told = [(payload["records"], payload["lost"], payload["first"]) for payload in payloads]
    assert told == [(0, 3, None), (0, 2, None)]


REFUSED: dict[str, tuple[Any, type[Exception], str]] = {
    "an unknown deployment": (lambda f: {"deployment": "dep-x", "lost": 1}, UnknownDeployment, "no deployment dep-x"),
    "a record of another deployment": (lambda f: {"records": [f.record(deployment="dep-x")]}, BadInput, "another deployment"),
    "a record of another artifact": (lambda f: {"records": [f.record(artifactId=sha256(b"x"))]}, BadInput, "or artifact"),
    "a record twice": (lambda f: {"records": [f.record(1), f.record(1)]}, BadInput, "a record twice"),
    "nothing": (lambda f: {}, BadInput, "holds no record"),
    "the future": (lambda f: {"records": [f.record(made=f.platform.rig.clock() + 11_000)]}, Unavailable, "from the future"),
    "two times": (lambda f: {"records": [f.record(ts=f.platform.rig.clock() - 2_000)]}, BadInput, "another time than its id"),
    "a long time": (
        lambda f: {"records": [f.record(), f.record(made=f.platform.rig.clock() - SPAN_MS - 1)]}, BadInput, "spans over",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_batch_of_a_deployment_is_refused_and_nothing_is_sealed(predictors: Predictors, what: str) -> None:
    changes, error, message = REFUSED[what]
    with pytest.raises(error, match=message):
        predictors.hand_on(**changes(predictors))
    assert sealed(predictors.platform) == []


@pytest.mark.parametrize(
    "change",
    [
        {"id": "prd-router-1"}, {"outcome": "timeout"}, {"rollout": {"id": "r"}}, {"status": 600}, {"latencyUs": -1},
        {"inputDigest": "sha256:x"}, {"more": 1}, {"ts": 1.5},
    ],
)  # fmt: skip
def test_a_record_of_another_form_is_refused(predictors: Predictors, change: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        predictors.batch(predictors.record(**change))


def test_predictions_are_found_among_batches_of_many_pods(predictors: Predictors) -> None:
    at, kept = predictors.platform.rig.clock(), predictors.platform.kept
    batches = [[predictors.record(pod * 10 + turn, at - 500 * turn) for turn in range(4)] for pod in range(6)]
    for records in batches:
        predictors.hand_on(*records)
    for records in batches:
        for place, record in enumerate(records):
            found = kept.find(record["id"])
            assert (found["record"], found["sealed"]["index"], found["sealed"]["size"]) == (record, place, 4)


@pytest.mark.parametrize("prediction", [f"prd-{7:032x}", "prd-router-1", "prd-" + "f" * 32, "prd-" + "0" * 32])
def test_an_unknown_prediction_is_not_found(predictors: Predictors, prediction: str) -> None:
    predictors.hand_on(predictors.record())
    with pytest.raises(UnknownPrediction):
        predictors.platform.kept.find(prediction)


def test_what_the_cluster_does_not_keep_is_asked_of_the_backend(predictors: Predictors) -> None:
    platform = predictors.platform
    mine = platform.predict()
    found = ServedPredictions(platform.serving, platform.kept)
    assert found.prediction(mine)["record"]["id"] == mine
    with pytest.raises(NotFound):
        found.prediction(predictors.record(9)["id"])


def test_a_stored_batch_that_was_edited_is_not_believed(predictors: Predictors) -> None:
    record = predictors.record()
    predictors.hand_on(record)
    line = canonical(record) + b"\n"
    (path,) = [path for path in predictors.platform.rig.folder.rglob("*") if path.is_file() and path.read_bytes() == line]
    path.chmod(0o600)
    path.write_bytes(line.replace(b'"latencyUs":1200', b'"latencyUs":1201'))
    with pytest.raises(CorruptObject):
        predictors.platform.kept.find(record["id"])
