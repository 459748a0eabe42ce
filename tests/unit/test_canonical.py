"""Canonical JSON (RFC 8785) and the strict parser: equal values have equal bytes, and nothing doubtful gets in."""

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.canonical import MAX_DEPTH, MAX_SAFE_INTEGER, canonical, parse
from services.core.errors import BadJson

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
        (b"NaN", "NaN is no JSON number"),
        (b"[Infinity]", "no JSON number"),
        (b"-Infinity", "no JSON number"),
        (b"1e400", "too large"),
        (b"9007199254740992", "beyond"),
        (b"-9007199254740992", "beyond"),
        (b"1" + b"0" * 5000, "beyond"),
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
    ids=repr,
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
