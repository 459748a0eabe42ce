"""The registry's ports over values in memory, and around others with a fault at one call."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeVar

from sqlalchemy import Connection

from services.core.errors import Conflict, NotFound, Unavailable
from services.core.events import EventDraft, Subject
from services.core.objects import ObjectStore
from services.registry.ports import Decision, Events, Measured, Policy, Run, Signing

T = TypeVar("T")
FaultName = Literal["fails", "persists_then_fails"]


@dataclass
class StoredRuns:
    """Implements Runs. running: ids of runs that are not completed."""

    found: dict[str, Run] = field(default_factory=dict)
    running: set[str] = field(default_factory=set)

    def completed(self, run_id: str) -> Run:
        if run_id in self.running:
            raise Conflict(f"run {run_id} is not completed")
        if run_id not in self.found:
            raise NotFound(f"no run {run_id}")
        return self.found[run_id]


@dataclass
class SaysEvaluator:
    """Implements Evaluator. measured: its answer, or the exception to raise; asked: (model's files, split's files)."""

    measured: Measured | Exception
    asked: list[tuple[dict[str, str], dict[str, str]]] = field(default_factory=list)

    def evaluate(self, artifact_files: dict[str, str], dataset_files: dict[str, str]) -> Measured:
        self.asked.append((artifact_files, dataset_files))
        if isinstance(self.measured, Exception):
            raise self.measured
        return self.measured


@dataclass
class Steps:
    """Counts the calls of several ports together; the fault strikes at the call number `at` (from 0), before or after it."""

    at: int | None = None
    fault: FaultName = "fails"
    seen: list[str] = field(default_factory=list)

    def take(self, name: str, call: Callable[[], T]) -> T:
        strikes = len(self.seen) == self.at
        self.seen.append(name)
        if not strikes:
            return call()
        if self.fault == "persists_then_fails":
            call()
        raise Unavailable(f"the test's fault struck at {name}")


@dataclass(frozen=True)
class FaultyObjects:
    """Implements ObjectStore; writes count as steps."""

    inner: ObjectStore
    steps: Steps

    def put(self, data: bytes) -> str:
        return self.steps.take("store.put", lambda: self.inner.put(data))

    def put_file(self, path: Path, expected: str | None = None) -> str:
        return self.steps.take("store.put_file", lambda: self.inner.put_file(path, expected))

    def get(self, digest: str) -> bytes:
        return self.inner.get(digest)

    def open(self, digest: str) -> BinaryIO:
        return self.inner.open(digest)

    def copy_to(self, digest: str, path: Path) -> None:
        self.inner.copy_to(digest, path)

    def has(self, digest: str) -> bool:
        return self.inner.has(digest)

    def size(self, digest: str) -> int:
        return self.inner.size(digest)


@dataclass(frozen=True)
class FaultyEvents:
    """Implements Events."""

    inner: Events
    steps: Steps

    def emit(self, connection: Connection, draft: EventDraft) -> str:
        return self.steps.take(f"emit {draft.type}", lambda: self.inner.emit(connection, draft))

    def wait_for(self, event_ids: list[str]) -> dict[str, int]:
        return self.steps.take("wait_for", lambda: self.inner.wait_for(event_ids))


@dataclass(frozen=True)
class FaultySigning:
    """Implements Signing."""

    inner: Signing
    steps: Steps

    def sign_model(self, key: str, payload: bytes, actor: str) -> bytes:
        return self.steps.take(f"sign model by {key}", lambda: self.inner.sign_model(key, payload, actor))

    def sign_statement(self, key: str, payload: bytes, evidence: dict[str, bytes], actor: str) -> bytes:
        return self.steps.take(f"sign statement by {key}", lambda: self.inner.sign_statement(key, payload, evidence, actor))


@dataclass(frozen=True)
class FaultyPolicy:
    """Implements Policy."""

    inner: Policy
    steps: Steps

    def decide(self, action: str, facts: dict[str, Any], subject: Subject, actor: str) -> Decision:
        return self.steps.take(f"decide {action}", lambda: self.inner.decide(action, facts, subject, actor))

    def revision(self, connection: Connection | None = None) -> str:
        return self.inner.revision(connection)


@dataclass
class Interrupting:
    """Implements Policy around another; calls `then` after each decision, before its caller goes on."""

    inner: Policy
    then: Callable[[], object]

    def decide(self, action: str, facts: dict[str, Any], subject: Subject, actor: str) -> Decision:
        decision = self.inner.decide(action, facts, subject, actor)
        self.then()
        return decision

    def revision(self, connection: Connection | None = None) -> str:
        return self.inner.revision(connection)
