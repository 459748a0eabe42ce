"""Evidence of one prediction: when it can be had, what the log says about the deployment at that time, and what came later."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from services.api.adapters import ServedPredictions
from services.api.app import build_app
from services.core import archive as layout
from services.core import cosignature, keys, tlog
from services.core.canonical import parse
from services.core.database import begin
from services.core.errors import BadInput, NotFound, Unavailable
from services.core.events import EventDraft, Subject
from services.core.tls import service_id
from services.core.trust import Trust
from services.registry.http import evidence_routes
from services.registry.models import Registration
from services.verify.report import Report
from services.verify.service import verify
from tests.archives import edited, flipped, read
from tests.predictions import DARIO, SALT, Served, served
from tests.registry import TOM, WEIGHTS, opened, trust
from tests.sentinelnet import blocking
from tests.signing import digest
from tests.unit.test_platform_http import AsCaller

ROOT = Path(layout.__file__).parents[2]
SECURITY = "spiffe://ai-infra.local/person/eve"


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path) as found:
        yield found


def checked(platform: Served, prediction: str, given: Trust | None = None) -> Report:
    with tempfile.TemporaryDirectory() as folder:
        return verify(platform.archive(prediction, Path(folder) / "e.zip"), given or platform.rig.trust)


def broken(report: Report) -> tuple[str, str]:
    assert report.broken is not None
    return report.broken.name, report.broken.detail


def test_a_prediction_that_is_not_sealed_is_asked_for_again_later(platform: Served) -> None:
    prediction = platform.predict(seal=False)
    with pytest.raises(Unavailable, match="not sealed in the log yet") as refused:
        checked(platform, prediction)
    assert refused.value.retryable
    platform.records.seal()  # its batch is sealed, the event is not in the log yet
    with pytest.raises(Unavailable, match="not sealed in the log yet"):
        checked(platform, prediction)
    platform.seal()
    assert checked(platform, prediction).broken is None


@pytest.mark.parametrize("prediction", ["prd-unknown", "../health", "prd 1", "x" * 81, ""])
def test_an_unknown_prediction_is_not_found(platform: Served, prediction: str) -> None:
    with pytest.raises(NotFound, match="no prediction"):
        checked(platform, prediction)


def test_a_prediction_that_no_version_answered_has_no_evidence(platform: Served) -> None:
    with pytest.raises(BadInput, match="answered by no version: unavailable"):
        checked(platform, platform.predict(artifactId=None, outcome="unavailable"))


def test_a_model_over_the_stated_size_stays_out(platform: Served, tmp_path: Path) -> None:
    size = sum(map(len, WEIGHTS.values()))
    prediction = platform.predict()
    held = {up_to: read(platform.archive(prediction, tmp_path / "e.zip", up_to)) for up_to in (size - 1, size)}
    assert {up_to: "model/model.safetensors" in members for up_to, members in held.items()} == {size - 1: False, size: True}
    assert {up_to: parse(members[layout.INDEX])["weights"] for up_to, members in held.items()} == {size - 1: False, size: True}


def test_each_prediction_of_a_batch_of_any_size_holds(platform: Served) -> None:
    for size in (1, 2, 5):
        ids = [platform.predict(seal=False) for _ in range(size)]
        platform.seal()
        assert [checked(platform, item).broken for item in {ids[0], ids[-1]}] == [None] * len({ids[0], ids[-1]})


@pytest.mark.parametrize(("later_s", "link"), [(0, None), (30, "deployment")])
def test_a_quarantine_before_the_prediction_breaks_the_deployment(platform: Served, later_s: int, link: str | None) -> None:
    """Whoever answers half a minute after a flag on a parent of the data set does not follow the log."""
    rig = platform.rig
    parent = next(item["id"] for item in rig.datasets.all() if item["name"] == "raw")
    rig.flag("dataset", parent)
    rig.now += later_s
    report = checked(platform, platform.predict())
    if link is None:
        assert (report.broken, [line.split(": ")[-1] for line in report.warnings]) == (None, ["biased"])
    else:
        assert broken(report)[0] == link
        assert "was under quarantine" in broken(report)[1]


def test_a_flag_after_the_prediction_is_told_and_breaks_nothing(platform: Served) -> None:
    prediction = platform.predict()
    assert checked(platform, prediction).warnings == ()
    platform.rig.now += 100
    flag = platform.rig.flag()
    platform.serving.quarantine([platform.deployment], "biased", DARIO)
    report = checked(platform, prediction)
    assert report.broken is None
    assert report.warnings == (
        "quarantined since 2027-01-15T08:01:40Z: model digits@1: biased",
        "the deployment was stopped at 2027-01-15T08:01:40Z: biased",
    )
    assert report.to_json()["warnings"] == list(report.warnings)
    platform.rig.flags.lift(flag, platform.rig.clearance(flag), SECURITY)
    platform.serving.lift([platform.deployment], DARIO)
    platform.rig.now += 100
    assert checked(platform, platform.predict()).broken is None
    assert checked(platform, prediction).warnings == ()


def test_a_flag_on_a_version_that_it_was_made_from_counts_too(tmp_path: Path) -> None:
    with opened(tmp_path) as rig:
        run = rig.train("run-2", [rig.datasets.get("digits@1")["id"]], {"model.safetensors": b"tuned " * 100})
        rig.models.register("digits", Registration.from_json({"run": run.id, "riskClass": "high", "parents": ["digits@1"]}), TOM)
        rig.evaluate(2)
        rig.promoted(2)
        platform = Served(rig, number=2)
        before = platform.predict()
        rig.flag("model", "digits@1")
        rig.now += 30
        later = platform.predict()
        assert [line.split(": ")[-1] for line in checked(platform, before).warnings] == ["biased"]
        assert "digits@1 was under quarantine" in broken(checked(platform, later))[1]
        platform.close()


def test_a_flag_on_something_else_says_nothing_here(platform: Served) -> None:
    platform.rig.flag("dataset", platform.rig.dataset("another"))
    platform.rig.now += 30
    report = checked(platform, platform.predict())
    assert (report.broken, report.warnings) == (None, ())


@pytest.mark.parametrize("moved_s", [-3600, 3600])
def test_a_prediction_at_a_time_at_which_its_deployment_did_not_serve_is_broken(platform: Served, moved_s: int) -> None:
    platform.rig.now += 10_000
    platform.serving.undeploy(platform.deployment, DARIO)
    stopped = platform.rig.clock()
    platform.rig.now += 10_000
    assert checked(platform, platform.predict(ts=stopped - 1)).broken is None
    name, detail = broken(checked(platform, platform.predict(ts=stopped + moved_s * 1000 - (0 if moved_s > 0 else 10**7))))
    assert (name, "did not serve at" in detail) == ("deployment", True)


def test_a_record_from_after_its_batch_was_sealed_is_broken(platform: Served) -> None:
    report = checked(platform, platform.predict(ts=platform.rig.clock() + 60_000))
    assert broken(report)[0] == "batch in the log"


def test_a_batch_that_another_service_tells_of_is_none(platform: Served, tmp_path: Path) -> None:
    """The log takes this event from router and API alone; a log that did not would be found out here."""

    def tell(draft: EventDraft) -> str:
        told = draft.to_event(event_id="evt-other", source=service_id("predictor"), seq=1, ts=platform.rig.clock())
        platform.rig.audit.append([told])
        return "evt-other"

    name, detail = told_otherwise(platform, tmp_path, tell)
    assert (name, detail.endswith("service/predictor: only api or router may")) == ("log entries", True)


def test_a_batch_that_somebody_else_is_said_to_have_sealed_is_none(platform: Served, tmp_path: Path) -> None:
    """The API tells of batches that a predictor handed on, and of no others."""

    def tell(draft: EventDraft) -> str:
        with begin(platform.rig.engine) as connection:
            return str(platform.rig.outbox.emit(connection, draft))

    name, detail = told_otherwise(platform, tmp_path, tell)
    assert (name, detail.endswith(f"sealed by another than who answered: {DARIO}")) == ("batch in the log", True)


def told_otherwise(platform: Served, folder: Path, tell: Callable[[EventDraft], str]) -> tuple[str, str]:
    """What breaks if the proof of a prediction names another event about the same batch. tell: answers that event's id."""
    prediction = platform.predict(seal=False)
    platform.records.seal()
    found = platform.records.find(prediction)["sealed"]
    payload = {"batch": found["batch"], "records": found["size"], "root": found["root"]}
    event = tell(EventDraft("predictions.sealed", DARIO, Subject("predictions", "other-1", found["root"]), payload))
    platform.seal()

    def change(members: dict[str, bytes]) -> None:
        members[layout.PREDICTION_PROOF] = members[layout.PREDICTION_PROOF].replace(found["event"].encode(), event.encode())

    path = edited(platform.archive(prediction, folder / "a.zip"), folder / "e.zip", change)
    return broken(verify(path, trust()))


