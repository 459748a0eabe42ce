"""Evidence archives that are not as the platform wrote them."""

import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

from services.core.archive import ordered
from services.core.storedzip import Writer

Members = dict[str, bytes]


def read(path: Path) -> Members:
    with zipfile.ZipFile(path) as source:
        return {name: source.read(name) for name in source.namelist()}


def write(path: Path, members: Mapping[str, bytes]) -> Path:
    """In the form and order that the platform writes."""
    return write_in_order(path, {name: members[name] for name in ordered(members)})


def write_in_order(path: Path, members: Mapping[str, bytes]) -> Path:
    """In the form that the platform writes, members one after the other as given."""
    with path.open("wb") as file:
        target = Writer(file)
        for name, data in members.items():
            target.add(name, data)
        target.close()
    return path


def edited(archive: Path, target: Path, change: Callable[[Members], object]) -> Path:
    """The archive after `change` had its way with the members."""
    members = read(archive)
    change(members)
    return write(target, members)


def flipped(data: bytes, at: int | None = None) -> bytes:
    """One bit of one byte is another; the byte in the middle, unless told."""
    at = len(data) // 2 if at is None else at
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def sparse_member(name: str, size: int) -> bytes:
    """A member of a tar file in GNU's old form: 512 bytes that stand for one hole of that size."""
    info = tarfile.TarInfo(name)
    info.type = tarfile.GNUTYPE_SPARSE
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    for at, number in ((386, size), (398, 0), (483, size)):  # where the only data begin, how many they are, the size
        header[at : at + 12] = b"%011o\0" % number
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def endless_headers(count: int) -> bytes:
    """So many headers of a tar file in a row, each about the one behind it."""
    info = tarfile.TarInfo("x")
    info.pax_headers = {"comment": "x"}
    return info.tobuf(tarfile.PAX_FORMAT)[:1024] * count
