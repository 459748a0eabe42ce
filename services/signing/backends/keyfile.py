"""A key in a file that only the proxy's process reads. For development: whoever is root on the machine has the key."""

from pathlib import Path

from services.core import keys
from services.core.keys import PrivateKey, PublicKey, Signature
from services.signing.ports import Signer

PRODUCTION = False


class KeyFileSigner:
    """Holds the key in memory from start to end; the file is read once."""

    def __init__(self, key: PrivateKey) -> None:
        self._key = key

    def sign(self, payload: bytes) -> Signature:
        return keys.sign(self._key, payload)

    def public_key(self) -> PublicKey:
        return self._key.public_key()


def open_signer(key: str, timeout_s: float) -> Signer:
    """key: path of a PEM, mode 0600. Raises BadSetting (missing, readable by others) or BadKey."""
    return KeyFileSigner(keys.read_private_pem(Path(key)))
