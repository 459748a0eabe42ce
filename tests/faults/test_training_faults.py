"""A crash at each write of a run's end, before or after it took effect: the next step finishes the run, once."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from services.core.errors import AiInfraError
from tests.fakes.breaking_store import BreakingStore, Crash
from tests.training import TARA, Stage, repository


class Breaks:
    """Dies at the call number `at`."""

    def __init__(self, at: int = 0) -> None:
        self._left = at

    def __call__(self, *_: Any) -> None:
        self._left -= 1
        if self._left == -1:
            raise Crash


def ready(tmp_path: Path) -> tuple[Stage, str]:
    """A run that compute finished and the service has not yet looked at."""
    stage = Stage(tmp_path)
    stage.add_dataset()
    run_id = stage.service.start(stage.order(repository(tmp_path / "repo")), TARA)["id"]
    stage.compute.finish(run_id)
    return stage, run_id


def finished_once(stage: Stage, run_id: str) -> None:
    """The next process finishes the run; its events are there once."""
    stage.restarted().step()
    stage.restarted().step()
    run = stage.service.get(run_id)
    assert run["state"] == "completed"
    assert stage.types() == ["train.started", "artifact.uploaded", "train.completed"]
    assert [entry.path for entry in stage.artifacts.recomputed(run["artifactId"])] == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]


@pytest.mark.parametrize("persists", [False, True])
@pytest.mark.parametrize("put", ["file list", "provenance"])
def test_the_end_of_a_run_survives_a_crash_at_the_store(tmp_path: Path, put: str, persists: bool) -> None:
    stage, run_id = ready(tmp_path)
    number = ["file list", "provenance"].index(put)
    broken = replace(stage.service, store=BreakingStore(stage.store, number, persists=persists))
    with pytest.raises(Crash):
        broken.step()
    assert (stage.states(), stage.types()) == (["running"], ["train.started"])
    finished_once(stage, run_id)


def test_the_end_of_a_run_survives_a_crash_at_the_signature(tmp_path: Path) -> None:
    stage, run_id = ready(tmp_path)
    stage.signing.fault = Breaks()
    with pytest.raises(Crash):
        stage.service.step()
    assert (stage.states(), stage.types()) == (["running"], ["train.started"])
    finished_once(stage, run_id)


@pytest.mark.parametrize("event", [0, 1])
def test_artifact_and_run_and_their_events_are_one_write(tmp_path: Path, event: int) -> None:
    stage, run_id = ready(tmp_path)
    stage.events.fault.append(Breaks(event))
    with pytest.raises(Crash):
        stage.service.step()
    assert (stage.states(), stage.types()) == (["running"], ["train.started"])
    finished_once(stage, run_id)


def test_a_crash_before_the_working_folder_is_removed_changes_nothing(tmp_path: Path) -> None:
    stage, run_id = ready(tmp_path)
    keep, stage.compute.forget = stage.compute.forget, Breaks()
    with pytest.raises(Crash):
        stage.service.step()
    stage.compute.forget = keep
    finished_once(stage, run_id)


def test_row_and_event_of_a_start_are_one_write(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.add_dataset()
    order = stage.order(repository(tmp_path / "repo"))
    stage.events.fault.append(Breaks())
    with pytest.raises(Crash):
        stage.service.start(order, TARA)
    assert (stage.states(), stage.types(), stage.compute.orders) == ([], [], [])


def test_a_crash_before_the_run_is_submitted_is_made_good(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.add_dataset()
    keep, stage.compute.submit = stage.compute.submit, Breaks()
    with pytest.raises(Crash):
        stage.service.start(stage.order(repository(tmp_path / "repo")), TARA)
    assert (stage.states(), stage.types()) == (["running"], ["train.started"])
    stage.compute.submit = keep
    stage.restarted().step()
    assert len(stage.compute.orders) == 1


def test_a_run_that_cannot_be_submitted_fails_with_the_reason_and_others_go_on(tmp_path: Path) -> None:
    stage, good = ready(tmp_path)
    bad = stage.service.start(stage.order(tmp_path / "repo"), TARA)["id"]
    stage.compute.states.pop(bad)

    def refuse(order: Any) -> None:
        raise AiInfraError("workers: this machine runs at most 4")

    stage.compute.submit = refuse
    stage.service.step()
    assert (stage.service.get(bad)["state"], stage.service.get(bad)["error"]) == ("failed", "workers: this machine runs at most 4")
    assert stage.service.get(good)["state"] == "completed"
