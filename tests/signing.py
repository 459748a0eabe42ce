"""What the tests about signatures share: people and services with keys, the trust file over them, and evidence that holds."""

from cryptography.hazmat.primitives.asymmetric import ec

from services.core import dsse, keys
from services.core.digests import sha256
from services.core.dsse import PAYLOAD_TYPE, Envelope
from services.core.keys import PrivateKey
from services.core.statements import Manifest, PromotionRequest, Vsa
from services.core.tls import person_id, service_id
from services.core.trust import Person, Signer, Trust

ORIGIN = "log.example/ai-infra"
NOW = 1_800_000_000
"""Epoch seconds."""

ROLES = ("builder", "evaluator", "sentinelnet", "manifest")
SERVICE_KEYS: dict[str, ec.EllipticCurvePrivateKey] = {role: keys.generate_p256() for role in ROLES}
REQUESTER = "rita"
APPROVERS = ("ada", "ben", "cyd", "dan", "eve")
# Each person has a second key, which a quorum must not count again.
PEOPLE_KEYS: dict[str, tuple[ec.EllipticCurvePrivateKey, ec.EllipticCurvePrivateKey]] = {
    name: (keys.generate_p256(), keys.generate_p256()) for name in (REQUESTER, *APPROVERS, "tom")
}
ROLES_OF = {
    REQUESTER: frozenset({"promoter", "approver"}),
    "tom": frozenset({"trainer"}),
    "eve": frozenset({"approver", "security"}),
}


def pem(key: PrivateKey) -> str:
    return keys.public_pem(key.public_key())


def signer_of(name: str, which: int = 0) -> str:
    return keys.signer_id(PEOPLE_KEYS[name][which].public_key())


def trust(vkey: str | None = None, **changes: object) -> Trust:
    """The trust file of the test's world."""
    values: dict[str, object] = {
        "log_origin": ORIGIN,
        "log_vkey": vkey or f"{ORIGIN}+00000000+AAAA",
        "signers": tuple(Signer(role, pem(key)) for role, key in SERVICE_KEYS.items()),
        "people": tuple(
            Person(person_id(name), ROLES_OF.get(name, frozenset({"approver"})), tuple(pem(key) for key in pair))
            for name, pair in PEOPLE_KEYS.items()
        ),
        "policy_signers": frozenset({signer_of("eve")}),
    }
    return Trust(**(values | changes))  # type: ignore[arg-type]


def digest(name: str) -> str:
    """Some digest, the same for the same name."""
    return sha256(name.encode())


def envelope(payload: bytes, *signing: PrivateKey) -> Envelope:
    return Envelope(PAYLOAD_TYPE, payload, tuple(dsse.sign(payload, key) for key in signing))


def request(**changes: object) -> PromotionRequest:
    values: dict[str, object] = {
        "model": "digits",
        "number": 1,
        "artifact_id": digest("artifact"),
        "run_key": digest("run"),
        "evaluation": digest("evaluation"),
        "from_stage": "staging",
        "to_stage": "prod",
        "risk_class": "high",
        "policy_revision": digest("policy"),
        "nonce": "0" * 32,
        "issued_at": NOW - 100,
        "expires_at": NOW + 3600,
        "requester": signer_of(REQUESTER),
    }
    return PromotionRequest(**(values | changes))  # type: ignore[arg-type]


def vsa(of: PromotionRequest, **changes: object) -> Vsa:
    values: dict[str, object] = {
        "model": of.model,
        "number": of.number,
        "artifact_id": of.artifact_id,
        "environment": of.to_stage,
        "verifier": service_id("api"),
        "time_verified": NOW - 5,
        "policy_revision": of.policy_revision,
        "decision_id": "dec-1",
        "verdict": "pass",
        "input_digest": digest("input"),
        "attestations": [sha256(of.to_statement()), digest("evaluation"), digest("provenance")],
    }
    return Vsa(**(values | changes))  # type: ignore[arg-type]


def manifest(of: PromotionRequest, decision: Vsa, **changes: object) -> Manifest:
    values: dict[str, object] = {
        "model": of.model,
        "number": of.number,
        "environment": of.to_stage,
        "artifact_id": of.artifact_id,
        "oms_subject": digest("oms"),
        "request": sha256(of.to_statement()),
        "decision": sha256(decision.to_statement()),
        "evaluation": digest("evaluation"),
        "provenance": digest("provenance"),
    }
    return Manifest(**(values | changes))  # type: ignore[arg-type]


def approved(of: PromotionRequest, *approvers: str) -> Envelope:
    """The request's envelope, signed by its requester and the approvers."""
    return envelope(of.to_statement(), *(PEOPLE_KEYS[name][0] for name in (REQUESTER, *approvers)))
