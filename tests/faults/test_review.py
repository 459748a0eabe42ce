"""Live deployments under a bundle that has just become active: what no longer passes is flagged once, whatever breaks off when."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete

from services.api.quarantine import Quarantine
from services.api.review import ACTOR, Review
from services.core.bundle import Bundle
from services.core.database import begin
from services.core.errors import NotFound, Unavailable
from services.registry.flags import FlagOrder, Flags
from services.sentinelnet.tables import decisions
from services.serving.domain import DeploymentSpec
from services.serving.service import Serving
from tests.attacks import rig as attacks
from tests.registry import Rig, opened
from tests.sentinelnet import BUNDLE, edited

DARIO = "spiffe://ai-infra.local/person/dario"
STRICT: Bundle = edited(
    {"data.json": BUNDLE.files["data.json"].replace(b'"staging": ["prod", "staging"]', b'"staging": ["prod"]')}
)
"""Our bundle; the environment staging serves versions of the stage prod only."""


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with opened(tmp_path) as made:
        made.promoted()
        yield made


def _deployed(rig: Rig) -> tuple[Serving, str]:
    serving = attacks.serving(rig)
    made = serving.deploy(DeploymentSpec(model="digits", number=1, environment="staging"), DARIO)
    return serving, made["id"]


def _review(rig: Rig, serving: Serving) -> Review:
    """As a process that has just started."""
    return Review(rig.sentinelnet, serving, serving.versions, rig.flags)


def _enforce(rig: Rig, serving: Serving, deployment: str) -> str:
    """The deployment's state, once its flags were enforced."""
    Quarantine(rig.models, rig.evidences, serving).enforce()
    return str(serving.get(deployment)["state"])


@dataclass(frozen=True)
class BreakingFlags:
    """The first flag fails, or is stored and then fails."""

    flags: Flags
    persists: bool

    def ever(self, text: str, actor: str) -> bool:
        return self.flags.ever(text, actor)

    def set(self, order: FlagOrder, actor: str) -> dict[str, Any]:
        if self.persists:
            self.flags.set(order, actor)
        raise Unavailable("the database went away")


def test_what_no_longer_passes_is_quarantined_by_rule_and_decision(rig: Rig) -> None:
    serving, deployment = _deployed(rig)
    review = _review(rig, serving)
    assert review.run() == []
    rig.publish(STRICT, 2)
    found = review.run()
    assert [(item["deployment"], item["model"], item["rules"]) for item in found] == [(deployment, "digits@1", ["serving.stage"])]
    flag = rig.flags.get(found[0]["flag"])
    assert (flag["kind"], flag["target"], flag["set_by"]) == ("model", "digits@1", ACTOR)
    assert "serving.stage: a version in stage staging is not served in staging" in flag["reason"]
    assert found[0]["decision"] in flag["reason"]
    decision = rig.sentinelnet.get(found[0]["decision"])
    assert (decision.action, decision.subject.id, decision.policy_revision) == ("deploy", deployment, STRICT.revision)
    assert _enforce(rig, serving, deployment) == "quarantined"
    assert review.run() == []


def test_what_still_passes_goes_on_and_is_decided_on_once(rig: Rig) -> None:
    serving, deployment = _deployed(rig)
    other = edited({"data.json": BUNDLE.files["data.json"].replace(b'"min_accuracy": 0.9', b'"min_accuracy": 0.91')})
    rig.publish(other, 2)
    assert [_review(rig, serving).run() for _ in range(3)] == [[], [], []]
    assert [item.verdict.verdict for item in rig.sentinelnet.recent(10, deployment)] == ["pass"]
    assert _enforce(rig, serving, deployment) == "serving"


def test_clearance_lifts_it_and_the_same_decision_does_not_flag_again(rig: Rig) -> None:
    serving, deployment = _deployed(rig)
    rig.publish(STRICT, 2)
    flag = _review(rig, serving).run()[0]["flag"]
    assert _enforce(rig, serving, deployment) == "quarantined"
    rig.flags.lift(flag, rig.clearance(flag), DARIO)
    assert _enforce(rig, serving, deployment) == "serving"
    assert _review(rig, serving).run() == []


def test_deployment_without_its_decision_keeps_no_later_one_from_being_reviewed(rig: Rig) -> None:
    rig.promoted_toy()
    serving, first = _deployed(rig)
    second = serving.deploy(DeploymentSpec(model="toy", number=1, environment="staging"), DARIO)["id"]
    lost = serving.get(first)["decision_id"]
    with begin(rig.engine) as connection:
        connection.execute(delete(decisions).where(decisions.c.id == lost))
    rig.publish(STRICT, 2)
    with pytest.raises(NotFound):
        _review(rig, serving).run()
    assert [flag["target"] for flag in rig.flags.active()] == ["toy@1"]
    assert _enforce(rig, serving, second) == "quarantined"


@pytest.mark.parametrize("persists", [False, True], ids=["fails", "persists then fails"])
def test_flag_that_broke_off_is_set_by_the_next_process_once(persists: bool, rig: Rig) -> None:
    serving, deployment = _deployed(rig)
    rig.publish(STRICT, 2)
    broken = dataclasses.replace(_review(rig, serving), flags=BreakingFlags(rig.flags, persists))
    for _ in range(2):
        with pytest.raises(Unavailable):
            broken.run()
        if persists:
            break
    again = _review(rig, serving)
    assert len(again.run()) == (0 if persists else 1)
    assert again.run() == []
    assert len(rig.flags.active()) == 1
    assert len(rig.sentinelnet.recent(10, deployment)) == 1
    assert _enforce(rig, serving, deployment) == "quarantined"


def test_version_that_is_flagged_already_gets_no_second_flag(rig: Rig) -> None:
    serving, deployment = _deployed(rig)
    rig.flag("dataset", "digits@1")
    rig.publish(edited({"data.json": BUNDLE.files["data.json"].replace(b'"min_accuracy": 0.9', b'"min_accuracy": 0.91')}), 2)
    assert _review(rig, serving).run() == []
    assert [flag["kind"] for flag in rig.flags.active()] == ["dataset"]
    assert _enforce(rig, serving, deployment) == "quarantined"
