"""Every operation of API, signing proxy and router, called by Schemathesis on a home with real data, as several callers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.client import Client
from services.home import Home
from tests.openapi import ALMIGHTY, Findings, explore, served_copy

pytestmark = pytest.mark.timeout(1200)  # the demo may have to run first

ONLY_REFUSED = {
    "POST /v1/promotions/{promotion_id}/approvals": "those that it is called with are carried out already",
    "POST /v1/flags/{flag_id}/clearance": "no flag is set when the walk begins, and a clearance names its flag",
    "POST /v1/runs": "would train",
    "POST /v1/runs/{run_id}/rerun": "would train; the data set is under quarantine by then",
    "POST /v1/runs/{run_id}/retry": "no run has failed",
    "POST /v1/runs/{run_id}/cancel": "no run is under way",
    "POST /v1/deployments": "would start predictors; the models are under quarantine by then",
    "POST /v1/rollouts": "would start predictors; the models are under quarantine by then",
    "POST /v1/rollouts/{rollout}/complete": "no rollout is undecided",
    "POST /v1/rollouts/{rollout}/extend": "no rollout is undecided",
    "POST /v1/rollouts/{id}/answers": "no rollout is under way",
    "POST /v1/sign/checkpoint": "takes a proof from the last checkpoint that was signed, and the log grows all the while",
}
"""Operations that write and do nothing on this home, with the reason; tests of their services make them succeed."""

EXAMPLES = 8
"""Generated requests for each operation and kind of data; `python -m tests.openapi` makes more."""


@pytest.fixture(scope="module")
def explored(demo: tuple[Path, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Home, Findings]]:
    """A copy of the demo's home after it was called, still served."""
    with served_copy(Home.at(demo[0]), tmp_path_factory.mktemp("openapi")) as platform:
        yield platform.home, explore(platform, examples=EXAMPLES)


def test_answers_are_as_documented_and_never_a_fault(explored: tuple[Home, Findings]) -> None:
    assert explored[1].problems == {}


def test_every_operation_was_called_and_most_answered_with_what_exists(explored: tuple[Home, Findings]) -> None:
    statuses = explored[1].statuses
    assert [operation for operation, answers in statuses.items() if not answers] == []
    never = [operation for operation, answers in statuses.items() if min(answers) >= 300]
    reads = [operation for operation in statuses if operation.startswith("GET")]
    assert len(set(never) & set(reads)) < 0.2 * len(reads)
    assert [operation for operation in never if operation not in reads and operation not in ONLY_REFUSED] == []
    assert set(ONLY_REFUSED) <= set(statuses)


def test_afterwards_state_and_log_agree_and_no_process_has_told_of_a_fault(explored: tuple[Home, Findings]) -> None:
    home = explored[0]
    with Client.connect(home, ALMIGHTY) as client:
        assert client.reconcile()["problems"] == []
        assert client.audit_verify()["ok"]
    logs = {path.name: path.read_text() for path in (home.root / "logs").iterdir()}
    assert [name for name, text in logs.items() if "unexpected error" in text] == []
