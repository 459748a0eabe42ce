"""What an audit event is (design: AuditEvent). Pure values; the outbox and the audit bus carry them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from services.core.errors import BadInput

VERSION = 1

TYPES = frozenset(
    {
        "dataset.registered",
        "dataset.approved",
        "train.started",
        "train.completed",
        "train.failed",
        "artifact.uploaded",
        "model.registered",
        "evaluation.recorded",
        "policyCheck",
        "policy.published",
        "promotion.requested",
        "promotion.approved",
        "promotion.completed",
        "signature.requested",
        "signature.made",
        "deploy.started",
        "deploy.stopped",
        "rollout.started",
        "rollout.step",
        "rollout.completed",
        "rollout.extended",
        "rollback",
        "quarantine.set",
        "quarantine.lifted",
        "predictions.sealed",
    }
)

TOLD_BY: Mapping[str, frozenset[str]] = {
    "signing-proxy": frozenset({"signature.requested", "signature.made"}),
    "router": frozenset({"predictions.sealed"}),
}
"""Service → the types that it may tell the log. The API process tells all others, from inside. A verifier replays state from the
log: a router that could tell of a promotion or of policies would change what every verifier computes."""

PASSED_ON = frozenset({"predictions.sealed"})
"""What the API tells too: a cluster's predictors come and go, and hand their records to it."""


def tellers(event_type: str) -> frozenset[str]:
    """The services that may tell of events of this type: a name that the source's SPIFFE URI ends with."""
    told = frozenset(name for name, types in TOLD_BY.items() if event_type in types)
    return told | {"api"} if event_type in PASSED_ON or not told else told


FIELDS = frozenset(
    {"version", "id", "source", "seq", "type", "ts", "actor", "subject", "manifestRef", "signatureRef", "traceId", "payload"}
)
"""The fields that a source fills in; the log adds prevHash."""


@dataclass(frozen=True)
class Subject:
    """What an event is about. kind: dataset, run, artifact, model, promotion…; digest: where it has one."""

    kind: str
    id: str
    digest: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "id": self.id, "digest": self.digest}


@dataclass(frozen=True)
class EventDraft:
    """An event before its source gives it id, sequence number and time.

    actor: SPIFFE URI of who did it; manifest_ref, signature_ref: payload digest of the manifest, digest of the signature.
    """

    type: str
    actor: str
    subject: Subject
    payload: dict[str, Any] = field(default_factory=dict)
    manifest_ref: str | None = None
    signature_ref: str | None = None

    def __post_init__(self) -> None:
        if self.type not in TYPES:
            raise BadInput(f"{self.type!r} is no event type: {sorted(TYPES)}")

    def to_event(self, *, event_id: str, source: str, seq: int, ts: int, trace_id: str = "") -> dict[str, Any]:
        """The event without prevHash. seq: from 1, gapless per source; ts: epoch milliseconds; trace_id: of what caused it."""
        return {
            "version": VERSION,
            "id": event_id,
            "source": source,
            "seq": seq,
            "type": self.type,
            "ts": ts,
            "actor": self.actor,
            "subject": self.subject.to_json(),
            "manifestRef": self.manifest_ref,
            "signatureRef": self.signature_ref,
            "traceId": trace_id,
            "payload": self.payload,
        }
