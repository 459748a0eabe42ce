"""Each value of an environment's YAML changes the resources that it is about, and no other: over the whole ground."""

import copy
from collections.abc import Iterator, Mapping
from functools import cache, reduce
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from stacks.config import GroundStack, parse
from stacks.ground import ground
from tests.infra.edits import matches
from tests.infra.knobs import ELSEWHERE, KNOBS, Knob
from tests.infra.recorded import Graph, changed, recorded
from tests.infra.test_stack_config import values


def _made(given: Mapping[str, Any]) -> Graph:
    stack = copy.deepcopy(values("dev"))
    for path, value in given.items():
        *outer, last = (int(step) if step.isdigit() else step for step in path.split("."))
        reduce(lambda part, step: part[step], outer, stack)[last] = copy.deepcopy(value)
    config = parse("dev-ground", stack)
    assert isinstance(config, GroundStack)
    return recorded(lambda: ground(config))


@cache
def _dev() -> Graph:
    return _made({})


@pytest.mark.parametrize("knob", KNOBS, ids=[knob.path for knob in KNOBS])
def test_knob_changes_the_resources_that_it_is_about_and_no_other(knob: Knob) -> None:
    before = _made(knob.given) if knob.given else _dev()
    found = {f"{kind}:{name}" for kind, name in changed(before, _made({**knob.given, knob.path: knob.value}))}
    others = {item for item in found if not any(matches(pattern, item) for pattern in knob.changes)}
    untouched = [pattern for pattern in knob.changes if not any(matches(pattern, item) for item in found)]
    assert (others, untouched) == (set(), [])


def test_every_value_of_the_configuration_is_a_knob() -> None:
    paths = {knob.path.replace(".0.", ".") for knob in KNOBS}
    # Of a mapping one key stands for all.
    paths = {"ground.cluster.addons" if path.startswith("ground.cluster.addons.") else path for path in paths}
    assert set(_leaves(GroundStack)) == paths | ELSEWHERE


def _leaves(model: type[BaseModel], at: str = "") -> Iterator[str]:
    for name, info in model.model_fields.items():
        inner = next((kind for kind in _kinds(info.annotation) if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
        if inner is None:
            yield f"{at}{name}"
        else:
            yield from _leaves(inner, f"{at}{name}.")


def _kinds(annotation: Any) -> Iterator[Any]:
    """A type, and all within it: the items of a list, what may be null."""
    yield annotation
    for part in get_args(annotation):
        yield from _kinds(part)
