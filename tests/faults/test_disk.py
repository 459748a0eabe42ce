"""A disk that takes no more bytes, under every step of the flow. Databases are SQLite here: PostgreSQL's disk is its server's."""

from collections.abc import Iterator

import pytest

from services.core.errors import Unavailable
from tests.faults.flow import STEPS, Flow, Step
from tests.faults.host import full_disk
from tests.faults.table import opened


@pytest.fixture
def flow() -> Iterator[Flow]:
    with opened() as flow:
        yield flow


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_a_full_disk_refuses_each_step_until_there_is_room(flow: Flow, step: Step) -> None:
    it = step.prepare(flow, flow.tag())
    with full_disk(), pytest.raises(Unavailable):
        step.act(flow, it)
    assert flow.problems() == []
    step.act(flow, it)
    assert flow.problems() == []


def test_half_a_record_does_not_stand_before_the_next_one(flow: Flow) -> None:
    flow.recorded("first")
    (segment,) = (flow.rig.folder / "router").glob("*.jsonl")
    with full_disk(segment.stat().st_size + 10), pytest.raises(Unavailable, match="the disk is full"):
        flow.recorded("second")
    flow.recorded("third")
    assert flow.records.seal() == 2
    assert flow.problems() == []
