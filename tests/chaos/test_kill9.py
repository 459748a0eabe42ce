"""A few trials of the campaign that kills processes: hundreds of them are `python -m tests.chaos.kill9`."""

from pathlib import Path

import pytest

from tests.chaos.kill9 import campaign

# Not the flow that trains, which takes a minute of Ray's starts: `tests/integration/test_training_ray.py` kills one trainer.
PLANS = {"sqlite": [("registry", 2), ("rollout", 1)], "postgresql": [("registry", 2), ("serving", 2)]}


@pytest.mark.parametrize("database", PLANS)
def test_killed_processes_lose_nothing_that_was_acknowledged(tmp_path: Path, database: str) -> None:
    result = campaign(PLANS[database], database, seed=6, folder=tmp_path)
    assert (result.lost, result.problems, result.unaccounted, result.unexpected, result.predictions_lost) == ([], [], [], [], [])
    assert result.trials == sum(trials for _, trials in PLANS[database]) <= sum(result.kills.values())
    assert sum(result.acknowledged.values()) > 0
