"""Where one service's port meets another service: translations, no decisions."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from services.audit.service import AuditLog
from services.core import logfile, tlog
from services.core.clock import Clock
from services.core.errors import Refused
from services.core.events import EventDraft, Subject
from services.core.objects import ObjectStore
from services.core.outbox import Outbox, Relay
from services.core.policy_facts import deploy_input
from services.core.trustfile import TrustNow
from services.registry.evidence import Evidences
from services.registry.http import Registry
from services.registry.ports import Decision
from services.sentinelnet.service import SentinelNet
from services.serving.domain import Servable


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
    """SentinelNet as the port `Policy` of registry, training and serving: decisions are in the log when this answers."""

    sentinelnet: SentinelNet

    def decide(self, action: str, facts: dict[str, Any], subject: Subject, actor: str) -> Decision:
        found = self.sentinelnet.decide(action, facts, subject, actor, logged=True)
        return Decision(
            id=found.id,
            verdict=found.verdict.verdict,
            rules=found.verdict.rules_json(),
            revision=found.policy_revision,
            input_digest=found.input_digest,
            at=found.at // 1000,
        )

    def revision(self) -> str:
        return self.sentinelnet.active().revision


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
    """The audit log's files as the evidence archive needs them."""

    audit: AuditLog
    relay: Relay

    def snapshot(self) -> Iterator[tuple[str, bytes]]:
        self.relay.flush()
        self.audit.publish()
        note = self.audit.checkpoint().encode()
        yield "checkpoint", note
        for path in logfile.paths(tlog.unverified_checkpoint(note).size):
            yield path, self.audit.tile(path)


@dataclass(frozen=True)
class ServedVersions:
    """The registry as serving's port `Versions`."""

    registry: Registry
    evidences: Evidences
    store: ObjectStore
    trust: TrustNow
    clock: Clock

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
        version = self.registry.models.get(model, number)
        found = self._manifest(model, number, environment)
        facts = {
            "model": model,
            "number": number,
            "artifactId": version["artifact_id"],
            "runKey": version["run_key"],
            "riskClass": version["risk_class"],
            "stage": version["stage"],
        }
        manifest = None if found is None else self.store.get(found["envelope"])
        flags = self.evidences.flags(version)
        return deploy_input(facts, environment, manifest, flags, self.trust, now=self.clock() // 1000)

    def flags(self, model: str, number: int) -> list[str]:
        return [flag["reason"] for flag in self.evidences.flags(self.registry.models.get(model, number))]

    def _manifest(self, model: str, number: int, environment: str) -> dict[str, Any] | None:
        found = [item for item in self.evidences.manifests(model, number) if item["environment"] == environment]
        return found[-1] if found else None
