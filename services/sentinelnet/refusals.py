"""How many refusals of one caller are recorded one by one: a bound, so that nobody fills the log by being refused. No I/O.

The first ones of a minute are recorded each, and the first of each operation: whoever is refused a hundred harmless calls does not
hide by it what else he tries. Further ones are refused alike and counted; the next recorded one of the same caller,
or one that is recorded for this purpose when the minute is over, says how many were counted (`suppressed` of its event).
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from services.core.clock import Clock

RECORDED = 20
"""Refusals of one caller that are recorded in one window, besides the first of each operation."""

WINDOW_MS = 60_000


@dataclass
class _Window:
    """since: epoch milliseconds of its first refusal; seen: operations of which one was recorded; operation: of the one that was
    counted last."""

    since: int
    recorded: int = 0
    seen: set[str] = field(default_factory=set)
    suppressed: int = 0
    operation: str = ""


class Refusals:
    """One process's count. A crash loses what was counted and not told yet: of each caller at most what a minute brought; that the
    bound was reached shows in the log all the same, by the number of refusals in that minute."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._windows: dict[str, _Window] = {}
        self._lock = threading.Lock()

    def record(self, actor: str, operation: str) -> bool:
        """Whether this refusal is recorded; if not, it was counted."""
        with self._lock:
            now = self._clock()
            window = self._windows.setdefault(actor, _Window(now))
            if not 0 <= now - window.since < WINDOW_MS:
                window.since, window.recorded, window.seen = now, 0, set()
            if window.recorded < RECORDED or operation not in window.seen:
                window.recorded += 1
                window.seen.add(operation)
                return True
            window.suppressed += 1
            window.operation = operation
            return False

    @contextmanager
    def counted(self, actor: str) -> Iterator[int]:
        """What to tell of an actor's counted refusals. It counts on when the block raises: then nothing was told."""
        with self._lock:
            window = self._windows.get(actor, _Window(self._clock()))
            count, window.suppressed = window.suppressed, 0
        try:
            yield count
        except BaseException:
            with self._lock:
                if count:
                    self._windows.setdefault(actor, window).suppressed += count
            raise

    def due(self, *, all_of_them: bool = False) -> list[tuple[str, str]]:
        """Actor and operation of each count whose window is over; windows without a count are forgotten."""
        with self._lock:
            now = self._clock()
            over = {a: w for a, w in self._windows.items() if all_of_them or not 0 <= now - w.since < WINDOW_MS}
            for actor in [actor for actor, window in over.items() if not window.suppressed]:
                del self._windows[actor]
            return [(actor, window.operation) for actor, window in over.items() if window.suppressed]
