"""A published log in memory."""

from collections.abc import Mapping
from types import MappingProxyType

from services.core.errors import NotFound


class MemoryLogStore:
    """Implements audit.ports.LogStore. files: those it begins with, path → bytes."""

    def __init__(self, files: Mapping[str, bytes] = MappingProxyType({})) -> None:
        self.files = dict(files)

    def read(self, path: str, limit: int) -> bytes:
        if path not in self.files:
            raise NotFound(path)
        return self.files[path]

    def write(self, path: str, data: bytes) -> None:
        self.files[path] = data

    def remove_partials(self, path: str) -> None:
        self.files = {name: data for name, data in self.files.items() if not name.startswith(f"{path}.p/")}
