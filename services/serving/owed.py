"""How many prediction records were begun and not written, in a mapped file: the kernel keeps it when the process is killed."""

import mmap
import struct
from pathlib import Path

BEGUN_ENDED = struct.Struct("<QQ")
UNTOLD = struct.Struct("<Q")


class Owed:
    """Counts of one process. `begin`, `end` and `close` belong to one thread, `add` and `told` to one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._begun = self._ended = 0
        self.untold = 0
        """Records that were lost, and that the log does not know to be: also what predecessors could not tell."""

    def open(self) -> int:
        """What is untold, with what a killed predecessor still owed; then counts from zero. It may be one too many: a record that
        was written in the instant before the kill."""
        kept = self._path.read_bytes() if self._path.exists() else b""
        size = BEGUN_ENDED.size + UNTOLD.size
        self._path.write_bytes(kept.ljust(size, b"\0"))
        with self._path.open("rb+") as file:
            self._map = mmap.mmap(file.fileno(), size)
        begun, ended = BEGUN_ENDED.unpack_from(self._map)
        (self.untold,) = UNTOLD.unpack_from(self._map, BEGUN_ENDED.size)
        # In this order: a kill in between counts them twice, and does not forget them.
        self.add(max(0, begun - ended))
        self._store()
        return self.untold

    def begin(self) -> None:
        self._begun += 1
        self._store()

    def end(self) -> None:
        self._ended += 1
        self._store()

    def add(self, lost: int) -> None:
        """More of them."""
        self.untold += lost
        UNTOLD.pack_into(self._map, BEGUN_ENDED.size, self.untold)

    def told(self, lost: int) -> None:
        """So many of them are in the log now."""
        self.add(-min(lost, self.untold))

    def close(self) -> None:
        """Nothing is begun; what is untold stays."""
        self._begun = self._ended = 0
        self._store()
        self._map.close()

    def _store(self) -> None:
        BEGUN_ENDED.pack_into(self._map, 0, self._begun, self._ended)
