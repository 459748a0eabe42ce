"""Every built-in that a rule may use gives the same answers on OPA and on the embedded engines; those that differ are refused."""

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import regopy

from services.core.bundle import DATA, Bundle
from services.core.rego_lint import ALLOWED, problems
from services.sentinelnet.backends import wasm
from tests.peers import need
from tests.sentinelnet import opa_server

ODD = 'a"b\\c\n\u0001é\U0001f600'
INPUT = {
    "plain": "abc", "odd": ODD, "lines": "abc\n", "digits": "\u06631x",
    "number": 0.9722222222222222, "large": 1234567, "list": ["b", "a"], "none": None,
}  # fmt: skip

SAME = {
    "abs": ["abs(-1.5)", "abs(-12345678)", "abs(0)"],
    "array.concat": ["array.concat([1], [2])", 'array.concat([], ["a"])'],
    "ceil": ["ceil(1.2)", "ceil(-1.2)", "ceil(input.large)"],
    "concat": ['concat(", ", input.list)', 'concat("", [])', 'concat("-", [input.odd, "x"])'],
    "count": ["count(input.list)", "count({})", "count({1, 2})", 'count("abc")'],
    "endswith": ['endswith(input.plain, "c")', 'endswith(input.odd, "x")'],
    "floor": ["floor(1.7)", "floor(-1.7)", "floor(input.number * 100)"],
    "is_array": ["is_array(input.list)", "is_array(input.none)", "is_array({})"],
    "is_boolean": ["is_boolean(false)", "is_boolean(0)"],
    "is_null": ["is_null(input.none)", 'is_null("")'],
    "is_number": ["is_number(input.number)", "is_number(input.plain)", "is_number(1)"],
    "is_object": ["is_object({})", "is_object(input.list)"],
    "is_set": ["is_set({1})", "is_set([1])"],
    "is_string": ["is_string(input.odd)", "is_string(1)"],
    "numbers.range": ["numbers.range(1, 4)", "numbers.range(2, 2)"],
    "object.get": ['object.get(input, "none", 1)', 'object.get(input, ["absent", "x"], "d")', 'object.get(input, ["list", 0], 1)'],
    "object.keys": ['sort(object.keys({"b": 1, "a": 2}))', "count(object.keys({}))"],
    "object.remove": ['object.remove({"a": 1, "b": 2}, ["a"])', 'object.remove({}, ["a"])'],
    "regex.find_n": ["regex.find_n(`[ac]`, input.plain, -1)", "regex.find_n(`b`, input.odd, 1)", "regex.find_n(`x`, input.odd, 2)",
                     "regex.find_n(`^[a-z]+$`, input.lines, -1)", r"regex.find_n(`\d\w`, input.digits, -1)"],
    "regex.match": ["regex.match(`^[a-c]{3}$`, input.plain)", "regex.match(`^sha256:[0-9a-f]{64}$`, input.odd)",
                    "regex.match(`^[a-z]+$`, input.lines)", r"regex.match(`^\d$`, input.digits)"],
    "round": ["round(input.number * 10000)", "round(2.5)", "round(-1.4)"],
    "set": ["count(set())", "{1} - {1} == set()"],
    "sort": ["sort(input.list)", "sort([])", 'sort(["10", "9", "é", "z"])'],
    "sprintf": ['sprintf("%s is %d of %d%%", [input.odd, 7, input.large])', 'sprintf("%s", [input.plain])'],
    "startswith": ['startswith(input.plain, "ab")', 'startswith(input.odd, "b")'],
    "sum": ["sum([1, 2])", "sum([])", "sum([12345678, 1])"],
    "type_name": ["type_name(input.none)", "type_name(input.list)", "type_name(1)", "type_name(true)"],
}

