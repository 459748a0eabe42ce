"""trust.json: whom a verifier believes. It reaches the verifier out of band and is never taken from an archive.

The file is one strict JSON object (RFC 8259, UTF-8; an unknown or a missing field is refused):

    version        1
    environments   the names of the stages, lowest first: ["dev", "staging", "prod"]
    log            {"origin": the log's name as its checkpoints state it,
                    "vkey": its public key as a C2SP verifier key, "name+hash+base64",
                    "witnesses": verifier keys of those whose cosignatures count (C2SP tlog-cosignature, type 4),
                    "witnessThreshold": how many of them must have cosigned a checkpoint that is to be believed; 0: none}
    signers        services that sign: [{"role": builder | evaluator | sentinelnet | manifest, "publicKey": SPKI PEM}]
    people         [{"person": SPIFFE URI, "roles": [trainer, approver, …], "keys": [SPKI PEM, …]}]
    approvals      how many approvers a promotion needs, by risk class and target stage:
                   {"high": {"staging": 3, "prod": 3}, "low": {"staging": 0, "prod": 1}}; a pair that is absent is refused
    policySigners  signer ids that may publish policy bundles; each is a key of a person with the role security
    revoked        [{"signer": signer id, "logIndex": index of the revocation in the log}]: a signature counts if it was
                   logged before that index (log order, not clock time)

A signer id is the lowercase hex SHA-256 of a key's SPKI DER; the file holds keys and ids are computed. A key belongs to one
person or one service, never to two. This module reads no file and checks no signature.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

from services.core import tlog
from services.core.canonical import canonical
from services.core.canonical import parse as parse_json
from services.core.errors import BadInput, Refused, TooLarge
from services.core.keys import PublicKey, load_public_pem, signer_id

VERSION = 1
MAX_BYTES = 4 << 20
SERVICE_ROLES = frozenset({"builder", "evaluator", "sentinelnet", "manifest"})
PERSON_ROLES = frozenset({"trainer", "evaluator", "steward", "promoter", "approver", "deployer", "auditor", "security", "admin"})
RISK_CLASSES = ("high", "low")
ENVIRONMENTS = ("dev", "staging", "prod")
DEFAULT_APPROVALS: Mapping[str, Mapping[str, int]] = {
    "high": {"staging": 3, "prod": 3},
    "low": {"staging": 0, "prod": 1},
}
_SPIFFE = re.compile(r"spiffe://[a-z0-9._-]{1,255}(/[A-Za-z0-9._-]+)+")
_SIGNER = re.compile(r"[0-9a-f]{64}")


class BadTrust(BadInput):
    """The trust file is wrong; the message names the field and what it should hold."""


@dataclass(frozen=True)
class Signer:
    """A service's key. role: one of SERVICE_ROLES."""

    role: str
    public_key_pem: str

    @cached_property
    def key(self) -> PublicKey:
        return load_public_pem(self.public_key_pem)

    @cached_property
    def signer(self) -> str:
        return signer_id(self.key)


@dataclass(frozen=True)
class Person:
    """person: SPIFFE URI; keys: SPKI PEM; a person may have several keys and still counts once."""

    person: str
    roles: frozenset[str]
    keys: tuple[str, ...]

    @cached_property
    def public_keys(self) -> Mapping[str, PublicKey]:
        return {signer_id(key): key for key in map(load_public_pem, self.keys)}


