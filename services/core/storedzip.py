"""Zip files in one exact form: members stored as they are, one after the other, every header field fixed.

Any zip program reads them. We read no others: of two files with the same members in the same order one is ours, to the last byte,
so no byte stands outside of what a checksum or a digest covers. Which order is right is for the reader's caller to say. Stored
members unpack to no more than was sent, contiguous ones do not overlap.
"""

import hashlib
import os
import stat
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, NamedTuple, Self

from services.core.canonical import first_double
from services.core.digests import CHUNK, require_safe_path
from services.core.errors import BadInput, TooLarge

MAX_MEMBERS = 65_534
MAX_BYTES = (1 << 32) - 2
"""Of a file; larger ones would need the Zip64 form."""
MAX_CENTRAL = 32 << 20
MAX_READ = 64 << 20
"""Bytes of a member that is read in one piece; larger ones are streamed."""

_LOCAL = struct.Struct("<4sHHHHHIIIHH")
_CENTRAL = struct.Struct("<4sHHHHHHIIIHHHHHII")
_END = struct.Struct("<4sHHHHIIH")
_VERSION, _UNIX, _UTF8, _STORED, _TIME, _DATE = 20, 3 << 8, 0x800, 0, 0, 33  # 1980-01-01, the first day that the form knows
_MODE = (stat.S_IFREG | 0o600) << 16


class BadZip(BadInput):
    """Not a zip file in this form; the message names the member."""


class _Member(NamedTuple):
    """offset: of the data; crc: CRC-32 as the headers state it."""

    offset: int
    size: int
    crc: int


class Writer:
    """Writes to a seekable file that is empty; close() completes it and leaves the file open."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._central, self._names = file, bytearray(), 0

    def add(self, name: str, data: bytes) -> None:
        self.stream(name, len(data), [data])

    def stream(self, name: str, size: int, chunks: Iterable[bytes]) -> None:
        """A member of that size.

        Raises:
            TooLarge: the file would have over 65,534 members or 4 GiB.
            BadInput: the chunks have another size.
        """
        start = self._file.tell()
        if self._names == MAX_MEMBERS or start + size + len(self._central) + MAX_CENTRAL > MAX_BYTES:
            raise TooLarge(f"{name}: the archive would be over {MAX_MEMBERS} members or {MAX_BYTES} bytes")
        self._file.write(_local(name, 0, size))
        crc = written = 0
        for chunk in chunks:
            crc, written = zlib.crc32(chunk, crc), written + len(chunk)
            self._file.write(chunk)
        if written != size:
            raise BadInput(f"{name} has {written} bytes, not {size}")
        self._file.seek(start)
        self._file.write(_local(name, crc, size))
        self._file.seek(0, os.SEEK_END)
        self._central += _central(name, crc, size, start)
        self._names += 1

    def close(self) -> None:
        start = self._file.tell()
        self._file.write(self._central + _end(self._names, len(self._central), start))


@dataclass(frozen=True)
class Reader:
    """An open file whose form was checked; what the members hold was not. It unpacks nothing to disk."""

    file: IO[bytes]
    members: dict[str, _Member]

    @classmethod
    def open(cls, path: Path) -> Self:
        """Raises BadZip, TooLarge: the message names the member; OSError: no such file."""
        file = path.open("rb")
        try:
            return cls(file, _checked(file))
        except BaseException:
            file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.file.close()

    def __contains__(self, name: str) -> bool:
        return name in self.members

    def __iter__(self) -> Iterator[str]:
        return iter(self.members)

    def __len__(self) -> int:
        return len(self.members)

    def size(self, name: str) -> int:
        return self.members[name].size

    def __getitem__(self, name: str) -> bytes:
        """A member's bytes. Raises KeyError; TooLarge: over 64 MiB; BadZip: its checksum is wrong."""
        if self.members[name].size > MAX_READ:
            raise TooLarge(f"member {name!r} has {self.members[name].size} bytes: at most {MAX_READ}")
        return b"".join(self._chunks(name))

    def sha256(self, name: str) -> str:
        """Digest of a member of any size, a MiB in memory at a time. Raises as reading does."""
        digest = hashlib.sha256()
        for chunk in self._chunks(name):
            digest.update(chunk)
        return f"sha256:{digest.hexdigest()}"

    def _chunks(self, name: str) -> Iterator[bytes]:
        offset, left, stated = self.members[name]
        self.file.seek(offset)
        crc = 0
        while left:
            chunk = self.file.read(min(left, CHUNK))
            if not chunk:
                raise BadZip(f"member {name!r} is cut off")
            crc, left = zlib.crc32(chunk, crc), left - len(chunk)
            yield chunk
        if crc != stated:
            raise BadZip(f"member {name!r} is damaged: its checksum is another")


