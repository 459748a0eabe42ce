"""trust.json as it is now: a revocation takes effect with the next check, without a restart. What is in it: `trust`."""

import threading
from collections.abc import Callable
from pathlib import Path

from services.core.errors import AiInfraError, BadSetting, Unavailable
from services.core.trust import Trust

TrustNow = Callable[[], Trust]
"""Gives the trust of now. Raises Unavailable: it cannot be read, so nothing can be checked; retry."""


class TrustFile:
    """Reads the file at each call, and parses it when its bytes changed. Safe in threads.

    A file that became wrong is no trust: every check that needs it is refused until it is mended. A running process keeps its
    log: another origin or log key in the file needs a restart.
    """

    def __init__(self, path: Path) -> None:
        """Raises BadSetting: no such file, or a wrong one; the process does not start."""
        self._path, self._lock = path, threading.Lock()
        try:
            self._known = self._read()
        except Unavailable as error:
            raise BadSetting(str(error)) from error
        self._log = (self._known[1].log_origin, self._known[1].log_vkey)

    def __call__(self) -> Trust:
        with self._lock:
            self._known = self._read(self._known)
        found = self._known[1]
        if (found.log_origin, found.log_vkey) != self._log:
            raise Unavailable(f"{self._path} names another log than at the start: restart the process, or put the file back")
        return found

    def _read(self, known: tuple[bytes, Trust] | None = None) -> tuple[bytes, Trust]:
        try:
            data = self._path.read_bytes()
            # Compared by content: a time stamp is the same for two writes within one tick.
            return known if known is not None and known[0] == data else (data, Trust.parse(data))
        except OSError as error:
            raise Unavailable(f"trust file {self._path}: {error.strerror}; `ai-infra init` writes one") from error
        except AiInfraError as error:
            raise Unavailable(f"trust file {self._path}: {error}") from error
