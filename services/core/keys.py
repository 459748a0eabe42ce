"""Keys and signatures: ECDSA P-256 (DER over SHA-256) and Ed25519, nothing else. It keeps no keys and trusts none by itself."""

import hashlib
import os
import stat
from pathlib import Path
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from services.core.errors import BadInput, BadSetting, Refused

PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey
PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

MAX_PEM_BYTES = 16_384


class BadKey(BadInput):
    """The bytes are no key of a kind that we use."""


class BadSignature(Refused):
    """The signature does not belong to this payload and key."""


class Signature(NamedTuple):
    """keyid: signer id of the key, a hint only; sig: DER for ECDSA, 64 raw bytes for Ed25519."""

    keyid: str
    sig: bytes


def generate_p256() -> ec.EllipticCurvePrivateKey:
    """A new ECDSA key on P-256, the default: OMS, KMS, HSM and Vault all have it."""
    return ec.generate_private_key(ec.SECP256R1())


def generate_ed25519() -> ed25519.Ed25519PrivateKey:
    """A new Ed25519 key, which signed notes of the log use."""
    return ed25519.Ed25519PrivateKey.generate()


def load_public_pem(pem: bytes | str) -> PublicKey:
    """The public key of a SubjectPublicKeyInfo in PEM.

    Raises:
        BadKey: not PEM, or another kind of key, or a curve other than P-256.
    """
    try:
        key = serialization.load_pem_public_key(_pem_bytes(pem))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadKey("no public key in PEM, which begins with -----BEGIN PUBLIC KEY-----") from error
    if not _is_public(key):
        raise BadKey("want an ECDSA P-256 or an Ed25519 key")
    return key  # type: ignore[return-value]  # narrowed by _is_public, which also looks at the curve


def load_private_pem(pem: bytes | str) -> PrivateKey:
    """The private key of an unencrypted PEM.

    Raises:
        BadKey: not PEM, encrypted, or another kind of key.
    """
    try:
        key = serialization.load_pem_private_key(_pem_bytes(pem), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise BadKey(f"no unencrypted private key in PEM: {error}") from error
    if not hasattr(key, "public_key") or not _is_public(key.public_key()):
        raise BadKey("want an ECDSA P-256 or an Ed25519 key")
    return key  # type: ignore[return-value]  # narrowed by _is_public, which also looks at the curve


def public_pem(key: PublicKey) -> str:
    """SubjectPublicKeyInfo in PEM, as `openssl pkey -pubout` writes it."""
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode("ascii")


def private_pem(key: PrivateKey) -> bytes:
    """PKCS#8 in PEM, unencrypted."""
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def signer_id(key: PublicKey) -> str:
    """Identity of a key: lowercase hex SHA-256 of its SPKI DER (re-encoded, so one key has one id)."""
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()


def sign(key: PrivateKey, message: bytes) -> Signature:
    """Signature over the message itself; ECDSA hashes it with SHA-256."""
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return Signature(signer_id(key.public_key()), key.sign(message))
    return Signature(signer_id(key.public_key()), key.sign(message, ec.ECDSA(hashes.SHA256())))


def verify(key: PublicKey, message: bytes, signature: bytes) -> None:
    """Accepts what OpenSSL accepts: strict DER for ECDSA, s in either half (so signatures are counted by key, never by bytes).

    Raises:
        BadSignature: the signature is malformed or belongs to another key or message.
    """
    try:
        if isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, message)
        else:
            key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature as error:
        raise BadSignature(f"the signature does not verify under key {signer_id(key)[:16]}…") from error


def write_private_pem(path: Path, key: PrivateKey) -> None:
    """A new file, mode 0600, durable when this returns. Never replaces a key.

    Raises:
        BadSetting: the file is there already.
    """
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise BadSetting(f"{path} is there already: move it away before making a new key") from error
    with os.fdopen(handle, "wb") as file:
        file.write(private_pem(key))
        file.flush()
        os.fsync(file.fileno())


def read_private_pem(path: Path) -> PrivateKey:
    """The key of a file that only its owner can read.

    Raises:
        BadSetting: no such file, a link, or one that others may read or write.
        BadKey: it holds no key of ours.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError as error:
        raise BadSetting(f"private key {path}: {error.strerror}") from error
    with os.fdopen(handle, "rb") as file:
        # The mode of the open file, not of the path: the two cannot be exchanged in between.
        mode = os.fstat(file.fileno()).st_mode
        if not stat.S_ISREG(mode) or mode & 0o077:
            raise BadSetting(f"private key {path} has mode {stat.filemode(mode)}: run chmod 600 on it")
        return load_private_pem(file.read(MAX_PEM_BYTES + 1))


def _pem_bytes(pem: bytes | str) -> bytes:
    data = pem.encode("utf-8", "replace") if isinstance(pem, str) else pem
    if len(data) > MAX_PEM_BYTES:
        raise BadKey(f"a PEM of {len(data)} bytes: want at most {MAX_PEM_BYTES}")
    return data


def _is_public(key: object) -> bool:
    if isinstance(key, ec.EllipticCurvePublicKey):
        return isinstance(key.curve, ec.SECP256R1)
    return isinstance(key, ed25519.Ed25519PublicKey)
