"""Where one service's port meets another service: translations, no decisions."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from services.audit.service import AuditLog
from services.core import logfile, tlog
from services.core.clock import Clock
from services.core.errors import BadInput, NotFound, Refused
from services.core.events import EventDraft, Subject
from services.core.objects import CorruptObject, ObjectStore
from services.core.outbox import Outbox, Relay
from services.core.policy_facts import deploy_input
from services.core.trustfile import TrustNow
from services.registry import told
from services.registry.evidence import Evidences
from services.registry.http import Registry
from services.registry.ports import Decision, Log
from services.sentinelnet.service import SentinelNet
from services.serving.domain import Servable
from services.serving.errors import UnknownPrediction
from services.serving.kept import KeptRecords
from services.serving.service import Serving

PAGE = 1000


@dataclass(frozen=True)
class OutboxEvents:
    """The platform's outbox and relay as the registry's port `Events`."""

    outbox: Outbox
    relay: Relay

    def emit(self, connection: Connection, draft: EventDraft) -> str:
        return self.outbox.emit(connection, draft)

    def wait_for(self, event_ids: list[str]) -> dict[str, int]:
        return self.relay.wait_for(event_ids)


@dataclass(frozen=True)
class SentinelPolicy:
    """SentinelNet as the port `Policy` of registry, training and serving: decisions are in the log when this answers.

    cosigned: passes once as many witnesses as trust asks for cosigned the log so far, and raises a retryable error until then. A
    decision to promote has no effect before.
    """

    sentinelnet: SentinelNet
    cosigned: Callable[[], None] = lambda: None

    def decide(self, action: str, facts: dict[str, Any], subject: Subject, actor: str) -> Decision:
        found = self.sentinelnet.decide(action, facts, subject, actor, logged=True)
        if action == "promote":
            self.cosigned()
        return Decision(
            id=found.id,
            verdict=found.verdict.verdict,
            rules=found.verdict.rules_json(),
            revision=found.policy_revision,
            input_digest=found.input_digest,
            at=found.at // 1000,
        )

    def revision(self, connection: Connection | None = None) -> str:
        return self.sentinelnet.active(connection).revision

    def held_out(self) -> list[str]:
        """The splits on which the rule promotion.evaluation-present takes an evaluation."""
        found: list[str] = self.sentinelnet.active_bundle().data["limits"]["evaluation_splits"]
        return found


@dataclass(frozen=True)
class DecisionRecords:
    """SentinelNet's records as the evidence archive needs them."""

    sentinelnet: SentinelNet
    store: ObjectStore

    def input(self, decision_id: str) -> bytes:
        return self.store.get(self.sentinelnet.get(decision_id).input_digest)

    def bundle(self, decision_id: str) -> tuple[bytes, bytes]:
        published = self.sentinelnet.published_for(self.sentinelnet.get(decision_id))
        return self.store.get(published.bundle), self.store.get(published.envelope)


@dataclass(frozen=True)
class LogSnapshot:
    """The audit log as the evidence archive needs it."""

    audit: AuditLog
    relay: Relay

    def holds(self, event_id: str) -> bool:
        try:
            self.audit.by_id(event_id)
        except NotFound:
            return False
        return True

    def snapshot(self) -> Iterator[tuple[str, bytes]]:
        self.relay.flush()
        self.audit.publish()
        note = self.audit.checkpoint().encode()
        yield "checkpoint", note
        for path in sorted(logfile.paths(tlog.unverified_checkpoint(note).size)):
            yield path, self.audit.tile(path)


@dataclass(frozen=True)
class ServedPredictions:
    """Serving as the evidence archive needs it: what predictors of a cluster handed on, and what the backend knows."""

    serving: Serving
    kept: KeptRecords

    def prediction(self, prediction: str) -> dict[str, Any]:
        # The id goes into the router's URL: only what can be one is asked for.
        if not re.fullmatch(r"[A-Za-z0-9-]{1,80}", prediction):
            raise NotFound(f"no prediction {prediction[:100]!r}: the header x-request-id of an answer is its id")
        try:
            return self.kept.find(prediction)
        except UnknownPrediction:
            return self.serving.backend.prediction(prediction)

    def deployment(self, deployment: str) -> dict[str, Any]:
        return self.serving.get(deployment)


@dataclass(frozen=True)
class LogHistory:
    """The audit log as the registry's port `Log`."""

    audit: AuditLog
    relay: Relay

    def told(self, kind: str, subject: str | None = None) -> list[dict[str, Any]]:
        # What was committed and not carried to the log yet would be missing: a flag, for example.
        self.relay.flush()
        found: list[dict[str, Any]] = []
        after = -1
        while page := self.audit.search(type=kind, subject_id=subject, after=after, limit=PAGE):
            found += [entry.event for entry in page]
            after = page[-1].index
        return found


@dataclass(frozen=True)
class ServedVersions:
    """The registry as serving's port `Versions`."""

    registry: Registry
    evidences: Evidences
    store: ObjectStore
    trust: TrustNow
    clock: Clock
    log: Log

    def servable(self, model: str, number: int, environment: str) -> Servable:
        version = self.registry.models.get(model, number)
        manifest = self._manifest(model, number, environment)
        if manifest is None:
            raise Refused(f"{model}@{number} has no manifest for {environment}: promote it first")
        return Servable(
            model=model,
            number=number,
            environment=environment,
            artifact_id=version["artifact_id"],
            files=tuple(self.registry.artifacts.files(version["artifact_id"])),
            manifest=manifest["envelope"],
            manifest_ref=manifest["payload"],
            bundle=manifest["bundle"],
        )

    def deploy_input(self, model: str, number: int, environment: str) -> dict[str, Any]:
        self.registry.models.get(model, number)
        # Version and flags as the log tells them: an edited row decides nothing.
        version, flags = told.version(self.log, model, number)
        facts, trust, now = version.to_json(), self.trust(), self.clock() // 1000
        try:
            return deploy_input(facts, environment, self._envelope(model, number, environment), flags, trust, now=now)
        except BadInput:
            # What is no manifest is none: the rule serving.manifest says so, in a recorded decision.
            return deploy_input(facts, environment, None, flags, trust, now=now)

    def flags(self, model: str, number: int) -> list[str]:
        # Also from the log: traffic does not resume because a flag's row is gone.
        return [flag["reason"] for flag in told.version(self.log, model, number)[1]]

    def _envelope(self, model: str, number: int, environment: str) -> bytes | None:
        """The stored manifest; None when there is none, or not with the bytes that its name says."""
        row = self._manifest(model, number, environment)
        try:
            return None if row is None else self.store.get(row["envelope"])
        except (CorruptObject, NotFound):
            return None

    def _manifest(self, model: str, number: int, environment: str) -> dict[str, Any] | None:
        found = [item for item in self.evidences.manifests(model, number) if item["environment"] == environment]
        return found[-1] if found else None
