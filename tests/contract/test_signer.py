"""One suite over every backend of the Signer port. Signatures are judged with the public key that the key system exports."""

import hashlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils

from services.core import keys
from services.core.backends import load, names
from services.core.errors import BadSetting
from services.core.keys import BadKey, BadSignature, PublicKey
from services.signing import backends
from services.signing.errors import KeyRefused, SignerUnavailable
from services.signing.ports import Signer
from tests.peers import need
from tests.ports import free_port


@dataclass(frozen=True)
class System:
    """A running key system. exported: the public key as its own tool gives it; None where a key file has no such act."""

    signer: Signer
    exported: PublicKey
    open_other: Callable[[str], Signer]
    disable: Callable[[], object] | None = None
    stop: Callable[[], object] | None = None


def keyfile(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[System]:
    backend = load(backends, "keyfile")
    keys.write_private_pem(folder / "key.pem", keys.generate_p256())
    command = ["openssl", "pkey", "-in", str(folder / "key.pem"), "-pubout"]
    exported = subprocess.run(command, check=True, capture_output=True).stdout
    yield System(
        backend.open_signer(str(folder / "key.pem"), 1.0),
        keys.load_public_pem(exported),
        lambda name: backend.open_signer(str(folder / name), 1.0),
    )


class KmsKey:
    """What moto gets wrong about a key: it hashes a DIGEST message again, and signs with a disabled key (see AWS KMS, Sign)."""

    def __init__(self, key: Any) -> None:
        self._key, self._inner = key, key.private_key

    def sign(self, message: bytes, signing_algorithm: str) -> bytes:
        from moto.core.exceptions import JsonRESTError

        if not self._key.enabled:
            raise JsonRESTError("DisabledException", "the key is disabled")
        signed: bytes = self._inner.private_key.sign(message, ec.ECDSA(utils.Prehashed(hashes.SHA256())))
        return signed

    def public_key(self) -> bytes:
        der: bytes = self._inner.public_key()
        return der


def awskms(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[System]:
    import boto3
    from moto.kms.models import kms_backends
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=free_port(), verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        settings = {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "eu-central-1",
        }
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        kms = boto3.client("kms")
        key_id = kms.create_key(KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["KeyId"]
        held: Any = kms_backends[kms.describe_key(KeyId=key_id)["KeyMetadata"]["AWSAccountId"]]["eu-central-1"].keys[key_id]
        held.private_key = KmsKey(held)
        exported = serialization.load_der_public_key(kms.get_public_key(KeyId=key_id)["PublicKey"])
        assert isinstance(exported, ec.EllipticCurvePublicKey)
        backend = load(backends, "awskms", env="prod")
        yield System(
            backend.open_signer(key_id, 1.0),
            exported,
            lambda name: backend.open_signer(name, 1.0),
            lambda: kms.disable_key(KeyId=key_id),
            server.stop,
        )
    finally:
        server.stop()


def vault(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[System]:
    program, port = need("vault"), free_port()
    pytest.importorskip("hvac", reason="hvac is not installed: ai-infra[vault]")
    address, token = f"http://127.0.0.1:{port}", "root-of-a-test"
    command = [program, "server", "-dev", f"-dev-root-token-id={token}", f"-dev-listen-address=127.0.0.1:{port}"]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ | {"HOME": str(folder)}
    )
    try:
        monkeypatch.setenv("VAULT_ADDR", address)
        monkeypatch.setenv("VAULT_TOKEN", token)
        api = httpx.Client(base_url=f"{address}/v1", headers={"X-Vault-Token": token})
        wait_until(lambda: answers(api))
        api.post("/sys/mounts/transit", json={"type": "transit"}).raise_for_status()
        api.post("/transit/keys/manifest", json={"type": "ecdsa-p256"}).raise_for_status()
        found = api.get("/transit/keys/manifest").json()["data"]["keys"]["1"]["public_key"]
        backend = load(backends, "vault", env="prod")
        yield System(
            backend.open_signer("transit/manifest:1", 2.0),
            keys.load_public_pem(found),
            lambda name: backend.open_signer(f"transit/{name}:1", 2.0),
            lambda: delete(api),
            lambda: stop(process),
        )
    finally:
        stop(process)


SYSTEMS = {"awskms": awskms, "keyfile": keyfile, "vault": vault}
MESSAGES = (b"", b"DSSEv1 0  0 ", b"m" * 100_000)


def answers(api: httpx.Client) -> bool:
    try:
        return api.get("/sys/health").status_code == 200
    except httpx.TransportError:
        return False


def delete(api: httpx.Client) -> None:
    """Vault has no act that disables a key; one that was deleted is as gone."""
    api.post("/transit/keys/manifest/config", json={"deletion_allowed": True}).raise_for_status()
    api.delete("/transit/keys/manifest").raise_for_status()


def wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the key system did not start"
        time.sleep(0.1)


def stop(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait(10)


@pytest.fixture
def system(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[System]:
    yield from SYSTEMS[request.param](tmp_path, monkeypatch)


every = pytest.mark.parametrize("system", names(backends), indirect=True)
remote = pytest.mark.parametrize("system", [name for name in names(backends) if name != "keyfile"], indirect=True)


@every
def test_signatures_verify_with_the_exported_key_and_openssl(system: System, tmp_path: Path) -> None:
    for message in MESSAGES:
        signature = system.signer.sign(message)
        assert signature.keyid == keys.signer_id(system.exported)
        keys.verify(system.exported, message, signature.sig)
    (tmp_path / "message").write_bytes(message)
    (tmp_path / "sig").write_bytes(signature.sig)
    (tmp_path / "exported.pem").write_text(keys.public_pem(system.exported))
    command = [need("openssl"), "dgst", "-sha256", "-verify", "exported.pem", "-signature", "sig", "message"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, text=True).stdout.strip() == "Verified OK"


@every
def test_the_signer_tells_the_exported_key(system: System) -> None:
    assert keys.public_pem(system.signer.public_key()) == keys.public_pem(system.exported)


@every
def test_an_altered_payload_is_rejected(system: System) -> None:
    signature = system.signer.sign(b"payload")
    for altered in (b"Payload", b"payload ", b"", hashlib.sha256(b"payload").digest()):
        with pytest.raises(BadSignature):
            keys.verify(system.exported, altered, signature.sig)


@every
def test_a_key_that_is_not_there_is_refused_for_good(system: System) -> None:
    with pytest.raises((KeyRefused, BadSetting)) as refused:
        system.open_other("absent").sign(b"payload")
    assert not refused.value.retryable


@remote
def test_a_disabled_key_is_refused_for_good(system: System) -> None:
    assert system.disable is not None
    system.disable()
    with pytest.raises(KeyRefused):
        system.signer.sign(b"payload")


@remote
def test_a_key_service_that_is_away_is_unavailable(system: System) -> None:
    assert system.stop is not None
    system.stop()
    with pytest.raises(SignerUnavailable) as unavailable:
        system.signer.sign(b"payload")
    assert unavailable.value.retryable


def test_development_backends_are_refused_in_production() -> None:
    with pytest.raises(BadSetting, match="is for development, env is prod"):
        load(backends, "keyfile", env="prod")


def test_a_key_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    keys.write_private_pem(tmp_path / "key.pem", keys.generate_p256())
    (tmp_path / "key.pem").chmod(0o644)
    with pytest.raises(BadSetting, match="chmod 600"):
        load(backends, "keyfile").open_signer(str(tmp_path / "key.pem"), 1.0)
    (tmp_path / "junk.pem").write_text("no key")
    (tmp_path / "junk.pem").chmod(0o600)
    with pytest.raises(BadKey):
        load(backends, "keyfile").open_signer(str(tmp_path / "junk.pem"), 1.0)


@pytest.mark.parametrize("name", ["", "manifest", "manifest:0", "manifest:x", ":1", "transit/:1"])
def test_a_vault_key_names_its_version(name: str) -> None:
    with pytest.raises(BadSetting, match="NAME:VERSION"):
        load(backends, "vault").open_signer(name, 1.0)


class Refusing:
    """A KMS client whose every call fails with one code, for the codes that moto never answers."""

    def __init__(self, code: str) -> None:
        from botocore.exceptions import ClientError

        self._error = ClientError({"Error": {"Code": code}}, "Sign")

    def sign(self, **arguments: Any) -> Any:
        raise self._error


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("ThrottlingException", SignerUnavailable),
        ("KMSInternalException", SignerUnavailable),
        ("DependencyTimeoutException", SignerUnavailable),
        ("KeyUnavailableException", SignerUnavailable),
        ("AccessDeniedException", KeyRefused),
        ("DisabledException", KeyRefused),
        ("KMSInvalidStateException", KeyRefused),
    ],
)
def test_kms_error_codes_are_refusals_or_retries(code: str, error: type[Exception]) -> None:
    from services.signing.backends.awskms import KmsSigner

    with pytest.raises(error, match=code):
        KmsSigner(Refusing(code), "k").sign(b"payload")
