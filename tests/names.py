"""Names of tests by their parameters."""

import re
from typing import Any

_DIFFERS = re.compile(r" at 0x[0-9a-f]+|[0-9a-f]{12,}")


def told(value: Any, length: int = 60) -> str:
    """The parameter's beginning, without what is another in each process, addresses and made keys: a test is run again by its
    name, and two processes that share the tests must agree on them."""
    return _DIFFERS.sub("", repr(value))[:length]
