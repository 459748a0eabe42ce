"""One call of a port fails, before or after it took effect. Everything else goes through."""

from collections.abc import Callable, Sequence
from typing import Literal, TypeVar

from services.audit.ports import CheckpointSigner, LogStore
from services.core.errors import Unavailable
from services.signing.ports import CheckpointState

T = TypeVar("T")
FaultName = Literal["fails", "persists_then_fails"]


class Fault:
    """Strikes at the call number `at` (from 0) of those that it is asked about; never, when `at` is None."""

    def __init__(self, name: FaultName, at: int | None = 0) -> None:
        self._name, self._at = name, at
        self.calls = 0

    def around(self, call: Callable[[], T]) -> T:
        strikes, self.calls = self.calls == self._at, self.calls + 1
        if not strikes:
            return call()
        if self._name == "persists_then_fails":
            call()
        raise Unavailable("the test's fault struck")


class FaultyStore:
    """Implements audit.ports.LogStore around another; the fault strikes at writes and removals whose path matches."""

    def __init__(self, inner: LogStore, fault: Fault, matches: Callable[[str], bool] = lambda path: True) -> None:
        self._inner, self._fault, self._matches = inner, fault, matches

    def read(self, path: str, limit: int) -> bytes:
        return self._inner.read(path, limit)

    def write(self, path: str, data: bytes) -> None:
        self._around(path, lambda: self._inner.write(path, data))

    def remove_partials(self, path: str) -> None:
        self._around(path, lambda: self._inner.remove_partials(path))

    def _around(self, path: str, call: Callable[[], None]) -> None:
        if self._matches(path):
            self._fault.around(call)
        else:
            call()


class FaultySigner:
    """Implements audit.ports.CheckpointSigner around another; the fault strikes at a signature."""

    def __init__(self, inner: CheckpointSigner, fault: Fault) -> None:
        self._inner, self._fault = inner, fault

    def last_checkpoint(self, origin: str) -> CheckpointState | None:
        return self._inner.last_checkpoint(origin)

    def sign_checkpoint(self, *, origin: str, size: int, root: bytes, proof: Sequence[bytes]) -> str:
        return self._fault.around(lambda: self._inner.sign_checkpoint(origin=origin, size=size, root=root, proof=proof))
