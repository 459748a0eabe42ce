"""Signatures in every form that a lax verifier would take: ours and the openssl program say the same of each."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import Signature as ForeignSignature
from securesystemslib.signer import SSlibKey

from services.core import dsse, keys
from services.core.dsse import Envelope
from services.core.keys import BadSignature, PrivateKey, PublicKey, Signature
from tests.vectors import make_signatures

GROUPS: list[dict[str, Any]] = json.loads(make_signatures.FILE.read_text())["groups"]
CASES = [(group, case) for group in GROUPS for case in group["cases"]]


@pytest.mark.parametrize(("group", "case"), CASES, ids=[f"{group['kind']}: {case['comment']}" for group, case in CASES])
def test_a_signature_is_taken_or_refused_as_the_case_says(group: dict[str, Any], case: dict[str, Any], tmp_path: Path) -> None:
    key, message, sig = keys.load_public_pem(group["publicKey"]), bytes.fromhex(case["msg"]), bytes.fromhex(case["sig"])
    valid = case["result"] == "valid"
    assert accepted(key, message, sig) is valid
    assert openssl(group["publicKey"], message, sig, tmp_path) is valid
    assert securesystemslib(key, message, sig) is valid


def test_made_again_the_cases_have_the_same_names_and_results() -> None:
    p256, ed = keys.generate_p256(), keys.generate_ed25519()
    for group, private, made in zip(GROUPS, (p256, ed), (make_signatures.ecdsa(p256), make_signatures.ed25519(ed)), strict=True):
        known = [(case["comment"], case["result"]) for case in group["cases"]]
        assert [(case["comment"], case["result"]) for case in made] == known
        for case in made:
            valid = accepted(private.public_key(), bytes.fromhex(case["msg"]), bytes.fromhex(case["sig"]))
            assert valid is (case["result"] == "valid"), case


@pytest.mark.parametrize("make", [keys.generate_p256, keys.generate_ed25519])
def test_however_often_and_in_whatever_form_one_key_signs_it_is_one_signer(make: Callable[[], PrivateKey]) -> None:
    private = make()
    key, forms = private.public_key(), forms_of(private, dsse.pae(dsse.PAYLOAD_TYPE, b"{}"))
    signatures = [Signature(name, sig) for name in ("a", "b") for sig in forms]
    envelopes = [Envelope(dsse.PAYLOAD_TYPE, b"{}", held) for held in (*((one,) for one in signatures), tuple(signatures))]
    found = [dsse.verified_signers(held, {"a": key, "b": key}) for held in envelopes]
    assert found == [{keys.signer_id(key)}] * len(envelopes)


def forms_of(private: PrivateKey, message: bytes) -> list[bytes]:
    """Of one message: a signature, the same again, and for ECDSA another one and the first with s in the other half."""
    sig = keys.sign(private, message).sig
    if isinstance(private, keys.ed25519.Ed25519PrivateKey):
        return [sig, sig]
    r, s = decode_dss_signature(sig)
    return [sig, sig, keys.sign(private, message).sig, encode_dss_signature(r, make_signatures.N - s)]


def accepted(key: PublicKey, message: bytes, sig: bytes) -> bool:
    try:
        keys.verify(key, message, sig)
    except BadSignature:
        return False
    return True


def openssl(pem: str, message: bytes, sig: bytes, folder: Path) -> bool:
    for name, data in (("key.pem", pem.encode()), ("message", message), ("sig", sig)):
        (folder / name).write_bytes(data)
    command = ["openssl", "pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", "key.pem", "-in", "message", "-sigfile", "sig"]
    if "BEGIN" in pem and isinstance(keys.load_public_pem(pem), keys.ec.EllipticCurvePublicKey):
        command = ["openssl", "dgst", "-sha256", "-verify", "key.pem", "-signature", "sig", "message"]
    return subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode == 0


def securesystemslib(key: PublicKey, message: bytes, sig: bytes) -> bool:
    foreign = SSlibKey.from_crypto(key, keyid="key")
    try:
        foreign.verify_signature(ForeignSignature("key", sig.hex()), message)
    except UnverifiedSignatureError:
        return False
    return True