def rollout_event(platform: Served, **changes: Any) -> dict[str, Any]:
    """The start of a rollout in the log; the record's own part of it."""
    payload = {"rollout": "rol-1", "stable": platform.deployment, "canary": "dep-canary"} | changes
    with begin(platform.rig.engine) as connection:
        platform.rig.outbox.emit(connection, EventDraft("rollout.started", DARIO, Subject("rollout", "rol-1"), payload))
    return {"id": "rol-1", "arm": "stable", "weight": 0.1}


@pytest.mark.parametrize(
    ("logged", "place", "holds"),
    [
        ({}, {}, True),
        ({}, {"arm": "canary"}, False),
        ({}, {"id": "rol-2"}, False),
        ({"stable": "dep-other"}, {}, False),
        ({"stable": "dep-other", "canary": "mine"}, {"arm": "canary"}, True),
        ({"stable": "dep-other", "canary": "mine"}, {"arm": "mirror"}, True),
    ],
)
def test_the_arm_of_a_rollout_is_the_one_of_the_log(
    platform: Served, logged: dict[str, Any], place: dict[str, Any], holds: bool
) -> None:
    logged = {name: platform.deployment if value == "mine" else value for name, value in logged.items()}
    told = rollout_event(platform, **logged)
    report = checked(platform, platform.predict(rollout=told | place))
    assert (report.broken is None) is holds
    assert holds or broken(report)[0] == "deployment"


