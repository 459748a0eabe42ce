"""Canonical JSON (RFC 8785) and the strict parser: equal values have equal bytes, and nothing doubtful gets in."""

import json
import time
from datetime import date
from enum import Enum, IntEnum, StrEnum
from typing import Any, NamedTuple
from uuid import UUID

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from services.core.canonical import MAX_DEPTH, MAX_SAFE_INTEGER, _parse_alike, canonical, parse, parse_canonical
from services.core.errors import BadJson
from tests.names import told


class Stage(StrEnum):
    PROD = "prod"


class Level(IntEnum):
    LOW = 3


class Plain(Enum):
    WORD = "word"


class Text(str):
    pass


class Pair(NamedTuple):
    first: int
    second: int


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SAFE = st.integers(-MAX_SAFE_INTEGER, MAX_SAFE_INTEGER)
FLOATS = st.floats(allow_nan=False, allow_infinity=False).filter(
    lambda x: not (x.is_integer() and MAX_SAFE_INTEGER < abs(x) < 1e21)
)
VALUES = st.recursive(
    st.none() | st.booleans() | SAFE | FLOATS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
def test_what_is_written_is_read_back_and_written_the_same(value: Any) -> None:
    data = canonical(value)
    assert parse(data) == value
    assert canonical(parse(data)) == data


@given(st.dictionaries(TEXT, SAFE, min_size=2, max_size=6), st.randoms())
def test_the_order_of_keys_does_not_matter(value: dict[str, int], random: Any) -> None:
    items = list(value.items())
    random.shuffle(items)
    assert canonical(dict(items)) == canonical(value)


ASTRAL = st.text(
    st.sampled_from(["a", "b", "\x7f", "ö", "\ud7ff", "\ue000", "\ufb33", "\uffff", "\U00010000", "\U0010ffff"]), max_size=3
)
DOUBTFUL = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.sampled_from([MAX_SAFE_INTEGER, -MAX_SAFE_INTEGER, MAX_SAFE_INTEGER + 1, -MAX_SAFE_INTEGER - 1, 2**63, 2**64])
    | st.floats()
    | st.sampled_from([1.0, -0.0, 1e16, 1e21, 1e-7, 1.5e300])
    | st.text(max_size=8)
    | ASTRAL
    | st.sampled_from(list(Stage) + list(Level) + list(Plain))
    | st.sampled_from([Text("t"), UUID(int=7), date(2026, 1, 1), Pair(1, 2), b"bytes", {1}, object])
    | st.just("\ud800"),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=4) | ASTRAL | st.just("\ud800"), inner, max_size=4)
        | st.dictionaries(st.sampled_from([Text("k"), Stage.PROD, 1, None, ("t",)]), inner, max_size=2)
    ),
    max_leaves=12,
)


def strictly(value: Any) -> bytes | None:
    """What RFC 8785's own library writes, where the strict parser takes it again; None for what is refused."""
    try:
        data = rfc8785.dumps(value)
        parse_strictly(data)
    except (rfc8785.CanonicalizationError, TypeError, AttributeError, UnicodeError, BadJson):
        return None
    return data


def parse_strictly(data: bytes) -> Any:
    """By a space in front of it, which keeps the fast way out."""
    return parse(b" " + data)


def written(value: Any) -> bytes | None:
    try:
        return canonical(value)
    except BadJson:
        return None


@settings(max_examples=500)
@given(DOUBTFUL)
def test_the_fast_way_writes_and_refuses_the_same_as_the_rfcs_library(value: Any) -> None:
    assert written(value) == strictly(value)


@settings(max_examples=200)
@given(
    VALUES,
    st.sampled_from([b"%s", b'{"a":%s}', b"[%s,1.0]", b'{"a":%s,"a":1}', b"[%s ]", b"[[%s],1e1,-0]", b"[%s,9007199254740992]"]),
)
def test_the_fast_way_reads_and_refuses_the_same_as_the_strict_parser(value: Any, around: bytes) -> None:
    data = around % json.dumps(value, ensure_ascii=False).encode()
    assert read(parse, data) == read(parse_strictly, data)
    assert read(parse_canonical, data) == (read(parse, data) if written(read(parse, data)) == data else None)


