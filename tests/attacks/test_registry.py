"""What somebody with a certificate tried against the registry, the policies and the log."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from services.audit.http import create_router
from services.core.errors import BadInput, Refused, TooLarge
from services.core.http import create_app
from services.core.tls import service_id
from services.registry.datasets import DatasetManifest, DatasetRegistration
from services.registry.errors import AlreadyRegistered, PromotionRefused
from services.registry.models import Registration
from tests.audit import Home, event
from tests.fakes.registry import Interrupting
from tests.registry import RITA, TOM, Rig, opened
from tests.sentinelnet import blocking


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with opened(tmp_path) as found:
        yield found


def manifest(rig: Rig, **changes: Any) -> DatasetManifest:
    files = rig.files({"train.csv": b"1", "test.csv": b"2", "copy.csv": b"1"})
    value = {
        "files": files, "schema": {}, "licence": "CC-BY-4.0", "source": "x", "pii": "none", "parents": [],
        "splits": {"train": ["train.csv"], "test": ["test.csv"]},
    }  # fmt: skip
    return DatasetManifest.from_json(value | changes)


def test_an_event_too_large_for_the_log_is_refused_and_holds_up_nothing(rig: Rig) -> None:
    parents = [rig.dataset("raw")] * 1000
    order = DatasetRegistration(name="many", version="1", manifest=manifest(rig, parents=parents))
    with pytest.raises(TooLarge):
        rig.datasets.register(order, TOM)
    rig.promoted()
    assert (rig.problems(), rig.stage()) == ([], "staging")


@pytest.mark.parametrize("paths", [["train.csv"], ["test.csv", "train.csv"], ["copy.csv"]])
def test_a_split_that_shares_bytes_with_another_is_no_held_out_one(rig: Rig, paths: list[str]) -> None:
    splits = {"train": ["train.csv"], "test": paths}
    order = DatasetRegistration(name="easy", version="1", manifest=manifest(rig, splits=splits))
    with pytest.raises(BadInput, match="whose bytes are in split"):
        rig.datasets.register(order, TOM)


def test_an_evaluation_on_a_data_set_of_the_trainers_choice_promotes_nothing(rig: Rig) -> None:
    rig.dataset("easy")
    rig.evaluate(1, "easy@1")
    promotion = rig.request()
    rig.approve(promotion, "ada", "ben", "cyd")
    with pytest.raises(PromotionRefused) as refused:
        rig.promotions.carry_out(promotion, RITA)
    assert refused.value.rules == [
        {
            "rule": "promotion.evaluation-present",
            "verdict": "deny",
            "reasons": ["the evaluation is on a data set that the version does not descend from"],
        }
    ]


def test_a_later_version_of_a_high_risk_model_is_not_registered_as_low_risk(rig: Rig) -> None:
    other = rig.train("run-2", [rig.datasets.get("raw@1")["id"]], {"w": b"2"})
    before = rig.models.all()
    with pytest.raises(AlreadyRegistered, match="later versions of digits are not low"):
        rig.models.register("digits", Registration(run=other.id, risk_class="low"), TOM)
    assert rig.models.all() == before


@pytest.mark.parametrize(("model", "sign"), [("digits", True), ("digits", False), ("other", True), ("other", False)])
def test_a_rerun_of_high_risk_weights_is_not_registered_as_low_risk(rig: Rig, model: str, sign: bool) -> None:
    again = rig.train("run-2", [rig.datasets.get("digits@1")["id"]])
    with pytest.raises(AlreadyRegistered, match="of risk class high"):
        rig.models.register(model, Registration(run=again.id, risk_class="low", sign=sign), TOM)


def test_a_version_descends_from_the_data_of_its_parents(rig: Rig) -> None:
    run = rig.train("run-2", [rig.dataset("clean")], {"w": b"2"})
    rig.models.register("digits", Registration(run=run.id, risk_class="high", parents=["digits@1"]), TOM)
    assert set(rig.models.get("digits", 1)["ancestors"]) < set(rig.models.get("digits", 2)["ancestors"])
    rig.flag("dataset", "raw@1")
    assert [flag["kind"] for flag in rig.evidences.flags(rig.models.get("digits", 2))] == ["dataset"]


def test_a_promotion_that_was_held_up_is_not_carried_out_under_other_policies(rig: Rig) -> None:
    promotion = rig.request()
    rig.approve(promotion, "ada", "ben", "cyd")
    bundle = blocking(rig.datasets.get("digits@1")["id"])
    rig.use(replace(rig.ports, policy=Interrupting(rig.ports.policy, lambda: rig.publish(bundle, 2))))
    with pytest.raises(PromotionRefused, match="other policies became active"):
        rig.promotions.carry_out(promotion, RITA)
    rig.use(rig.ports)
    with pytest.raises(PromotionRefused):
        rig.promotions.carry_out(promotion, RITA)
    assert (rig.stage(), rig.problems()) == ("dev", [])


@pytest.mark.parametrize("name", ["router", "predictor", "signing-proxy", "trainer"])
@pytest.mark.parametrize("kind", ["promotion.completed", "policy.published", "quarantine.lifted", "model.registered"])
def test_a_service_tells_the_log_only_of_its_own_work(tmp_path: Path, name: str, kind: str) -> None:
    audit = Home(tmp_path).open()
    app = create_app("test")
    app.include_router(create_router(audit, lambda actor, operation: None))

    async def by(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "spiffe_id": service_id(name)}, receive, send)

    with TestClient(by) as client:
        answer = client.post("/v1/audit/events", json={"events": [event(1, service_id(name), type=kind)]})
    assert (answer.status_code, answer.json()["title"], audit.size()) == (403, Refused.__name__, 0)
