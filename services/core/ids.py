"""Identifiers that sort by the time they were made (the layout of UUIDv7, RFC 9562 section 5.7)."""

import os
import time


def new_id(prefix: str) -> str:
    """`prefix-` and 32 hex digits: 48 bits of epoch milliseconds, then 80 random bits."""
    return f"{prefix}-{time.time_ns() // 1_000_000:012x}{os.urandom(10).hex()}"
