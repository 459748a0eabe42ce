"""DSSE: the specification's own vector, strict parsing, and signers counted by key."""

import hashlib
import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from hypothesis import given
from hypothesis import strategies as st

from services.core import dsse, keys
from services.core.canonical import canonical
from services.core.digests import sha256
from services.core.dsse import BadEnvelope, Envelope
from services.core.errors import BadInput, BadJson, TooLarge
from services.core.keys import BadKey, BadSignature, Signature

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551

# https://github.com/secure-systems-lab/dsse/blob/master/protocol.md, "Test Vectors"
SPEC_TYPE, SPEC_PAYLOAD = "http://example.com/HelloWorld", b"hello world"
SPEC_PAE = b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
SPEC_KEY = ec.derive_private_key(97358161215184420915383655311931858321456579547487070936769975997791359926199, ec.SECP256R1())
SPEC_SIGNATURE = "A3JqsQGtVsJ2O2xqrI5IcnXip5GToJ3F+FnZ+O88SjtR6rDAajabZKciJTfUiHqJPcIAriEGAHTVeCUjW2JIZA=="


def raw_to_der(raw: bytes) -> bytes:
    return encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))


@pytest.fixture(scope="module")
def key() -> ec.EllipticCurvePrivateKey:
    return keys.generate_p256()


def test_pae_is_the_specifications() -> None:
    assert dsse.pae(SPEC_TYPE, SPEC_PAYLOAD) == SPEC_PAE
    assert dsse.pae("é", b"") == b"DSSEv1 2 \xc3\xa9 0 "


def test_the_specifications_signature_verifies() -> None:
    # The vector's ECDSA signature is r || s; envelopes of ours carry DER.
    signature = raw_to_der(dsse.decode64(SPEC_SIGNATURE))
    held = Envelope(SPEC_TYPE, SPEC_PAYLOAD, (Signature("", signature),))
    public = SPEC_KEY.public_key()
    assert dsse.verified_signers(held, {"any name": public}) == {keys.signer_id(public)}


def test_an_envelope_round_trips_in_canonical_bytes(key: ec.EllipticCurvePrivateKey) -> None:
    held = Envelope(dsse.PAYLOAD_TYPE, b'{"a":1}', (dsse.sign(b'{"a":1}', key),))
    assert dsse.parse(held.to_bytes()) == held
    assert held.to_bytes() == canonical(json.loads(held.to_bytes()))
    assert dsse.payload_digest(held) == sha256(b'{"a":1}')


def test_signatures_are_over_payload_and_type(key: ec.EllipticCurvePrivateKey) -> None:
    signature = dsse.sign(b"x", key)
    trusted = {"k": key.public_key()}
    assert dsse.verified_signers(Envelope(dsse.PAYLOAD_TYPE, b"x", (signature,)), trusted)
    assert not dsse.verified_signers(Envelope(dsse.PAYLOAD_TYPE, b"y", (signature,)), trusted)
    assert not dsse.verified_signers(Envelope("text/plain", b"x", (signature,)), trusted)


def test_one_key_under_two_names_is_one_signer(key: ec.EllipticCurvePrivateKey) -> None:
    first, second = (dsse.sign(b"x", key) for _ in range(2))
    held = Envelope(dsse.PAYLOAD_TYPE, b"x", (first._replace(keyid="a"), second._replace(keyid="b")))
    trusted = {"a": key.public_key(), "b": keys.load_public_pem(keys.public_pem(key.public_key()))}
    assert dsse.verified_signers(held, trusted) == {keys.signer_id(key.public_key())}


def test_a_mirrored_ecdsa_signature_adds_no_signer(key: ec.EllipticCurvePrivateKey) -> None:
    signature = dsse.sign(b"x", key)
    r, s = decode_dss_signature(signature.sig)
    mirrored = Signature("other", encode_dss_signature(r, P256_ORDER - s))
    held = Envelope(dsse.PAYLOAD_TYPE, b"x", (signature, mirrored))
    assert dsse.verified_signers(held, {"k": key.public_key()}) == {keys.signer_id(key.public_key())}


def test_the_keyid_of_a_trusted_key_on_a_foreign_signature_counts_for_nothing(key: ec.EllipticCurvePrivateKey) -> None:
    forged = dsse.sign(b"x", keys.generate_p256())._replace(keyid=keys.signer_id(key.public_key()))
    assert dsse.verified_signers(Envelope(dsse.PAYLOAD_TYPE, b"x", (forged,)), {forged.keyid: key.public_key()}) == set()


def test_merging_keeps_each_signature_once(key: ec.EllipticCurvePrivateKey) -> None:
    first, second = dsse.sign(b"x", key), dsse.sign(b"x", keys.generate_p256())
    more = Envelope(dsse.PAYLOAD_TYPE, b"x", (second,))
    once = dsse.merge(Envelope(dsse.PAYLOAD_TYPE, b"x", (first,)), more)
    assert once.signatures == (first, second)
    assert dsse.merge(once, more) == once


