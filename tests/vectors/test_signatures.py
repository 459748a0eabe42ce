"""Signatures in every form that a lax verifier would take: ours and the openssl program say the same of each."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import Signature as ForeignSignature
from securesystemslib.signer import SSlibKey

from services.core import dsse, keys
from services.core.dsse import Envelope
from services.core.keys import BadSignature, PublicKey, Signature
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


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group["kind"])
def test_however_often_and_in_whatever_form_one_key_signs_it_is_one_signer(group: dict[str, Any]) -> None:
    key = keys.load_public_pem(group["publicKey"])
    signatures = [Signature(str(at), bytes.fromhex(case["sig"]) or b"\0") for at, case in enumerate(group["cases"])]
    held = Envelope("", b"", tuple(signatures))
    # Of other bytes than an envelope's: none counts. That the forms of one signature count once: see test_dsse and the attacks.
    assert dsse.verified_signers(held, {"a": key, "b": key}) == set()


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
