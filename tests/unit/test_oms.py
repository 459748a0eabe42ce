"""OpenSSF model signatures: the stock CLI and openssl judge what we write; we accept exactly the signed files."""

import base64
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from services.core import dsse, keys, oms
from services.core.canonical import canonical
from services.core.digests import FileEntry, scan_tree
from services.core.errors import BadInput
from services.core.keys import BadSignature
from services.core.oms import BadModelSignature
from tests.peers import need


@pytest.fixture(scope="module")
def key() -> ec.EllipticCurvePrivateKey:
    return keys.generate_p256()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    # "a.b" and "a/b" sort differently as text and as path parts; the stock tool sorts parts.
    for name, content in {"config.json": b"{}", "a/b": b"1", "a.b": b"2", "weights/m.safetensors": b"w" * 5000}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def signed(files: Path | list[FileEntry], key: ec.EllipticCurvePrivateKey) -> bytes:
    payload = oms.statement(files)
    return oms.bundle(payload, dsse.sign(payload, key), key.public_key())


def stock_verify(model: Path, key: ec.EllipticCurvePrivateKey, folder: Path) -> subprocess.CompletedProcess[str]:
    (folder / "key.pem").write_text(keys.public_pem(key.public_key()))
    command = [need("model_signing"), "verify", "key", "--signature", str(model / "model.sig")]
    command += ["--public_key", str(folder / "key.pem"), str(model)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_the_stock_cli_accepts_our_bundle(model: Path, key: ec.EllipticCurvePrivateKey, tmp_path: Path) -> None:
    (model / "model.sig").write_bytes(signed(model, key))
    result = stock_verify(model, key, tmp_path)
    assert (result.returncode, result.stdout.strip()) == (0, "Verification succeeded"), result.stderr


def test_the_stock_cli_refuses_an_edited_file(model: Path, key: ec.EllipticCurvePrivateKey, tmp_path: Path) -> None:
    (model / "model.sig").write_bytes(signed(model, key))
    (model / "a/b").write_bytes(b"other")
    result = stock_verify(model, key, tmp_path)
    assert result.returncode == 1
    assert "Hash mismatch for" in result.stderr
    assert "a/b" in result.stderr


def test_we_accept_what_the_stock_cli_signs(model: Path, key: ec.EllipticCurvePrivateKey, tmp_path: Path) -> None:
    keys.write_private_pem(tmp_path / "private.pem", key)
    command = [need("model_signing"), "sign", "key", "--signature", str(model / "model.sig")]
    command += ["--private_key", str(tmp_path / "private.pem"), str(model)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    subject = oms.verify((model / "model.sig").read_bytes(), model, key.public_key())
    assert subject == oms.subject_digest(model)


def test_openssl_accepts_the_signature_over_the_pae(model: Path, key: ec.EllipticCurvePrivateKey, tmp_path: Path) -> None:
    held = oms.parse_bundle(signed(model, key))
    (tmp_path / "pae").write_bytes(dsse.pae(held.payload_type, held.payload))
    (tmp_path / "sig").write_bytes(held.signatures[0].sig)
    (tmp_path / "key.pem").write_text(keys.public_pem(key.public_key()))
    command = [need("openssl"), "dgst", "-sha256", "-verify", "key.pem", "-signature", "sig", "pae"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert result.stdout.strip() == "Verified OK", result.stderr


def test_entries_hashed_before_and_the_directory_give_the_same_bundle_subject(model: Path, key: ec.EllipticCurvePrivateKey) -> None:
    entries = scan_tree(model)
    assert oms.statement(model) == oms.statement(entries) == oms.statement(entries[::-1])
    assert oms.verify(signed(model, key), entries, key.public_key()) == oms.subject_digest(entries)


def test_verify_any_tells_whose_signature_it_is(model: Path, key: ec.EllipticCurvePrivateKey) -> None:
    trusted = {"other": keys.generate_p256().public_key(), "builder": key.public_key()}
    assert oms.verify_any(signed(model, key), model, trusted) == (
        keys.signer_id(key.public_key()),
        oms.subject_digest(model),
    )
    with pytest.raises(BadModelSignature, match="no trusted key"):
        oms.verify_any(signed(model, key), model, {})


def add(model: Path) -> None:
    (model / "extra.py").write_bytes(b"import os")


def add_git_file(model: Path) -> None:
    (model / ".gitattributes").write_bytes(b"x")


def remove(model: Path) -> None:
    (model / "a.b").unlink()


def edit(model: Path) -> None:
    (model / "a.b").write_bytes(b"3")


def rename(model: Path) -> None:
    (model / "a.b").rename(model / "a.c")


def nested_signature_file(model: Path) -> None:
    (model / "a/model.sig").write_bytes(b"x")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (add, "extra.py is not signed"),
        (add_git_file, ".gitattributes is not signed"),
        (remove, "a.b is missing"),
        (edit, "a.b was edited"),
        (rename, "a.b is missing; a.c is not signed"),
        (nested_signature_file, "a/model.sig is not signed"),
    ],
)
def test_a_tree_that_is_not_the_signed_one_is_refused_by_name(
    damage: Callable[[Path], None], said: str, model: Path, key: ec.EllipticCurvePrivateKey
) -> None:
    bundle = signed(model, key)
    damage(model)
    with pytest.raises(BadModelSignature) as refused:
        oms.verify(bundle, model, key.public_key())
    assert str(refused.value) == f"the tree is not the signed one: {said}"


def test_the_signature_file_itself_is_not_part_of_the_tree(model: Path, key: ec.EllipticCurvePrivateKey) -> None:
    bundle = signed(model, key)
    (model / "model.sig").write_bytes(bundle)
    assert oms.verify(bundle, model, key.public_key()) == oms.subject_digest(model)


def test_another_key_is_refused(model: Path, key: ec.EllipticCurvePrivateKey) -> None:
    with pytest.raises(BadModelSignature, match="no trusted key"):
        oms.verify(signed(model, key), model, keys.generate_p256().public_key())


def test_names_that_stock_verifiers_ignore_cannot_be_signed(model: Path) -> None:
    add_git_file(model)
    with pytest.raises(BadInput, match=r"\.gitattributes"):
        oms.statement(model)


def test_an_empty_tree_is_not_signed() -> None:
    with pytest.raises(BadInput, match="no file"):
        oms.statement([])


def test_a_bundle_is_not_made_of_a_wrong_signature_or_an_ed25519_key(model: Path, key: ec.EllipticCurvePrivateKey) -> None:
    payload = oms.statement(model)
    with pytest.raises(BadSignature):
        oms.bundle(payload, dsse.sign(payload + b" ", key), key.public_key())
    edwards = keys.generate_ed25519()
    with pytest.raises(BadInput, match="ECDSA"):
        oms.bundle(payload, dsse.sign(payload, edwards), edwards.public_key())


def test_a_rebundled_statement_over_other_files_is_refused(model: Path, key: ec.EllipticCurvePrivateKey) -> None:
    bundle = json.loads(signed(model, key))
    edit(model)
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(oms.statement(model)).decode()
    with pytest.raises(BadModelSignature, match="no trusted key"):
        oms.verify(canonical(bundle), model, key.public_key())


def replaced(path: list[str | int], value: object) -> Callable[[bytes], bytes]:
    def change(payload: bytes) -> bytes:
        root = json.loads(payload)
        inner = root
        for step in path[:-1]:
            inner = inner[step]
        inner[path[-1]] = value
        return canonical(root)

    return change


RESOURCE = {"name": "a.b", "algorithm": "sha256", "digest": "0" * 64}


@pytest.mark.parametrize(
    "change",
    [
        replaced(["predicateType"], "https://model_signing/Digests/v0.1"),
        replaced(["_type"], "https://in-toto.io/Statement/v0.1"),
        replaced(["extra"], 1),
        replaced(["subject", 0, "digest", "sha256"], "0" * 64),
        replaced(["subject"], []),
        replaced(["predicate", "serialization", "method"], "shards"),
        replaced(["predicate", "serialization", "hash_type"], "blake2"),
        replaced(["predicate", "serialization", "allow_symlinks"], True),
        replaced(["predicate", "serialization", "shard_size"], 1),
        replaced(["predicate", "resources"], []),
        replaced(["predicate", "resources", 0], RESOURCE | {"algorithm": "md5"}),
        replaced(["predicate", "resources", 0], RESOURCE | {"digest": "0"}),
        replaced(["predicate", "resources", 0], RESOURCE | {"name": "../a.b"}),
        replaced(["predicate", "resources", 1], RESOURCE | {"name": "a/b"}),
    ],
)
def test_statements_of_another_shape_are_refused(change: Callable[[bytes], bytes], model: Path) -> None:
    with pytest.raises(BadInput):
        oms.parse_statement(change(oms.statement(model)))


def two_signatures(bundle: dict[str, object]) -> None:
    envelope = bundle["dsseEnvelope"]
    assert isinstance(envelope, dict)
    envelope["signatures"] *= 2


@pytest.mark.parametrize(
    "damage",
    [
        two_signatures,
        lambda bundle: bundle.update(mediaType="application/vnd.dev.sigstore.bundle+json;version=0.1"),
        lambda bundle: bundle.update(extra=1),
        lambda bundle: bundle.pop("verificationMaterial"),
        lambda bundle: bundle["dsseEnvelope"].update(payloadType="text/plain"),
    ],
)
def test_bundles_of_another_shape_are_refused(
    damage: Callable[[dict[str, object]], None], model: Path, key: ec.EllipticCurvePrivateKey
) -> None:
    bundle = json.loads(signed(model, key))
    damage(bundle)
    with pytest.raises(BadModelSignature):
        oms.verify(canonical(bundle), model, key.public_key())
