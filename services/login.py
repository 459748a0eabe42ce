"""Whom a person's command line talks to, and as whom: a home without a platform in it, made from what others gave that person.

It asks no server for a password and makes no key: the certificate is the authority's, the signing key the person's own.
"""

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from services.core import keys
from services.core.errors import BadInput, Conflict, Refused
from services.core.tls import person_id, spiffe_id, write_private
from services.core.trust import Trust
from services.home import OF_A_PLATFORM, Home

FILES = ("tls.crt", "tls.key", "ca.crt")


@dataclass(frozen=True, kw_only=True)
class Login:
    """certificate: the contents of FILES; trust: of trust.json."""

    name: str
    api: str
    router: str
    certificate: Mapping[str, bytes]
    trust: bytes
    signing_key: keys.PrivateKey


def log_in(home: Home, login: Login) -> dict[str, Any]:
    """Checks that all of it belongs together, then writes it: folders 0700, files 0600. Again with a newer certificate or trust:
    those are replaced. Answers what was written, and no secret.

    Raises:
        BadInput, BadTrust: a name, a URL, a certificate or a file is none, or the certificate has ended.
        Refused: the certificate is another's, or trust does not know the signing key as this person's, or as revoked.
        Conflict: a platform runs from this home, another signing key is there, or a trust that knows of more revocations.
    """
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", login.name):
        raise BadInput(f"{login.name[:100]!r} is no person's name: want letters, digits, dots and dashes")
    for url in (login.api, login.router):
        if not url.startswith("https://"):
            raise BadInput(f"{url[:100]!r} is no https URL: the platform speaks mutual TLS only")
    _check_home(home)
    _check_certificate(login)
    trust = Trust.parse(login.trust)
    signer = _check_key(login, trust)
    _check_revocations(home, trust)
    folder = home.people / login.name
    there = folder / "signing.pem"
    if there.exists() and keys.signer_id(keys.read_private_pem(there).public_key()) != signer:
        raise Conflict(f"{there} is another key: move it away first, it may be the only copy")
    for made in (home.root, home.root / "run", home.people, folder):
        made.mkdir(parents=True, exist_ok=True, mode=0o700)
    for name in FILES:
        write_private(folder / name, login.certificate[name])
    write_private(there, keys.private_pem(login.signing_key))
    write_private(home.root / "trust.json", login.trust)
    write_private(home.root / "run" / "endpoints.json", json.dumps({"api": login.api, "router": login.router}).encode())
    # The last write: from here it is a home.
    write_private(home.root / "config.json", json.dumps({"version": 1}).encode())
    return {"home": str(home.root), "person": person_id(login.name), "folder": str(folder), "api": login.api, "signer": signer}


def from_secret(text: bytes) -> dict[str, bytes]:
    """A Kubernetes secret in JSON, as `kubectl get secret NAME -o json` writes it. Raises BadInput, quoting nothing of it."""
    try:
        data = json.loads(text)["data"]
        return {name: base64.b64decode(data[name], validate=True) for name in FILES}
    except (ValueError, KeyError, TypeError, binascii.Error):
        raise BadInput(f"this is no secret in JSON with {', '.join(FILES)}: kubectl get secret NAME -o json") from None


def _check_home(home: Home) -> None:
    own = [name for name in OF_A_PLATFORM if (home.root / name).exists()]
    if own:
        raise Conflict(f"{home.root} is the home of a platform ({own[0]}/ is there): name another one with AI_INFRA_HOME")


def _check_certificate(login: Login) -> None:
    try:
        certificate = x509.load_pem_x509_certificate(login.certificate["tls.crt"])
        key = serialization.load_pem_private_key(login.certificate["tls.key"], None)
        x509.load_pem_x509_certificates(login.certificate["ca.crt"])
    except (ValueError, TypeError):
        # Not the parser's words: they may quote what they read.
        raise BadInput(f"the certificate of {login.name}: want {', '.join(FILES)} in PEM, the key unencrypted") from None
    if certificate.public_key() != key.public_key():
        raise BadInput(f"the certificate of {login.name}: tls.key is not the key of tls.crt")
    ended = certificate.not_valid_after_utc
    if ended < datetime.now(UTC):
        raise BadInput(f"the certificate of {login.name} ended at {ended:%Y-%m-%d %H:%M} UTC: fetch the present one")
    found = spiffe_id(certificate.public_bytes(serialization.Encoding.DER))
    if found != person_id(login.name):
        raise Refused(f"the certificate is of {found or 'nobody'}, not of {person_id(login.name)}: the server goes by it")


def _check_key(login: Login, trust: Trust) -> str:
    """The signer id of the person's key."""
    signer = keys.signer_id(login.signing_key.public_key())
    owner = trust.person_of(signer)
    if owner is None or owner.person != person_id(login.name):
        whose = "nobody's" if owner is None else f"of {owner.person}"
        raise Refused(
            f"trust.json: key {signer[:16]}… is {whose}, not of {person_id(login.name)}: nothing that it signs would count; "
            "whoever keeps trust.json adds its public half"
        )
    if not trust.valid(signer):
        raise Refused(f"trust.json: key {signer[:16]}… is revoked: nothing that it signs counts; make a new one, and have it added")
    return signer


def _check_revocations(home: Home, trust: Trust) -> None:
    """A file that forgets a revocation is older than the one that is there, or not from whoever keeps it."""
    there = home.root / "trust.json"
    if not there.exists():
        return
    known = Trust.parse(there.read_bytes()).revoked
    forgotten = [signer for signer, index in known.items() if trust.revoked.get(signer, index + 1) > index]
    if forgotten:
        raise Conflict(f"{there} has key {forgotten[0][:16]}… revoked, the new one not or later: ask for the present trust.json")
