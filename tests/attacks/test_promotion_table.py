"""Every attack of the table: refused by its rules and no others, told in the log, and nothing changed."""

from pathlib import Path
from typing import Any

import pytest

from services.core.errors import AiInfraError
from tests.attacks.rig import (
    LEFT_BY_DECISIONS,
    LEFT_BY_REFUSALS,
    Attack,
    Snapshot,
    at,
    grown,
    lost,
    new_objects,
    refusing,
    snapshot,
    told,
)
from tests.attacks.table import ATTACKS, markdown

DOCUMENT = Path(__file__).parents[2] / "docs" / "attacks.md"
TAKEN_BACK = "platform.promotions"
SIGNED = {"signature.requested", "signature.made"}


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: f"{attack.group}: {attack.does}".replace(" ", "-"))
def test_an_attack_is_refused_by_name_and_changes_nothing(attack: Attack, tmp_path: Path) -> None:
    with at(attack.start, tmp_path) as rig:
        attempt = attack.prepare(rig)
        before, last = snapshot(rig), rig.audit.size() - 1
        with pytest.raises(attack.error) as caught:
            attempt()
        after, events = snapshot(rig), told(rig, last)
        problems = rig.reconciler.run()["problems"]
        left = new_objects(rig, before, after)
        states = {promotion["state"] for promotion in rig.promotions.all()}
    assert isinstance(caught.value, AiInfraError)
    assert caught.value.retryable is attack.retryable
    if attack.recorded:
        _require_one_refusal(attack, events)
    else:
        assert (type(caught.value).__name__, events) == (*attack.rules, [])
    _require_nothing_else(attack, before, after)
    assert attack.passed or left == set()
    assert "decided" not in states
    assert bool(problems) is attack.edited


def _require_one_refusal(attack: Attack, events: list[dict[str, Any]]) -> None:
    others = SIGNED if attack.passed else set()
    assert {event["type"] for event in events} <= {"policyCheck", *others, *attack.meanwhile}
    refusals = [event for event in events if event["type"] == "policyCheck" and event["payload"]["verdict"] != "pass"]
    assert [refusing(event) for event in refusals] == [set(attack.rules)]


def _require_nothing_else(attack: Attack, before: Snapshot, after: Snapshot) -> None:
    taken_back = {TAKEN_BACK} if attack.withdrawn else set()
    allowed = LEFT_BY_DECISIONS if attack.passed else LEFT_BY_REFUSALS if attack.recorded else set()
    assert grown(before, after) <= {*allowed, *taken_back, *attack.meanwhile}
    assert lost(before, after) <= {*taken_back, *attack.meanwhile}


def test_each_group_has_its_attacks() -> None:
    groups = [attack.group for attack in ATTACKS]
    assert {"signatures", "approvals", "evaluations", "policy", "artifacts", "state", "serving"} == set(groups)
    assert len(ATTACKS) >= 40
    assert len({(attack.group, attack.does) for attack in ATTACKS}) == len(ATTACKS)


def test_the_document_is_the_table() -> None:
    assert DOCUMENT.read_text() == markdown()
