"""Each fact of a decision's input is recomputed: one that is altered, missing or added anywhere is found by its name."""

import copy
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.core import archive as layout
from services.core.canonical import parse
from services.core.storedzip import Reader
from services.verify import links
from services.verify.chain import chain
from services.verify.walk import BrokenLink, Walk
from tests.predictions import served
from tests.registry import trust

Place = tuple[str | int, ...]
OTHER: dict[type, Any] = {
    str: "another", int: 7, float: 0.5, bool: None, type(None): "another", list: [{"new": 1}], dict: {"new": 1},
}  # fmt: skip
"""Another value of the same type, where the type has one."""


@pytest.fixture(scope="module")
def walk() -> Iterator[Walk]:
    """After every link held."""
    with tempfile.TemporaryDirectory() as folder, served(Path(folder)) as platform:
        path = platform.archive(platform.predict(), Path(folder) / "evidence.zip")
        with Reader.open(path) as members:
            walk = Walk(members, trust())
            for _, check in chain(predicted=True, own=False):
                check(walk)
            yield walk


@pytest.fixture(scope="module", params=[layout.DECISION_INPUT, layout.DEPLOY_INPUT])
def told(request: pytest.FixtureRequest, walk: Walk) -> tuple[dict[str, Any], dict[str, Any]]:
    """A recorded input, which is the computed one too, and the event of its decision."""
    promotion = request.param == layout.DECISION_INPUT
    return parse(walk.members[request.param]), (walk.decision if promotion else walk.deploy_decision)[1]


def every(value: Any, path: Place = ()) -> Iterator[Place]:
    """Where the values of an input stand: objects, lists, and what is in them."""
    if path:
        yield path
    items: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from every(item, (*path, key))


def at(value: Any, path: Place) -> Any:
    for key in path:
        value = value[key]
    return value


def refused(recorded: Any, told: tuple[dict[str, Any], dict[str, Any]]) -> str:
    computed, event = told
    with pytest.raises(BrokenLink) as error:
        links.same_facts(recorded, lambda now: computed | {"now": now}, event)
    return str(error.value)


def test_the_input_as_recorded_holds(told: tuple[dict[str, Any], dict[str, Any]]) -> None:
    assert links.same_facts(told[0], lambda now: told[0], told[1]) == len(told[0])
    assert len(list(every(told[0]))) > 15


def test_each_fact_altered_in_turn_is_named(told: tuple[dict[str, Any], dict[str, Any]]) -> None:
    for path in every(told[0]):
        changed = copy.deepcopy(told[0])
        old = at(changed, path)
        at(changed, path[:-1])[path[-1]] = OTHER[type(old)]
        message = refused(changed, told)
        assert repr(path[0]) in message or (path == ("now",) and "time" in message), path


def test_each_fact_left_out_is_named(told: tuple[dict[str, Any], dict[str, Any]]) -> None:
    for path in every(told[0]):
        changed = copy.deepcopy(told[0])
        del at(changed, path[:-1])[path[-1]]
        message = refused(changed, told)
        assert repr(path[0]) in message or (path == ("now",) and "time" in message), path


def test_one_fact_more_anywhere_is_named(told: tuple[dict[str, Any], dict[str, Any]]) -> None:
    """`signature.verified: true` is an assertion, not a fact: nothing recomputes it."""
    assert refused(told[0] | {"verified": True}, told) == "the fact 'verified' is nothing that evidence tells"
    for path in every(told[0]):
        changed = copy.deepcopy(told[0])
        value = at(changed, path)
        if isinstance(value, dict):
            value["verified"] = True
        elif isinstance(value, list):
            value.append(True)
        else:
            continue
        assert repr(path[0]) in refused(changed, told), path


def test_a_value_of_another_type_is_another_fact(told: tuple[dict[str, Any], dict[str, Any]]) -> None:
    """1, 1.0 and true are equal to Python."""
    for path in every(told[0]):
        value = at(told[0], path)
        if (type(value) is int and value in (0, 1)) or type(value) is bool:
            changed = copy.deepcopy(told[0])
            at(changed, path[:-1])[path[-1]] = int(value) if type(value) is bool else bool(value)
            assert repr(path[0]) in refused(changed, told), path


@pytest.mark.parametrize("recorded", [[], None, "input", {}, {"now": "1"}, {"now": True}, {"now": 10**15}], ids=repr)
def test_an_input_of_another_shape_is_refused(told: tuple[dict[str, Any], dict[str, Any]], recorded: Any) -> None:
    assert refused(recorded, told)