def read(parser: Any, data: bytes) -> Any:
    try:
        return parser(data)
    except BadJson:
        return None


@pytest.mark.parametrize("character", [*map(chr, range(0xA1)), "\u2028", "\u2029", "\ud7ff", "\ue000", "\uffff", "\U0010ffff"])
def test_every_character_is_escaped_as_the_rfc_says(character: str) -> None:
    assert canonical({character: [character]}) == rfc8785.dumps({character: [character]})


@pytest.mark.parametrize("depth", [MAX_DEPTH - 2, MAX_DEPTH - 1, MAX_DEPTH, MAX_DEPTH + 1, 2 * MAX_DEPTH, 5000])
def test_depth_is_bounded_alike_on_both_ways(depth: int) -> None:
    for data in (b"[" * depth + b"]" * depth, b"[" * depth + b"1" + b"]" * depth, b'{"a":' * depth + b"1" + b"}" * depth):
        assert read(parse, data) == read(parse_strictly, data) == read(parse_canonical, data)


def nested(levels: int) -> Any:
    """A list in a dictionary in a list, that many in all."""
    value: Any = []
    for level in range(levels - 1):
        value = {"a": value} if level % 2 == 0 else [value]
    return value


@pytest.mark.parametrize(
    "value",
    [
        {},
        [],
        {"a": [1, "x", None]},
        [{"name": "Größe €", "n": -1}],
        [[]] * 100,
        {"rows": [{"a": [1]}] * 100},
        nested(MAX_DEPTH - 1),
    ],
    ids=["empty object", "empty list", "object", "text beyond ASCII", "wide list", "wide object", "deep"],
)
def test_what_the_log_is_made_of_goes_the_fast_way(value: Any) -> None:
    """Nothing else tells: the slow way answers the same, only later."""
    assert _parse_alike(canonical(value)) == (True, value)


@pytest.mark.parametrize(
    "data",
    [
        b"1",
        b'"a"',
        b"[1.5]",
        b'{"a":1e9}',
        b"[ 1]",
        b'{"a":1,"a":1}',
        b"[",
        '["😀"]'.encode(),
        canonical(nested(MAX_DEPTH - 1))[:-1],
    ],
)
def test_what_the_fast_way_cannot_tell_it_leaves(data: bytes) -> None:
    assert not _parse_alike(data)[0]


@pytest.mark.parametrize("above", [0, 1, 2])
def test_the_fast_way_goes_no_deeper_than_the_slow_one(above: int) -> None:
    depth = MAX_DEPTH + above
    for data in (b"[" * depth + b"]" * depth, b'{"a":' * depth + b"{}" + b"}" * depth):
        assert not _parse_alike(data)[0]


def test_a_text_that_looks_like_a_float_is_a_text() -> None:
    value = {"a": '":1.5', "b": ["[1.5", ",2e3"], "c": "sha256:9e1"}
    assert canonical(value) == rfc8785.dumps(value)
    assert parse_canonical(canonical(value)) == value


