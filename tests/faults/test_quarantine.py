"""Flags that are enforced round after round: one deployment that cannot be looked at protects no other."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete

from services.api.quarantine import Quarantine
from services.core.database import begin
from services.core.errors import AiInfraError, NotFound, Unavailable
from services.registry import tables
from services.serving.domain import DeploymentSpec
from services.serving.errors import Quarantined
from services.serving.service import Serving
from tests.attacks import rig as attacks
from tests.registry import Rig

DARIO = "spiffe://ai-infra.local/person/dario"


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with attacks.at(attacks.PROMOTED, tmp_path) as made:
        made.promoted_toy()
        yield made


class LogAway:
    """The port `Log` of a log that does not answer."""

    def told(self, kind: str, subject: str | None = None) -> list[dict[str, Any]]:
        raise Unavailable("the log is away")


def _deployed(serving: Serving, model: str) -> str:
    return str(serving.deploy(DeploymentSpec(model=model, number=1, environment="staging"), DARIO)["id"])


def _states(serving: Serving, *deployments: str) -> list[str]:
    return [str(serving.get(deployment)["state"]) for deployment in deployments]


def _enforced(rig: Rig, serving: Serving, error: type[AiInfraError]) -> None:
    with pytest.raises(error):
        Quarantine(rig.models, rig.evidences, serving).enforce()


def test_deleted_flag_of_one_deployment_does_not_keep_a_later_one_serving(rig: Rig) -> None:
    serving = attacks.serving(rig)
    older, newer = _deployed(serving, "digits"), _deployed(serving, "toy")
    rig.flag()
    Quarantine(rig.models, rig.evidences, serving).enforce()
    with begin(rig.engine) as connection:
        connection.execute(delete(tables.flags))
    rig.flag("model", "toy@1")
    _enforced(rig, serving, Quarantined)
    assert _states(serving, older, newer) == ["quarantined", "quarantined"]


def test_traffic_is_stopped_while_the_log_cannot_say_whether_other_traffic_may_resume(rig: Rig) -> None:
    serving = attacks.serving(rig)
    older, newer = _deployed(serving, "digits"), _deployed(serving, "toy")
    flag = rig.flag()
    Quarantine(rig.models, rig.evidences, serving).enforce()
    rig.flags.lift(flag, rig.clearance(flag), DARIO)
    rig.flag("model", "toy@1")
    versions = dataclasses.replace(serving.versions, log=LogAway())  # type: ignore[type-var]
    _enforced(rig, dataclasses.replace(serving, versions=versions), Unavailable)
    assert _states(serving, older, newer) == ["quarantined", "quarantined"]
    Quarantine(rig.models, rig.evidences, serving).enforce()
    assert _states(serving, older, newer) == ["serving", "quarantined"]


def test_version_without_a_record_keeps_no_flagged_one_serving(rig: Rig) -> None:
    serving = attacks.serving(rig)
    _deployed(serving, "digits")
    newer = _deployed(serving, "toy")
    rig.flag("model", "toy@1")
    with begin(rig.engine) as connection:
        connection.execute(delete(tables.model_versions).where(tables.model_versions.c.model == "digits"))
    _enforced(rig, serving, NotFound)
    assert _states(serving, newer) == ["quarantined"]