def test_policies_that_changed_after_the_promotion_decide_on_the_deployment(tmp_path: Path) -> None:
    """Promotion and deployment each are re-executed under the bundle of their own time."""
    with opened(tmp_path) as rig:
        rig.promoted()
        rig.publish(blocking(digest("another data set")), 2)
        platform = Served(rig)
        members = read(platform.archive(platform.predict(), tmp_path / "e.zip"))
        platform.close()
        assert members[layout.POLICY] != members[layout.DEPLOY_POLICY]
        assert verify(tmp_path / "e.zip", rig.trust).broken is None


def witnessed(members: dict[str, bytes], key: Any, at: int = 1_800_000_000) -> None:
    text, _ = tlog.split_note(members[layout.CHECKPOINT])
    members[layout.CHECKPOINT] += cosignature.cosign(text, "w.example", key, at).encode()


def test_the_witness_that_trust_asks_for_has_cosigned_the_checkpoint(platform: Served, tmp_path: Path) -> None:
    key = keys.generate_ed25519()
    known = trust(log_witnesses=(tlog.witness_vkey_text("w.example", key.public_key()),), witness_threshold=1)
    plain = platform.archive(platform.predict(), tmp_path / "plain.zip")
    cosigned = edited(plain, tmp_path / "cosigned.zip", lambda members: witnessed(members, key))
    assert verify(cosigned, known).broken is None
    assert "cosigned by w.example" in verify(cosigned, known).links[1].detail
    assert broken(verify(plain, known))[0] == "log checkpoint"
    # A line that trust cannot check could be edited without being found: it is named, with the remedy.
    assert broken(verify(cosigned, trust())) == (
        "log checkpoint", "it bears a signature of w.example, which trust does not know: name its key in log.witnesses of "
        "trust.json; with witnessThreshold 0 it is checked and not needed",
    )  # fmt: skip
    changed = edited(cosigned, tmp_path / "e.zip", lambda m: m.update({layout.CHECKPOINT: flipped(m[layout.CHECKPOINT], -3)}))
    assert broken(verify(changed, known))[0] == "log checkpoint"
    # Two times of one witness are two good signatures; the log's service asks each witness once.
    twice = edited(cosigned, tmp_path / "twice.zip", lambda members: witnessed(members, key, at=1_800_000_001))
    key_id = known.witnesses[0].key_id.hex()
    assert broken(verify(twice, known)) == ("log checkpoint", f"it bears two signatures of w.example+{key_id}: one key signs once")


