"""The kept counts of kills: that they add up and lost nothing, and that the page says what they are."""

from typing import Any

import pytest

from tests.chaos.kill9 import FLOWS, Result
from tests.chaos.page import FOUND, PAGE, added, page, read


@pytest.mark.parametrize("database", read())
def test_kept_campaigns_killed_in_each_trial_and_lost_nothing(database: str) -> None:
    found = read()[database]
    assert found["flows"] == {flow: sum(found["seeds"][flow].values()) for flow in FLOWS}
    assert found["trials"] == sum(found["flows"].values()) <= sum(found["kills"].values())
    assert ({name: found[name] for name in FOUND}, found["ok"]) == ({name: [] for name in FOUND}, True)


def test_another_campaign_is_added_to_the_counts_and_shown_as_what_it_is() -> None:
    before = read()
    result = Result("sqlite", seed=1_000_000, trials=3, events=5, seconds=3600.0, lost=["promotion.completed prm-1"])
    result.flows.update(rollout=3)
    result.kills.update({"api": 2, "ray: raylet": 1})
    after = added(before, result.to_json())
    assert (after["postgresql"], after["sqlite"]["ok"], after["sqlite"]["lost"]) == (before["postgresql"], False, result.lost)
    assert _grown(before, after, "kills") == {"api": 2, "ray: raylet": 1}
    assert _grown(before, after, "flows") == {"rollout": 3}
    assert after["sqlite"]["seeds"]["rollout"]["1000000"] == 3
    assert "| **acknowledged events lost** | **1** | **0** |" in page(after)
    with pytest.raises(ValueError, match="seed 1000000 of flow rollout on sqlite is kept already"):
        added(after, result.to_json())


def _grown(before: Any, after: Any, name: str) -> dict[str, int]:
    old, new = before["sqlite"][name], after["sqlite"][name]
    return {key: value - old.get(key, 0) for key, value in new.items() if value != old.get(key, 0)}


def test_the_page_says_what_the_counts_are() -> None:
    assert page(read()) == PAGE.read_text()
