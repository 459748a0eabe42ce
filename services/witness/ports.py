"""What the witness needs from outside: a place for one small file a log."""

from typing import Protocol


class StateStore(Protocol):
    """Files that one witness owns."""

    def read(self, name: str) -> bytes | None:
        """One file; None if there is none. Raises Unavailable."""

    def write(self, name: str, data: bytes) -> None:
        """One file, whole or not at all, durable when this returns. Raises Unavailable: the old one is as it was."""
