"""Promotion: the way that ends in a stage, and every refusal by its rule, with the stage as before."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from services.core import dsse, keys, oms
from services.core.errors import AiInfraError, BadInput, Conflict, Refused, Unavailable
from services.core.statements import Manifest, PromotionRequest, Vsa, expect
from services.core.tls import person_id
from services.registry.errors import AlreadyPromoted, PromotionRefused, StageChanged, UnknownModel, UnknownPromotion
from services.registry.ports import Measured
from services.sentinelnet.errors import PolicyUnavailable
from tests import signing as world
from tests.fakes.policy_engine import SaysEngine
from tests.fakes.registry import Interrupting
from tests.registry import GOOD, RITA, Ports, Rig, copied, key_of, opened
from tests.sentinelnet import blocking

TRIO = ("ada", "ben", "cyd")


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with opened(tmp_path) as rig:
        yield rig


def refused(rig: Rig, promotion: str) -> list[str]:
    """The rules that refuse it; nothing is changed by the attempt."""
    number = rig.promotions.get(promotion)["number"]
    stage, manifests = rig.stage(number), rig.evidences.manifests("digits", number)
    with pytest.raises(PromotionRefused) as caught:
        rig.promotions.carry_out(promotion, RITA)
    assert (rig.stage(number), rig.evidences.manifests("digits", number)) == (stage, manifests)
    assert rig.problems() == []
    return sorted(rule["rule"] for rule in caught.value.rules)


def test_an_approved_request_ends_in_the_stage_with_a_manifest_that_binds_all_of_it(rig: Rig) -> None:
    promotion = rig.request()
    rig.approve(promotion, *TRIO)
    record = rig.promotions.carry_out(promotion, RITA)
    version = rig.models.get("digits", 1)
    assert (record["state"], version["stage"]) == ("completed", "staging")
    envelope = dsse.parse(rig.store.get(record["manifest"]["envelope"]))
    assert dsse.verified_signers(envelope, rig.trust.signer_with_role("manifest"))
    manifest = expect(Manifest, envelope.payload)
    summary = dsse.parse(rig.store.get(record["summary"]))
    assert manifest == Manifest(
        model="digits",
        number=1,
        environment="staging",
        artifact_id=version["artifact_id"],
        oms_subject=oms.subject_digest(rig.artifacts.files(version["artifact_id"])),
        request=record["request"],
        decision=dsse.payload_digest(summary),
        evaluation=version["evaluations"][-1]["payload"],
        provenance=dsse.payload_digest(dsse.parse(rig.store.get(version["provenance"]))),
    )
    assert expect(Vsa, summary.payload).decision_id == record["decision_id"]
    bundle = rig.store.get(record["manifest"]["bundle"])
    files = rig.artifacts.files(version["artifact_id"])
    assert oms.verify_any(bundle, files, rig.trust.signer_with_role("manifest"))[1] == manifest.oms_subject
    assert rig.problems() == []


def test_its_events_tell_the_whole_story_in_order(rig: Rig) -> None:
    rig.promoted()
    told = [entry.event["type"] for entry in rig.audit.search(limit=1000)]
    told = told[told.index("promotion.requested") :]
    sign = ["signature.requested", "signature.made"]
    assert told == [
        "promotion.requested", *["promotion.approved"] * 3, "policyCheck", *sign, *sign, *sign, "promotion.completed",
    ]  # fmt: skip
    completed = rig.events("promotion.completed")[0]
    record = rig.evidences.manifests("digits", 1)[0]
    assert (completed["manifestRef"], completed["signatureRef"]) == (record["payload"], record["envelope"])
    assert (completed["actor"], completed["payload"]["from"], completed["payload"]["to"]) == (RITA, "dev", "staging")


def test_carrying_out_again_changes_nothing(rig: Rig) -> None:
    promotion = rig.promoted()
    before, size = rig.promotions.get(promotion), rig.audit.size()
    assert rig.promotions.carry_out(promotion, RITA) == before
    assert rig.audit.size() == size


def test_the_same_request_again_is_the_same_promotion(rig: Rig) -> None:
    assert rig.request() == rig.request()
    assert len(rig.events("promotion.requested")) == 1


def test_a_version_goes_from_stage_to_stage(rig: Rig) -> None:
    rig.promoted(to="staging")
    rig.promoted(to="prod")
    assert rig.stage() == "prod"
    assert [item["environment"] for item in rig.evidences.manifests("digits", 1)] == ["staging", "prod"]


def test_a_version_of_low_risk_needs_no_approval_to_staging(rig: Rig) -> None:
    rig.promoted_toy()
    assert rig.models.get("toy", 1)["stage"] == "staging"


def no_evaluation(rig: Rig) -> str:
    return rig.request(evaluation=None)


def unknown_evaluation(rig: Rig) -> str:
    return rig.request(evaluation=world.digest("another"))


def failing_evaluation(rig: Rig) -> str:
    rig.evaluator.measured = Measured(360, {"accuracy": 0.4, "perClass": rig.evaluator.measured.metrics["perClass"]})  # type: ignore[union-attr]
    rig.now += 1
    return rig.request(evaluation=rig.evaluate())


def old_evaluation(rig: Rig) -> str:
    rig.now += 604_801
    return rig.request()


def tampered(rig: Rig) -> str:
    entry = rig.artifacts.files(rig.models.get("digits", 1)["artifact_id"])[-1]
    path = rig.folder / "objects" / entry.sha256[7:9] / entry.sha256[9:]
    path.chmod(0o600)
    path.write_bytes(b"W" + path.read_bytes()[1:])
    return rig.request()


def lost_file(rig: Rig) -> str:
    entry = rig.artifacts.files(rig.models.get("digits", 1)["artifact_id"])[0]
    (rig.folder / "objects" / entry.sha256[7:9] / entry.sha256[9:]).unlink()
    return rig.request()


def flagged_dataset(rig: Rig) -> str:
    rig.flag("dataset", "raw@1")
    return rig.request()


def flagged_model(rig: Rig) -> str:
    rig.flag()
    return rig.request()


def flagged_artifact(rig: Rig) -> str:
    rig.flag("artifact", rig.models.get("digits", 1)["artifact_id"])
    return rig.request()


def blocked_dataset(rig: Rig) -> str:
    rig.publish(blocking(rig.datasets.get("raw@1")["id"]), 2)
    return rig.request()


def other_policy(rig: Rig) -> str:
    return rig.request(policy_revision=world.digest("older policies"))


def skipped_stage(rig: Rig) -> str:
    return rig.request(to="prod")


def other_artifact(rig: Rig) -> str:
    return rig.request(artifact_id=world.digest("another"))


def lower_risk(rig: Rig) -> str:
    return rig.request(risk_class="low")


def foreign_requester(rig: Rig) -> str:
    return rig.request(requester=world.signer_of("ada"))


@pytest.mark.parametrize(
    ("prepare", "rules"),
    [
        (no_evaluation, {"promotion.evaluation-present", "promotion.evaluation-fresh", "promotion.evaluation-thresholds"}),
        (unknown_evaluation, {"promotion.evaluation-present", "promotion.evaluation-fresh", "promotion.evaluation-thresholds"}),
        (failing_evaluation, {"promotion.evaluation-thresholds"}),
        (old_evaluation, {"promotion.evaluation-fresh"}),
        (tampered, {"promotion.artifact-digest", "promotion.signature"}),
        (lost_file, {"promotion.artifact-digest", "promotion.signature"}),
        (flagged_model, {"promotion.safety-flag"}),
        (flagged_dataset, {"promotion.safety-flag"}),
        (flagged_artifact, {"promotion.safety-flag"}),
        (blocked_dataset, {"dataset.blocked"}),
        (other_policy, {"promotion.request"}),
        (skipped_stage, {"promotion.request"}),
        (other_artifact, {"promotion.artifact-digest", "promotion.request"}),
        (lower_risk, {"promotion.request"}),
    ],
)
def test_a_promotion_that_breaks_a_rule_is_refused_by_its_name(rig: Rig, prepare: Callable[[Rig], str], rules: set[str]) -> None:
    promotion = prepare(rig)
    rig.approve(promotion, *TRIO)
    assert set(refused(rig, promotion)) == rules


@pytest.mark.parametrize("prepare", [no_evaluation, failing_evaluation])
def test_a_refusal_says_that_a_newer_evaluation_needs_a_new_request(rig: Rig, prepare: Callable[[Rig], str]) -> None:
    asked = prepare(rig)
    named = expect(PromotionRequest, dsse.parse(rig.promotions.envelope(asked)).payload).evaluation
    rig.now += 1
    rig.evaluator.measured = GOOD
    newest = rig.evaluate()
    with pytest.raises(PromotionRefused) as caught:
        rig.promotions.carry_out(asked, RITA)
    first, second = str(caught.value).split("\n")
    assert first.endswith(f"(`ai-infra policy explain {rig.sentinelnet.recent(1)[0].id}`)")
    assert second.startswith(
        f"the request names {named or 'no evaluation'}, the newest of digits@1 is {newest}: make a new request, which names it"
    )


def test_a_version_is_not_asked_into_a_stage_that_it_has_reached(rig: Rig) -> None:
    rig.promoted()
    done = rig.promoted(to="prod")
    for stage in ("staging", "prod"):
        with pytest.raises(AlreadyPromoted, match=f"digits@1 is in prod already: no promotion leads to {stage}"):
            rig.request(to=stage, nonce="1" * 32)
    assert [item["id"] for item in rig.promotions.all()][-1] == done
    payload = dsse.parse(rig.promotions.envelope(done)).payload
    assert rig.promotions.request(world.envelope(payload, key_of("rita")).to_bytes(), RITA)["state"] == "completed"


def test_a_request_in_anothers_name_is_refused(rig: Rig) -> None:
    promotion = foreign_requester(rig)
    rig.approve(promotion, "ben", "cyd", "dan")
    assert "promotion.request" in refused(rig, promotion)


def test_an_unsigned_model_is_refused(rig: Rig) -> None:
    dataset = rig.datasets.get("digits@1")["id"]
    rig.register(rig.train("run-2", [dataset], {"w": b"2"}), sign=False)
    rig.evaluate(2)
    promotion = rig.request(2)
    rig.approve(promotion, *TRIO)
    assert refused(rig, promotion) == ["promotion.signature"]


def test_a_run_from_an_edited_working_tree_is_refused(rig: Rig) -> None:
    dataset = rig.datasets.get("digits@1")["id"]
    rig.register(rig.train("run-2", [dataset], {"w": b"2"}, dirty=True))
    rig.evaluate(2)
    promotion = rig.request(2)
    rig.approve(promotion, *TRIO)
    assert refused(rig, promotion) == ["training.clean-tree"]


@pytest.mark.parametrize("approvers", [(), ("ada", "ben"), ("rita", "ada", "ben"), ("tom", "ada", "ben")], ids="+".join)
def test_too_few_approvers_are_refused_whoever_else_signs(rig: Rig, approvers: tuple[str, ...]) -> None:
    promotion = rig.request()
    rig.approve(promotion, *approvers)
    assert refused(rig, promotion) == ["promotion.quorum"]


def test_one_person_with_two_keys_counts_once(rig: Rig) -> None:
    promotion = rig.request()
    rig.approve(promotion, "ada", "ben")
    rig.approve(promotion, "ada", which=1)
    assert refused(rig, promotion) == ["promotion.quorum"]
    rig.approve(promotion, "cyd")
    rig.promotions.carry_out(promotion, RITA)
    assert rig.stage() == "staging"


def test_an_approval_of_another_request_is_refused_and_told(rig: Rig) -> None:
    first, second = rig.request(), rig.request(nonce="1" * 32)
    replayed = dsse.parse(rig.promotions.envelope(first)).payload
    with pytest.raises(Refused) as caught:
        rig.promotions.approve(second, world.envelope(replayed, key_of("ada")).to_bytes(), person_id("ada"))
    assert [rule["rule"] for rule in caught.value.rules] == ["promotion.quorum"]
    told = rig.events("policyCheck")[-1]
    assert (told["actor"], told["payload"]["verdict"]) == (person_id("ada"), "deny")
    assert rig.problems() == []


@pytest.mark.parametrize("signer", ["ben", "tom", None])
def test_an_approval_is_signed_by_its_callers_own_key(rig: Rig, signer: str | None) -> None:
    promotion = rig.request()
    payload = dsse.parse(rig.promotions.envelope(promotion)).payload
    key = keys.generate_p256() if signer is None else key_of(signer)
    before = rig.promotions.envelope(promotion)
    with pytest.raises(Refused, match="no signature over these bytes by a key that trust knows as"):
        rig.promotions.approve(promotion, world.envelope(payload, key).to_bytes(), person_id("ada"))
    assert rig.promotions.envelope(promotion) == before


def test_signatures_of_others_in_an_approval_are_not_taken_over(rig: Rig) -> None:
    promotion = rig.request()
    payload = dsse.parse(rig.promotions.envelope(promotion)).payload
    sent = world.envelope(payload, *(key_of(name) for name in TRIO)).to_bytes()
    rig.promotions.approve(promotion, sent, person_id("ada"))
    assert refused(rig, promotion) == ["promotion.quorum"]


def test_a_request_is_signed_by_its_callers_own_key(rig: Rig) -> None:
    payload = rig.request_for().to_statement()
    with pytest.raises(Refused):
        rig.promotions.request(world.envelope(payload, key_of("ada")).to_bytes(), RITA)
    assert rig.promotions.all() == []


def test_an_expired_request_is_refused(rig: Rig) -> None:
    promotion = rig.request()
    rig.approve(promotion, *TRIO)
    rig.now += 3700
    assert refused(rig, promotion) == ["promotion.request"]


def between(rig: Rig, then: Callable[[], object]) -> None:
    """`then` happens after the decision and before its effect."""
    p = rig.ports
    rig.use(Ports(p.store, p.events, Interrupting(p.policy, then), p.signing))


def test_a_flag_set_between_decision_and_effect_stops_the_promotion(rig: Rig) -> None:
    promotion = rig.request()
    rig.approve(promotion, *TRIO)
    between(rig, rig.flag)
    assert refused(rig, promotion) == ["promotion.safety-flag"]
    told = rig.events("policyCheck")[-1]["payload"]
    assert (told["verdict"], [rule["rule"] for rule in told["rules"]]) == ("deny", ["promotion.safety-flag"])
    # The decision is taken back: a restart does not carry on with it, and asked again the policy says the same.
    assert rig.promotions.unfinished() == []
    assert refused(rig, promotion) == ["promotion.safety-flag"]


def test_a_request_that_expires_between_decision_and_effect_is_not_carried_out(rig: Rig) -> None:
    promotion = rig.request()
    rig.approve(promotion, *TRIO)
    between(rig, lambda: setattr(rig, "now", rig.now + 3601))
    with pytest.raises(Refused):
        rig.promotions.carry_out(promotion, RITA)
    assert (rig.stage(), rig.problems()) == ("dev", [])


def test_an_approval_that_comes_between_decision_and_effect_asks_for_a_new_decision(rig: Rig) -> None:
    promotion = rig.request()
    rig.approve(promotion, *TRIO)
    between(rig, lambda: rig.approve(promotion, "dan"))
    with pytest.raises(StageChanged):
        rig.promotions.carry_out(promotion, RITA)
    rig.use(rig.ports)
    rig.promotions.carry_out(promotion, RITA)
    assert (rig.stage(), rig.problems()) == ("staging", [])


def test_a_decided_promotion_takes_no_more_approvals(rig: Rig) -> None:
    promotion = rig.promoted()
    with pytest.raises(StageChanged):
        rig.approve(promotion, "dan")


def test_of_two_promotions_of_one_version_at_once_exactly_one_completes(rig: Rig) -> None:
    promotions = [rig.request(), rig.request(nonce="1" * 32)]
    for promotion in promotions:
        rig.approve(promotion, *TRIO)
    outcomes = at_once([lambda p=p: rig.promotions.carry_out(p, RITA)["state"] for p in promotions])
    assert sorted(str(type(item)) if isinstance(item, Exception) else item for item in outcomes) == [str(StageChanged), "completed"]
    assert len(rig.events("promotion.completed")) == len(rig.evidences.manifests("digits", 1)) == 1
    assert rig.promotions.unfinished() == []
    assert (rig.stage(), rig.problems()) == ("staging", [])


def test_one_promotion_carried_out_by_several_at_once_completes_once(rig: Rig) -> None:
    promotion = rig.request()
    rig.approve(promotion, *TRIO)
    outcomes = at_once([lambda: rig.promotions.carry_out(promotion, RITA)["state"]] * 3)
    assert "completed" in outcomes
    assert all(item == "completed" or isinstance(item, Conflict) for item in outcomes)
    assert len(rig.events("promotion.completed")) == 1
    assert (rig.stage(), rig.problems()) == ("staging", [])


def at_once(calls: list[Callable[[], Any]]) -> list[Any]:
    """What each call gave or raised, all started together."""
    outcomes: list[Any] = [None] * len(calls)
    gate = threading.Barrier(len(calls))

    def run(at: int) -> None:
        gate.wait()
        try:
            outcomes[at] = calls[at]()
        except AiInfraError as error:
            outcomes[at] = error

    threads = [threading.Thread(target=run, args=(at,)) for at in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


@pytest.mark.parametrize("role", ["sentinelnet", "manifest"])
def test_without_the_signer_it_is_refused_for_now_and_completes_later(rig: Rig, role: str) -> None:
    promotion = rig.request()
    rig.approve(promotion, *TRIO)
    rig.signers[role].faults = {0: "fails"}
    with pytest.raises(Unavailable):
        rig.promotions.carry_out(promotion, RITA)
    assert (rig.stage(), rig.evidences.manifests("digits", 1), rig.problems()) == ("dev", [], [])
    rig.promotions.carry_out(promotion, RITA)
    assert (rig.stage(), rig.problems()) == ("staging", [])


def test_without_the_policy_engine_it_is_refused_for_now(tmp_path: Path, rig: Rig) -> None:
    promotion = rig.request()
    rig.approve(promotion, *TRIO)
    rig.close()
    away = copied(rig, tmp_path / "away", engine=SaysEngine(PolicyUnavailable("the engine is away")))
    with pytest.raises(Unavailable):
        away.promotions.carry_out(promotion, RITA)
    assert (away.stage(), away.promotions.get(promotion)["state"]) == ("dev", "requested")
    away.close()


@pytest.mark.parametrize("answer", [[], None, {}, [{"rule": "promotion.quorum", "verdict": "pass", "reasons": []}]], ids=repr)
def test_an_engine_that_says_nothing_about_a_rule_refuses(tmp_path: Path, rig: Rig, answer: Any) -> None:
    promotion = rig.request()
    rig.approve(promotion, *TRIO)
    rig.close()
    odd = copied(rig, tmp_path / "odd", engine=SaysEngine(answer))
    assert len(refused(odd, promotion)) == 13 - (1 if answer else 0)
    odd.close()


@pytest.mark.parametrize(
    ("data", "error"),
    [(b"{}", BadInput), (b"", BadInput), (b'{"payload":"","payload":"","payloadType":"x","signatures":[]}', BadInput)],
)
def test_what_is_no_request_is_bad_input(rig: Rig, data: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        rig.promotions.request(data, RITA)


def test_unknown_things_are_told_as_such(rig: Rig) -> None:
    with pytest.raises(UnknownPromotion):
        rig.promotions.carry_out("prm-none", RITA)
    payload = PromotionRequest.from_json(rig.request_for().to_json() | {"number": 9}).to_statement()
    with pytest.raises(UnknownModel):
        rig.promotions.request(world.envelope(payload, key_of("rita")).to_bytes(), RITA)
