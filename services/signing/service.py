"""The proxy's use cases: what is asked for is parsed, allowed, audited, signed, audited again, and only then handed out."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Engine, Row, Table, bindparam, insert, select, update

from services.core import dsse, keys, merkle, tlog, tracing
from services.core.clock import Clock
from services.core.database import begin
from services.core.digests import sha256
from services.core.events import EventDraft, Subject
from services.core.keys import BadSignature, Signature
from services.core.outbox import Outbox, Relay
from services.core.statements import Manifest
from services.core.trust import Trust
from services.signing import domain
from services.signing.errors import BadPayload, CheckpointRefused, KeyRefused, SignerUnavailable
from services.signing.ports import CheckpointState, Signed, Signer, StatementRequest
from services.signing.tables import checkpoints, signatures

# Made once: putting a statement together costs more than the database takes to answer it.
_SAME = (signatures.c.key == bindparam("of_key")) & (signatures.c.payload_digest == bindparam("of_digest"))
_FIND = select(signatures).where(_SAME)
_MADE = _FIND.where(signatures.c.signature.is_not(None))
_MANIFEST_OF = select(signatures.c.key).where(
    (signatures.c.key == "manifest") & (signatures.c.oms_subject == bindparam("of_subject")) & signatures.c.signature.is_not(None)
)
_REQUEST = insert(signatures)
_COMPLETE = update(signatures).where(_SAME).returning(*signatures.c)
_OF_LOG = checkpoints.c.origin == bindparam("of_origin")
_LAST, _ADVANCE = select(checkpoints).where(_OF_LOG), update(checkpoints).where(_OF_LOG)


class _Job:
    """One payload for one key, and how it is told to the log."""

    def __init__(self, key: str, payload: bytes, kind: str, actor: str, on_behalf_of: str, oms_subject: str | None) -> None:
        self.key, self.payload, self.digest, self.oms_subject = key, payload, sha256(payload), oms_subject
        self._kind, self._actor, self._on_behalf_of = kind, actor, on_behalf_of

    @property
    def of(self) -> dict[str, str]:
        """Its row's key, as parameters of the statements above."""
        return {"of_key": self.key, "of_digest": self.digest}

    def event(self, event_type: str, facts: Mapping[str, str]) -> EventDraft:
        """Digests only: the log holds no signature and no statement."""
        told = {"key": self.key, "predicateType": self._kind, "onBehalfOf": self._on_behalf_of}
        return EventDraft(
            type=event_type,
            actor=self._actor,
            subject=Subject("attestation", self.digest, self.digest),
            payload={**told, **facts},
            manifest_ref=self.digest if self._kind == Manifest.TYPE else None,
            signature_ref=facts.get("signatureDigest"),
        )


