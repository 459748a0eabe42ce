"""Why storage took no write, in words: said here alone, so that a full disk has the same name and remedy wherever it is met."""

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from services.core.errors import Unavailable

FULL = "the disk is full: make room on it, then repeat the call"
QUOTA = "the quota on the disk is used up: make room under it or raise it, then repeat the call"
DISK_FULL = "53100"
"""PostgreSQL's SQLSTATE."""
SQLITE_FULL = frozenset({"SQLITE_FULL", "SQLITE_IOERR_SHMSIZE"})
"""The second one: a full disk has no room for the index of the journal either."""


def why(error: BaseException | None) -> str:
    """What an error of the operating system or of a database's driver says, with the remedy if the disk is full."""
    if isinstance(error, OSError):
        return {errno.ENOSPC: FULL, errno.EDQUOT: QUOTA}.get(error.errno or 0) or error.strerror or str(error)
    code = str(getattr(error, "sqlite_errorname", ""))
    if code in SQLITE_FULL or getattr(error, "sqlstate", None) == DISK_FULL:
        return FULL
    if isinstance(error, sqlite3.Error) and code.startswith("SQLITE_IOERR"):
        return f"{error} ({code}): see whether its disk has room and is sound"
    return str(error)


@contextmanager
def writing(what: str) -> Iterator[None]:
    """what: could not be done when the operating system refuses, as in "the file could not be kept".

    Raises:
        Unavailable: it refused; the message says why; retry.
    """
    try:
        yield
    except OSError as error:
        raise Unavailable(f"{what}: {why(error)}") from error
