"""Makes signatures.json: signatures as they are, and in every form that a lax verifier would take or crash on.

Run as `python -m tests.vectors.make_signatures`. The keys are made for one run and thrown away: only public keys are written.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from services.core import keys

FILE = Path(__file__).parent / "signatures.json"
MESSAGE = b"what was signed"
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
P = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF
L = 2**252 + 27742317777372353535851937790883648493
"""Orders of P-256's group and of Ed25519's; P is P-256's field."""

Case = dict[str, Any]


def case(comment: str, sig: bytes, valid: bool = False, message: bytes = MESSAGE) -> Case:
    return {"comment": comment, "msg": message.hex(), "sig": sig.hex(), "result": "valid" if valid else "invalid"}


def integer(value: int, pad: bytes = b"", size: int | None = None) -> bytes:
    """A DER integer; pad: zeros that DER leaves out; size: another length than it has."""
    data = pad + value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)
    return bytes([0x02, len(data) if size is None else size]) + data


def sequence(*parts: bytes, tag: int = 0x30) -> bytes:
    data = b"".join(parts)
    return bytes([tag, len(data)]) + data


def ecdsa(key: ec.EllipticCurvePrivateKey) -> list[Case]:
    other = keys.generate_p256()
    sig = keys.sign(key, MESSAGE).sig
    r, s = decode_dss_signature(sig)
    low, high = min(s, N - s), max(s, N - s)
    ints, body = integer(r) + integer(s), sig[2:]
    raw = r.to_bytes(32, "big") + s.to_bytes(32, "big")
    digest = hashlib.sha256(MESSAGE).digest()
    return [
        case("s in the lower half", encode_dss_signature(r, low), True),
        case("s in the upper half: the same signer, so signatures are counted by key", encode_dss_signature(r, high), True),
        case("of an empty message", keys.sign(key, b"").sig, True, b""),
        case("of another message", sig, message=MESSAGE + b"."),
        case("by another key", keys.sign(other, MESSAGE).sig),
        case("over SHA-384", key.sign(MESSAGE, ec.ECDSA(hashes.SHA384()))),
        case("over SHA-512", key.sign(MESSAGE, ec.ECDSA(hashes.SHA512()))),
        case("over the digest of the message", keys.sign(key, digest).sig),
        case("empty", b""),
        case("one zero byte", b"\0"),
        case("r || s, 64 bytes", raw),
        case("r || s in an octet string", sequence(raw, tag=0x04)),
        case("s, then r", sequence(integer(s), integer(r))),
        case("r twice", sequence(integer(r), integer(r))),
        case("without s", sequence(integer(r))),
        case("with a third integer", sequence(ints, integer(1))),
        case("with NULL inside the sequence", sequence(ints, b"\x05\x00")),
        case("with a byte behind the sequence", sig + b"\0"),
        case("with the sequence twice", sig + sig),
        case("cut by one byte", sig[:-1]),
        case("cut after r", bytes([0x30, len(sig) - 2]) + integer(r)),
        case("only the tag", b"\x30"),
        case("an empty sequence", b"\x30\x00"),
        case("length of the sequence in two bytes", b"\x30\x81" + sig[1:]),
        case("length of the sequence in three bytes", b"\x30\x82\x00" + sig[1:]),
        case("length of the sequence in nine bytes", b"\x30\x88" + bytes(7) + sig[1:]),
        case("length of the sequence is indefinite", b"\x30\x80" + body + b"\0\0"),
        case("length of the sequence is one too small", bytes([0x30, sig[1] - 1]) + body),
        case("length of the sequence is one too large", bytes([0x30, sig[1] + 1]) + body),
        case("length of the sequence is 2^31 - 1", b"\x30\x84\x7f\xff\xff\xff" + body),
        case("length of r in two bytes", sequence(b"\x02\x81" + integer(r)[1:], integer(s))),
        case("length of r is 0", sequence(b"\x02\x00", integer(s))),
        case("length of s is one too large", sequence(integer(r), integer(s, size=len(integer(s)) - 1))),
        case("r with a leading zero", sequence(integer(r, pad=b"\0"), integer(s))),
        case("s with a leading zero", sequence(integer(r), integer(s, pad=b"\0"))),
        case("r with its top bit taken for a sign", sequence(integer(r - 2**256), integer(s))),
        case("s negative", sequence(integer(r), integer(-s))),
        case("a set for the sequence", sequence(ints, tag=0x31)),
        case("a context tag for the sequence", sequence(ints, tag=0xA0)),
        case("a primitive sequence", sequence(ints, tag=0x10)),
        case("a bit string for r", sequence(b"\x03" + integer(r)[1:], integer(s))),
        case("r = 0, s = 0", encode_dss_signature(0, 0)),
        case("r = 0", encode_dss_signature(0, s)),
        case("s = 0", encode_dss_signature(r, 0)),
        case("r = 1, s = 1", encode_dss_signature(1, 1)),
        case("r = n", encode_dss_signature(N, s)),
        case("s = n", encode_dss_signature(r, N)),
        case("r = n, s = n", encode_dss_signature(N, N)),
        case("r + n", encode_dss_signature(r + N, s)),
        case("s + n", encode_dss_signature(r, s + N)),
        case("r = n - 1, s = n - 1", encode_dss_signature(N - 1, N - 1)),
        case("r = p", encode_dss_signature(P, s)),
        case("r = 2^256", encode_dss_signature(2**256, s)),
        case("r of 2,048 bits", sequence(b"\x02\x81\x81" + b"\x01" + bytes(128), integer(s))),
        case("n - r", encode_dss_signature(N - r, s)),
        case("one bit of r changed", encode_dss_signature(r ^ 1, s)),
        case("one bit of s changed", encode_dss_signature(r, s ^ 1)),
        case("-----BEGIN, as text", b"-----BEGIN SIGNATURE-----"),
    ]  # fmt: skip


