"""A few trials of the campaign that kills processes: hundreds of them are `python -m tests.chaos.kill9`."""

from pathlib import Path

from tests.chaos.kill9 import campaign

TRIALS = 6


def test_killed_processes_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    result = campaign(TRIALS, seed=6, folder=tmp_path, predict_every=0)
    assert (result.trials, result.lost, result.problems, result.unaccounted, result.unexpected) == (TRIALS, [], [], [], [])
    assert sum(result.acknowledged.values()) > 0
