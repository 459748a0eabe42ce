"""The witness's folder: its key, made once, and the last checkpoint of each log. One process holds it, by a lock."""

import fcntl
import os
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ed25519

from services.core import keys
from services.core.durable import sync_folder
from services.core.errors import BadSetting, Unavailable
from services.core.storage import writing

KEY, LOCK = "witness.pem", "lock"


def open_key(folder: Path) -> ed25519.Ed25519PrivateKey:
    """The witness's key; made, mode 0600, the first time.

    Raises:
        BadSetting: others may read it, or it is of another kind.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / KEY
    if not path.exists():
        keys.write_private_pem(path, keys.generate_ed25519())
        sync_folder(folder)
    key = keys.read_private_pem(path)
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise BadSetting(f"{path} is no Ed25519 key: a witness signs with one of its own")
    return key


class FolderState:
    """Implements ports.StateStore. Holds the folder until the process ends."""

    def __init__(self, folder: Path) -> None:
        """Raises BadSetting: another witness runs on this folder."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder
        self._lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._lock)
            raise BadSetting(f"another witness runs on {folder}: two would cosign two histories") from error

    def close(self) -> None:
        os.close(self._lock)

    def read(self, name: str) -> bytes | None:
        try:
            return (self._folder / name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Unavailable(f"{name} of the witness cannot be read: {error.strerror}") from error

    def write(self, name: str, data: bytes) -> None:
        # One writer, so one name will do; a crash leaves it behind, and the next write replaces it.
        temporary = self._folder / f".{name}.tmp"
        with writing(f"{name} of the witness could not be kept"):
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._folder / name)
            sync_folder(self._folder)
