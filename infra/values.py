"""Values of a Terraform document beside those of its plan: what is known, what is a reference, what is a literal. Pure."""

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from typing import Any

WHOLE = re.compile(r"\$\{([a-z][a-z0-9_]*\.[A-Za-z0-9_-]+)\.[^{}]*\}")
"""A text that is one reference to a resource's attribute and nothing else; the group is the resource's address."""

REFERENCE = re.compile(r"(?<!\$)\$\{[^{}]*\}")


def referred(value: Any) -> str | None:
    """The address that a value refers to, when it is one reference and nothing else."""
    found = WHOLE.fullmatch(value) if isinstance(value, str) else None
    return found.group(1) if found else None


def literal(text: str) -> str:
    """A text of the document as AWS gets it, but for its references."""
    return text.replace("$${", "${").replace("%%{", "%{")


def filled(written: Any, planned: Any) -> Any:
    """The plan's value; where it knows none, the document's. Nothing that is empty stays: null, "", [] and {}."""
    if isinstance(planned, dict):
        source = written[0] if isinstance(written, list) and len(written) == 1 else written
        source = source if isinstance(source, dict) else {}
        merged = {key: filled(source.get(key), planned.get(key)) for key in sorted(planned.keys() | source.keys())}
        return {key: value for key, value in merged.items() if value not in (None, "", [], {})}
    if isinstance(planned, list):
        return _filled_list(written if isinstance(written, list) else [written], planned)
    if planned is None:
        return filled(written, written) if isinstance(written, dict | list) else _plain(written)
    return planned


def _filled_list(written: list[Any], planned: list[Any]) -> list[Any]:
    """Sets come in another order: an item of the plan is filled from the first item of the document that it agrees with."""
    left, result = list(written), []
    for item in planned:
        match = next((other for other in left if agree(other, item)), None)
        if match is not None:
            left.remove(match)
        value = filled(match, item)
        if value not in (None, "", [], {}):
            result.append(value)
    return result


def agree(written: Any, planned: Any) -> bool:
    if planned is None or written is None or (isinstance(written, str) and REFERENCE.search(written)):
        return True
    if isinstance(planned, dict):
        source = written[0] if isinstance(written, list) and len(written) == 1 else written
        return isinstance(source, dict) and all(agree(source.get(key), value) for key, value in planned.items())
    if isinstance(planned, list):
        return True
    return str(_plain(written)).lower() == str(planned).lower()


def _plain(value: Any) -> Any:
    return literal(value) if isinstance(value, str) else value


def literals(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Path and text of every literal in a resource of the document. What is base64 is given decoded as well."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from literals(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for item in value:
            yield from literals(item, path)
    elif isinstance(value, str) and value and not REFERENCE.fullmatch(value):
        yield path, literal(value)
        decoded = _decoded(value)
        if decoded is not None:
            yield f"{path} (decoded)", decoded


def _decoded(text: str) -> str | None:
    if len(text) < 16:
        return None
    try:
        decoded = base64.b64decode(text, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None
    return decoded if decoded.isprintable() or "\n" in decoded else None
