"""Inputs of the decisions on signed policy bundles and clearances, computed from evidence bytes and trust alone. Pure.

As in `facts`: what does not verify becomes null, which the rules deny; the offline verifier computes the same again.
"""

from typing import Any

from services.core import dsse
from services.core.bundle import Bundle
from services.core.digests import sha256
from services.core.statements import Clearance, PolicyBundle, expect
from services.core.trust import Trust


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


def _signed_by(held: dsse.Envelope, trust: Trust) -> dict[str, Any] | None:
    """The signer whose id sorts first among those whom trust lets sign policies and clearances."""
    for signer in sorted(dsse.verified_signers(held, trust.policy_keys())):
        person = trust.person_of(signer)
        if person is not None:
            return {"signer": signer, "person": person.person, "roles": sorted(person.roles)}
    return None
