"""Faults of the machine, made for real: a disk that is full, files that may not grow, a folder that takes no files."""

import ctypes
import os
import resource
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_CAP_VERSION_3, _CAP_DAC_OVERRIDE = 0x20080522, 1


@contextmanager
def full_disk(size: int = 0) -> Iterator[None]:
    """No file of this process grows beyond `size` bytes: writes fail with EFBIG where a full disk gives ENOSPC.

    A limit of the kernel's, which needs no privilege; Python ignores the signal that comes with it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """The folder, and those below it, take no new files; for root too, whose power over permissions is put aside meanwhile."""
    folders = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    for path in folders:
        path.chmod(0o555)
    try:
        with _without_override():
            yield
    finally:
        for path in folders:
            path.chmod(0o755)


class SmallDisk:
    """A file system of its own. Filled, it refuses with ENOSPC what needs another block; a page of a file may have room yet."""

    def __init__(self, path: Path) -> None:
        self.path, self._filler = path, path / "filler"

    def fill(self) -> None:
        left = os.statvfs(self.path)
        with self._filler.open("ab") as file:
            os.posix_fallocate(file.fileno(), file.tell(), max(1, left.f_bavail * left.f_frsize))

    def make_room(self) -> None:
        self._filler.unlink()


@contextmanager
def small_disk(megabytes: int) -> Iterator[SmallDisk]:
    """In memory, open to every user. To mount it is a privilege: the test is skipped, by name, where it is not given, and with
    REQUIRE_PEERS=1 too, since no package brings it."""
    with tempfile.TemporaryDirectory(prefix="ai-infra-disk-") as name:
        command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0777", "tmpfs", name]
        try:
            subprocess.run(command, capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"no small disk: this machine mounts no tmpfs for us: {getattr(error, 'stderr', '') or error}")
        try:
            yield SmallDisk(Path(name))
        finally:
            subprocess.run(["umount", "--lazy", name], check=True)


class _Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _Sets(ctypes.Structure):
    _fields_ = [("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32)]


@contextmanager
def _without_override() -> Iterator[None]:
    """This thread without the capability to pass over permissions (capset(2))."""
    libc, header, sets = ctypes.CDLL(None, use_errno=True), _Header(_CAP_VERSION_3, 0), (_Sets * 2)()
    if libc.capget(ctypes.byref(header), sets) != 0:
        raise OSError(ctypes.get_errno(), "capget")
    had = sets[0].effective
    try:
        _set(libc, header, sets, had & ~(1 << _CAP_DAC_OVERRIDE))
        yield
    finally:
        _set(libc, header, sets, had)


def _set(libc: ctypes.CDLL, header: _Header, sets: "ctypes.Array[_Sets]", effective: int) -> None:
    sets[0].effective = effective
    if libc.capset(ctypes.byref(header), sets) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
