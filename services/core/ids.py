"""Identifiers that sort by the time they were made (the layout of UUIDv7, RFC 9562 section 5.7)."""

import os
import re
import time

_ID = re.compile(r"[a-z]+-([0-9a-f]{12})[0-9a-f]{20}")


def new_id(prefix: str) -> str:
    """`prefix-` and 32 hex digits: 48 bits of epoch milliseconds, then 80 random bits."""
    return f"{prefix}-{time.time_ns() // 1_000_000:012x}{os.urandom(10).hex()}"


def made_at(name: str) -> int:
    """Epoch milliseconds at which `new_id` made this id, by the clock of who called it; 0 for a name of another form."""
    found = _ID.fullmatch(name)
    return int(found[1], 16) if found else 0