@dataclass(frozen=True, kw_only=True)
class Trust:
    """The parsed file, checked when it is made. revoked: signer id → log index of the revocation.

    Lookups take `at`: the log index of the signature in question. Without it the question is about signing now, so a revoked
    key is out.
    """

    log_origin: str
    log_vkey: str
    signers: tuple[Signer, ...]
    people: tuple[Person, ...]
    approvals: Mapping[str, Mapping[str, int]] = field(default_factory=lambda: DEFAULT_APPROVALS)
    environments: tuple[str, ...] = ENVIRONMENTS
    policy_signers: frozenset[str] = frozenset()
    revoked: Mapping[str, int] = field(default_factory=dict)
    log_witnesses: tuple[str, ...] = ()
    witness_threshold: int = 0

    def __post_init__(self) -> None:
        _check_log(self.log_origin, self.log_vkey)
        _check_witnesses(self)
        _check_keys(self)
        _check_approvals(self)
        for signer in self.policy_signers:
            person = self.person_of(signer)
            if person is None or "security" not in person.roles:
                raise BadTrust(f"policySigners: {signer[:16]}… is no key of a person with the role security")

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Raises BadTrust (or BadJson) naming the field; a trust file is taken whole or not at all."""
        if len(data) > MAX_BYTES:
            raise TooLarge(f"a trust file of {len(data)} bytes: at most {MAX_BYTES}")
        value = _fields(
            parse_json(data),
            {"version", "environments", "log", "signers", "people", "approvals", "policySigners", "revoked"},
            "the trust file",
        )
        if value["version"] != VERSION or type(value["version"]) is not int:
            raise BadTrust(f"version {value['version']!r}: this program reads version {VERSION}")
        log = _fields(value["log"], {"origin", "vkey", "witnesses", "witnessThreshold"}, "log")
        revoked = [_fields(item, {"signer", "logIndex"}, "revoked") for item in _list(value["revoked"], "revoked")]
        if len({str(item["signer"]) for item in revoked}) != len(revoked):
            raise BadTrust("revoked: a signer is listed twice")
        return cls(
            log_origin=_text(log["origin"], "log.origin"),
            log_vkey=_text(log["vkey"], "log.vkey"),
            log_witnesses=tuple(_texts(log["witnesses"], "log.witnesses")),
            witness_threshold=log["witnessThreshold"],
            signers=tuple(_signer(item) for item in _list(value["signers"], "signers")),
            people=tuple(_person(item) for item in _list(value["people"], "people")),
            approvals=_approvals(value["approvals"]),
            environments=tuple(_texts(value["environments"], "environments")),
            policy_signers=frozenset(_texts(value["policySigners"], "policySigners")),
            revoked={_text(item["signer"], "revoked.signer"): item["logIndex"] for item in revoked},
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "environments": list(self.environments),
            "log": {
                "origin": self.log_origin,
                "vkey": self.log_vkey,
                "witnesses": list(self.log_witnesses),
                "witnessThreshold": self.witness_threshold,
            },
            "signers": [{"role": signer.role, "publicKey": signer.public_key_pem} for signer in self.signers],
            "people": [
                {"person": person.person, "roles": sorted(person.roles), "keys": list(person.keys)} for person in self.people
            ],
            "approvals": {risk: dict(stages) for risk, stages in self.approvals.items()},
            "policySigners": sorted(self.policy_signers),
            "revoked": [{"signer": signer, "logIndex": index} for signer, index in sorted(self.revoked.items())],
        }

    def to_bytes(self) -> bytes:
        """Canonical bytes."""
        return canonical(self.to_json())

    def valid(self, signer: str, at: int | None = None) -> bool:
        """Whether the key was not revoked before log index `at` (None: is not revoked now)."""
        revoked = self.revoked.get(signer)
        return revoked is None or (at is not None and at < revoked)

    def signer_with_role(self, role: str, at: int | None = None) -> Mapping[str, PublicKey]:
        """Signer id → key of the services with this role; empty when there is none, so nothing verifies."""
        return {s.signer: s.key for s in self.signers if s.role == role and self.valid(s.signer, at)}

    def people_keys(self, at: int | None = None) -> Mapping[str, PublicKey]:
        """Signer id → key of all people."""
        return {s: key for person in self.people for s, key in person.public_keys.items() if self.valid(s, at)}

    def policy_keys(self, at: int | None = None) -> Mapping[str, PublicKey]:
        """Signer id → key of those who may publish policy bundles and sign clearances."""
        return {signer: key for signer, key in self.people_keys(at).items() if signer in self.policy_signers}

    def person_of(self, signer: str) -> Person | None:
        """Whose key it is, revoked or not."""
        return self._owners.get(signer)

    def required_approvals(self, risk_class: str, stage: str) -> int:
        """k of k-of-n.

        Raises:
            Refused: trust says nothing about this risk class and stage; no promotion without a stated quorum.
        """
        try:
            return self.approvals[risk_class][stage]
        except KeyError:
            raise Refused(f"trust states no quorum for risk class {risk_class!r} to {stage!r}: add it to approvals") from None

    @cached_property
    def witnesses(self) -> tuple[tlog.VerifierKey, ...]:
        """Keys of the log's witnesses, each with another name."""
        return tuple(tlog.parse_witness_vkey(text) for text in self.log_witnesses)

    @cached_property
    def _owners(self) -> Mapping[str, Person]:
        return {signer: person for person in self.people for signer in person.public_keys}


