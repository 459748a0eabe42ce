"""One round over rows that have nothing to do with one another: one that fails keeps no other waiting."""

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from services.core.errors import AiInfraError, Unavailable

log = logging.getLogger(__name__)

T = TypeVar("T")


def each(kind: str, rows: Iterable[Mapping[str, Any]], look: Callable[[Any], T]) -> list[T]:
    """What `look` answers for each row, in order. kind: what a row (by its `id`) is called in the log.

    Raises:
        Exception: the first that `look` raised, once every row was looked at. All are logged.
    """
    found: list[T] = []
    first: Exception | None = None
    for row in rows:
        try:
            found.append(look(row))
        except Exception as error:  # also a bug that one row brings out: it must not stop what others need
            level = logging.INFO if isinstance(error, Unavailable) else logging.WARNING
            log.log(level, "%s %s: %s", kind, row["id"], error, exc_info=not isinstance(error, AiInfraError))
            first = first or error
    if first is not None:
        raise first
    return found
