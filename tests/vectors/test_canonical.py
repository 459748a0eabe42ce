"""RFC 8785's own vectors, on our canonical bytes and on the reference package for Python."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import rfc8785

from services.core.canonical import MAX_SAFE_INTEGER, canonical, parse
from services.core.errors import BadJson

VECTORS: dict[str, Any] = json.loads((Path(__file__).parent / "rfc8785.json").read_text("utf-8"))


@pytest.mark.parametrize(("bits", "text"), VECTORS["numbers"])
def test_numbers_of_appendix_b(bits: str, text: str | None) -> None:
    value: float = struct.unpack(">d", bytes.fromhex(bits))[0]
    # Integers that a double cannot tell apart are refused: a strict parser could not read them back.
    if text is None or ("." not in text and "e" not in text and abs(int(text)) > MAX_SAFE_INTEGER):
        with pytest.raises(BadJson):
            canonical(value)
        return
    assert canonical(value) == text.encode() == rfc8785.dumps(value)
    assert parse(text.encode()) == value


@pytest.mark.parametrize("vector", VECTORS["documents"], ids=lambda vector: vector["name"])
def test_documents(vector: dict[str, Any]) -> None:
    value = parse(vector["input"].encode())
    data = canonical(value)
    assert data == rfc8785.dumps(value)
    assert parse(data) == value
    if "order" in vector:
        assert list(json.loads(data).values()) == vector["order"]
    else:
        assert data == (bytes.fromhex(vector["hex"]) if "hex" in vector else vector["text"].encode())
