"""The source of a run: which commit, and a tar archive of its files with the same bytes everywhere. Uses git's command line.

An archive of a clean tree is made from git's own objects, so that filters and line endings of the working tree cannot change it;
`require_commit` recomputes git's tree id from the archive, and with it that the archive is the tree of that commit.
"""

import hashlib
import io
import os
import re
import subprocess
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from services.core.digests import require_safe_path, sha256
from services.core.errors import AiInfraError, TooLarge
from services.core.statements import CodeRef
from services.training.domain import NO_COMMIT
from services.training.errors import BadJob

MAX_ARCHIVE = 64 << 20
MAX_FILES = 20_000
REGULAR, EXECUTABLE = "100644", "100755"


@dataclass(frozen=True, order=True)
class SourceFile:
    """path: relative to the repository; executable: the one mode bit that git keeps."""

    path: str
    executable: bool
    data: bytes


@dataclass(frozen=True)
class Source:
    """directory: of the packed folder inside the archive, "" for its root; commit_object: raw git commit, empty when dirty."""

    code: CodeRef
    directory: str
    archive: bytes
    commit_object: bytes


def pack(folder: Path) -> Source:
    """The whole repository that holds a folder: its last commit if nothing differs from it, else the files as they lie there.

    A folder in no repository (an unpacked tarball) is packed by itself. Ignored files are never packed.

    Raises:
        BadJob: a symbolic link or submodule, or no file at all. TooLarge: over 64 MiB or 20,000 files.
    """
    top = _git(folder, "rev-parse", "--show-toplevel")
    if top is None:
        archive = to_tar(_files(folder, _walk(folder)))
        return Source(CodeRef(repository="none", commit=NO_COMMIT, tree=sha256(archive), dirty=True), "", archive, b"")
    root = Path(top.decode().rstrip("\n"))
    directory = folder.resolve().relative_to(root.resolve()).as_posix()
    directory = "" if directory == "." else directory
    head = _git(root, "rev-parse", "--verify", "HEAD^{commit}")
    commit = NO_COMMIT if head is None else head.decode().strip()
    repository = repository_name(root)
    if head is not None and not _git(root, "status", "--porcelain", "-z", "--untracked-files=normal"):
        archive = to_tar(_committed(root))
        code = CodeRef(repository=repository, commit=commit, tree=sha256(archive), dirty=False)
        return Source(code, directory, archive, _must(root, "cat-file", "commit", commit))
    listed = _must(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split(b"\0")
    paths = sorted({path.decode() for path in listed if path and (root / path.decode()).exists()})
    archive = to_tar(_files(root, paths))
    return Source(CodeRef(repository=repository, commit=commit, tree=sha256(archive), dirty=True), directory, archive, b"")


def changes(folder: Path) -> list[str]:
    """What makes the tree dirty that holds a folder, as git spells paths from its root; nothing where there is no repository."""
    listed = _git(folder, "-c", "status.relativePaths=false", "status", "--short", "--untracked-files=normal")
    return [line[3:] for line in (listed or b"").decode(errors="replace").splitlines()]


def repository_name(root: Path) -> str:
    """The URL of `origin` without user and password; for a repository without one, its first commit, which no clone changes."""
    origin = _git(root, "remote", "get-url", "origin")
    if origin is not None:
        return _without_credentials(origin.decode().strip())
    first = _git(root, "rev-list", "--max-parents=0", "HEAD")
    return f"local:{first.decode().split()[-1]}" if first else "local:none"


def to_tar(files: Iterable[SourceFile]) -> bytes:
    """Equal files give equal bytes: POSIX tar, sorted, no times, no owners."""
    buffer, total, count = io.BytesIO(), 0, 0
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for file in sorted(files):
            total, count = total + len(file.data), count + 1
            _check_size(total, count)
            info = tarfile.TarInfo(file.path)
            info.size, info.mode = len(file.data), 0o755 if file.executable else 0o644
            archive.addfile(info, io.BytesIO(file.data))
    if count == 0:
        raise BadJob("there is no file to pack")
    return buffer.getvalue()


def read_tar(data: bytes) -> list[SourceFile]:
    """The files of an archive, sorted.

    Raises:
        BadJob: not a tar file, or a member that is a link, a device, or has an unsafe or repeated path. TooLarge.
    """
    found, total = [], 0
    try:
        # "r:" takes no compression: a small archive cannot grow.
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            for count, member in enumerate(archive, 1):
                # Both are what a header says: a negative size would make room for others, and a sparse file is mostly holes, a few
                # bytes of archive for gigabytes.
                plain = member.isreg() and not member.issparse() and member.size >= 0
                total += member.size
                _check_size(total, count)
                content = archive.extractfile(member) if plain else None
                if content is None:
                    raise BadJob(f"{member.name!r} is no plain file: source archives hold nothing else")
                found.append(SourceFile(require_safe_path(member.name), bool(member.mode & 0o100), content.read()))
    except (tarfile.TarError, ValueError, OverflowError, RecursionError) as error:
        # All but the first: headers that tarfile does not look at before it uses them, or that follow one another without end.
        raise BadJob(f"not a tar file: {error}") from error
    if len({file.path for file in found}) != len(found):
        raise BadJob("two members of the source archive have the same path")
    return sorted(found)


def unpack(data: bytes, folder: Path) -> None:
    """Writes an archive's files below a folder that is new or holds the same files. Raises as read_tar."""
    for file in read_tar(data):
        path = folder / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.data)
        path.chmod(0o755 if file.executable else 0o644)