def _check_log(origin: str, vkey: str) -> None:
    if not origin or any(char.isspace() or char == "+" for char in origin):
        raise BadTrust(f"log.origin {origin!r}: want a name without spaces and plus signs")
    if not re.fullmatch(r"\S+\+[0-9a-f]{8}\+[A-Za-z0-9+/]+={0,2}", vkey) or not vkey.startswith(f"{origin}+"):
        raise BadTrust("log.vkey: want origin+hash+base64 with log.origin as its name (C2SP signed-note)")


def _check_witnesses(trust: Trust) -> None:
    try:
        witnesses = trust.witnesses
        own = [signer_id(tlog.parse_vkey(trust.log_vkey).key)] if witnesses else []
    except tlog.BadLogFormat as error:
        raise BadTrust(f"log.vkey or log.witnesses: {error}") from error
    held = [signer_id(witness.key) for witness in witnesses]
    if len({witness.name for witness in witnesses}) != len(held) or len(set(held)) != len(held):
        raise BadTrust("log.witnesses: a name or a key is listed twice; each witness counts once")
    if set(own) & set(held):
        raise BadTrust("log.witnesses: the log's own key is listed; a log that vouches for itself has no witness")
    threshold = trust.witness_threshold
    if type(threshold) is not int or not 0 <= threshold <= len(held):
        raise BadTrust(f"log.witnessThreshold {threshold!r}: want 0 to {len(held)}, the number of witnesses")


def _check_keys(trust: Trust) -> None:
    for signer in trust.signers:
        if signer.role not in SERVICE_ROLES:
            raise BadTrust(f"signers: role {signer.role!r} is none of {sorted(SERVICE_ROLES)}")
    for person in trust.people:
        if not _SPIFFE.fullmatch(person.person):
            raise BadTrust(f"people: {person.person!r} is no SPIFFE URI")
        if not person.roles <= PERSON_ROLES:
            raise BadTrust(f"people: {sorted(person.roles - PERSON_ROLES)} are none of {sorted(PERSON_ROLES)}")
    names = [person.person for person in trust.people]
    if len(set(names)) != len(names):
        raise BadTrust("people: a person is listed twice; give one entry all keys")
    held = [signer_id(load_public_pem(pem)) for person in trust.people for pem in person.keys]
    held += [signer.signer for signer in trust.signers]
    if len(set(held)) != len(held):
        double = next(signer for signer in held if held.count(signer) > 1)
        raise BadTrust(f"key {double[:16]}… is listed twice: a key belongs to one person or one service role")
    for signer_text, index in trust.revoked.items():
        if not _SIGNER.fullmatch(signer_text) or type(index) is not int or index < 0:
            raise BadTrust("revoked: want a signer id (64 hex digits) and a log index of 0 or more")


def _check_approvals(trust: Trust) -> None:
    if not trust.environments or len(set(trust.environments)) != len(trust.environments):
        raise BadTrust("environments: want each stage once")
    for risk, stages in trust.approvals.items():
        if risk not in RISK_CLASSES or not set(stages) <= set(trust.environments):
            raise BadTrust(f"approvals: want risk classes {list(RISK_CLASSES)} and stages {list(trust.environments)}")
        if any(type(k) is not int or not 0 <= k <= 64 for k in stages.values()):
            raise BadTrust(f"approvals.{risk}: want integers of 0 to 64")


def _signer(item: Any) -> Signer:
    value = _fields(item, {"role", "publicKey"}, "a signer")
    return Signer(_text(value["role"], "signers.role"), _text(value["publicKey"], "signers.publicKey"))


def _person(item: Any) -> Person:
    value = _fields(item, {"person", "roles", "keys"}, "a person")
    roles, pems = _texts(value["roles"], "people.roles"), _texts(value["keys"], "people.keys")
    return Person(_text(value["person"], "people.person"), frozenset(roles), tuple(pems))


def _approvals(value: Any) -> dict[str, dict[str, int]]:
    if not isinstance(value, dict) or not all(isinstance(stages, dict) for stages in value.values()):
        raise BadTrust('approvals: want {"high": {"prod": 3}, …}')
    return value


def _fields(value: Any, fields: set[str], what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadTrust(f"{what}: want an object")
    if set(value) != fields:
        missing, unknown = sorted(fields - set(value)), sorted(set(value) - fields)
        told = [f"{how} {', '.join(names)}" for how, names in (("missing", missing), ("unknown", unknown)) if names]
        raise BadTrust(f"{what}: {'; '.join(told)}")
    return value


def _list(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise BadTrust(f"{what}: want a list")
    return value


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise BadTrust(f"{what}: want a string")
    return value


def _texts(value: Any, what: str) -> list[str]:
    return [_text(item, what) for item in _list(value, what)]