def test_over_http_the_archive_comes_whole_and_an_unsealed_one_is_asked_for_later(platform: Served, tmp_path: Path) -> None:
    rig = platform.rig
    routes = evidence_routes(rig.evidences, ServedPredictions(platform.serving, platform.kept), rig.sentinelnet.authorise)
    app = build_app([routes], [], rig.engine, rig.clock, lambda: None, lambda: None)
    prediction, waiting = platform.predict(), platform.predict(seal=False)
    with TestClient(AsCaller(app), raise_server_exceptions=False) as client:
        def get(path: str) -> httpx.Response:
            return client.get(f"/v1/predictions/{path}", headers={"x-test-caller": "rita"})

        whole, later = get(f"{prediction}/evidence"), get(f"{waiting}/evidence")
        statuses = {path: get(path).status_code for path in ("prd-0/evidence", f"{prediction}/evidence?weightsUpTo=-1")}
    assert (whole.status_code, whole.headers["content-type"]) == (200, "application/zip")
    assert int(whole.headers["content-length"]) == len(whole.content)
    (tmp_path / "e.zip").write_bytes(whole.content)
    assert verify(tmp_path / "e.zip", rig.trust).broken is None
    assert (later.status_code, later.json()["retryable"], "retry-after" in later.headers) == (503, True, True)
    assert statuses == {"prd-0/evidence": 404, f"{prediction}/evidence?weightsUpTo=-1": 400}


def run(*arguments: str, cwd: Path) -> tuple[int, str]:
    done = subprocess.run([sys.executable, "-m", "services.cli", *arguments], cwd=cwd, capture_output=True, text=True, check=False,
                          env=os.environ | {"AI_INFRA_HOME": str(cwd / "none"), "PYTHONPATH": str(ROOT)})  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def test_the_command_says_by_code_line_and_json_what_broke(platform: Served, tmp_path: Path) -> None:
    """In an empty folder, without a home."""
    stranger = tmp_path / "stranger"
    stranger.mkdir()
    prediction = platform.predict()
    platform.archive(prediction, stranger / "evidence.zip")
    (stranger / "trust.json").write_bytes(platform.rig.trust.to_bytes())
    (stranger / "answer.json").write_bytes(platform.output)
    (stranger / "request.json").write_bytes(platform.input)
    given = ("--trust", "trust.json")
    own = ("--input", "request.json", "--output", "answer.json", "--salt", SALT.hex())
    code, told = run("verify", "evidence.zip", *given, *own, cwd=stranger)
    assert (code, told.splitlines()[-1]) == (0, "verified")
    assert "✓ your input and output" in told
    edited(stranger / "evidence.zip", stranger / "e.zip", lambda m: m.update({layout.PREDICTION: flipped(m[layout.PREDICTION])}))
    code, told = run("verify", "e.zip", *given, "--json", cwd=stranger)
    assert (code, json.loads(told)["brokenLink"], json.loads(told)["verified"]) == (1, "batch root", False)
    code, told = run("verify", "evidence.zip", *given, "--output", "trust.json", cwd=stranger)
    last = told.splitlines()[-1]
    assert (code, last) == (1, "BROKEN at: your input and output: the output is not the one of the record")
    wrong = [("none.zip", *given), ("evidence.zip", "--trust", "answer.json"), ("evidence.zip", *given, "--salt", "xyz")]
    assert [run("verify", *arguments, cwd=stranger)[0] for arguments in wrong] == [2, 2, 2]
