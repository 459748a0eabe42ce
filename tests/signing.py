"""What the tests about signatures share: people and services with keys, the trust file over them, and evidence that holds."""

from collections.abc import Mapping

from cryptography.hazmat.primitives.asymmetric import ec

from services.core import dsse, keys, tlog
from services.core.database import open_engine
from services.core.digests import sha256
from services.core.dsse import PAYLOAD_TYPE, Envelope
from services.core.keys import PrivateKey, PublicKey, Signature
from services.core.outbox import Outbox, Relay
from services.core.statements import CodeRef, Evaluation, Manifest, PromotionRequest, Provenance, RunInputs, Vsa
from services.core.tls import person_id, service_id
from services.core.trust import Person, Signer, Trust
from services.signing import tables
from services.signing.errors import SignerUnavailable
from services.signing.ports import Signed, StatementRequest
from services.signing.service import SigningService
from tests.fakes.audit_bus import MemoryAuditBus

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


def evaluation(**changes: object) -> Evaluation:
    values: dict[str, object] = {
        "artifact_id": digest("artifact"),
        "dataset": digest("dataset"),
        "split": "test",
        "samples": 100,
        "metrics": {"accuracy": 0.97},
        "issued_at": NOW - 50,
        "passed": ["accuracy"],
        "failed": [],
    }
    return Evaluation(**(values | changes))  # type: ignore[arg-type]


def provenance() -> Provenance:
    code = CodeRef(repository="https://git.example/digits", commit="0" * 40, tree=digest("tree"), dirty=False)
    inputs = RunInputs(
        code_ref=code,
        image=digest("image"),
        dependency_lock=digest("lock"),
        datasets=[digest("dataset")],
        hyperparameters={"epochs": 8},
        seed=7,
        environment={"python": "3.11"},
    )
    return Provenance(
        artifact_id=digest("artifact"),
        run_id="run-1",
        run_key=digest("run"),
        job={"name": "digits"},
        inputs=inputs,
        builder=service_id("api"),
        started_on=NOW - 500,
        finished_on=NOW - 400,
    )


def approved(of: PromotionRequest, *approvers: str) -> Envelope:
    """The request's envelope, signed by its requester and the approvers."""
    return envelope(of.to_statement(), *(PEOPLE_KEYS[name][0] for name in (REQUESTER, *approvers)))


AUDIT_KEY = keys.generate_ed25519()
ALL_KEYS: dict[str, PrivateKey] = {**SERVICE_KEYS, "audit": AUDIT_KEY}
VKEY = tlog.vkey_text(ORIGIN, AUDIT_KEY.public_key())


class FaultySigner:
    """A Signer over a key in memory. faults: which call (from 0) fails, and how."""

    def __init__(self, key: PrivateKey) -> None:
        self.key, self.faults, self.calls = key, dict[int, str](), 0

    def sign(self, payload: bytes) -> Signature:
        fault = self.faults.get(self.calls)
        self.calls += 1
        if fault == "fails":
            raise SignerUnavailable("the key service is away")
        signature = keys.sign(self.key, payload)
        if fault == "persists_then_fails":
            raise SignerUnavailable("the key service's answer was lost")
        if fault == "lies":
            return signature._replace(sig=keys.sign(self.key, payload + b"!").sig)
        return signature

    def public_key(self) -> PublicKey:
        return self.key.public_key()


class Rig:
    """A signing service over a real database, with a log in memory and a clock that stands still."""

    def __init__(self, database: str) -> None:
        self.engine = open_engine(database)
        tables.metadata.create_all(self.engine)
        self.bus, self.now, self.trust = MemoryAuditBus(), NOW, trust(VKEY)
        self.signers = {role: FaultySigner(SERVICE_KEYS[role]) for role in ROLES} | {"audit": FaultySigner(AUDIT_KEY)}
        self.service = self.restarted()

    def restarted(self) -> SigningService:
        """A new service over the same database, as after a restart of the process."""
        outbox = Outbox(tables.outbox, service_id("signing-proxy"), lambda: self.now * 1000)
        return SigningService(
            engine=self.engine,
            outbox=outbox,
            relay=Relay(self.engine, outbox, self.bus),
            signers=self.signers,
            trust=lambda: self.trust,
            origin=ORIGIN,
            clock=lambda: self.now * 1000,
        )

    def sign(self, key: str, payload: bytes, evidence: Mapping[str, bytes] | None = None) -> Signed:
        asked = StatementRequest(key, payload, person_id(REQUESTER), evidence or {})
        return self.service.sign_statement(asked, actor=service_id("api"))
