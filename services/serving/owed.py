"""How many prediction records were begun and not written, in a mapped file: the kernel keeps it when the process is killed."""

import mmap
import struct
from pathlib import Path

COUNTERS = struct.Struct("<QQ")


class Owed:
    """Counts of one process. It belongs to one thread, but for `open`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._begun = self._ended = 0

    def open(self) -> int:
        """How many a killed predecessor still owed; then counts from zero. It may be one too many: a record that was written in the
        instant before the kill."""
        if not self._path.exists():
            self._path.write_bytes(COUNTERS.pack(0, 0))
        begun, ended = COUNTERS.unpack(self._path.read_bytes())
        with self._path.open("rb+") as file:
            self._map = mmap.mmap(file.fileno(), COUNTERS.size)
        self._store()
        return max(0, int(begun - ended))

    def begin(self) -> None:
        self._begun += 1
        self._store()

    def end(self) -> None:
        self._ended += 1
        self._store()

    def close(self) -> None:
        """Nothing is owed."""
        self._begun = self._ended = 0
        self._store()
        self._map.close()

    def _store(self) -> None:
        COUNTERS.pack_into(self._map, 0, self._begun, self._ended)
