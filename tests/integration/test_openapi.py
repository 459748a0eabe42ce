"""Every operation of API, signing proxy and router, called by Schemathesis on a home with real data, as several callers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.client import Client
from services.home import Home
from tests.openapi import ALMIGHTY, Findings, explore, served_copy

pytestmark = pytest.mark.timeout(1200)  # the demo may have to run first

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
    found = [operation for operation, answers in statuses.items() if any(status < 300 for status in answers)]
    reads = [operation for operation in statuses if operation.startswith("GET")]
    assert len(set(found) & set(reads)) > 0.8 * len(reads)


def test_afterwards_state_and_log_agree_and_no_process_has_told_of_a_fault(explored: tuple[Home, Findings]) -> None:
    home = explored[0]
    with Client.connect(home, ALMIGHTY) as client:
        assert client.reconcile()["problems"] == []
        assert client.audit_verify()["ok"]
    logs = {path.name: path.read_text() for path in (home.root / "logs").iterdir()}
    assert [name for name, text in logs.items() if "unexpected error" in text] == []
