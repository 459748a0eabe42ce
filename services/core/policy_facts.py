"""Inputs of the decisions on deployments, signed policy bundles and clearances, computed from evidence bytes and trust alone. Pure.

As in `facts`: what does not verify becomes null, which the rules deny; the offline verifier computes the same again.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from services.core import dsse
from services.core.bundle import Bundle
from services.core.digests import sha256
from services.core.statements import Clearance, Manifest, PolicyBundle, expect
from services.core.trust import Trust


def deploy_input(
    version: Mapping[str, Any],
    environment: str,
    manifest: bytes | None,
    flags: Sequence[Mapping[str, Any]],
    trust: Trust,
    *,
    now: int,
    at: int | None = None,
) -> dict[str, Any]:
    """Input of the action `deploy`.

    Args:
        version: see history.Version.to_json.
        manifest: envelope of the version's latest manifest for the environment; None where there is none.
        flags: active ones, see history.flags_on.
        now: epoch seconds; at: log index at which keys must not be revoked yet (None: now).
    Raises:
        BadInput: the envelope holds no Manifest statement.
    """
    return {
        "action": "deploy",
        "now": now,
        "environment": environment,
        "version": dict(version),
        "manifest": None if manifest is None else _manifest(manifest, trust, at),
        "flags": [dict(flag) for flag in flags],
    }


def publish_input(
    bundle: Bundle, envelope: bytes, trust: Trust, *, active: tuple[str, int] | None, now: int
) -> dict[str, Any]:
    """Input of the action `publish`.

    Args:
        envelope: DSSE envelope of a PolicyBundle statement.
        active: revision and version of the active bundle; None before the first one.
        now: epoch seconds.
    Raises:
        BadInput: the envelope holds no PolicyBundle statement.
    """
    held = dsse.parse(envelope)
    statement = expect(PolicyBundle, held.payload)
    return {
        "action": "publish",
        "now": now,
        "bundle": {"recomputed": bundle.revision},
        "statement": statement.to_json() | {"digest": sha256(held.payload)},
        "signature": _signed_by(held, trust),
        "active": {"revision": active[0], "version": active[1]} if active else None,
    }


def clearance_input(flag: dict[str, Any], envelope: bytes, trust: Trust, *, now: int) -> dict[str, Any]:
    """Input of the action `clearance`.

    Args:
        flag: the active flag {id, kind, target, reason, since}.
        envelope: DSSE envelope of a Clearance statement.
        now: epoch seconds.
    Raises:
        BadInput: the envelope holds no Clearance statement.
    """
    held = dsse.parse(envelope)
    statement = expect(Clearance, held.payload)
    signed = _signed_by(held, trust) or {"signer": None, "person": None, "roles": []}
    return {
        "action": "clearance",
        "now": now,
        "flag": dict(flag),
        "clearance": statement.to_json() | {"digest": sha256(held.payload)} | signed,
    }


def _manifest(envelope: bytes, trust: Trust, at: int | None) -> dict[str, Any]:
    held = dsse.parse(envelope)
    statement = expect(Manifest, held.payload)
    signers = sorted(dsse.verified_signers(held, trust.signer_with_role("manifest", at)))
    return {
        "digest": sha256(held.payload),
        "environment": statement.environment,
        "artifactId": statement.artifact_id,
        "signer": signers[0] if signers else None,
        "role": "manifest" if signers else None,
    }


def _signed_by(held: dsse.Envelope, trust: Trust) -> dict[str, Any] | None:
    """The signer whose id sorts first among those whom trust lets sign policies and clearances."""
    for signer in sorted(dsse.verified_signers(held, trust.policy_keys())):
        person = trust.person_of(signer)
        if person is not None:
            return {"signer": signer, "person": person.person, "roles": sorted(person.roles)}
    return None
