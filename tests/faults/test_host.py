"""Faults of the machine under the flow: each is refused by name or mended, and leaves state and log in agreement."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, event

from services.core.database import begin
from services.core.errors import Unavailable
from services.core.outbox import ClockSteppedBack
from tests.faults.flow import Flow
from tests.faults.host import read_only
from tests.faults.table import opened
from tests.unit.test_platform_http import as_, problem

FLAG = {"kind": "model", "target": "digits@1", "reason": "biased"}


@pytest.fixture
def flow() -> Iterator[Flow]:
    with opened() as flow:
        yield flow


@pytest.fixture
def client(flow: Flow) -> TestClient:
    return flow.http


def impatient(engine: Engine) -> None:
    """Waits for a lock for 0.1 s only."""
    wait = {"sqlite": "PRAGMA busy_timeout=100", "postgresql": "SET lock_timeout = 100"}[engine.dialect.name]

    def configure(connection: Any, _record: Any) -> None:
        connection.cursor().execute(wait)
        if engine.dialect.name == "postgresql":
            connection.commit()

    engine.dispose()
    event.listen(engine, "connect", configure)


def test_a_locked_database_is_a_retryable_503_and_nothing_changed(flow: Flow, client: TestClient) -> None:
    impatient(flow.rig.engine)
    headers = as_("eve", **{"idempotency-key": "k"})
    with begin(flow.rig.engine):
        answer = client.post("/v1/flags", json=FLAG, headers=headers)
    assert (problem(answer, 503)["retryable"], answer.headers["retry-after"]) == (True, "1")
    assert (flow.rig.flags.active(), flow.problems()) == ([], [])
    assert client.post("/v1/flags", json=FLAG, headers=headers).status_code == 201
    assert flow.problems() == []


def test_a_clock_that_is_set_back_a_little_does_not_turn_time_back(flow: Flow) -> None:
    flow.registered("before")
    flow.rig.now -= 59
    flow.registered("after")
    before, after = flow.rig.events("dataset.registered")[-2:]
    assert after["ts"] == before["ts"]
    assert flow.problems() == []


def test_a_clock_that_is_set_back_far_is_named_and_nothing_is_written_until_it_is_right(flow: Flow) -> None:
    flow.registered("before")
    flow.rig.now -= 3600
    with pytest.raises(ClockSteppedBack, match="the clock is 3600 s behind the last event"):
        flow.registered("after")
    assert "after" not in {item["name"] for item in flow.rig.datasets.all()}
    flow.rig.now += 3600
    flow.registered("after")
    assert flow.problems() == []


def test_a_log_folder_that_is_read_only_holds_up_checkpoints_and_nothing_else(flow: Flow) -> None:
    flow.rig.audit.publish()
    with read_only(flow.rig.folder / "log"):
        flow.registered("while")
        flow.rig.relay.flush()
        with pytest.raises(Unavailable, match="could not be written: Permission denied"):
            flow.rig.audit.publish()
        assert flow.rig.audit.verify().ok
    checkpoint = flow.rig.audit.publish()
    assert checkpoint is not None
    assert (checkpoint.size, flow.problems()) == (flow.rig.audit.size(), [])


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def garbled(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:-3] + bytes(255 - byte for byte in data[-3:]))


def emptied(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("tear", [truncated, garbled, emptied, Path.unlink])
@pytest.mark.parametrize("kind", ["tile/0/*.p/*", "tile/entries/*.p/*", "checkpoint"])
def test_a_torn_last_file_of_the_log_is_found_and_the_next_checkpoint_mends_it(
    flow: Flow, kind: str, tear: Callable[[Path], None]
) -> None:
    flow.rig.audit.publish()
    files = sorted((flow.rig.folder / "log").glob(kind), key=lambda path: int(path.name) if path.name.isdigit() else 0)
    tear(files[-1])
    assert not flow.rig.audit.verify().ok
    flow.registered("next")
    assert flow.problems() == []
