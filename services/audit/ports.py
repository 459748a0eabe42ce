"""What the log needs from outside: a place for its files, a signer of checkpoints. Others reach it as `core.outbox.AuditBus`."""

from collections.abc import Sequence
from typing import Protocol

from services.core.logfile import LogReader
from services.signing.ports import CheckpointState


class LogStore(LogReader, Protocol):
    """Where the published log lies, in tlog-tiles layout."""

    def write(self, path: str, data: bytes) -> None:
        """One file, whole or not at all, durable when this returns; replaces what was there.

        Raises:
            Unavailable: the disk is full or away; the old file, if any, is as it was.
        """

    def remove_partials(self, path: str) -> None:
        """Removes every partial form of a tile or bundle whose full form lies at `path`; nothing if there is none.

        Raises:
            Unavailable: as above; some of them may be gone.
        """


class CheckpointSigner(Protocol):
    """The part of the signing proxy that signs checkpoints. It keeps the last one it signed, so history cannot be rewritten."""

    def last_checkpoint(self, origin: str) -> CheckpointState | None:
        """The last checkpoint signed, where the next consistency proof starts; None before the first.

        It may be ahead of the published one: the signer keeps it before it answers.
        Raises:
            Unavailable: the signer did not answer; retry.
        """

    def sign_checkpoint(self, *, origin: str, size: int, root: bytes, proof: Sequence[bytes]) -> str:
        """The signed note.

        Args:
            root: 32 bytes.
            proof: RFC 6962 consistency proof from `last_checkpoint`; empty for the first one and for the same size.
        Raises:
            Unavailable: the signer did not answer; it may have signed; retry from `last_checkpoint`.
            Refused: smaller than the last one, or not consistent with it; do not retry.
        """
