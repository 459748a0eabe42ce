"""Decides whether to cosign, and keeps the last cosigned checkpoint of each log before it answers."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric import ed25519

from services.core import cosignature, merkle, tlog
from services.core.clock import Clock
from services.core.errors import BadSetting, Unavailable
from services.core.keys import BadSignature
from services.core.tlog import BadLogFormat, Checkpoint, VerifierKey
from services.witness.errors import BadRequest, NotConsistent, NotSigned, UnknownLog, WrongSize
from services.witness.ports import StateStore

MAX_PROOF = 63
"""Lines of a consistency proof that a client may send (tlog-witness)."""

MAX_REQUEST_BYTES = tlog.MAX_NOTE_BYTES + 64 * 64


@dataclass(frozen=True)
class Request:
    """old: size of the checkpoint that the proof starts from; note: signed checkpoint, verbatim."""

    old: int
    proof: tuple[bytes, ...]
    note: bytes

    def to_bytes(self) -> bytes:
        lines = [f"old {self.old}", *map(tlog.hash_text, self.proof)]
        return "".join(line + "\n" for line in lines).encode() + b"\n" + self.note

    @classmethod
    def parse(cls, data: bytes) -> "Request":
        """Raises BadRequest."""
        head, blank, note = data.partition(b"\n\n")
        first, *lines = head.decode("ascii", "replace").split("\n")
        if not blank or not first.startswith("old ") or len(lines) > MAX_PROOF or len(data) > MAX_REQUEST_BYTES:
            raise BadRequest(f"want the line `old SIZE`, at most {MAX_PROOF} hashes, an empty line and a signed checkpoint")
        try:
            old = tlog.parse_size(first.removeprefix("old "))
            return cls(old, tuple(map(tlog.parse_hash, lines)), note)
        except BadLogFormat as error:
            raise BadRequest(str(error)) from error


class Witness:
    """name: as verifier keys and cosignatures say it; logs: keys of the logs that it follows, whose names are their origins.

    Raises BadSetting: two logs of one origin.
    """

    def __init__(
        self, name: str, key: ed25519.Ed25519PrivateKey, logs: Sequence[VerifierKey], state: StateStore, clock: Clock
    ) -> None:
        self.vkey = tlog.witness_vkey_text(name, key.public_key())
        self._name, self._key, self._state, self._clock = name, key, state, clock
        self._logs = {log.name: log for log in logs}
        if len(self._logs) != len(logs):
            raise BadSetting("two logs of one origin: a witness keeps one history for each, by one key")
        # Comparing the old size and keeping the new one are one step: else two requests could roll each other back.
        self._lock = threading.Lock()

    def add_checkpoint(self, body: bytes) -> str:
        """Signature lines over the checkpoint of a request.

        Raises:
            BadRequest, UnknownLog, NotSigned, WrongSize, NotConsistent: see there; nothing was kept.
            Unavailable: the state could not be read or kept; nothing was signed; retry.
        """
        request = Request.parse(body)
        checkpoint, text = self._open(request.note)
        if request.old > checkpoint.size:
            raise BadRequest(f"the old size {request.old} is above the checkpoint's, {checkpoint.size}")
        with self._lock:
            last = self.last(checkpoint.origin)
            _require_growth(last, request, checkpoint)
            # 1. Keep the checkpoint. A crash after it leaves a state that nobody has a cosignature of: the log asks again with
            #    the old size, is told this one by a 409, and sends the (empty) proof from it.
            self._state.write(_file(checkpoint.origin), request.note)
            # 2. Sign. A crash after it, before the answer, leaves the same.
            return cosignature.cosign(text, self._name, self._key, self._clock() // 1000)

    def last(self, origin: str) -> Checkpoint | None:
        """The last checkpoint of a log that was kept; None before the first.

        Raises:
            UnknownLog. Unavailable: the state is damaged; it is never taken for a new one, as that would forget what was cosigned.
        """
        note = self._state.read(_file(origin))
        if note is None:
            return None
        try:
            return tlog.open_checkpoint(note, self._log(origin))
        except (BadLogFormat, BadSignature) as error:
            raise Unavailable(f"the kept checkpoint of {origin} is damaged: restore it from a backup ({error})") from error

    def _open(self, note: bytes) -> tuple[Checkpoint, str]:
        try:
            origin = tlog.unverified_checkpoint(note).origin
        except BadLogFormat as error:
            raise BadRequest(str(error)) from error
        log = self._log(origin)
        try:
            return tlog.open_checkpoint(note, log), tlog.open_note(note, log)
        except (BadLogFormat, BadSignature) as error:
            raise NotSigned(f"{origin}: {error}") from error

    def _log(self, origin: str) -> VerifierKey:
        try:
            return self._logs[origin]
        except KeyError:
            raise UnknownLog(f"this witness does not follow a log {origin[:200]!r}: start it with the log's verifier key") from None


def _require_growth(last: Checkpoint | None, request: Request, checkpoint: Checkpoint) -> None:
    size, root = (last.size, last.root) if last else (0, merkle.EMPTY_ROOT)
    if request.old != size:
        raise WrongSize(f"the last checkpoint cosigned is of {size} entries, the proof starts at {request.old}", size)
    if size == checkpoint.size and root != checkpoint.root:
        raise WrongSize(f"another checkpoint of {size} entries was cosigned: the log is forked", size)
    try:
        merkle.verify_consistency(size, root, checkpoint.size, checkpoint.root, request.proof)
    except merkle.BadProof as error:
        raise NotConsistent(str(error)) from error


def _file(origin: str) -> str:
    return sha256(origin.encode()).hexdigest() + ".checkpoint"
