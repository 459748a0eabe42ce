"""Past decisions, decided again: what a new bundle would change, what was tampered with, and what cannot be told any more."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from services.core.bundle import Bundle, to_tar
from services.core.canonical import canonical
from services.core.database import begin
from services.core.errors import BadInput
from services.core.events import Subject
from services.sentinelnet.tables import decisions
from tests.sentinelnet import BUNDLE, GOOD, SAM, Platform, blocking, edited

JOB = Subject("run", "run-1")
DATASET = "sha256:" + "d" * 64
BLOCKED = blocking(DATASET)
STAGE = "serving/stage/stage.rego"


@pytest.fixture
def platform(tmp_path: Path) -> Platform:
    made = Platform(tmp_path)
    made.publish()
    return made


def _edit(platform: Platform, decision: str, **values: Any) -> None:
    with begin(platform.database) as connection:
        connection.execute(update(decisions).where(decisions.c.id == decision).values(**values))


def test_replay_uses_the_bundle_that_decided(platform: Platform) -> None:
    made = platform.net.decide("train", GOOD["train"], JOB, SAM)
    platform.publish(BLOCKED, 2)
    found = platform.oversight.replay(made.id).to_json()
    assert (found["policyRevision"], found["same"], found["was"], found["now"]) == (BUNDLE.revision, True, "pass", "pass")
    assert (found["changes"], found["problems"], found["outcome"]) == ([], [], "unchanged")
    later = platform.net.decide("train", GOOD["train"], JOB, SAM)
    assert (later.verdict.verdict, platform.oversight.replay(later.id).outcome) == ("deny", "unchanged")


def test_simulation_tells_what_would_change_and_why(platform: Platform) -> None:
    made = platform.net.decide("train", GOOD["train"], JOB, SAM)
    page = platform.oversight.simulate(to_tar(BLOCKED))
    assert (page.counts, page.total, page.after) == ({"unchanged": 1, "changed": 1, "failed": 0}, 2, None)
    found = page.remarkable[0].to_json()
    assert (found["decision"], found["subject"], found["was"], found["now"]) == (made.id, JOB.to_json(), "pass", "deny")
    blocked = f"data set {DATASET} is blocked, or its bytes have another digest"
    change = {"rule": "dataset.blocked", "was": "pass", "wasReasons": [], "now": "deny", "nowReasons": [blocked]}
    assert found["changes"] == [change]


def test_simulation_records_nothing(platform: Platform) -> None:
    before = platform.events()
    platform.oversight.simulate(to_tar(BLOCKED))
    assert platform.events() == before
    assert platform.net.active_bundle() == BUNDLE


def test_every_decision_is_on_exactly_one_page(platform: Platform) -> None:
    made = [platform.net.decide("train", GOOD["train"] | {"now": number}, JOB, SAM).id for number in range(7)]
    seen, after = [], ""
    for _ in range(5):
        page = platform.oversight.simulate(to_tar(BLOCKED), after=after, limit=2)
        seen += [item.decision.id for item in page.remarkable]
        if page.after is None:
            break
        after = page.after
    assert seen == made


def test_only_decisions_since_a_moment(platform: Platform) -> None:
    platform.net.decide("train", GOOD["train"], JOB, SAM)
    platform.now_ms += 1000
    platform.net.decide("train", GOOD["train"], JOB, SAM)
    assert platform.oversight.simulate(to_tar(BLOCKED), since=platform.now_ms).total == 1


def _reading(path: str) -> Bundle:
    """Our bundle, with a rule on stages that wants one more input."""
    text = BUNDLE.modules[STAGE].replace("version.stage]", f"version.stage, {path}]", 1)
    return edited({STAGE: text.replace('met contains "stage" if', f'met contains "stage" if input.{path} == 1\n\nold if').encode()})


@pytest.mark.parametrize(
    ("bundle", "problem"),
    [
        (_reading("region"), "serving.stage reads region, which the stored input does not have"),
        (
            edited({"data.json": BUNDLE.files["data.json"].replace(b'"deploy": [', b'"launch": [')}),
            "the bundle states no rule for the action deploy",
        ),
    ],
    ids=["new field", "action gone"],
)
def test_decision_that_cannot_be_decided_again_is_told_apart_from_a_changed_one(
    bundle: Bundle, problem: str, platform: Platform
) -> None:
    platform.net.decide("deploy", GOOD["deploy"], JOB, SAM)
    page = platform.oversight.simulate(to_tar(bundle))
    assert (page.counts["failed"], page.counts["changed"]) == (1, 0)
    assert page.remarkable[0].problems == (problem,)


def test_stored_input_that_is_gone_is_reported_not_raised(platform: Platform) -> None:
    made = platform.net.decide("train", GOOD["train"], JOB, SAM)
    name = made.input_digest.removeprefix("sha256:")
    next(path for path in platform.folder.rglob("*") if name in str(path).replace("/", "") and path.is_file()).unlink()
    for page in (platform.oversight.replays(), platform.oversight.simulate(to_tar(BLOCKED))):
        assert [(item.decision.id, item.outcome) for item in page.remarkable] == [(made.id, "failed")]
        assert page.remarkable[0].to_json()["now"] is None


KILLS = edited({STAGE: b"package sentinelnet.serving.stage\n\nx := 1 with input as {}\n"})


@pytest.mark.parametrize("bundle", [b"no tar", to_tar(KILLS)], ids=["no tar", "ends the engine"])
def test_bundle_that_could_not_become_active_is_not_simulated(bundle: bytes, platform: Platform) -> None:
    with pytest.raises(BadInput):
        platform.oversight.simulate(bundle)


PASS = canonical([{"rule": rule, "verdict": "pass", "reasons": []} for rule in sorted(BUNDLE.rules_for("train"))])


@pytest.mark.parametrize(
    ("values", "problems", "same"),
    [
        ({"verdict": "pass"}, ["the row's verdict is not the one in its event"], False),
        ({"verdict": "pass", "rules": PASS}, ["the row's verdict is not the one in its event", "the row's rules"], False),
        ({"actor": "spiffe://ai-infra.local/person/ana"}, ["the row's actor"], True),
        ({"subject_id": "run-2"}, ["the row's subject"], True),
        ({"action": "deploy"}, ["the row's action"], True),
        ({"event_id": "evt-0"}, ["its event evt-0 is not in the log"], True),
        ({"policy_revision": BLOCKED.revision}, ["the row's policyRevision", "policy bundle"], False),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
def test_row_that_somebody_edited_is_found(values: dict[str, Any], problems: list[str], same: bool, platform: Platform) -> None:
    made = platform.net.decide("train", GOOD["train"] | {"flags": None}, JOB, SAM)
    _edit(platform, made.id, **values)
    found = [item for item in platform.oversight.replays().remarkable if item.decision.id == made.id]
    assert [item.outcome for item in found] == ["failed"]
    assert len(found[0].problems) == len(problems)
    assert [wanted for wanted, told in zip(problems, found[0].problems, strict=True) if not told.startswith(wanted)] == []
    assert (found[0].replay is not None and found[0].replay.same) is same


def test_input_of_another_decision_in_the_row_is_found(platform: Platform) -> None:
    good = platform.net.decide("train", GOOD["train"], JOB, SAM)
    bad = platform.net.decide("train", GOOD["train"] | {"flags": None}, JOB, SAM)
    _edit(platform, bad.id, input_digest=good.input_digest)
    found = platform.oversight.replay(bad.id)
    assert found.problems == ("the row's inputDigest is not the one in its event",)
    assert found.replay is not None
    assert not found.replay.same
