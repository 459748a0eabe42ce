"""The same bundle gives the same decisions on the embedded engines and on OPA, whatever the input looks like."""

import copy
import json
import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from services.core.verdict import Verdict, decide
from services.sentinelnet.backends import opa, regopy, wasm
from services.sentinelnet.ports import PolicyEngine
from tests.peers import need
from tests.sentinelnet import BUNDLE, GOOD, broken_inputs, opa_server

CORPUS = Path(__file__).parent / "corpus"
RECORDED = [json.loads(line) for path in sorted(CORPUS.glob("*.jsonl")) for line in path.read_text().splitlines()]
"""Inputs of decisions in flows that the tests' platform carried out: registration, promotion and attacks on it, flags, policies.
And those on programs that the AWS provider planned."""

MIXED = 60
SAMPLED = {"apply": 240, "provision": 120}
"""An environment has thousands of places to break, and a decision on it takes longer than any other: so many of them, by chance."""


@pytest.fixture(scope="module")
def server() -> Iterator[PolicyEngine]:
    with opa_server(need("opa")) as url:
        yield opa.open_engine(url)


@pytest.fixture(scope="module", params=["regopy", "wasm"])
def embedded(request: pytest.FixtureRequest) -> PolicyEngine:
    return regopy.open_engine() if request.param == "regopy" else wasm.open_engine(need("opa"))


def _verdict(engine: PolicyEngine, action: str, facts: Any) -> Verdict:
    return decide(engine.evaluate(BUNDLE, {**facts, "action": action}), BUNDLE.rules_for(action))


@pytest.mark.parametrize("action", sorted(GOOD))
def test_good_input_passes_on_both_engines(action: str, embedded: PolicyEngine, server: PolicyEngine) -> None:
    assert {_verdict(engine, action, GOOD[action]).verdict for engine in (server, embedded)} == {"pass"}


@pytest.mark.parametrize("action", sorted(GOOD))
def test_broken_input_gets_the_same_reports_on_both_engines(action: str, embedded: PolicyEngine, server: PolicyEngine) -> None:
    assert _differences(_broken(action), action, embedded, server) == []


def test_recorded_input_gets_the_same_reports_on_both_engines(embedded: PolicyEngine, server: PolicyEngine) -> None:
    assert [item for facts in RECORDED for item in _differences([("recorded", facts)], facts["action"], embedded, server)] == []


@pytest.mark.parametrize("action", ["train", "promote"])
def test_random_input_gets_the_same_reports_on_both_engines(action: str, embedded: PolicyEngine, server: PolicyEngine) -> None:
    assert _differences(_mixed(action), action, embedded, server) == []


def test_the_corpus_is_large_enough_and_recorded_in_every_action() -> None:
    generated = sum(len(_broken(action)) for action in GOOD) + 2 * MIXED
    assert generated + len(RECORDED) >= 300
    assert len(RECORDED) >= 30
    assert {facts["action"] for facts in RECORDED} == set(BUNDLE.actions)


def _differences(
    inputs: Iterable[tuple[str, Any]], action: str, embedded: PolicyEngine, server: PolicyEngine
) -> list[tuple[str, Any, Any]]:
    """Inputs on which whole reports differ, reasons and all."""
    found = []
    for name, facts in inputs:
        mine, theirs = _verdict(embedded, action, facts), _verdict(server, action, facts)
        if mine != theirs:
            found.append((name, mine.refusals, theirs.refusals))
    return found


def _broken(action: str) -> list[tuple[str, Any]]:
    found = list(broken_inputs(action))
    return random.Random(20260101).sample(found, SAMPLED[action]) if action in SAMPLED else found


def _mixed(action: str) -> Iterator[tuple[str, Any]]:
    """Inputs with several places broken at once, and lists of up to a dozen items."""
    chance = random.Random(20260101)
    broken = [facts for _, facts in broken_inputs(action)]
    for number in range(MIXED):
        facts = {key: chance.choice(broken).get(key) for key in GOOD[action] if chance.random() < 0.95}
        if isinstance(facts.get("datasets"), list) and number % 2:
            facts["datasets"] = [copy.deepcopy(chance.choice(broken)).get("datasets") for _ in range(chance.randint(0, 12))]
            facts["datasets"] = [item for items in facts["datasets"] if isinstance(items, list) for item in items]
        yield f"mixed {number}", facts