def test_merging_other_payloads_is_refused() -> None:
    with pytest.raises(BadEnvelope, match="different payloads"):
        dsse.merge(Envelope("t", b"x"), Envelope("t", b"y"))


def test_an_envelope_grows_to_64_signatures_and_no_further() -> None:
    held = Envelope("t", b"x", tuple(Signature(str(n), b"s") for n in range(64)))
    assert dsse.parse(held.to_bytes()) == held
    with pytest.raises(BadEnvelope, match="at most 64"):
        dsse.merge(held, Envelope("t", b"x", (Signature("64", b"s"),)))


GOOD = {"payload": "eA==", "payloadType": "t", "signatures": [{"keyid": "k", "sig": "eA=="}]}


@pytest.mark.parametrize(
    "change",
    [
        {"extra": 1},
        {"payload": "eA"},
        {"payload": "eB=="},
        {"payload": "eA==\n"},
        {"payload": "-_8="},
        {"payload": None},
        {"payloadType": ""},
        {"payloadType": 7},
        {"payloadType": "t" * 257},
        {"signatures": {}},
        {"signatures": [{"keyid": "k", "sig": ""}]},
        {"signatures": [{"keyid": "k", "sig": "eA==", "cert": ""}]},
        {"signatures": [{"keyid": 1, "sig": "eA=="}]},
        {"signatures": [{"keyid": "k"}]},
        {"signatures": ["eA=="]},
        {"signatures": [GOOD["signatures"][0]] * 65},
        {"signatures": [{"keyid": "k", "sig": dsse.encode64(bytes(513))}]},
    ],
    ids=str,
)
def test_malformed_envelopes_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(BadEnvelope):
        dsse.parse(json.dumps(GOOD | change).encode())


@pytest.mark.parametrize("missing", sorted(GOOD))
def test_an_envelope_with_a_missing_field_is_refused(missing: str) -> None:
    with pytest.raises(BadEnvelope):
        dsse.parse(json.dumps({name: value for name, value in GOOD.items() if name != missing}).encode())


def test_a_signature_without_keyid_is_taken_as_the_specification_says() -> None:
    assert dsse.parse(json.dumps(GOOD | {"signatures": [{"sig": "eA=="}]}).encode()).signatures == (Signature("", b"x"),)


def test_a_double_key_and_a_huge_envelope_are_refused() -> None:
    with pytest.raises(BadJson, match="twice"):
        dsse.parse(b'{"payload":"","payload":"","payloadType":"t","signatures":[]}')
    with pytest.raises(TooLarge):
        dsse.parse(b" " * (dsse.MAX_ENVELOPE_BYTES + 1))


@given(st.binary(max_size=300))
def test_any_bytes_are_an_envelope_or_bad_input(data: bytes) -> None:
    try:
        dsse.parse(data)
    except BadInput:
        return


@given(st.binary(max_size=200))
def test_base64_has_one_spelling(data: bytes) -> None:
    assert dsse.decode64(dsse.encode64(data)) == data


@pytest.mark.parametrize("make", [keys.generate_p256, keys.generate_ed25519])
def test_keys_sign_and_altered_messages_are_refused(make: object) -> None:
    private = make()  # type: ignore[operator]
    signature = keys.sign(private, b"message")
    keys.verify(private.public_key(), b"message", signature.sig)
    for message, sig in ((b"Message", signature.sig), (b"message", signature.sig + b"\0"), (b"message", b"")):
        with pytest.raises(BadSignature):
            keys.verify(private.public_key(), message, sig)


def test_a_der_signature_in_another_encoding_is_refused(key: ec.EllipticCurvePrivateKey) -> None:
    sig = keys.sign(key, b"m").sig
    long_form = b"\x30\x81" + sig[1:]
    with pytest.raises(BadSignature):
        keys.verify(key.public_key(), b"m", long_form)


def test_a_signer_id_is_the_hash_of_the_spki(key: ec.EllipticCurvePrivateKey) -> None:
    pem = keys.public_pem(key.public_key())
    der = dsse.decode64("".join(pem.splitlines()[1:-1]))
    assert keys.signer_id(keys.load_public_pem(pem)) == hashlib.sha256(der).hexdigest()


def test_other_kinds_of_keys_are_refused() -> None:
    p384 = ec.generate_private_key(ec.SECP384R1())
    with pytest.raises(BadKey):
        keys.load_public_pem(keys.public_pem(p384.public_key()))
    with pytest.raises(BadKey):
        keys.load_private_pem(keys.private_pem(p384))
    for junk in (b"", b"-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n", b"x" * 20_000, "é"):
        with pytest.raises(BadKey):
            keys.load_public_pem(junk)
        with pytest.raises(BadKey):
            keys.load_private_pem(junk)
