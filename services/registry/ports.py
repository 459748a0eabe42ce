"""What the registry needs from the other services."""

from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import Connection

from services.core.events import EventDraft, Subject


@dataclass(frozen=True, kw_only=True)
class Decision:
    """SentinelNet's recorded answer. rules: every report; at: epoch seconds; revision, input_digest: digests."""

    id: str
    verdict: str
    rules: list[dict[str, Any]]
    revision: str
    input_digest: str
    at: int

    @property
    def refusals(self) -> list[dict[str, Any]]:
        return [rule for rule in self.rules if rule["verdict"] != "pass"]


class Policy(Protocol):
    """SentinelNet."""

    def decide(self, action: str, facts: dict[str, Any], subject: Subject, actor: str) -> Decision:
        """The decision, recorded with its policyCheck event, and that event in the log, before this returns.

        Raises:
            Unavailable: the engine, the database or the log is away; nothing may be done; retry.
        """

    def revision(self, connection: Connection | None = None) -> str:
        """Digest of the active bundle. connection: of the transaction in which it has to be the active one."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """A completed training run. provenance: digest of its envelope; ancestors come from `datasets`."""

    id: str
    run_key: str
    artifact_id: str
    code_ref: dict[str, Any]
    datasets: list[str]
    metrics: dict[str, Any]
    provenance: str


class Runs(Protocol):
    """Training."""

    def completed(self, run_id: str) -> Run:
        """Raises NotFound: no such run; Conflict: it is not completed."""


class Signing(Protocol):
    """The signing proxy, as the registry uses it. Raises Unavailable (retry), Refused or BadInput."""

    def sign_model(self, key: str, payload: bytes, actor: str) -> bytes:
        """The OMS bundle (`model.sig`) over an OMS statement. key: builder or manifest."""

    def sign_statement(self, key: str, payload: bytes, evidence: dict[str, bytes], actor: str) -> bytes:
        """The DSSE envelope of a statement. key: builder, evaluator, sentinelnet or manifest."""


class Events(Protocol):
    """The platform database's outbox."""

    def emit(self, connection: Connection, draft: EventDraft) -> str:
        """Writes the event in the caller's transaction and answers its id."""

    def wait_for(self, event_ids: list[str]) -> dict[str, int]:
        """Log indexes, once the events are in the log. Raises Unavailable."""


class Log(Protocol):
    """The audit log, read. What it tells outlives an edited row: it is chained, signed and kept by others too."""

    def told(self, kind: str, subject: str | None = None) -> list[dict[str, Any]]:
        """Events of one type (about one subject) in log order, with everything that was committed before the call.

        Raises:
            Unavailable: the log or the way to it is away; nothing may be decided; retry.
        """


@dataclass(frozen=True)
class Measured:
    """What an evaluator found. samples: rows of the split; metrics: see core.statements.Evaluation."""

    samples: int
    metrics: dict[str, Any]


class Evaluator(Protocol):
    """Runs a model on a split, in a process of its own."""

    def evaluate(self, artifact_files: dict[str, str], dataset_files: dict[str, str]) -> Measured:
        """Args: path → digest of the model's files; path → digest of the split's files. Raises BadInput, Unavailable."""
