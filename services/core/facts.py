"""The input of a promotion decision, computed from evidence bytes and trust alone.

The platform builds the input with this; the offline verifier computes it again from the bundled evidence and compares. A fact
that cannot be computed from evidence has no place in it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from services.core import dsse, oms, quorum
from services.core.canonical import canonical, parse
from services.core.digests import FileEntry, sha256, tree_digest
from services.core.errors import AiInfraError, BadInput
from services.core.statements import DatasetApproval, Evaluation, Predicate, PromotionRequest, Provenance, expect
from services.core.trust import Trust

T = TypeVar("T", bound=Predicate)

REQUIRED_INPUTS = ("codeRef", "image", "dependencyLock", "datasets", "hyperparameters", "seed", "environment")


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What a promotion is decided on. Envelopes and bundles are bytes as stored; None where there is none.

    version: see history.Version.to_json; files: of the artifact, with digests recomputed from the stored bytes;
    datasets: data set id → manifest bytes; dataset_approvals: envelopes; flags: active ones, see history.flags_on;
    policy_revision: of the bundle that decides.
    """

    request: bytes
    version: Mapping[str, Any]
    files: Sequence[FileEntry]
    artifact_signature: bytes | None
    evaluation: bytes | None
    provenance: bytes | None
    datasets: Mapping[str, bytes]
    dataset_approvals: Sequence[bytes]
    flags: Sequence[Mapping[str, Any]]
    policy_revision: str


def promotion_input(evidence: Evidence, trust: Trust, *, now: int, at: int | None = None) -> dict[str, Any]:
    """The decision input. now: epoch seconds; at: log index at which keys must not be revoked yet (None: now).

    Raises:
        BadInput: the request is not a promotion request; evidence that does not verify becomes null instead, which rules deny.
    """
    envelope = dsse.parse(evidence.request)
    request = expect(PromotionRequest, envelope.payload)
    approvers = quorum.count(envelope, trust, request.requester, at)
    return {
        "action": "promote",
        "now": now,
        "policyRevision": evidence.policy_revision,
        "request": _request(envelope, request, trust, at),
        "version": dict(evidence.version),
        "artifact": _artifact(evidence, trust, at),
        "approvals": [{"signer": a.signer, "person": a.person, "roles": list(a.roles)} for a in approvers],
        "evaluation": _evaluation(evidence.evaluation, trust, at),
        "provenance": _provenance(evidence.provenance, trust, at),
        "datasets": [
            dataset_fact(dataset, evidence.datasets[dataset], evidence.dataset_approvals, trust, at)
            for dataset in sorted(evidence.datasets)
        ],
        "flags": [dict(flag) for flag in evidence.flags],
    }


def dataset_fact(
    dataset: str, manifest: bytes, approvals: Sequence[bytes], trust: Trust, at: int | None = None
) -> dict[str, Any]:
    """One data set as the rules see it: its id recomputed, and which stewards approved these very bytes."""
    value = parse(manifest)
    approved: set[str] = set()
    # Only stewards' keys are tried: another person's signature beside a steward's changes nothing.
    for steward in (person for person in trust.people if "steward" in person.roles):
        keys = {signer: key for signer, key in steward.public_keys.items() if trust.valid(signer, at)}
        found = [_verified(data, DatasetApproval, keys) for data in approvals]
        if any(item is not None and item[0].dataset == dataset for item in found):
            approved.add(steward.person)
    return {
        "id": sha256(manifest) if sha256(manifest) == dataset else None,
        "licence": value["licence"],
        "pii": value["pii"],
        "approvedBy": sorted(approved),
    }


def run_key(inputs: Mapping[str, Any]) -> str:
    """Digest of the canonical bytes of the seven recorded inputs."""
    return sha256(canonical(dict(inputs)))


def _request(envelope: dsse.Envelope, request: PromotionRequest, trust: Trust, at: int | None) -> dict[str, Any]:
    signed = request.requester in dsse.verified_signers(envelope, trust.people_keys(at))
    person = trust.person_of(request.requester) if signed else None
    requester = None
    if person is not None:
        requester = {"signer": request.requester, "person": person.person, "roles": sorted(person.roles)}
    return request.to_json() | {"digest": sha256(envelope.payload), "requester": requester}


def _artifact(evidence: Evidence, trust: Trust, at: int | None) -> dict[str, Any]:
    signature = None
    if evidence.artifact_signature is not None:
        try:
            signer, subject = oms.verify_any(evidence.artifact_signature, evidence.files, trust.signer_with_role("builder", at))
            signature = {"signer": signer, "role": "builder", "subject": subject}
        except AiInfraError:
            signature = None  # the rule promotion.signature denies what did not verify
    return {
        "id": evidence.version["artifactId"],
        "recomputed": tree_digest(evidence.files) if evidence.files else None,
        "signature": signature,
    }


def _evaluation(data: bytes | None, trust: Trust, at: int | None) -> dict[str, Any] | None:
    found = _verified(data, Evaluation, trust.signer_with_role("evaluator", at))
    if found is None:
        return None
    result, signer, digest = found
    return {
        "digest": digest,
        "artifactId": result.artifact_id,
        "dataset": result.dataset,
        "split": result.split,
        "samples": result.samples,
        "metrics": result.metrics,
        "issuedAt": result.issued_at,
        "signer": signer,
        "role": "evaluator",
    }


def _provenance(data: bytes | None, trust: Trust, at: int | None) -> dict[str, Any] | None:
    found = _verified(data, Provenance, trust.signer_with_role("builder", at))
    if found is None:
        return None
    result, signer, digest = found
    inputs = result.inputs.to_json()
    return {
        "digest": digest,
        "artifactId": result.artifact_id,
        "runKey": result.run_key,
        "recomputedRunKey": run_key(inputs),
        "missing": [name for name in REQUIRED_INPUTS if inputs.get(name) is None],
        "purpose": result.job.get("purpose"),
        "dirty": result.inputs.code_ref.dirty,
        "datasets": sorted(result.inputs.datasets),
        "signer": signer,
        "role": "builder",
    }


def _verified(data: bytes | None, kind: type[T], keys: Mapping[str, Any]) -> tuple[T, str, str] | None:
    """Predicate, signer and payload digest of an envelope that one of the keys signed; None for anything else."""
    if data is None:
        return None
    try:
        envelope = dsse.parse(data)
        signers = sorted(dsse.verified_signers(envelope, keys))
        predicate = expect(kind, envelope.payload)
    except BadInput:
        return None
    return (predicate, signers[0], sha256(envelope.payload)) if signers else None