class SigningService:
    """What ports.SigningProxy promises, at the side of the keys. Safe in threads.

    signers: key name → Signer; trust: trust.json as it is now, so a revocation takes effect with the next request;
    origin: the one log whose checkpoints are signed here.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        outbox: Outbox,
        relay: Relay,
        signers: Mapping[str, Signer],
        trust: Callable[[], Trust],
        origin: str,
        clock: Clock,
    ) -> None:
        self._engine, self._outbox, self._relay = engine, outbox, relay
        self._signers, self._trust, self._origin, self._clock = signers, trust, origin, clock

    def sign_statement(self, request: StatementRequest, *, actor: str) -> Signed:
        """See ports.SigningProxy. actor: SPIFFE identity of the caller, from its certificate."""
        predicate = domain.check_statement(request.key, request.payload)
        subject = predicate.oms_subject if isinstance(predicate, Manifest) else None
        job = _Job(request.key, request.payload, type(predicate).TYPE, actor, request.on_behalf_of, subject)
        # A signature that was made answers a retry, even when its evidence has expired in between.
        if (made := self._made(job)) is not None:
            return self._answer(made)
        trust = self._trust()
        self._check_key(job.key, trust)
        domain.check_evidence(predicate, request.evidence, trust, self._clock() // 1000)
        return self._sign(job)

    def sign_model(self, *, key: str, payload: bytes, on_behalf_of: str, actor: str) -> Signed:
        """See ports.SigningProxy."""
        statement = domain.check_model(key, payload)
        job = _Job(key, payload, "model", actor, on_behalf_of, None)
        if (made := self._made(job)) is not None:
            return self._answer(made)
        self._check_key(key, self._trust())
        if key == "manifest" and not self._signed_manifest(statement.subject):
            raise KeyRefused(f"no Manifest was signed for the tree {statement.subject}: have its Manifest signed first")
        return self._sign(job)

    def sign_checkpoint(self, *, origin: str, size: int, root: bytes, proof: Sequence[bytes]) -> str:
        """See ports.SigningProxy."""
        if origin != self._origin:
            raise CheckpointRefused(f"this proxy signs for the log {self._origin!r}, not for {origin!r}")
        if not 0 <= size < 2**53 or len(root) != merkle.HASH_BYTES:
            raise BadPayload("a checkpoint has a size of 0 or more and a root of 32 bytes")
        # 1. Move the state. A crash after it leaves a state ahead of any note that was seen; asking again for the same
        #    (size, root) signs it, and nothing smaller or different can be signed any more.
        with begin(self._engine) as connection:
            _alone(connection, checkpoints)
            self._advance(connection, size, root, proof)
        # 2. Sign. A crash here is as one after 1.
        signer = self._signer(domain.AUDIT_KEY)
        text = tlog.Checkpoint(origin, size, root).text()
        return tlog.sign_note(text, origin, signer.public_key(), lambda message: _timed(domain.AUDIT_KEY, signer, message).sig)

    def last_checkpoint(self, origin: str) -> CheckpointState | None:
        """See ports.SigningProxy."""
        with self._engine.connect() as connection:
            return _checkpoint(connection, origin)

    def keys(self) -> Mapping[str, str]:
        """See ports.SigningProxy."""
        return {name: keys.public_pem(signer.public_key()) for name, signer in sorted(self._signers.items())}

    def _sign(self, job: _Job) -> Signed:
        # 1. Say in the log that a signature is asked for. A crash after it leaves a request without a signature, which the
        #    log shows; a retry goes on from here with the same event.
        requested = self._request(job)
        self._relay.wait_for([requested])
        # 2. Sign. A crash after it loses a signature that nobody has seen.
        signed = self._checked_signature(job)
        # 3. Store it with its event. A crash after it is answered by a retry, from the table.
        row = self._store(job, signed)
        # 4. Hand it out, once the log says that it was made.
        return self._answer(row)

    def _request(self, job: _Job) -> str:
        """Id of the event `signature.requested`, one for each payload and key."""
        with begin(self._engine) as connection:
            _alone(connection, signatures)
            row = connection.execute(_FIND, job.of).first()
            if row is not None:
                return str(row.requested_event)
            event = self._outbox.emit(connection, job.event("signature.requested", {}))
            new = {"key": job.key, "payload_digest": job.digest, "requested_event": event, "oms_subject": job.oms_subject}
            connection.execute(_REQUEST, new)
            return event

    def _checked_signature(self, job: _Job) -> Signed:
        signer, message = self._signer(job.key), dsse.pae(dsse.PAYLOAD_TYPE, job.payload)
        key = signer.public_key()
        signature = _timed(job.key, signer, message)
        try:
            keys.verify(key, message, signature.sig)
        except BadSignature as error:
            # A faulty key service must not put bytes into circulation that no one can verify.
            raise SignerUnavailable(f"key {job.key!r} gave a signature that does not verify: {error}") from error
        return Signed(signature.keyid, signature.sig, keys.public_pem(key))

    def _store(self, job: _Job, signed: Signed) -> Row[Any]:
        """The completed row. Two equal requests at once sign twice and store once; both get what was stored."""
        with begin(self._engine) as connection:
            _alone(connection, signatures)
            row = connection.execute(_FIND, job.of).one()
            if row.signature is not None:
                return row
            facts = {"keyId": signed.keyid, "signatureDigest": sha256(signed.signature)}
            event = self._outbox.emit(connection, job.event("signature.made", facts))
            made = {"keyid": signed.keyid, "signature": signed.signature, "public_key": signed.public_key, "made_event": event}
            return connection.execute(_COMPLETE, job.of | made).one()

    def _answer(self, row: Row[Any]) -> Signed:
        # The log takes a source's events in their order, so `signature.requested` is in it too.
        self._relay.wait_for([str(row.made_event)])
        return Signed(row.keyid, row.signature, row.public_key)

    def _made(self, job: _Job) -> Row[Any] | None:
        with self._engine.connect() as connection:
            return connection.execute(_MADE, job.of).first()

    def _signed_manifest(self, oms_subject: str) -> bool:
        with self._engine.connect() as connection:
            return connection.execute(_MANIFEST_OF, {"of_subject": oms_subject}).first() is not None

    def _check_key(self, name: str, trust: Trust) -> None:
        """A key that verifiers do not trust, or no longer, makes signatures that are worth nothing: refuse early."""
        signer = keys.signer_id(self._signer(name).public_key())
        if signer not in trust.signer_with_role(name):
            raise KeyRefused(f"key {name!r} ({signer[:16]}…) is not in trust.json with that role, or it was revoked")

    def _signer(self, name: str) -> Signer:
        if name not in self._signers:
            raise KeyRefused(f"the proxy holds no key {name!r}, only {sorted(self._signers)}")
        return self._signers[name]

    def _advance(self, connection: Connection, size: int, root: bytes, proof: Sequence[bytes]) -> None:
        last = _checkpoint(connection, self._origin)
        if last is not None and (size, root) == (last.size, last.root):
            return  # a retry: whatever proof led here, the state is here already
        held = last or CheckpointState(0, merkle.EMPTY_ROOT)
        try:
            merkle.verify_consistency(held.size, held.root, size, root, proof)
        except merkle.BadProof as error:
            raise CheckpointRefused(f"checkpoint of size {size}: {error}; a log only grows") from error
        new = {"size": size, "root": root}
        if last is None:
            connection.execute(insert(checkpoints), {"origin": self._origin, **new})
        else:
            connection.execute(_ADVANCE, {"of_origin": self._origin, **new})


def _timed(key: str, signer: Signer, message: bytes) -> Signature:
    with tracing.step("signature", key=key):
        return signer.sign(message)


def _checkpoint(connection: Connection, origin: str) -> CheckpointState | None:
    row = connection.execute(_LAST, {"of_origin": origin}).first()
    return None if row is None else CheckpointState(row.size, row.root)


def _alone(connection: Connection, table: Table) -> None:
    """Nobody else writes the table until the transaction ends; SQLite has one writer at a time anyway."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"LOCK TABLE {table.name} IN EXCLUSIVE MODE")