@pytest.mark.parametrize(
    "data", [b'{"b":1,"a":2}', b'{ "a":1}', rb'{"\u0061":1}', b'{"a":1.0}', b'{"a":1,"a":1}', b'{"a":1}\n', rb'["\/"]']
)
def test_another_form_of_the_same_value_is_not_canonical(data: bytes) -> None:
    with pytest.raises(BadJson, match=r"^(not in canonical JSON \(RFC 8785\)|the key 'a' stands twice in one object)$"):
        parse_canonical(data)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        # RFC 8785, appendix B, and section 3.2.3 (keys sorted as UTF-16 code units).
        (-0.0, b"0"),
        (5e-324, b"5e-324"),
        (1.7976931348623157e308, b"1.7976931348623157e+308"),
        (1e21, b"1e+21"),
        (9.999999999999997e22, b"9.999999999999997e+22"),
        (0.000001, b"0.000001"),
        (1e-7, b"1e-7"),
        (333333333.33333329, b"333333333.3333333"),
        (9007199254740991, b"9007199254740991"),
        (4.50, b"4.5"),
        (2e-3, b"0.002"),
        (
            {"€": 1, "\r": 2, "\ufb33": 3, "1": 4, "\U0001f600": 5, "\x80": 6, "ö": 7},
            '{"\\r":2,"1":4,"\x80":6,"ö":7,"€":1,"\U0001f600":5,"\ufb33":3}'.encode(),
        ),
        ('€$\x0f\nA\'B"\\\\"/', '"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"'.encode()),
        ([None, True, False], b"[null,true,false]"),
    ],
)
def test_vectors_of_the_rfc(value: Any, expected: bytes) -> None:
    assert canonical(value) == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b'{"a":1,"a":1}', "'a' stands twice"),
        (b'[{"x":{"b":1,"c":2,"b":3}}]', "'b' stands twice"),
        (rb'{"a":1,"\u0061":2}', "'a' stands twice"),
        (b'{"a":1,"b":2,"c":3,"b":4}', "'b' stands twice"),
        (b"NaN", "NaN is no JSON number"),
        (b"[Infinity]", "no JSON number"),
        (b"-Infinity", "no JSON number"),
        (b"1e400", "too large"),
        (b"9007199254740992", "beyond"),
        (b"-9007199254740992", "beyond"),
        (b"1" + b"0" * 5000, rf"integer 1{'0' * 19} is beyond"),
        (b"1" + b"0" * 5000 + b".5", rf"number 1{'0' * 19} is too large"),
        (b"1e16", "beyond"),
        (b"9007199254740993.0", "beyond"),
        (rb'"\ud800"', "lone surrogate"),
        (rb'{"\udc00":1}', "lone surrogate"),
        (b'"\xff"', "not JSON"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b"", "not JSON"),
        (b"{} {}", "not JSON"),
        (b"{'a':1}", "not JSON"),
        (b"[1,]", "not JSON"),
        (b"01", "not JSON"),
        (b'"\n"', "not JSON"),
        (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), "nested deeper"),
        (b"[" * 200_000, "not JSON"),
    ],
)
def test_doubtful_text_is_refused(text: bytes, says: str) -> None:
    with pytest.raises(BadJson, match=says):
        parse(text)


@pytest.mark.parametrize(
    "value",
    [
        float("nan"), float("inf"), 2**53, -(2**53), 1e16, {1: 2}, {None: 1}, "\ud800", {"\udfff": 1}, b"bytes", {1, 2}, object(),
        [[]] * 3 + [float("nan")],
    ],
    ids=told,
)  # fmt: skip
def test_a_value_without_canonical_form_is_refused(value: Any) -> None:
    with pytest.raises(BadJson):
        canonical(value)


def test_the_deepest_value_that_is_written_can_be_read() -> None:
    deepest: Any = []
    for _ in range(MAX_DEPTH - 2):
        deepest = [deepest]
    assert parse(canonical(deepest)) == deepest
    with pytest.raises(BadJson, match="nested deeper"):
        canonical([[deepest]])


def test_a_double_key_behind_very_many_others_is_found_without_comparing_all_with_all() -> None:
    keys = ",".join(f'"{number}":0' for number in range(200_000))
    started = time.process_time()
    with pytest.raises(BadJson, match="'0' stands twice"):
        parse(f'{{{keys},"0":1}}'.encode())
    # All with all would take minutes; the bound only keeps a wrong order of growth out.
    assert time.process_time() - started < 20
