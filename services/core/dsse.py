"""DSSE v1 envelopes (https://github.com/secure-systems-lab/dsse), parsed strictly. It does not look into payloads.

A key id in an envelope is never trusted: signers are found by trying the keys, and counted by key (SPKI).
"""

import base64
import binascii
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from services.core import keys
from services.core.canonical import canonical
from services.core.canonical import parse as parse_json
from services.core.digests import sha256
from services.core.errors import BadInput, TooLarge
from services.core.keys import BadSignature, PrivateKey, PublicKey, Signature

PAYLOAD_TYPE = "application/vnd.in-toto+json"
MAX_ENVELOPE_BYTES = 8 << 20
MAX_SIGNATURES = 64
MAX_SIGNATURE_BYTES = 512
MAX_TEXT = 256


class BadEnvelope(BadInput):
    """Not a DSSE envelope as we take it."""


@dataclass(frozen=True)
class Envelope:
    """payload: the bytes that were signed (inside the PAE); signatures: in the order they were added."""

    payload_type: str
    payload: bytes
    signatures: tuple[Signature, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return envelope(self.payload_type, self.payload, self.signatures)

    def to_bytes(self) -> bytes:
        """The canonical bytes in which envelopes are stored and sent."""
        return canonical(self.to_json())


def pae(payload_type: str, payload: bytes) -> bytes:
    """Pre-authentication encoding: what is signed (DSSE protocol, section "Signature Definition")."""
    kind = payload_type.encode("utf-8")
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def envelope(payload_type: str, payload: bytes, signatures: Iterable[tuple[str, bytes]]) -> dict[str, Any]:
    """The JSON value of an envelope; base64 in the standard alphabet."""
    return {
        "payload": encode64(payload),
        "payloadType": payload_type,
        "signatures": [{"keyid": keyid, "sig": encode64(sig)} for keyid, sig in signatures],
    }


def parse(data: bytes) -> Envelope:
    """The envelope in the bytes, which may be any strict JSON, not only canonical.

    Raises:
        BadEnvelope: an unknown or missing field, base64 that is not exactly what an encoder writes, more than 64 signatures.
        TooLarge: more than 8 MiB.
        BadJson: see canonical.parse.
    """
    if len(data) > MAX_ENVELOPE_BYTES:
        raise TooLarge(f"an envelope of {len(data)} bytes: at most {MAX_ENVELOPE_BYTES}")
    return from_json(parse_json(data))


def from_json(value: Any) -> Envelope:
    """As `parse`, from a JSON value that was parsed strictly."""
    _require_fields(value, {"payload", "payloadType", "signatures"}, "an envelope")
    kind, signatures = value["payloadType"], value["signatures"]
    _require_text(kind, "payloadType")
    if not kind:
        raise BadEnvelope("payloadType is empty")
    if not isinstance(signatures, list) or len(signatures) > MAX_SIGNATURES:
        raise BadEnvelope(f"signatures: want a list of at most {MAX_SIGNATURES}")
    return Envelope(kind, decode64(value["payload"]), tuple(_signature(item) for item in signatures))


def sign(payload: bytes, private_key: PrivateKey, payload_type: str = PAYLOAD_TYPE) -> Signature:
    """One signature over the payload's PAE."""
    return keys.sign(private_key, pae(payload_type, payload))


def merge(first: Envelope, second: Envelope) -> Envelope:
    """One envelope with the signatures of both, each once.

    Raises:
        BadEnvelope: the payloads differ (a signature over other bytes must never travel with these), or too many signatures.
    """
    if (first.payload_type, first.payload) != (second.payload_type, second.payload):
        raise BadEnvelope("the two envelopes hold different payloads: sign the bytes of the first one")
    signatures = tuple(dict.fromkeys(first.signatures + second.signatures))
    if len(signatures) > MAX_SIGNATURES:
        raise BadEnvelope(f"{len(signatures)} signatures: at most {MAX_SIGNATURES}")
    return Envelope(first.payload_type, first.payload, signatures)


def verified_signers(held: Envelope, public_keys: Mapping[str, PublicKey]) -> set[str]:
    """Signer ids of the given keys that signed this envelope. Signatures of other keys are ignored.

    The names in `public_keys` are not trusted either: ids are computed from the keys, so one key under two names counts
    once. Each signature counts for one key at most.
    """
    by_id = {keys.signer_id(key): key for key in public_keys.values()}
    message = pae(held.payload_type, held.payload)
    found: set[str] = set()
    for signature in held.signatures:
        signer = _signer_of(message, signature.sig, by_id)
        if signer:
            found.add(signer)
    return found


def payload_digest(held: Envelope) -> str:
    """Identity of the attestation: the digest of its payload, whoever signed it."""
    return sha256(held.payload)


def encode64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def decode64(text: Any) -> bytes:
    """The bytes of standard base64 with padding.

    Raises:
        BadEnvelope: another alphabet, white space, missing padding, or stray bits: two texts must not mean the same bytes.
    """
    try:
        data = base64.b64decode(text, validate=True) if isinstance(text, str) else None
    except (binascii.Error, ValueError):
        data = None
    if data is None or encode64(data) != text:
        raise BadEnvelope("want base64 text in the standard alphabet, with padding")
    return data


def _signer_of(message: bytes, sig: bytes, by_id: Mapping[str, PublicKey]) -> str | None:
    for signer in sorted(by_id):
        try:
            keys.verify(by_id[signer], message, sig)
        except BadSignature:
            continue
        return signer
    return None


def _signature(item: Any) -> Signature:
    # DSSE makes keyid optional; without it nothing is lost, as we never trust it.
    _require_fields({"keyid": "", **item} if isinstance(item, dict) else item, {"keyid", "sig"}, "a signature")
    keyid = item.get("keyid", "")
    _require_text(keyid, "keyid")
    sig = decode64(item["sig"])
    if not 1 <= len(sig) <= MAX_SIGNATURE_BYTES:
        raise BadEnvelope(f"a signature of {len(sig)} bytes: want 1 to {MAX_SIGNATURE_BYTES}")
    return Signature(keyid, sig)


def _require_fields(value: Any, fields: set[str], what: str) -> None:
    if not isinstance(value, dict) or set(value) != fields:
        raise BadEnvelope(f"{what} has exactly the fields {sorted(fields)}")


def _require_text(value: Any, name: str) -> None:
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        raise BadEnvelope(f"{name}: want a string of at most {MAX_TEXT} characters")
