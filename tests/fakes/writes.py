"""Every write of a platform in one process, counted by component; one of them fails, before or after it took effect."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError

from services.audit.ports import LogStore
from services.core.errors import Unavailable
from services.core.keys import PublicKey, Signature
from services.core.objects import ObjectStore
from services.signing.ports import Signer
from tests.fakes.registry import FaultyObjects, Steps
from tests.fakes.statements import around_statements

T = TypeVar("T")
Mode = Literal["fails", "persists_then_fails"]
MODES: tuple[Mode, ...] = ("fails", "persists_then_fails")
CHANGES = ("INSERT INTO ", "UPDATE ", "DELETE FROM ")


@dataclass(frozen=True)
class Fault:
    """Strikes at the write number `at` (from 0) of a component, counted from when it was set."""

    component: str
    at: int
    mode: Mode


@dataclass
class Writes:
    """seen: (component, what) of each write since `begin`."""

    fault: Fault | None = None
    seen: list[tuple[str, str]] = field(default_factory=list)

    def begin(self, fault: Fault | None = None) -> None:
        """Counts anew, with another fault or none."""
        self.fault, self.seen = fault, []

    def strikes(self, component: str, what: str) -> bool:
        """Whether this write fails; counts it."""
        number = sum(found == component for found, _ in self.seen)
        self.seen.append((component, what))
        return self.fault is not None and (self.fault.component, self.fault.at) == (component, number)

    def take(self, component: str, what: str, call: Callable[[], T]) -> T:
        """A write at a port."""
        if not self.strikes(component, what):
            return call()
        if self.fault is not None and self.fault.mode == "persists_then_fails":
            call()
        raise Unavailable(f"the test's fault struck at {component}: {what}")

    def database(self, component: str, engine: Engine) -> None:
        """Counts the commits of an engine that changed something."""
        _Commits(self, component).listen(engine)

    def objects(self, inner: ObjectStore) -> ObjectStore:
        return FaultyObjects(inner, _Named(self, "api"))

    def log(self, inner: LogStore) -> LogStore:
        return _CountedLog(inner, self)

    def signer(self, name: str, inner: Signer) -> Signer:
        return _CountedSigner(inner, self, name)


class _Commits:
    """What the open transaction of an engine changed; one at a time, as in the tests. A change outside of one commits itself."""

    def __init__(self, writes: Writes, component: str) -> None:
        self._writes, self._component = writes, component
        self._tables: list[str] = []
        self._strikes = False

    def listen(self, engine: Engine) -> None:
        around_statements(engine, self._before, self._after)

    def _before(self, statement: str, alone: bool) -> None:
        change = next((start for start in CHANGES if statement.startswith(start)), None)
        if change is not None:
            table = statement.removeprefix(change).split()[0]
            self._tables += [table] if table not in self._tables else []
        if statement.startswith("ROLLBACK"):
            self._tables = []
        if statement == "COMMIT" or (change is not None and alone):
            what, self._tables = "commit " + " + ".join(self._tables), []
            strikes = self._writes.strikes(self._component, what)
            if strikes and self._writes.fault is not None and self._writes.fault.mode == "fails":
                raise OperationalError(statement, {}, Exception("disk I/O error"))
            self._strikes = strikes

    def _after(self, statement: str, alone: bool) -> None:
        if self._strikes:
            self._strikes = False
            raise OperationalError(statement, {}, Exception("disk I/O error"))


class _Named(Steps):
    """The writes of one component, as the fakes of the registry's ports count them."""

    def __init__(self, writes: Writes, component: str) -> None:
        super().__init__()
        self._writes, self._component = writes, component

    def take(self, name: str, call: Callable[[], T]) -> T:
        return self._writes.take(self._component, name, call)


@dataclass(frozen=True)
class _CountedLog:
    """Implements audit.ports.LogStore."""

    inner: LogStore
    writes: Writes

    def read(self, path: str, limit: int) -> bytes:
        return self.inner.read(path, limit)

    def write(self, path: str, data: bytes) -> None:
        kind = "/".join(path.split("/")[:2])
        self.writes.take("appender", f"write {kind}", lambda: self.inner.write(path, data))

    def remove_partials(self, path: str) -> None:
        self.writes.take("appender", "remove partial tiles", lambda: self.inner.remove_partials(path))


@dataclass(frozen=True)
class _CountedSigner:
    """Implements signing.ports.Signer."""

    inner: Signer
    writes: Writes
    name: str

    def sign(self, payload: bytes) -> Signature:
        return self.writes.take("proxy", f"sign with {self.name}", lambda: self.inner.sign(payload))

    def public_key(self) -> PublicKey:
        return self.inner.public_key()
