"""Both engines give the same reports on the environments as they are, and on broken copies: no recording, which would grow old."""

import functools
from collections.abc import Iterator
from typing import Any

import pytest

from infra.facts import facts
from infra.render import ENVIRONMENTS
from infra.stack import stack_of
from infra.synth import synthesise
from infra.terraform import Terraform
from infra.written import exceptions
from services.core.verdict import Verdict, decide
from services.sentinelnet.backends import opa, regopy
from services.sentinelnet.ports import PolicyEngine
from tests.infra.graphs import ground
from tests.peers import ROOT, need
from tests.sentinelnet import BUNDLE, opa_server

NOW = 1_800_000_000


@pytest.fixture(scope="module")
def server() -> Iterator[PolicyEngine]:
    with opa_server(need("opa")) as url:
        yield opa.open_engine(url)


@functools.cache
def _facts(environment: str) -> dict[str, Any]:
    need("terraform")
    graph = ground(environment)
    document = synthesise(graph)
    noted = [item.to_fact() for item in exceptions(ROOT / "stacks" / "exceptions.yaml", graph.stack)]
    return facts(stack_of(graph, document, Terraform().plan(document)), NOW, noted)


def _bare(given: dict[str, Any]) -> dict[str, Any]:
    """Nothing is protected, and nobody wrote down an exception."""
    kinds = {kind: [item | {"protect": False} for item in found] for kind, found in given["resources"].items()}
    return given | {"resources": kinds, "exceptions": []}


def _destroyed(given: dict[str, Any]) -> dict[str, Any]:
    """All of it is deleted."""
    common = {"actions": ["delete"], "before": {}, "after": None}
    rows = [common | {"address": item["address"], "type": kind, "protect": item["protect"]} for kind, item in _all(given)]
    return given | {"changes": rows}


def _untagged(given: dict[str, Any]) -> dict[str, Any]:
    """No tags, and the statements of another account."""
    kinds = {kind: [item | {"tags": {}} for item in found] for kind, found in given["resources"].items()}
    return given | {"resources": kinds, "account": "999999999999"}


def _looser(given: dict[str, Any]) -> dict[str, Any]:
    """Conditions name nobody any more, but ask for TLS."""
    loose = [{"test": "Bool", "key": "aws:securetransport", "values": ["true"]}]
    return given | {"statements": [item | {"conditions": loose} for item in given["statements"]]}


def _all(given: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    return ((kind, item) for kind, found in given["resources"].items() for item in found)


def _verdict(engine: PolicyEngine, given: dict[str, Any]) -> Verdict:
    return decide(engine.evaluate(BUNDLE, given), BUNDLE.rules_for("provision"))


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_environment_gets_the_same_reports_on_both_engines(environment: str, server: PolicyEngine) -> None:
    given = _facts(environment)
    mine, theirs = _verdict(regopy.open_engine(), given), _verdict(server, given)
    assert mine == theirs
    assert mine.verdict == "pass"


@pytest.mark.parametrize("alter", [_bare, _destroyed, _untagged, _looser])
@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_broken_environment_gets_the_same_reasons_on_both_engines(environment: str, alter: Any, server: PolicyEngine) -> None:
    given = alter(_facts(environment))
    mine, theirs = _verdict(regopy.open_engine(), given), _verdict(server, given)
    assert mine.refusals == theirs.refusals
    assert mine.verdict == "deny"
