"""Threads that write to one database take turns, first come, first served, and share commits. It knows no SQL: see `transactions`.

A commit waits for the disk, and who writes next waits for the commit: eight writers at once waited for the disk eight times. So a
writer that is done leaves its transaction open to the next one, and the last of them commits for all.
"""

import threading
from collections import deque
from dataclasses import dataclass, field

from sqlalchemy import Connection

from services.core.errors import Unavailable

MOST = 32
"""Writers that share a commit; the first of them waits for all others."""


@dataclass(eq=False)
class Shared:
    """A transaction to which one writer after the other adds. durable: its commit waits for the disk."""

    connection: Connection
    durable: bool
    writers: int = 1
    error: BaseException | None = None
    _ended: threading.Event = field(default_factory=threading.Event)

    def end(self, error: BaseException | None) -> None:
        """Tells all writers what became of it; error: why nothing was written."""
        self.error = error
        self._ended.set()

    def wait(self) -> None:
        """Until it is committed. Raises Unavailable: it was not; retry."""
        self._ended.wait()
        if self.error is not None:
            raise Unavailable("the transaction that this write shared with others was not committed") from self.error


@dataclass(eq=False)
class _Waiting:
    """turn: released when it is this writer's turn; given: the transaction that was left open to it."""

    durable: bool
    turn: threading.Lock = field(default_factory=threading.Lock)
    given: Shared | None = None


class Turns:
    """Who writes to one database now, and who waits for that."""

    def __init__(self) -> None:
        self._lock, self._busy = threading.Lock(), False
        self._waiting: deque[_Waiting] = deque()

    def take(self, durable: bool, timeout_s: float) -> Shared | None:
        """Waits for the turn. The transaction to go on with; None: begin one.

        Raises:
            Unavailable: others wrote for all of that time; retry.
        """
        with self._lock:
            if not self._busy:
                self._busy = True
                return None
            mine = _Waiting(durable)
            mine.turn.acquire()
            self._waiting.append(mine)
        if not mine.turn.acquire(timeout=timeout_s):
            with self._lock:
                # Else the turn came together with the end of the time.
                if mine in self._waiting:
                    self._waiting.remove(mine)
                    raise Unavailable(f"other writes kept the database for {timeout_s:g} s")
        return mine.given

    def pass_on(self, shared: Shared) -> bool:
        """Gives turn and transaction to the next writer. False: none waits that may go on with it; the caller commits."""
        with self._lock:
            if not self._waiting or shared.writers >= MOST or self._waiting[0].durable > shared.durable:
                return False
            following = self._waiting.popleft()
            # Within the lock: who is no longer among the waiting, because its time is over, takes what it was given.
            shared.writers += 1
            following.given = shared
        following.turn.release()
        return True

    def end(self) -> None:
        """Gives the turn to the next writer, who begins a transaction."""
        with self._lock:
            following = self._waiting.popleft() if self._waiting else None
            self._busy = following is not None
        if following is not None:
            following.turn.release()
