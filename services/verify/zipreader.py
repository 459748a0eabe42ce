"""Reads an evidence archive that may be hostile. Nothing is unpacked to disk."""

import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

from services.core import archive
from services.core.canonical import first_double
from services.core.digests import require_safe_path
from services.core.errors import BadInput, TooLarge

MAX_MEMBERS = 200_000
MAX_MEMBER = 2 << 30
MAX_TOTAL = 8 << 30
MAX_RATIO = 200
"""Bytes out per byte in, for members over 1 MiB and for the whole: weights do not compress like that, a zip bomb does."""
END = b"PK\x05\x06"
END_BYTES = 22

FOLDERS = (archive.MODEL, archive.DATASETS, archive.DATASET_APPROVALS, archive.LOG)


class BadArchive(BadInput):
    """The archive is not one that we write; the message names the member."""


def read(path: Path) -> Mapping[str, bytes]:
    """Member → bytes.

    Raises:
        BadArchive: no zip file, a member twice, missing, unknown, encrypted, with a bad name or checksum.
        TooLarge: more members or bytes than the limits above, told before they are unpacked.
    """
    try:
        with zipfile.ZipFile(path) as source:
            infos = source.infolist()
            _check(infos)
            _check_frame(path, source, infos)
            return {info.filename: _member(source, info) for info in infos}
    except (zipfile.BadZipFile, zlib.error, struct.error, NotImplementedError, RuntimeError, EOFError, OSError) as error:
        raise BadArchive(f"{path.name}: {error}") from error


def _check(infos: list[zipfile.ZipInfo]) -> None:
    if len(infos) > MAX_MEMBERS:
        raise TooLarge(f"{len(infos)} members: at most {MAX_MEMBERS}")
    names = [info.filename for info in infos]
    if (double := first_double(names)) is not None:
        raise BadArchive(f"member {double!r} stands in the archive twice")
    if missing := sorted(set(archive.FIXED) - set(names)):
        raise BadArchive(f"member {missing[0]!r} is missing")
    for info in infos:
        _check_member(info)
    if (total := sum(info.file_size for info in infos)) > MAX_TOTAL:
        raise TooLarge(f"the members have {total} bytes: at most {MAX_TOTAL}; export without weights and pass --model")


def _check_frame(path: Path, source: zipfile.ZipFile, infos: list[zipfile.ZipInfo]) -> None:
    """Nothing stands before or behind the members. What members say of their packed size is not believed: they may overlap."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(size - END_BYTES)
        if source.comment or infos[0].header_offset != 0 or not file.read(END_BYTES).startswith(END):
            raise BadArchive("bytes stand before or behind the archive's members: it is not as it was written")
    if (total := sum(info.file_size for info in infos)) > max(1 << 20, MAX_RATIO * size):
        raise TooLarge(f"the archive unpacks to {total} bytes from {size}: refused")


def _check_member(info: zipfile.ZipInfo) -> None:
    name = info.filename
    try:
        require_safe_path(name)
    except BadInput as error:
        raise BadArchive(f"member {name!r}: {error}") from error
    if name not in archive.FIXED and not name.startswith(FOLDERS):
        raise BadArchive(f"member {name!r} is none that an evidence archive has")
    if name != info.orig_filename:
        raise BadArchive(f"member {info.orig_filename!r}: the name holds a NUL character")
    if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise BadArchive(f"member {name!r} is encrypted, or packed in a way that we do not write")
    if info.file_size > MAX_MEMBER:
        raise TooLarge(f"member {name!r} has {info.file_size} bytes: at most {MAX_MEMBER}")
    if info.file_size > 1 << 20 and info.file_size > MAX_RATIO * max(1, info.compress_size):
        raise TooLarge(f"member {name!r} unpacks to {info.file_size} bytes from {info.compress_size}: refused")


def _member(source: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    with source.open(info) as member:
        data = member.read(info.file_size + 1)
    if len(data) != info.file_size:
        raise BadArchive(f"member {info.filename!r} has another size than it says")
    return data
