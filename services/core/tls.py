"""Mutual TLS: identities are SPIFFE URIs in certificates (SPIFFE X.509-SVID). `DevelopmentCa` is for the embedded profile only."""

import datetime
import ipaddress
import os
import ssl
import threading
import weakref
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

TRUST_DOMAIN = "ai-infra.local"
VALID_DAYS = 365


def service_id(name: str) -> str:
    """`spiffe://ai-infra.local/service/NAME`"""
    return f"spiffe://{TRUST_DOMAIN}/service/{name}"


def person_id(name: str) -> str:
    """`spiffe://ai-infra.local/person/NAME`"""
    return f"spiffe://{TRUST_DOMAIN}/person/{name}"


@dataclass(frozen=True)
class Identity:
    """Files of one party, in PEM: its certificate and key, and the CA that it trusts."""

    cert: Path
    key: Path
    ca: Path

    @classmethod
    def in_folder(cls, folder: Path) -> "Identity":
        """The three files as `DevelopmentCa.issue` names them."""
        return cls(folder / "tls.crt", folder / "tls.key", folder / "ca.crt")


def server_context(identity: Identity) -> ssl.SSLContext:
    """Serves TLS 1.3 to clients that show a certificate of our CA."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _harden(context, identity)
    return context


def client_context(identity: Identity) -> ssl.SSLContext:
    """Calls servers that show a certificate of our CA, for the host called."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _harden(context, identity)
    return context


_contexts: "weakref.WeakKeyDictionary[ssl.SSLContext, Identity]" = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def contexts_of(identity: Identity) -> list[ssl.SSLContext]:
    """Those in use that were made here with its files: they go on when the files are renewed, see `renewal`."""
    with _lock:
        return [context for context, owner in _contexts.items() if owner == identity]


def _harden(context: ssl.SSLContext, identity: Identity) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(identity.ca)
    context.load_cert_chain(identity.cert, identity.key)
    context.verify_mode = ssl.CERT_REQUIRED
    # A person's certificate has no host names; without this its common name would do for one.
    context.hostname_checks_common_name = False
    with _lock:
        _contexts[context] = identity


def spiffe_id(certificate_der: bytes) -> str | None:
    """The SPIFFE URI of a certificate whose chain the TLS layer has checked; none if it has not exactly one."""
    try:
        names = x509.load_der_x509_certificate(certificate_der).extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        )
    except (ValueError, x509.ExtensionNotFound):
        return None
    uris = names.value.get_values_for_type(x509.UniformResourceIdentifier)
    return uris[0] if len(uris) == 1 and uris[0].startswith("spiffe://") else None


class DevelopmentCa:
    """A CA in a folder. `ai-infra init` makes one; env=prod refuses it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        if not (folder / "ca.key").exists():
            self._create()
        self._key = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), None)
        self._certificate = x509.load_pem_x509_certificate((folder / "ca.crt").read_bytes())

    def issue(self, spiffe: str, folder: Path) -> Identity:
        """Makes tls.crt, tls.key and ca.crt in the folder, for a client and a loopback server alike."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        key = ec.generate_private_key(ec.SECP256R1())
        names = [
            x509.UniformResourceIdentifier(spiffe),
            x509.DNSName("localhost"),
            x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
        ]
        usage = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
        certificate = (
            _builder(_name(spiffe.rsplit("/", 1)[-1]), key.public_key())
            .issuer_name(self._certificate.subject)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usage), critical=False)
            .add_extension(_authority(self._certificate), critical=False)
            .sign(self._key, hashes.SHA256())  # type: ignore[arg-type]
        )
        write_private(folder / "tls.key", _private_pem(key))
        (folder / "tls.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        (folder / "ca.crt").write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))
        return Identity.in_folder(folder)

    def _create(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name("ai-infra development CA")
        certificate = (
            _builder(name, key.public_key())
            .issuer_name(name)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(_CA_USAGE, critical=True)
            .sign(key, hashes.SHA256())
        )
        (self._folder / "ca.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        # The key comes last: a crash before it leaves a certificate that the next start replaces.
        write_private(self._folder / "ca.key", _private_pem(key))


def write_private(path: Path, data: bytes) -> None:
    """A file that only its owner reads, whole or not there at all."""
    partial = path.with_name(path.name + ".partial")
    partial.unlink(missing_ok=True)
    handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)


_CA_USAGE = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


def _builder(subject: x509.Name, public_key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=VALID_DAYS))
    )


def _authority(certificate: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    identifier = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