def ed25519(key: keys.PrivateKey) -> list[Case]:
    sig = keys.sign(key, MESSAGE).sig
    r, s = sig[:32], int.from_bytes(sig[32:], "little")
    low_order = [
        ("the identity", (1).to_bytes(32, "little")),
        ("order 2", (2**255 - 20).to_bytes(32, "little")),
        ("order 4", bytes(32)),
    ]
    return [
        case("as made", sig, True),
        case("of one zero byte", keys.sign(key, b"\0").sig, True, b"\0"),
        case("of another message", sig, message=MESSAGE + b"."),
        case("by another key", keys.sign(keys.generate_ed25519(), MESSAGE).sig),
        case("by an ECDSA key", keys.sign(keys.generate_p256(), MESSAGE).sig),
        case("over the digest of the message", keys.sign(key, hashlib.sha512(MESSAGE).digest()).sig),
        case("empty", b""),
        case("63 bytes", sig[:-1]),
        case("65 bytes", sig + b"\0"),
        case("twice", sig + sig),
        case("64 zero bytes", bytes(64)),
        case("only R", r),
        case("S, then R", sig[32:] + r),
        case("S + L: the same value, in another encoding", r + (s + L).to_bytes(32, "little")),
        case("S = L", r + L.to_bytes(32, "little")),
        case("S = 0", r + bytes(32)),
        case("S = 2^256 - 1", r + b"\xff" * 32),
        case("L - S", r + (L - s).to_bytes(32, "little")),
        case("S with its top bit set", r + bytes([*sig[32:63], sig[63] | 0x80])),
        case("S in big-endian order", r + sig[32:][::-1]),
        case("R with its sign changed", bytes([*sig[:31], sig[31] ^ 0x80]) + sig[32:]),
        case("R with one bit changed", bytes([sig[0] ^ 1]) + sig[1:]),
        case("R is no point: y = p", (2**255 - 19).to_bytes(32, "little") + sig[32:]),
        case("R is no point: y = 2", (2).to_bytes(32, "little") + sig[32:]),
        *[case(f"R of low order ({name}), S = 0", point + bytes(32)) for name, point in low_order],
        case("as DER", sequence(integer(int.from_bytes(r, "big")), integer(s))),
    ]  # fmt: skip


def main() -> None:
    p256, ed = keys.generate_p256(), keys.generate_ed25519()
    groups = [("ECDSA P-256, DER over SHA-256", p256, ecdsa(p256)), ("Ed25519", ed, ed25519(ed))]
    value = {
        "generator": "tests/vectors/make_signatures.py",
        "groups": [{"kind": kind, "publicKey": keys.public_pem(key.public_key()), "cases": cases} for kind, key, cases in groups],
    }
    FILE.write_text(json.dumps(value, indent=1) + "\n")


if __name__ == "__main__":
    main()
