"""Digests and the identity of a file tree. Opens files to read them; writes nothing."""

import hashlib
import os
import re
import stat
import unicodedata
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from services.core.canonical import canonical, first_double
from services.core.errors import BadInput

CHUNK = 1 << 20
MAX_FILES = 100_000
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def sha256(data: bytes) -> str:
    """`sha256:` and 64 lowercase hex digits."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """As sha256, of a file of any size."""
    with path.open("rb", buffering=0) as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def sha256_files(paths: Sequence[Path]) -> list[str]:
    """As sha256_file of each, as many at once as there are processors: reading and hashing let other threads run."""
    workers = min(len(paths), os.cpu_count() or 1)
    if workers < 2:
        return [sha256_file(path) for path in paths]
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(sha256_file, paths))


def require_digest(text: Any) -> str:
    """The text itself if it is a digest.

    Raises:
        BadInput: it is not `sha256:` and 64 lowercase hex digits.
    """
    if not isinstance(text, str) or not _DIGEST.fullmatch(text):
        raise BadInput(f"{str(text)[:80]!r} is no digest: want sha256: and 64 lowercase hex digits")
    return text


def require_safe_path(path: str) -> str:
    """The path itself if it may name a file inside a tree: relative, POSIX, in Unicode NFC, no `..`, no control character.

    Raises:
        BadInput: otherwise.
    """
    parts = path.split("/")
    if not path or len(path.encode("utf-8", "replace")) > 1024:
        raise BadInput(f"path of {len(path)} characters: want 1 to 1024 bytes")
    if any(part in ("", ".", "..") for part in parts) or PurePosixPath(path).is_absolute():
        raise BadInput(f"path {path!r} is not a plain relative path")
    if "\\" in path or any(unicodedata.category(char) in ("Cc", "Cs", "Cf") for char in path):
        raise BadInput(f"path {path!r} holds a backslash or a control character")
    if unicodedata.normalize("NFC", path) != path:
        raise BadInput(f"path {path!r} is not in Unicode NFC")
    return path


@dataclass(frozen=True, order=True)
class FileEntry:
    """One file of a tree. path: relative, POSIX; size: bytes; sha256: digest of its content."""

    path: str
    size: int
    sha256: str

    def to_json(self) -> dict[str, Any]:
        return {"path": self.path, "size": self.size, "sha256": self.sha256}

    @classmethod
    def from_json(cls, value: Any) -> "FileEntry":
        """Raises BadInput for a missing or unknown field, a bad path, size or digest."""
        if not isinstance(value, dict) or set(value) != {"path", "size", "sha256"}:
            raise BadInput("a file entry has exactly the fields path, size and sha256")
        if not isinstance(value["path"], str) or type(value["size"]) is not int or value["size"] < 0:
            raise BadInput("a file entry's path is a string and its size an integer of 0 or more")
        return cls(require_safe_path(value["path"]), value["size"], require_digest(value["sha256"]))


def require_files(value: Any) -> list[FileEntry]:
    """The entries of a JSON list, sorted by path.

    Raises:
        BadInput: not a list of 1 to 100,000 entries, two paths that are equal when case and Unicode form are ignored, or a
            file that is the folder of another: no file system could hold them together.
    """
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_FILES:
        raise BadInput(f"want a list of 1 to {MAX_FILES} files")
    entries = sorted(FileEntry.from_json(item) for item in value)
    folded = [unicodedata.normalize("NFKC", entry.path).casefold() for entry in entries]
    if (double := first_double(folded)) is not None:
        raise BadInput(f"two paths name the same file on some systems: {double!r}")
    files = set(folded)
    for path in folded:
        if above := next((str(folder) for folder in PurePosixPath(path).parents if str(folder) in files), None):
            raise BadInput(f"{above!r} is a file and a folder at once")
    return entries


def tree_bytes(entries: Iterable[FileEntry]) -> bytes:
    """Canonical bytes of a tree's file list, sorted by path: what `tree_digest` hashes."""
    return canonical([entry.to_json() for entry in sorted(entries)])


def tree_digest(entries: Iterable[FileEntry]) -> str:
    """Identity of a file tree: the digest of `tree_bytes`."""
    return sha256(tree_bytes(entries))


def scan_tree(directory: Path) -> list[FileEntry]:
    """All files below a directory, hashed, sorted by path.

    Raises:
        BadInput: a symbolic link, a device, or a name that is not safe; an empty tree.
    """
    found: list[Path] = []
    for folder, folders, files in os.walk(directory):
        for name in folders + files:
            mode = (Path(folder) / name).lstat().st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise BadInput(f"{Path(folder, name).relative_to(directory)} is a link or a device: trees hold plain files")
        found += [Path(folder) / name for name in files]
    names = [require_safe_path(path.relative_to(directory).as_posix()) for path in found]
    digests = sha256_files(found)
    return require_files(
        [
            {"path": name, "size": path.stat().st_size, "sha256": digest}
            for name, path, digest in zip(names, found, digests, strict=True)
        ]
    )
