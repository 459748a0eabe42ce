"""HashiCorp Vault's transit engine with an ecdsa-p256 key; the private key never leaves Vault. It makes no keys.

A version of the key is pinned, so a rotation in Vault cannot change the signer behind trust.json. In a pod it logs in with
the token of its service account; elsewhere somebody gives it Vault's.
"""

import base64
import hashlib
import os
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

from services.core.errors import BadSetting
from services.core.keys import PublicKey, Signature, load_public_pem, signer_id
from services.signing.errors import KeyRefused, SignerUnavailable
from services.signing.ports import Signer

PRODUCTION = True
DEFAULT_MOUNT = "transit"
TOKEN = "/var/run/secrets/vault/token"  # noqa: S105  # a file's name


class VaultSigner:
    """client: an hvac client; version: of the transit key, from 1; login: gives the client a token, when it has none any more."""

    def __init__(self, client: Any, mount: str, name: str, version: int, login: Callable[[], object] | None = None) -> None:
        self._client, self._mount, self._name, self._version, self._login = client, mount, name, version, login

    def sign(self, payload: bytes) -> Signature:
        answer = self._call(
            "sign_data",
            hash_input=base64.b64encode(hashlib.sha256(payload).digest()).decode("ascii"),
            key_version=self._version,
            hash_algorithm="sha2-256",
            prehashed=True,
            marshaling_algorithm="asn1",
        )
        # vault:v1:<base64 of the DER>
        return Signature(signer_id(self.public_key()), base64.b64decode(answer["data"]["signature"].rsplit(":", 1)[1]))

    def public_key(self) -> PublicKey:
        return self._public_key

    @cached_property
    def _public_key(self) -> PublicKey:
        data = self._call("read_key")["data"]
        found = data["keys"].get(str(self._version))
        if data["type"] != "ecdsa-p256" or found is None:
            raise KeyRefused(f"transit key {self._name!r} has no version {self._version} of type ecdsa-p256")
        return load_public_pem(found["public_key"])

    def _call(self, operation: str, **arguments: Any) -> Any:
        import hvac.exceptions
        import requests

        try:
            return self._ask(operation, arguments)
        except (
            hvac.exceptions.Forbidden,
            hvac.exceptions.Unauthorized,
            hvac.exceptions.InvalidPath,
            hvac.exceptions.InvalidRequest,
        ) as error:
            raise KeyRefused(f"Vault refuses transit key {self._name!r}: {type(error).__name__}; check policy and role") from error
        except (hvac.exceptions.VaultError, requests.RequestException) as error:
            raise SignerUnavailable(f"Vault did not sign with {self._name!r}: {type(error).__name__}") from error

    def _ask(self, operation: str, arguments: dict[str, Any]) -> Any:
        import hvac.exceptions

        call = getattr(self._client.secrets.transit, operation)
        try:
            return call(name=self._name, mount_point=self._mount, **arguments)
        except hvac.exceptions.Forbidden:
            # Vault says the same of a token that ran out and of one that may not: only a new one tells.
            if self._login is None:
                raise
            self._login()
            return call(name=self._name, mount_point=self._mount, **arguments)


def open_signer(key: str, timeout_s: float) -> Signer:
    """key: [MOUNT/]NAME:VERSION; the address and token come from VAULT_ADDR and VAULT_TOKEN, as Vault's own tools take them.

    With VAULT_ROLE it logs in by Vault's Kubernetes method instead, with the token in the file VAULT_ROLE_TOKEN.
    """
    path, _, version = key.rpartition(":")
    mount, _, name = path.rpartition("/")
    if not name or not version.isdecimal() or int(version) < 1:
        raise BadSetting(f"Vault key {key!r}: want [MOUNT/]NAME:VERSION, for example transit/manifest:1")
    try:
        import hvac
    except ImportError as error:
        raise BadSetting("the Vault backend needs hvac: install ai-infra[vault]") from error
    client = hvac.Client(timeout=timeout_s)
    return VaultSigner(client, mount or DEFAULT_MOUNT, name, int(version), _login(client, os.environ.get("VAULT_ROLE", "")))


def _login(client: Any, role: str) -> Callable[[], object] | None:
    if not role:
        return None
    path = Path(os.environ.get("VAULT_ROLE_TOKEN", TOKEN))

    def login() -> None:
        import hvac.exceptions

        try:
            token = path.read_text().strip()
        except OSError as error:
            raise SignerUnavailable(f"VAULT_ROLE_TOKEN={path}: {error.strerror}; mount a token of the service account") from error
        try:
            client.auth.kubernetes.login(role, token)
        except (hvac.exceptions.Forbidden, hvac.exceptions.InvalidRequest) as error:
            # Vault says the same of an API server that it cannot ask: what only has to wait must not be refused for good.
            remedy = "the API server that Vault asks may be away; if it is not, check the role"
            raise SignerUnavailable(f"Vault lets nobody log in as {role!r}: {type(error).__name__}; {remedy}") from error

    return login
