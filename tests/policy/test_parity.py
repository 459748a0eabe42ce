"""The same bundle gives the same decisions on the embedded engine and on OPA, whatever the input looks like."""

from collections.abc import Iterator
from typing import Any

import pytest

from services.core.verdict import Verdict, decide
from services.sentinelnet.backends import opa, regopy
from services.sentinelnet.ports import PolicyEngine
from tests.peers import need
from tests.sentinelnet import BUNDLE, GOOD, broken_inputs, opa_server


@pytest.fixture(scope="module")
def server() -> Iterator[PolicyEngine]:
    with opa_server(need("opa")) as url:
        yield opa.open_engine(url)


def _verdict(engine: PolicyEngine, action: str, facts: Any) -> Verdict:
    return decide(engine.evaluate(BUNDLE, {**facts, "action": action}), BUNDLE.rules_for(action))


@pytest.mark.parametrize("action", sorted(GOOD))
def test_good_input_passes_on_both_engines(action: str, server: PolicyEngine) -> None:
    assert {_verdict(engine, action, GOOD[action]).verdict for engine in (server, regopy.open_engine())} == {"pass"}


@pytest.mark.parametrize("action", sorted(GOOD))
def test_broken_input_gets_the_same_reports_on_both_engines(action: str, server: PolicyEngine) -> None:
    embedded = regopy.open_engine()
    different = []
    for name, facts in broken_inputs(action):
        mine, theirs = _verdict(embedded, action, facts), _verdict(server, action, facts)
        if mine != theirs:
            different.append((name, mine.refusals, theirs.refusals))
    assert different == []