def require_commit(code: CodeRef, archive: bytes, commit_object: bytes) -> None:
    """Checks what a code reference claims against the bytes; the claim of a dirty tree needs no proof.

    Raises:
        BadJob: the archive has another digest, or is not the tree of the commit.
    """
    if sha256(archive) != code.tree:
        raise BadJob(f"the source archive is {sha256(archive)}, not {code.tree}")
    if code.dirty:
        return
    algorithm = "sha1" if len(code.commit) == 40 else "sha256"
    if _object_id(algorithm, b"commit", commit_object).hex() != code.commit:
        raise BadJob(f"the commit object sent is not {code.commit}")
    tree = re.match(rb"tree ([0-9a-f]+)\n", commit_object)
    if tree is None or tree[1].decode() != tree_id(read_tar(archive), algorithm):
        raise BadJob(f"the source archive is not the tree of commit {code.commit}: send it as dirty, or pack it again")


def tree_id(files: list[SourceFile], algorithm: str = "sha1") -> str:
    """The id that git gives a tree with these files."""
    root: dict[str, object] = {}
    for file in files:
        *folders, name = file.path.split("/")
        node = root
        for folder in folders:
            inner = node.setdefault(folder, {})
            if not isinstance(inner, dict):
                raise BadJob(f"{file.path}: {folder} is a file and a folder")
            node = inner
        node[name] = file
    return _tree(root, algorithm).hex()


def _tree(node: dict[str, object], algorithm: str) -> bytes:
    entries = []
    for name, item in node.items():
        if isinstance(item, SourceFile):
            mode = EXECUTABLE if item.executable else REGULAR
            entries.append((name.encode(), mode, _object_id(algorithm, b"blob", item.data)))
        elif isinstance(item, dict):
            # git sorts a folder as if its name ended in a slash
            entries.append((name.encode() + b"/", "40000", _tree(item, algorithm)))
    body = b"".join(mode.encode() + b" " + name.rstrip(b"/") + b"\0" + digest for name, mode, digest in sorted(entries))
    return _object_id(algorithm, b"tree", body)


def _object_id(algorithm: str, kind: bytes, body: bytes) -> bytes:
    # SHA-1 is git's own choice; the archive is bound by SHA-256 beside it.
    return hashlib.new(algorithm, kind + b" %d\0" % len(body) + body, usedforsecurity=False).digest()


def _committed(root: Path) -> Iterator[SourceFile]:
    listed = _must(root, "ls-tree", "-r", "-z", "--full-tree", "HEAD").split(b"\0")
    entries = []
    for line in filter(None, listed):
        meta, _, name = line.partition(b"\t")
        mode, _, object_id = meta.decode().split(" ")
        path = require_safe_path(name.decode())
        if mode not in (REGULAR, EXECUTABLE):
            raise BadJob(f"{path} is a symbolic link or a submodule: sources are plain files; put a copy there")
        entries.append((path, mode == EXECUTABLE, object_id))
    answer = _must(root, "cat-file", "--batch", stdin="".join(f"{item[2]}\n" for item in entries).encode())
    position = 0
    for path, executable, _ in entries:
        end = answer.index(b"\n", position)
        size = int(answer[position:end].rsplit(b" ", 1)[1])
        yield SourceFile(path, executable, answer[end + 1 : end + 1 + size])
        position = end + size + 2


def _files(root: Path, paths: Iterable[str]) -> Iterator[SourceFile]:
    total = 0
    for count, relative in enumerate(paths, 1):
        path = root / require_safe_path(relative)
        if path.is_symlink() or not path.is_file():
            raise BadJob(f"{relative} is a symbolic link or a submodule: sources are plain files; put a copy there")
        total += path.stat().st_size
        _check_size(total, count)
        yield SourceFile(relative, os.access(path, os.X_OK), path.read_bytes())


def _walk(folder: Path) -> Iterator[str]:
    for current, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name != "__pycache__" and not name.startswith("."))
        for name in sorted(names):
            yield (Path(current) / name).relative_to(folder).as_posix()


def _check_size(total: int, count: int) -> None:
    if total > MAX_ARCHIVE or count > MAX_FILES:
        raise TooLarge(f"sources have at most {MAX_ARCHIVE >> 20} MiB and {MAX_FILES} files: ignore data in .gitignore")


def _without_credentials(url: str) -> str:
    parts = urlsplit(url)
    if not parts.scheme or not parts.netloc:
        # `git@host:path` names no secret; a path on this machine says nothing elsewhere
        return url if ":" in url and not url.startswith("/") else "local:clone"
    host = parts.hostname or ""
    return urlunsplit((parts.scheme, f"{host}:{parts.port}" if parts.port else host, parts.path, "", ""))[:500]


def _git(folder: Path, *arguments: str, stdin: bytes = b"") -> bytes | None:
    """What git prints, or None when it fails: no repository, no commit, no such remote."""
    command = ["git", "-c", "core.quotePath=false", "-c", "core.fsmonitor=false", *arguments]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(command, cwd=folder, input=stdin, capture_output=True, env=environment, timeout=60, check=False)
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode == 0 else None


def _must(folder: Path, *arguments: str, stdin: bytes = b"") -> bytes:
    found = _git(folder, *arguments, stdin=stdin)
    if found is None:
        raise AiInfraError(f"git {arguments[0]} failed in {folder}: run it there to see why")
    return found
