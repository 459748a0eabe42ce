"""What each key may sign: the rules of "parse what you sign". Pure; opens nothing and signs nothing."""

from collections.abc import Mapping
from typing import TypeVar

from services.core import dsse, oms, quorum
from services.core.errors import BadInput
from services.core.statements import Evaluation, Manifest, Predicate, PromotionRequest, Provenance, Vsa, expect, parse_statement
from services.core.trust import Trust
from services.signing.errors import BadPayload, KeyRefused

AUDIT_KEY = "audit"
STATEMENT_KEYS: Mapping[type[Predicate], str] = {
    Provenance: "builder",
    Evaluation: "evaluator",
    Vsa: "sentinelnet",
    Manifest: "manifest",
}
MODEL_KEYS = frozenset({"builder", "manifest"})
KEY_NAMES = (*STATEMENT_KEYS.values(), AUDIT_KEY)
T = TypeVar("T", bound=Predicate)
MANIFEST_EVIDENCE = frozenset({"request", "decision"})
CLOCK_SKEW_S = 60
"""How far the clocks of the platform's processes may be apart."""


def check_statement(key: str, payload: bytes) -> Predicate:
    """The predicate, if this key signs such statements.

    Raises:
        BadPayload: no statement of ours, or not its canonical bytes (one meaning, one byte string, one digest).
        KeyRefused: another key signs this kind.
    """
    try:
        predicate = parse_statement(payload)
    except BadInput as error:
        raise BadPayload(f"not a statement that is signed here: {error}") from error
    if predicate.to_statement() != payload:
        raise BadPayload(f"the {type(predicate).__name__} is not in canonical form (RFC 8785)")
    wanted = STATEMENT_KEYS.get(type(predicate))
    if wanted is None:
        raise KeyRefused(f"a {type(predicate).__name__} is signed by people, not by the proxy")
    if wanted != key:
        raise KeyRefused(f"a {type(predicate).__name__} is signed with key {wanted!r}, not with {key!r}")
    return predicate


def check_evidence(predicate: Predicate, evidence: Mapping[str, bytes], trust: Trust, now: int) -> None:
    """Whether the evidence allows the signature. Only a Manifest needs any.

    Args:
        now: epoch seconds.
    Raises:
        BadPayload: evidence missing, unknown or malformed.
        KeyRefused, QuorumNotReached: it does not allow this Manifest; the message says what differs.
    """
    wanted = MANIFEST_EVIDENCE if isinstance(predicate, Manifest) else frozenset()
    if set(evidence) != wanted:
        raise BadPayload(f"evidence for a {type(predicate).__name__}: want exactly {sorted(wanted)}, got {sorted(evidence)}")
    if isinstance(predicate, Manifest):
        _check_manifest(predicate, evidence, trust, now)


def check_model(key: str, payload: bytes) -> oms.ModelStatement:
    """The OMS statement, if this key signs models. Raises as check_statement."""
    if key not in MODEL_KEYS:
        raise KeyRefused(f"models are signed with one of {sorted(MODEL_KEYS)}, not with {key!r}")
    try:
        statement = oms.parse_statement(payload)
    except BadInput as error:
        raise BadPayload(f"not an OMS statement: {error}") from error
    return statement


def _check_manifest(manifest: Manifest, evidence: Mapping[str, bytes], trust: Trust, now: int) -> None:
    request_envelope, request = _attested(PromotionRequest, evidence["request"], manifest.request, "request")
    decision_envelope, decision = _attested(Vsa, evidence["decision"], manifest.decision, "decision")
    _check_request(manifest, request, now)
    _check_decision(manifest, request, decision, now)
    if not dsse.verified_signers(decision_envelope, trust.signer_with_role("sentinelnet")):
        raise KeyRefused("the decision is not signed by a key with the role sentinelnet")
    _check_quorum(request_envelope, request, trust)


def _attested(kind: type[T], data: bytes, digest: str, what: str) -> tuple[dsse.Envelope, T]:
    """The envelope and its predicate, whose payload is the one that the Manifest names."""
    try:
        envelope = dsse.parse(data)
        predicate = expect(kind, envelope.payload)
    except BadInput as error:
        raise BadPayload(f"evidence {what!r}: {error}") from error
    if envelope.payload_type != dsse.PAYLOAD_TYPE:
        raise BadPayload(f"evidence {what!r} has payload type {envelope.payload_type!r}")
    if dsse.payload_digest(envelope) != digest:
        raise KeyRefused(f"the Manifest names {what} {digest}, the evidence is {dsse.payload_digest(envelope)}")
    return envelope, predicate


def _check_request(manifest: Manifest, request: PromotionRequest, now: int) -> None:
    _same("model", manifest.model, request.model)
    _same("number", manifest.number, request.number)
    _same("artifact", manifest.artifact_id, request.artifact_id)
    _same("environment", manifest.environment, request.to_stage)
    _same("evaluation", manifest.evaluation, request.evaluation)
    if not request.issued_at - CLOCK_SKEW_S <= now < request.expires_at:
        raise KeyRefused(f"the request is valid from {request.issued_at} to {request.expires_at}, now is {now}: ask again")


def _check_decision(manifest: Manifest, request: PromotionRequest, decision: Vsa, now: int) -> None:
    _same("model", manifest.model, decision.model)
    _same("number", manifest.number, decision.number)
    _same("artifact", manifest.artifact_id, decision.artifact_id)
    _same("environment", manifest.environment, decision.environment)
    _same("policy revision", request.policy_revision, decision.policy_revision)
    if decision.verdict != "pass":
        raise KeyRefused(f"decision {decision.decision_id} says {decision.verdict}")
    # The decision names what it looked at: one that was made for another request, or before it, cannot be reused.
    unseen = {manifest.request, manifest.evaluation, manifest.provenance} - set(decision.attestations)
    if unseen:
        raise KeyRefused(f"decision {decision.decision_id} did not look at {sorted(unseen)}")
    if not request.issued_at - CLOCK_SKEW_S <= decision.time_verified <= now + CLOCK_SKEW_S:
        raise KeyRefused(f"decision {decision.decision_id} was made at {decision.time_verified}, outside the request's time")


def _check_quorum(envelope: dsse.Envelope, request: PromotionRequest, trust: Trust) -> None:
    if request.requester not in dsse.verified_signers(envelope, trust.people_keys()):
        raise KeyRefused("the request is not signed by its requester with a trusted key")
    needed = trust.required_approvals(request.risk_class, request.to_stage)
    quorum.require(envelope, trust, request.requester, needed)


def _same(what: str, manifest: object, evidence: object) -> None:
    if manifest != evidence:
        raise KeyRefused(f"{what}: the Manifest says {manifest}, the evidence says {evidence}")
