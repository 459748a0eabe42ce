"""The object store: bytes by their digest, written once. A backend is one file in `object_backends`."""

from pathlib import Path
from typing import BinaryIO, Protocol

from services.core.errors import AiInfraError, BadInput, NotFound


class CorruptObject(AiInfraError):
    """The stored bytes are not those that their digest names. Restore the object from a backup; do not retry."""


class WrongChecksum(BadInput):
    """The bytes sent are not those that the sender's digest names; nothing was stored."""


class NoSuchObject(NotFound):
    """No object with this digest."""


class ObjectStore(Protocol):
    """Immutable bytes, named by their SHA-256. What is visible is whole: a write that breaks off leaves nothing visible.

    Every method raises Unavailable when the store does not answer (retry).
    """

    def put(self, data: bytes) -> str:
        """Stores the bytes and answers their digest; bytes that are there already are left as they are."""

    def put_file(self, path: Path, expected: str | None = None) -> str:
        """As put, for a file of any size.

        Raises:
            WrongChecksum: the file's digest is not `expected`.
        """

    def get(self, digest: str) -> bytes:
        """The bytes, hashed before they are answered. Raises NoSuchObject, CorruptObject."""

    def open(self, digest: str) -> BinaryIO:
        """A reader of the stored bytes, *not* hashed: for callers that hash while they read. Raises NoSuchObject."""

    def copy_to(self, digest: str, path: Path) -> None:
        """Writes the object to a new file; the file stands there only if its hash is right. Raises NoSuchObject, CorruptObject."""

    def has(self, digest: str) -> bool:
        """Whether there is an object with this digest."""

    def size(self, digest: str) -> int:
        """Bytes. Raises NoSuchObject."""
