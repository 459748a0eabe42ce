"""A crash at any write of a decision or a publication leaves all of it or nothing, and the same call again succeeds."""

import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, event, func, select

from services.core.events import Subject
from services.core.object_backends.folder import open_store
from services.sentinelnet.tables import decisions, policies
from tests.fakes.breaking_store import BreakingStore, Crash
from tests.sentinelnet import GOOD, SAM, Platform, blocking

DIED = 9
JOB = Subject("run", "run-1")
BLOCKED = blocking("sha256:" + "d" * 64)


def _decide(platform: Platform) -> Any:
    return platform.net.decide("train", GOOD["train"], JOB, SAM)


def _publish(platform: Platform) -> Any:
    return platform.publish(BLOCKED, 2)


def _state(platform: Platform) -> tuple[int, int, int, int]:
    """Decisions, their events, bundles, their events."""
    with platform.database.connect() as connection:
        rows = [connection.execute(select(func.count()).select_from(table)).scalar_one() for table in (decisions, policies)]
    return rows[0], len(platform.events("policyCheck")), rows[1], len(platform.events("policy.published"))


def _consistent(platform: Platform) -> bool:
    made, told, bundles, published = _state(platform)
    return made == told and bundles == published


# Puts of one call: its decision's input; a publication puts bundle and envelope after it.
@pytest.mark.parametrize("persists", [False, True])
@pytest.mark.parametrize(("act", "breaks"), [(_decide, 0), (_publish, 0), (_publish, 1), (_publish, 2)])
def test_crash_while_storing_objects(act: Callable[[Platform], Any], breaks: int, persists: bool, tmp_path: Path) -> None:
    Platform(tmp_path).publish()
    broken = BreakingStore(open_store(str(tmp_path / "objects")), breaks, persists=persists)
    with pytest.raises(Crash):
        act(Platform(tmp_path, store=broken))
    after = Platform(tmp_path)
    assert _consistent(after)
    assert after.net.active().version == 1
    act(after)
    assert _consistent(after)
    assert after.net.active().version == (2 if act is _publish else 1)


@pytest.mark.parametrize("moment", ["before the commit", "after the commit"])
@pytest.mark.parametrize(("act", "table"), [(_decide, "decisions"), (_publish, "decisions"), (_publish, "policies")])
def test_crash_around_the_transaction(act: Callable[[Platform], Any], table: str, moment: str, tmp_path: Path) -> None:
    Platform(tmp_path).publish()
    before = _state(Platform(tmp_path))
    process = multiprocessing.get_context("fork").Process(target=_die, args=(act, tmp_path, f"INSERT INTO {table}", moment))
    process.start()
    process.join(60)
    assert process.exitcode == DIED
    after = Platform(tmp_path)
    assert _consistent(after)
    committed = moment == "after the commit"
    done = _state(after)
    if table == "policies":
        assert done == (before[0] + 1, before[1] + 1, before[2] + committed, before[3] + committed)
    else:
        assert done == (before[0] + committed, before[1] + committed, before[2], before[3])
    act(after)
    assert _consistent(after)
    assert after.net.active().version == (2 if act is _publish else 1)


def _die(act: Callable[[Platform], Any], folder: Path, statement_start: str, moment: str) -> None:
    """Acts, and lets this process die once the statement was executed, or once its transaction was committed."""
    platform = Platform(folder)
    seen: list[bool] = []

    def executed(connection: Connection, cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith(statement_start):
            seen.append(True)
            if moment == "before the commit":
                os._exit(DIED)
        if seen and statement == "COMMIT" and moment == "after the commit":
            os._exit(DIED)

    event.listen(platform.database, "after_cursor_execute", executed)
    act(platform)


@pytest.mark.parametrize("fault", ["fails", "persists_then_fails"])
def test_log_that_breaks_off_gets_the_decision_later(fault: str, tmp_path: Path) -> None:
    platform = Platform(tmp_path)
    platform.publish()
    platform.bus.faults[0] = fault
    with pytest.raises(Exception, match="log"):
        platform.net.decide("train", GOOD["train"], JOB, SAM, logged=True)
    platform.relay.flush()
    assert [item["id"] for item in platform.bus.events] == [item["id"] for item in platform.events()]
    assert _consistent(platform)
