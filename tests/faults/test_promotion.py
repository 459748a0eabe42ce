"""A promotion that breaks off at any of its writes: nothing half-done is visible, and the same call again completes it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.core.errors import Unavailable
from services.verify.service import verify
from tests.fakes.registry import FaultName, Steps
from tests.registry import RITA, Rig, copied, opened

CARRY_OUT = (
    "decide promote",
    "sign statement by sentinelnet",
    "store.put",  # the decision's summary; the state `decided` follows
    "sign statement by manifest",
    "sign model by manifest",
    "store.put",  # the manifest's envelope
    "store.put",  # model.sig
    "emit promotion.completed",  # in one transaction with stage, manifest and state
    "wait_for",
)
REGISTER = ("sign model by builder", "store.put", "emit model.registered")
EVALUATE = ("sign statement by evaluator", "store.put", "emit evaluation.recorded")
FAULTS: tuple[FaultName, ...] = ("fails", "persists_then_fails")


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with opened(tmp_path) as rig:
        yield rig


def at_each(steps: tuple[str, ...]) -> list[object]:
    return [pytest.param(at, fault, id=f"{at} {name} {fault}") for at, name in enumerate(steps) for fault in FAULTS]


def approved(rig: Rig) -> str:
    promotion = rig.request()
    rig.approve(promotion, "ada", "ben", "cyd")
    return promotion


def test_the_steps_of_a_promotion_are_those_that_are_broken_below(rig: Rig) -> None:
    promotion, steps = approved(rig), Steps()
    rig.use_faulty(steps)
    rig.promotions.carry_out(promotion, RITA)
    assert tuple(steps.seen) == CARRY_OUT


@pytest.mark.parametrize(("at", "fault"), at_each(CARRY_OUT))
def test_a_promotion_that_broke_off_is_completed_by_a_repeat(rig: Rig, tmp_path: Path, at: int, fault: FaultName) -> None:
    promotion = approved(rig)
    rig.use_faulty(Steps(at, fault))
    with pytest.raises(Unavailable):
        rig.promotions.carry_out(promotion, RITA)
    # Stage and manifest change together, with the event that tells it, or not at all.
    completed = CARRY_OUT[at] == "wait_for"
    assert (rig.stage(), len(rig.evidences.manifests("digits", 1))) == (("staging", 1) if completed else ("dev", 0))
    assert rig.problems() == []
    rig.close()

    again = copied(rig, tmp_path / "restarted")
    record = again.promotions.carry_out(promotion, RITA)
    assert (record["state"], again.stage(), again.promotions.unfinished()) == ("completed", "staging", [])
    assert len(again.events("promotion.completed")) == 1
    assert again.problems() == []
    assert verify(again.archive(tmp_path / "evidence.zip"), again.trust).broken is None
    again.close()


@pytest.mark.parametrize(("at", "fault"), at_each(CARRY_OUT))
def test_a_restart_carries_on_with_what_was_allowed(rig: Rig, at: int, fault: FaultName) -> None:
    promotion = approved(rig)
    rig.use_faulty(Steps(at, fault))
    with pytest.raises(Unavailable):
        rig.promotions.carry_out(promotion, RITA)
    rig.use(rig.ports)
    waiting = rig.promotions.unfinished()
    # Before the decision took effect on its state nothing is owed; after the last write nothing is left.
    assert waiting == ([promotion] if 3 <= at <= 7 else [])
    for found in waiting:
        rig.promotions.carry_out(found, RITA)
    assert rig.stage() == ("dev" if at < 3 else "staging")
    assert rig.problems() == []


@pytest.mark.parametrize("role", ["sentinelnet", "manifest"])
def test_a_signature_whose_answer_was_lost_is_the_one_that_the_repeat_gets(rig: Rig, role: str) -> None:
    promotion = approved(rig)
    rig.signers[role].faults = {0: "persists_then_fails"}
    with pytest.raises(Unavailable):
        rig.promotions.carry_out(promotion, RITA)
    assert (rig.stage(), rig.problems()) == ("dev", [])
    rig.promotions.carry_out(promotion, RITA)
    assert (rig.stage(), rig.problems()) == ("staging", [])


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("at", range(2))
def test_a_request_that_broke_off_is_recorded_once_by_a_repeat(rig: Rig, at: int, fault: FaultName) -> None:
    rig.use_faulty(Steps(at, fault))
    with pytest.raises(Unavailable):
        rig.request()
    assert (rig.promotions.all(), rig.problems()) == ([], [])
    rig.use(rig.ports)
    promotion = rig.request()
    assert [item["id"] for item in rig.promotions.all()] == [promotion]
    assert (len(rig.events("promotion.requested")), rig.problems()) == (1, [])


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("at", range(2))
def test_an_approval_that_broke_off_counts_once_after_a_repeat(rig: Rig, at: int, fault: FaultName) -> None:
    promotion = rig.request()
    before = rig.promotions.get(promotion)
    rig.use_faulty(Steps(at, fault))
    with pytest.raises(Unavailable):
        rig.approve(promotion, "ada")
    assert (rig.promotions.get(promotion), rig.problems()) == (before, [])
    rig.use(rig.ports)
    rig.approve(promotion, "ada")
    rig.approve(promotion, "ada")
    assert (len(rig.events("promotion.approved")), rig.problems()) == (1, [])


@pytest.mark.parametrize(("at", "fault"), at_each(REGISTER))
def test_a_registration_that_broke_off_is_one_version_after_a_repeat(rig: Rig, at: int, fault: FaultName) -> None:
    run = rig.train("run-2", [rig.datasets.get("digits@1")["id"]], {"w": b"2"})
    rig.use_faulty(Steps(at, fault))
    with pytest.raises(Unavailable):
        rig.register(run)
    assert (len(rig.models.all()), rig.problems()) == (1, [])
    rig.use(rig.ports)
    assert rig.register(run) == rig.register(run) == rig.models.get("digits", 2)
    assert (len(rig.models.all()), rig.problems()) == (2, [])


@pytest.mark.parametrize(("at", "fault"), at_each(EVALUATE))
def test_an_evaluation_that_broke_off_is_not_half_recorded(rig: Rig, at: int, fault: FaultName) -> None:
    rig.now += 1
    before = rig.models.get("digits", 1)
    rig.use_faulty(Steps(at, fault))
    with pytest.raises(Unavailable):
        rig.evaluate()
    assert (rig.models.get("digits", 1), rig.problems()) == (before, [])
    rig.use(rig.ports)
    rig.evaluate()
    assert (len(rig.models.get("digits", 1)["evaluations"]), rig.problems()) == (2, [])


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("at", range(1))
def test_a_flag_that_broke_off_is_set_once_by_a_repeat(rig: Rig, at: int, fault: FaultName) -> None:
    rig.use_faulty(Steps(at, fault))
    with pytest.raises(Unavailable):
        rig.flag()
    assert (rig.flags.active(), rig.problems()) == ([], [])
    rig.use(rig.ports)
    assert rig.flag() == rig.flag()
    assert (len(rig.flags.active()), rig.problems()) == (1, [])


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("at", range(3))
def test_a_flag_stays_until_its_clearance_is_whole(rig: Rig, at: int, fault: FaultName) -> None:
    flag = rig.flag()
    clearance = rig.clearance(flag)
    rig.use_faulty(Steps(at, fault))
    with pytest.raises(Unavailable):
        rig.flags.lift(flag, clearance, "spiffe://ai-infra.local/person/eve")
    assert ([item["id"] for item in rig.flags.active()], rig.problems()) == ([flag], [])
    rig.use(rig.ports)
    rig.flags.lift(flag, clearance, "spiffe://ai-infra.local/person/eve")
    assert (rig.flags.active(), len(rig.events("quarantine.lifted")), rig.problems()) == ([], 1, [])