def _checked(file: IO[bytes]) -> dict[str, _Member]:
    size = file.seek(0, os.SEEK_END)
    if size < _END.size:
        raise BadZip("it is no zip file")
    count, start, central = _find_central(file, size)
    found = list(_entries(central, count))
    if (double := first_double(name for name, _ in found)) is not None:
        raise BadZip(f"member {double!r} stands in the archive twice")
    offset, expected = 0, bytearray()
    for name, (at, length, crc) in found:
        local = _local(name, crc, length)
        file.seek(offset)
        if at != offset + len(local) or at + length > start or file.read(len(local)) != local:
            raise BadZip(f"member {name!r} has other headers than we write, or does not begin where the one before it ends")
        expected += _central(name, crc, length, offset)
        offset = at + length
    if expected != central or offset != start:
        raise BadZip("bytes stand before, between or behind the members: it is not as it was written")
    return dict(found)


def _find_central(file: IO[bytes], size: int) -> tuple[int, int, bytes]:
    """How many members there are, where their directory starts, and its bytes."""
    file.seek(size - _END.size)
    tail = file.read(_END.size)
    mark, _, _, count, _, length, start, _ = _END.unpack(tail)
    if mark != b"PK\x05\x06" or tail != _end(count, length, start) or start + length + _END.size != size:
        raise BadZip("it is no zip file, or bytes stand before or behind it: it is not as it was written")
    if length > MAX_CENTRAL or count > MAX_MEMBERS:
        raise TooLarge(f"{count} members: at most {MAX_MEMBERS}, and {MAX_CENTRAL} bytes of names")
    file.seek(start)
    return count, start, file.read(length)


def _entries(central: bytes, count: int) -> Iterator[tuple[str, _Member]]:
    """Name and place of each member, as the directory states it; refuses by name what we do not take at all."""
    at = 0
    for _ in range(count):
        if len(central) < at + _CENTRAL.size or not central.startswith(b"PK\x01\x02", at):
            raise BadZip("the directory of members is damaged")
        fields = _CENTRAL.unpack_from(central, at)
        flags, method, crc, size, name_size, extra, comment = (fields[i] for i in (3, 4, 7, 9, 10, 11, 12))
        name = _name(central[at + _CENTRAL.size : at + _CENTRAL.size + name_size])
        if flags & 1:
            raise BadZip(f"member {name!r} is encrypted")
        if method != _STORED:
            raise BadZip(f"member {name!r} is packed: members are stored as they are, so that none unpacks to more than was sent")
        if stat.S_ISLNK(fields[15] >> 16):
            raise BadZip(f"member {name!r} is a symbolic link")
        yield name, _Member(fields[16] + _LOCAL.size + name_size, size, crc)
        at += _CENTRAL.size + name_size + extra + comment


def _name(raw: bytes) -> str:
    try:
        return require_safe_path(raw.decode("utf-8"))
    except (UnicodeDecodeError, BadInput) as error:
        raise BadZip(f"member {raw[:80]!r}: {error}") from error


def _local(name: str, crc: int, size: int) -> bytes:
    raw, flags = _encoded(name)
    return _LOCAL.pack(b"PK\x03\x04", _VERSION, flags, _STORED, _TIME, _DATE, crc, size, size, len(raw), 0) + raw


def _central(name: str, crc: int, size: int, offset: int) -> bytes:
    raw, flags = _encoded(name)
    fixed = (b"PK\x01\x02", _UNIX | _VERSION, _VERSION, flags, _STORED, _TIME, _DATE)
    return _CENTRAL.pack(*fixed, crc, size, size, len(raw), 0, 0, 0, 0, _MODE, offset) + raw


def _end(count: int, length: int, start: int) -> bytes:
    return _END.pack(b"PK\x05\x06", 0, 0, count, count, length, start, 0)


def _encoded(name: str) -> tuple[bytes, int]:
    raw = name.encode("utf-8")
    return raw, 0 if raw.isascii() else _UTF8
