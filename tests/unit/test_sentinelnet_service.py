"""Decisions are recorded with their event, explained, computed again; bundles are published by signature only."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from services.core import dsse
from services.core.bundle import Bundle, to_tar
from services.core.canonical import canonical
from services.core.database import begin
from services.core.digests import sha256
from services.core.errors import BadInput, Conflict, Unavailable
from services.core.events import Subject
from services.core.keys import generate_p256
from services.core.policy_facts import clearance_input
from services.core.rego import EvaluationFailed
from services.core.statements import Clearance, PolicyBundle, expect
from services.core.tls import person_id, service_id
from services.sentinelnet.backends.regopy import RegopyEngine
from services.sentinelnet.errors import Denied, NoSuchDecision, PolicyChanged, PolicyUnavailable
from services.sentinelnet.refusals import RECORDED, WINDOW_MS
from services.sentinelnet.tables import policies
from tests import signing as world
from tests.fakes.policy_engine import SaysEngine
from tests.sentinelnet import BUNDLE, GOOD, NOW, SAM, Platform, blocking, edited, signed

JOB = Subject("run", "run-1")
BLOCKED = blocking("sha256:" + "d" * 64)


@pytest.fixture
def platform(tmp_path: Path) -> Platform:
    made = Platform(tmp_path)
    made.publish()
    return made


def test_decision_input_row_and_event_agree(platform: Platform) -> None:
    made = platform.net.decide("train", GOOD["train"], JOB, SAM)
    given = canonical({**GOOD["train"], "action": "train"})
    assert (made.verdict.verdict, made.policy_revision, made.at) == ("pass", BUNDLE.revision, NOW * 1000)
    assert made.input_digest == sha256(given)
    assert platform.objects.get(made.input_digest) == given
    assert platform.net.get(made.id) == made
    event = platform.events("policyCheck")[-1]
    assert (event["id"], event["actor"], event["subject"]) == (made.event_id, SAM, JOB.to_json())
    assert event["payload"] == {
        "decision": made.id,
        "action": "train",
        "verdict": "pass",
        "rules": made.verdict.rules_json(),
        "policyRevision": BUNDLE.revision,
        "inputDigest": made.input_digest,
    }


def test_the_active_bundle_is_the_one_that_a_transaction_sees(platform: Platform) -> None:
    with begin(platform.database) as connection:
        row = vars(platform.net.active())
        connection.execute(insert(policies), row | {"version": 2, "revision": BLOCKED.revision})
        assert platform.net.active(connection).revision == BLOCKED.revision
        assert platform.net.active().revision == BUNDLE.revision
    assert platform.net.active().revision == BLOCKED.revision


def test_refusal_is_recorded_and_raised_by_name(platform: Platform) -> None:
    made = platform.net.decide("train", GOOD["train"] | {"flags": None}, JOB, SAM)
    with pytest.raises(Denied, match=r"dataset\.quarantine: the safety flags were not looked up") as caught:
        made.require_pass()
    assert caught.value.rules == made.verdict.refusals
    assert platform.events("policyCheck")[-1]["payload"]["verdict"] == "deny"


@pytest.mark.parametrize("answer", [[], None, {}, "pass", [{"rule": "dataset.pii"}], EvaluationFailed("it broke")])
def test_engine_without_an_answer_denies_every_rule(answer: Any, platform: Platform, tmp_path: Path) -> None:
    made = Platform(tmp_path, engine=SaysEngine(answer)).net.decide("train", GOOD["train"], JOB, SAM)
    assert made.verdict.verdict == "deny"
    assert [report["rule"] for report in made.verdict.refusals] == sorted(BUNDLE.rules_for("train"))


def test_engine_that_is_away_decides_and_records_nothing(platform: Platform, tmp_path: Path) -> None:
    before = platform.events()
    with pytest.raises(PolicyUnavailable):
        Platform(tmp_path, engine=SaysEngine(PolicyUnavailable("away"))).net.decide("train", GOOD["train"], JOB, SAM)
    assert platform.events() == before
    assert platform.net.recent(subject=JOB.id) == []


def test_without_a_published_bundle_nothing_is_decided(tmp_path: Path) -> None:
    with pytest.raises(PolicyUnavailable, match="no policy bundle is published"):
        Platform(tmp_path).net.decide("train", GOOD["train"], JOB, SAM)


def test_input_built_for_another_policy_is_not_decided_on(platform: Platform) -> None:
    platform.publish(BLOCKED, 2)
    with pytest.raises(PolicyChanged, match="the input was built for policy"):
        platform.net.decide("promote", GOOD["promote"], JOB, SAM)
    assert platform.net.recent(subject=JOB.id) == []


def test_input_for_another_action_is_refused(platform: Platform) -> None:
    with pytest.raises(BadInput, match="for action 'deploy'"):
        platform.net.decide("train", {**GOOD["train"], "action": "deploy"}, JOB, SAM)


def test_decision_can_wait_for_the_log(platform: Platform) -> None:
    made = platform.net.decide("train", GOOD["train"], JOB, SAM, logged=True)
    assert [event["id"] for event in platform.bus.events][-1] == made.event_id
    platform.bus.faults[platform.bus.calls] = "fails"
    with pytest.raises(Unavailable):
        platform.net.decide("train", GOOD["train"], JOB, SAM, logged=True)


def test_check_records_nothing(platform: Platform) -> None:
    before = platform.events()
    verdict, revision = platform.net.check("train", GOOD["train"])
    assert (verdict.passed, revision, platform.events()) == (True, BUNDLE.revision, before)


def test_event_of_a_long_decision_fits_a_leaf(platform: Platform) -> None:
    flags = [{"id": str(n), "kind": "model", "target": "é" * 900, "reason": "\u0001" * 900, "since": 0} for n in range(200)]
    platform.net.decide("promote", GOOD["promote"] | {"flags": flags}, JOB, SAM)
    assert len(canonical(platform.events("policyCheck")[-1])) < 65_000


def test_explanation_tells_rules_input_and_where_to_look(platform: Platform) -> None:
    made = platform.net.decide("train", GOOD["train"], JOB, SAM)
    told = platform.net.explain(made.id)
    assert told["input"] == {**GOOD["train"], "action": "train"}
    assert told["rules"][1] == {
        "rule": "dataset.licence",
        "verdict": "pass",
        "reasons": [],
        "title": "Data sets are used as their licence allows",
        "description": "The SPDX licence of every data set is on the list of the purpose. "
        "Without a purpose the strictest list counts.",
        "owner": "steward",
        "runbook": "runbooks/data-use.md",
        "severity": "deny",
        "reads": ["datasets", "job.purpose", "provenance.purpose"],
        "limits": ["limits.licences"],
    }
    assert json.loads(json.dumps(told)) == told


def test_unknown_decision_is_not_found(platform: Platform) -> None:
    for ask in (platform.net.get, platform.net.explain, platform.oversight.replay):
        with pytest.raises(NoSuchDecision):
            ask("dec-0")


@pytest.mark.parametrize(
    ("actor", "operation", "allowed"),
    [
        (SAM, "policy.publish", True),
        (SAM, "train.start", False),
        (person_id("tom"), "train.start", True),
        (person_id("stranger"), "train.start", False),
        (service_id("router"), "predictions.seal", True),
        (service_id("router"), "policy.publish", False),
        (SAM, "moon.land", False),
    ],
)
def test_operations_need_a_role_that_trust_gives(actor: str, operation: str, allowed: bool, platform: Platform) -> None:
    before = platform.events()
    if allowed:
        platform.net.authorise(actor, operation)
        assert platform.events() == before
        return
    with pytest.raises(Denied, match=f"{actor} may not {operation}"):
        platform.net.authorise(actor, operation)
    refused = platform.events()[-1]
    assert (refused["actor"], refused["payload"]["action"], refused["payload"]["verdict"]) == (actor, "authz", "deny")


def refused_each(platform: Platform, actor: str, times: int) -> None:
    for _ in range(times):
        with pytest.raises(Denied, match=f"{actor} may not train.start: that takes the role trainer; the actor has none"):
            platform.net.authorise(actor, "train.start")


def told_of(platform: Platform, actor: str) -> list[int]:
    return [event["payload"].get("suppressed", 0) for event in platform.events() if event["actor"] == actor]


def test_refusals_beyond_the_bound_are_counted_in_the_next_recorded_one(platform: Platform) -> None:
    first, other = person_id("first"), person_id("other")
    refused_each(platform, first, RECORDED + 5)
    refused_each(platform, other, 2)
    platform.net.tell_refusals()
    assert (told_of(platform, first), told_of(platform, other)) == ([0] * RECORDED, [0, 0])
    platform.now_ms += WINDOW_MS
    refused_each(platform, first, 1)
    assert told_of(platform, first) == [*[0] * RECORDED, 5]
    platform.net.tell_refusals(all_of_them=True)
    assert (len(told_of(platform, first)), len(told_of(platform, other))) == (RECORDED + 1, 2)


@pytest.mark.parametrize("ends", ["its minute", "the process"])
def test_counted_refusals_are_told_when_their_time_ends(ends: str, platform: Platform) -> None:
    refused_each(platform, person_id("first"), RECORDED + 3)
    platform.now_ms += WINDOW_MS - (ends == "the process")
    platform.net.tell_refusals(all_of_them=ends == "the process")
    platform.net.tell_refusals(all_of_them=True)
    assert told_of(platform, person_id("first")) == [*[0] * RECORDED, 3]


def test_a_count_that_could_not_be_told_is_told_later(tmp_path: Path) -> None:
    class Away(RegopyEngine):
        away = False

        def evaluate(self, bundle: Bundle, input_value: Mapping[str, Any]) -> Any:
            if self.away:
                raise PolicyUnavailable("away")
            return super().evaluate(bundle, input_value)

    platform = Platform(tmp_path, engine=(engine := Away()))
    platform.publish()
    refused_each(platform, person_id("first"), RECORDED + 3)
    platform.now_ms += WINDOW_MS
    engine.away = True
    with pytest.raises(PolicyUnavailable):
        platform.net.tell_refusals()
    engine.away = False
    platform.net.tell_refusals()
    assert told_of(platform, person_id("first")) == [*[0] * RECORDED, 3]


def test_published_bundle_becomes_active_and_is_in_the_outbox(platform: Platform) -> None:
    made = platform.publish(BLOCKED, 2)
    assert platform.net.active() == made
    assert platform.net.active_bundle() == BLOCKED
    event = platform.events()[-1]
    assert (event["type"], event["id"], event["subject"]["digest"]) == ("policy.published", made.event_id, BLOCKED.revision)
    assert platform.objects.get(event["payload"]["bundle"]) == to_tar(BLOCKED)
    assert expect(PolicyBundle, dsse.parse(platform.objects.get(event["payload"]["envelope"])).payload).version == 2
    assert platform.net.get(event["payload"]["decision"]).passed


def test_same_publication_again_changes_nothing(platform: Platform) -> None:
    made = platform.publish(BLOCKED, 2)
    before = platform.events()
    assert platform.publish(BLOCKED, 2) == made
    assert platform.events() == before


@pytest.mark.parametrize(
    ("envelope", "reason"),
    [
        (signed(BLOCKED, 1), "the version is not above the active bundle's"),
        (signed(BUNDLE, 2), "the statement is of another bundle"),
        (signed(BLOCKED, 2, generate_p256()), "not signed by a person with the role security"),
        (signed(BLOCKED, 2, world.PEOPLE_KEYS["ada"][0]), "not signed by a person with the role security"),
        (signed(BLOCKED, 2, world.PEOPLE_KEYS["eve"][1]), "not signed by a person with the role security"),
        (signed(BLOCKED, 2, issued_at=NOW + 60), "the statement was issued in the future"),
    ],
    ids=["older version", "other bundle", "unknown key", "other role", "key not for policies", "future"],
)
def test_publication_that_security_did_not_sign_is_refused(envelope: bytes, reason: str, platform: Platform) -> None:
    with pytest.raises(Denied, match=rf"signing\.bundle: .*{reason}"):
        platform.net.publish(to_tar(BLOCKED), envelope, SAM)
    assert platform.net.active().version == 1
    assert platform.events()[-1]["payload"]["action"] == "publish"


def test_first_bundle_needs_the_signature_too(tmp_path: Path) -> None:
    platform = Platform(tmp_path)
    with pytest.raises(Denied):
        platform.net.publish(to_tar(BUNDLE), signed(BUNDLE, 1, generate_p256()), SAM)
    with pytest.raises(PolicyUnavailable):
        platform.net.active()


def test_bundle_that_lets_everything_pass_cannot_publish_itself(platform: Platform) -> None:
    body = (
        b"package sentinelnet.signing.bundle\n\nimport rego.v1\n\n"
        b'report := {"rule": "signing.bundle", "verdict": "pass", "reasons": []}\n'
    )
    open_door = edited({"signing/bundle/bundle.rego": body})
    with pytest.raises(Denied):
        platform.net.publish(to_tar(open_door), signed(open_door, 2, generate_p256()), SAM)


def test_bundle_that_an_engine_cannot_evaluate_is_refused(platform: Platform) -> None:
    body = b"package sentinelnet.dataset.pii\n\nimport rego.v1\n\nreport := json.match_schema(1, 2)\n"
    bad = edited({"dataset/pii/pii.rego": body})
    before = platform.events()
    with pytest.raises(BadInput, match=r"json\.match_schema is no built-in"):
        platform.net.publish(to_tar(bad), signed(bad, 2), SAM)
    assert platform.events() == before


@pytest.mark.parametrize("envelope", [b"", b"{}", world.approved(world.request(), "ada").to_bytes()])
def test_something_else_than_a_publication_is_refused(envelope: bytes, platform: Platform) -> None:
    with pytest.raises(BadInput):
        platform.net.publish(to_tar(BLOCKED), envelope, SAM)


def test_version_that_was_taken_meanwhile_conflicts(tmp_path: Path) -> None:
    platform = Platform(tmp_path)
    platform.publish()

    class Racing(SaysEngine):
        """Publishes another bundle while it is asked about this one."""

        def evaluate(self, bundle: Any, input_value: Any) -> Any:
            if not self.asked:
                self.asked.append((bundle.revision, input_value))
                Platform(tmp_path).publish(BLOCKED, 3)
            return [{"rule": "signing.bundle", "verdict": "pass", "reasons": []}]

    with pytest.raises((PolicyChanged, Conflict)):
        Platform(tmp_path, engine=Racing([])).publish(BLOCKED, 2)
    assert platform.net.active().version == 3


@pytest.mark.parametrize(
    ("changes", "key", "reason"),
    [
        ({}, "eve", None),
        ({}, "ada", "not signed by a person with the role security"),
        ({"flag": "flag-2"}, "eve", "the clearance is of another flag"),
        ({"issued_at": NOW - 500}, "eve", "older than the flag"),
    ],
)
def test_clearance_is_of_security_and_of_this_flag(
    changes: dict[str, Any], key: str, reason: str | None, platform: Platform
) -> None:
    flag = GOOD["clearance"]["flag"]
    values = {"flag": "flag-1", "kind": "model", "target": "digits@1", "reason": "tested again", "issued_at": NOW - 50} | changes
    envelope = world.envelope(Clearance(**values).to_statement(), world.PEOPLE_KEYS[key][0]).to_bytes()
    facts = clearance_input(flag, envelope, world.trust(), now=NOW)
    made = platform.net.decide("clearance", facts, Subject("flag", "flag-1"), SAM)
    reasons = [text for report in made.verdict.refusals for text in report["reasons"]]
    assert (reasons == []) if reason is None else [text for text in reasons if reason in text]
