"""A policy bundle: Rego modules and `data.json`, its identity, and its form as a tar file. It evaluates nothing: see `rego`."""

import io
import os
import stat
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from services.core.canonical import parse
from services.core.digests import FileEntry, require_safe_path, sha256, tree_digest
from services.core.errors import BadInput, TooLarge

MAX_TAR_BYTES = 2 << 20
MAX_FILES = 1000
DATA = "data.json"
TEST_SUFFIX = "_test.rego"


class BadBundle(BadInput):
    """Not a bundle that we take; the message names the file."""


@dataclass(frozen=True)
class Bundle:
    """files: path → bytes of the `.rego` modules and of `data.json`, without tests. Make it with `load_bundle`."""

    files: Mapping[str, bytes]

    @cached_property
    def modules(self) -> Mapping[str, str]:
        """Path → Rego source, sorted by path."""
        return {path: _text(path, self.files[path]) for path in sorted(self.files) if path != DATA}

    @cached_property
    def data(self) -> Mapping[str, Any]:
        """The document `data`."""
        value = parse(self.files[DATA])
        if not isinstance(value, dict):
            raise BadBundle("data.json: want an object")
        return value

    @cached_property
    def revision(self) -> str:
        """Identity: the tree digest of the files."""
        return tree_digest(FileEntry(path, len(data), sha256(data)) for path, data in self.files.items())

    @property
    def actions(self) -> Mapping[str, list[str]]:
        """Action → the rules that must report."""
        return self.data["actions"]  # type: ignore[no-any-return]  # its shape is checked when the bundle is loaded

    def rules_for(self, action: Any) -> list[str]:
        """The rules that must report on an action; none for an action that the bundle does not know."""
        return list(self.actions.get(action, [])) if isinstance(action, str) else []


def load_bundle(source: Path | bytes) -> Bundle:
    """A bundle from a directory or from the bytes of a tar file.

    Tests (`*_test.rego`) are left out, so a bundle has the same revision with and without them.
    Raises:
        BadBundle: no `data.json`, another kind of file, a link, an unsafe or double name, text that is not UTF-8.
        TooLarge: over 2 MiB or 1,000 files.
        BadJson: see canonical.parse.
    """
    files: dict[str, bytes] = {}
    for path, data in _from_tar(source) if isinstance(source, bytes) else _from_directory(source):
        if path.endswith(TEST_SUFFIX):
            continue
        if path != DATA and not path.endswith(".rego"):
            raise BadBundle(f"{path}: a bundle holds .rego modules and one {DATA} at its root")
        if path in files:
            raise BadBundle(f"{path} stands twice in the bundle")
        files[path] = data
    if DATA not in files or len(files) < 2:
        where = "the tar file" if isinstance(source, bytes) else source
        raise BadBundle(f"{where}: no policies are here: a bundle holds .rego modules and {DATA}")
    bundle = Bundle(files)
    _check_modules(bundle.modules)
    _check_data(bundle.data)
    return bundle


def to_tar(bundle: Bundle) -> bytes:
    """The bundle as a tar file; equal bundles give equal bytes (USTAR, sorted, no times, no owners)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path in sorted(bundle.files):
            info = tarfile.TarInfo(path)
            info.size, info.mode = len(bundle.files[path]), 0o644
            archive.addfile(info, io.BytesIO(bundle.files[path]))
    return buffer.getvalue()


def _from_directory(directory: Path) -> Iterable[tuple[str, bytes]]:
    total = count = 0
    for folder, folders, names in os.walk(directory):
        folders.sort()
        for name in sorted(folders + names):
            path = Path(folder) / name
            status = path.lstat()
            if stat.S_ISDIR(status.st_mode):
                continue
            relative = require_safe_path(path.relative_to(directory).as_posix())
            if not stat.S_ISREG(status.st_mode):
                raise BadBundle(f"{relative} is a link or a device: a bundle holds plain files")
            total, count = total + status.st_size, count + 1
            _check_size(total, count)
            yield relative, path.read_bytes()


def _from_tar(data: bytes) -> Iterable[tuple[str, bytes]]:
    _check_size(len(data), 0)
    try:
        # "r:" takes no compression: a small archive cannot grow.
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            for count, member in enumerate(archive):
                _check_size(member.size, count)
                if member.isdir():
                    continue
                path = require_safe_path(member.name)
                # A sparse file is mostly holes: a few bytes of archive would grow to the gigabytes that they stand for.
                content = archive.extractfile(member) if member.isreg() and not member.issparse() else None
                if content is None:
                    raise BadBundle(f"{path} is a link, a device or a sparse file: a bundle holds plain files")
                yield path, content.read()
    except (tarfile.TarError, ValueError, OverflowError, RecursionError) as error:
        # All but the first: headers that tarfile does not look at before it uses them, or that follow one another without end.
        raise BadBundle(f"not a tar file: {error}") from error


def _check_size(size: int, count: int) -> None:
    if size > MAX_TAR_BYTES or count > MAX_FILES:
        raise TooLarge(f"a bundle has at most {MAX_TAR_BYTES} bytes and {MAX_FILES} files")


def _check_modules(modules: Mapping[str, str]) -> None:
    for path, text in modules.items():
        if "\0" in text:
            raise BadBundle(f"{path}: holds a NUL character")


def _check_data(data: Mapping[str, Any]) -> None:
    actions = data.get("actions")
    if not isinstance(actions, dict) or not isinstance(data.get("limits"), dict):
        raise BadBundle(f"{DATA}: actions and limits are objects")
    for action, rules in actions.items():
        if not isinstance(rules, list) or not rules or not all(isinstance(rule, str) and rule for rule in rules):
            raise BadBundle(f"{DATA}: actions.{action} is a list of rule names, not empty")
        if len(set(rules)) != len(rules):
            raise BadBundle(f"{DATA}: actions.{action} names a rule twice")


def _text(path: str, data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadBundle(f"{path}: not UTF-8") from error
