"""Canonical JSON (RFC 8785) and a parser strict enough that equal values have equal bytes. It knows no schema."""

import json
from collections.abc import Iterable
from typing import Any, NoReturn

import rfc8785

from services.core.errors import BadJson

MAX_SAFE_INTEGER = 2**53 - 1
MAX_DEPTH = 64


def canonical(value: Any) -> bytes:
    """RFC 8785 bytes of a JSON value. `parse` takes them again and gives an equal value.

    Raises:
        BadJson: NaN, infinity, a whole number beyond 2^53 - 1, a key that is no string, a lone surrogate, more than 64 levels.
    """
    _check(value, MAX_DEPTH)
    try:
        return rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, RecursionError, UnicodeError, TypeError, AttributeError) as error:
        raise BadJson(f"no canonical JSON: {error}") from error


def parse(data: bytes) -> Any:
    """The value of one JSON text (RFC 8259, in UTF-8), refusing what I-JSON (RFC 7493) refuses.

    Raises:
        BadJson: bad UTF-8, a duplicate key, NaN or infinity, a whole number beyond 2^53 - 1 (unless RFC 8785 writes it with an
            exponent, from 1e21 on), a lone surrogate, more than 64 levels.
    """
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_object,
            parse_constant=_constant,
            parse_int=_integer,
            parse_float=_float,
        )
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise BadJson(f"not JSON: {error}") from error
    _check(value, MAX_DEPTH)
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise BadJson(f"the key {first_double(key for key, _ in pairs)!r} stands twice in one object")
    return result


def first_double(items: Iterable[str]) -> str | None:
    """The first item that stood there before, in one pass: the input may be as long as a sender likes."""
    seen: set[str] = set()
    for item in items:
        if item in seen:
            return item
        seen.add(item)
    return None


def _constant(text: str) -> NoReturn:
    raise BadJson(f"{text} is no JSON number")


def _integer(text: str) -> int:
    if len(text) > 17 or abs(int(text)) > MAX_SAFE_INTEGER:
        raise BadJson(f"integer {text[:20]} is beyond 2^53 - 1: send it as a string")
    return int(text)


def _float(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise BadJson(f"number {text[:20]} is too large")
    return value


def _check(value: Any, depth: int) -> None:
    if depth == 0:
        raise BadJson(f"nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, str):
        _check_text(value)
    elif isinstance(value, float):
        # RFC 8785 writes such a float as an integer that no strict parser reads back.
        if value.is_integer() and MAX_SAFE_INTEGER < abs(value) < 1e21:
            raise BadJson(f"number {value} is beyond 2^53 - 1: send it as a string")
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_text(key)
            _check(item, depth - 1)
    elif isinstance(value, list | tuple):
        for item in value:
            _check(item, depth - 1)


def _check_text(text: Any) -> None:
    if not isinstance(text, str):
        raise BadJson(f"the key {text!r} is no string")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise BadJson("a string holds a lone surrogate") from error