DIFFERENT = [
    "regex.find_n(`a*`, `baaac`, -1)", 'regex.find_n("\\\\d?", "a1", -1)',
    "regex.match(`(?i)A`, input.plain)", "regex.find_n(`(?i)A`, input.plain, -1)",
    "[true | every x in [1] { not x == 1 }]", "[true | every x in {1, 2} { x > 0; not x in {1, 2} }]",
    "max([10, 9])", "min([2, 10])", "walk([1])", 'sprintf("%q", [input.plain])', 'upper("é")', 'net.cidr_is_valid("10.0.0.0/8")',
    'strings.split_n("a.b", ".", 1)', "json.match_schema(1, {})", 'time.parse_rfc3339_ns("2026-01-01T00:00:00Z")',
]  # fmt: skip
"""Expressions that the engines answer differently, or that one of them does not answer at all."""


def _module(expression: str) -> str:
    return f"package example\n\nimport rego.v1\n\nvalue := [{expression}]\n"


@pytest.fixture(scope="module")
def opa() -> Iterator[httpx.Client]:
    with opa_server(need("opa")) as url, httpx.Client(base_url=url) as client:
        yield client


def _theirs(opa: httpx.Client, expression: str) -> Any:
    """OPA's answer; None when it takes the module but has no value."""
    if not opa.put("/v1/policies/example", content=_module(expression)).is_success:
        return "refused"
    return opa.post("/v1/data/example/value", json={"input": INPUT}).json().get("result")


def _ours(expression: str) -> Any:
    try:
        interpreter = regopy.Interpreter()
        interpreter.add_module("example", _module(expression))
        interpreter.set_input_term(json.dumps(INPUT, ensure_ascii=False))
        output = interpreter.query_bundle(interpreter.build("data.example.value"))
        return output.results[0].expressions[0] if output.ok() and output.results and output.results[0].expressions else None
    except (regopy.RegoError, ValueError):
        return "broke"


def test_every_allowed_builtin_has_examples() -> None:
    assert set(SAME) == ALLOWED
    assert [name for name, examples in SAME.items() if not any(f"{name}(" in text for text in examples)] == []


@pytest.mark.parametrize("name", sorted(SAME))
def test_allowed_builtin_gives_equal_answers(name: str, opa: httpx.Client) -> None:
    found = [(text, _ours(text), _theirs(opa, text)) for text in SAME[name]]
    assert [item for item in found if item[1] != item[2] or item[2] in (None, "refused")] == []


def test_allowed_builtins_give_equal_answers_as_a_program(opa: httpx.Client) -> None:
    expressions = [text for examples in SAME.values() for text in examples]
    answers = ", ".join(f"[found | found := {text}]" for text in expressions)
    module = f"package sentinelnet\n\nimport rego.v1\n\ndecision := [{answers}]\n"
    program = wasm.open_engine(need("opa")).evaluate(Bundle({"decision.rego": module.encode(), DATA: b"{}"}), INPUT)
    found = [(text, mine, _theirs(opa, text)) for text, mine in zip(expressions, program, strict=True)]
    assert [item for item in found if item[1] != item[2]] == []


@pytest.mark.parametrize("call", ["regex.match(input.plain, input.odd)", "regex.find_n(input.plain, input.odd, -1)"])
def test_pattern_is_refused_unless_it_is_a_literal(call: str) -> None:
    (found,) = problems({"example.rego": _module(call)})
    assert found.text == f"{call.partition('(')[0]} wants its pattern as a literal text"


@pytest.mark.parametrize("expression", DIFFERENT)
def test_what_the_engines_answer_differently_is_refused(expression: str, opa: httpx.Client) -> None:
    assert _ours(expression) != _theirs(opa, expression)
    assert problems({"example.rego": _module(expression)}) != []


def test_a_builtin_is_refused_unless_it_is_on_the_list() -> None:
    names = _of_opa()
    assert len(names) > 150
    taken = {name for name in names if problems({"a.rego": _module(f'{name}("x")')}) == []}
    assert taken == ALLOWED - {"set"}


def _of_opa() -> list[str]:
    told = subprocess.run([need("opa"), "capabilities", "--current"], capture_output=True, text=True, check=True, timeout=60)
    return [item["name"] for item in json.loads(told.stdout)["builtins"]]
