"""Canonical JSON (RFC 8785) and a parser strict enough that equal values have equal bytes. It knows no schema.

Most values take a fast way: orjson with sorted keys writes the same bytes as RFC 8785 for null, booleans, strings, safe integers,
lists and objects. Whatever it could write otherwise (floats, keys beyond the Basic Multilingual Plane, whose order differs)
or what it takes and we refuse (NaN, UUIDs, enumerations) goes the slow way, through `rfc8785` and the strict parser.
"""

import json
import re
from collections.abc import Iterable
from typing import Any, NoReturn

import orjson
import rfc8785

from services.core.errors import BadJson

MAX_SAFE_INTEGER = 2**53 - 1
MAX_DEPTH = 64


_SAME_AS_RFC8785 = (
    orjson.OPT_SORT_KEYS
    | orjson.OPT_STRICT_INTEGER
    | orjson.OPT_PASSTHROUGH_SUBCLASS
    | orjson.OPT_PASSTHROUGH_DATACLASS
    | orjson.OPT_PASSTHROUGH_DATETIME
)
# orjson writes every float with a point or an exponent. Text that only looks so is no harm: it goes the slow way.
_FLOAT_MEMBER = re.compile(rb'":-?[0-9]+[.eE]')
_FLOAT_ITEM = re.compile(rb"[\[,]-?[0-9]+[.eE]")
_BEYOND_BMP = re.compile(rb"[\xf0-\xf4]")


def canonical(value: Any) -> bytes:
    """RFC 8785 bytes of a JSON value. `parse` takes them again and gives an equal value.

    Raises:
        BadJson: NaN, infinity, a whole number beyond 2^53 - 1, a key that is no string, a lone surrogate, more than 64 levels.
    """
    try:
        data = orjson.dumps(value, option=_SAME_AS_RFC8785)
        # What orjson takes and JSON has not (NaN, a UUID, an enumeration) does not come back equal.
        if _written_alike(data) and (read := orjson.loads(data)) == value and _flat(data, read):
            return data
    except (TypeError, ValueError):
        pass  # the slow way says what is wrong, or that nothing is
    return _canonical(value)


def parse(data: bytes) -> Any:
    """The value of one JSON text (RFC 8259, in UTF-8), refusing what I-JSON (RFC 7493) refuses.

    Raises:
        BadJson: bad UTF-8, a duplicate key, NaN or infinity, a whole number beyond 2^53 - 1 (unless RFC 8785 writes it with an
            exponent, from 1e21 on), a lone surrogate, more than 64 levels.
    """
    found, value = _parse_alike(data)
    return value if found else _parse(data)


def parse_canonical(data: bytes) -> Any:
    """The value whose canonical bytes these are: one value has one text.

    Raises:
        BadJson: as `parse`, or the bytes are JSON in another form.
    """
    found, value = _parse_alike(data)
    if not found:
        value = _parse(data)
        if _canonical(value) != data:
            raise BadJson("not in canonical JSON (RFC 8785)")
    return value


def _parse_alike(data: bytes) -> tuple[bool, Any]:
    """Whether the fast way can tell that these bytes are canonical, and their value. Written again they are the same, so
    there was no duplicate key, no space and no other form of a string or number."""
    if not _written_alike(data):
        return False, None
    try:
        value = orjson.loads(data)
        return _flat(data, value) and orjson.dumps(value, option=_SAME_AS_RFC8785) == data, value
    except (TypeError, ValueError):
        return False, None


def _written_alike(data: bytes) -> bool:
    """Whether orjson and RFC 8785 write such a text alike: an object or a list, without floats, within the BMP."""
    return (
        data[:1] in (b"{", b"[")
        and (data.isascii() or _BEYOND_BMP.search(data) is None)
        and _FLOAT_MEMBER.search(data) is None
        and (b"[" not in data or _FLOAT_ITEM.search(data) is None)
    )


def _flat(data: bytes, value: Any) -> bool:
    """Whether it is surely not too deep; as a rule it has too few brackets for that."""
    return data.count(b"{") + data.count(b"[") < MAX_DEPTH or _within(value, MAX_DEPTH - 1)


def _within(value: Any, levels: int) -> bool:
    items = value.values() if type(value) is dict else value
    return levels > 0 and all(_within(item, levels - 1) for item in items if type(item) is dict or type(item) is list)


def _canonical(value: Any) -> bytes:
    _check(value, MAX_DEPTH)
    try:
        return rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, RecursionError, UnicodeError, TypeError, AttributeError) as error:
        raise BadJson(f"no canonical JSON: {error}") from error


def _parse(data: bytes) -> Any:
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
