"""What witnesses sign (C2SP tlog-cosignature, Ed25519), and the one way to open a checkpoint that is to be believed.

A cosignature says: at that time this was the largest tree of this log that the witness had seen, consistent with all before.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ed25519

from services.core import keys, tlog
from services.core.errors import Refused
from services.core.tlog import Checkpoint, VerifierKey
from services.core.trust import Trust

_TIME_BYTES = 8
_BYTES = _TIME_BYTES + 64


class NotWitnessed(Refused):
    """Fewer witnesses cosigned the checkpoint than trust asks for. Retry once they did; else somebody keeps it from them."""


@dataclass(frozen=True)
class Cosigned:
    """A checkpoint that the log's key signed.

    witnesses: name → epoch seconds, of those in trust that cosigned it; unknown: names of the other signatures, which say nothing.
    """

    checkpoint: Checkpoint
    witnesses: dict[str, int]
    unknown: tuple[str, ...]


def cosign(text: str, name: str, key: ed25519.Ed25519PrivateKey, at: int) -> str:
    """A witness's signature line over a checkpoint's text, with its newline. at: epoch seconds."""
    key_id = tlog.parse_witness_vkey(tlog.witness_vkey_text(name, key.public_key())).key_id
    return tlog.signature_line(name, key_id, at.to_bytes(_TIME_BYTES, "big") + key.sign(_message(text, at)))


def cosigners(note: bytes, witnesses: Sequence[VerifierKey]) -> dict[str, int]:
    """Name → epoch seconds of the witnesses that cosigned a note; lines of others are ignored.

    Raises:
        BadLogFormat: no note.
        BadSignature: a line bears a witness's name and key id, and is not by that witness over this text.
    """
    text, signatures = tlog.split_note(note)
    known = {(witness.name, witness.key_id): witness for witness in witnesses}
    found: dict[str, int] = {}
    for line in signatures:
        if witness := known.get((line.name, line.key_id)):
            found[line.name] = max(found.get(line.name, 0), _verify(witness, text, line.signature))
    return found


def open_cosigned(note: bytes, trust: Trust) -> Cosigned:
    """The checkpoint of the log that `trust` names, with as many witnesses as it asks for.

    Raises:
        BadLogFormat: no checkpoint, or one of another origin.
        BadSignature: the log's key did not sign it, or a known witness's cosignature is not of this text.
        NotWitnessed: below log.witnessThreshold.
    """
    log = tlog.parse_vkey(trust.log_vkey)
    checkpoint = tlog.open_checkpoint(note, log)
    found = cosigners(note, trust.witnesses)
    if len(found) < trust.witness_threshold:
        absent = ", ".join(witness.name for witness in trust.witnesses if witness.name not in found)
        raise NotWitnessed(
            f"the checkpoint of {checkpoint.size} entries has {len(found)} cosignatures, trust asks for "
            f"{trust.witness_threshold}: none of {absent}"
        )
    known = {(key.name, key.key_id) for key in (log, *trust.witnesses)}
    unknown = (line.name for line in tlog.split_note(note)[1] if (line.name, line.key_id) not in known)
    return Cosigned(checkpoint, found, tuple(unknown))


def _verify(witness: VerifierKey, text: str, signature: bytes) -> int:
    at = int.from_bytes(signature[:_TIME_BYTES], "big")
    if len(signature) != _BYTES or at >= 1 << 63:
        raise keys.BadSignature(f"witness {witness.name}: a cosignature is a time below 2^63 and 64 bytes")
    try:
        keys.verify(witness.key, _message(text, at), signature[_TIME_BYTES:])
    except keys.BadSignature as error:
        raise keys.BadSignature(f"witness {witness.name}'s cosignature is not of this checkpoint") from error
    return at


def _message(text: str, at: int) -> bytes:
    return f"cosignature/v1\ntime {at}\n{text}".encode()
