"""Sources are packed with the same bytes everywhere, and what a code reference claims is checked against them."""

import io
import shutil
import tarfile
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.digests import sha256
from services.core.errors import BadInput
from services.training import source
from services.training.domain import NO_COMMIT
from services.training.errors import BadJob
from services.training.source import SourceFile, changes, pack, read_tar, require_commit, to_tar, tree_id, unpack
from tests.archives import endless_headers, sparse_member
from tests.training import commit_all, git, repository


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return repository(tmp_path / "repo")


def paths(archive: bytes) -> list[str]:
    return [file.path for file in read_tar(archive)]


def test_a_clean_tree_is_named_by_its_commit(repo: Path) -> None:
    found = pack(repo)
    assert found.code.commit == git(repo, "rev-parse", "HEAD")
    assert (found.code.dirty, found.code.tree, found.directory) == (False, sha256(found.archive), "")
    assert found.code.repository == "local:" + git(repo, "rev-list", "--max-parents=0", "HEAD")
    assert paths(found.archive) == sorted(git(repo, "ls-files").splitlines())


def test_a_clone_elsewhere_gives_the_same_bytes(repo: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "-q", str(repo), "elsewhere")
    git(tmp_path / "elsewhere", "remote", "remove", "origin")
    assert pack(tmp_path / "elsewhere") == pack(repo)


def test_ignored_files_do_not_count(repo: Path) -> None:
    before = pack(repo)
    (repo / "data").mkdir()
    (repo / "data" / "train.csv").write_text("1\n")
    assert pack(repo) == before


@pytest.mark.parametrize("change", ["edited", "added", "removed", "staged", "mode"])
def test_a_changed_tree_is_dirty(repo: Path, change: str) -> None:
    clean, target = pack(repo), repo / "train.py"
    if change == "edited":
        target.write_text("changed = True\n")
    elif change == "added":
        (repo / "new.py").write_text("new = True\n")
    elif change == "removed":
        target.unlink()
    elif change == "staged":
        (repo / "new.py").write_text("new = True\n")
        git(repo, "add", "new.py")
    else:
        target.chmod(0o755)
    found = pack(repo)
    assert (found.code.dirty, found.code.commit, found.commit_object) == (True, clean.code.commit, b"")
    assert found.code.tree != clean.code.tree


def test_what_makes_a_tree_dirty_is_named_from_its_root(repo: Path, tmp_path: Path) -> None:
    assert changes(repo) == []
    (repo / "train.py").write_text("changed = True\n")
    (repo / "mine").mkdir()
    (repo / "mine" / "salt").write_text("1\n")
    assert changes(repo) == changes(repo / "mine") == ["train.py", "mine/"]
    assert changes(tmp_path / "nowhere") == []


def test_a_tarball_without_git_is_dirty_and_has_no_commit(repo: Path, tmp_path: Path) -> None:
    shutil.copytree(repo, tmp_path / "tarball", ignore=shutil.ignore_patterns(".git"))
    found = pack(tmp_path / "tarball")
    assert (found.code.repository, found.code.commit, found.code.dirty) == ("none", NO_COMMIT, True)
    assert "train.py" in paths(found.archive)


def test_a_repository_without_a_commit_is_dirty(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "train.py").write_text("x = 1\n")
    found = pack(tmp_path)
    assert (found.code.commit, found.code.dirty, found.code.repository) == (NO_COMMIT, True, "local:none")


def test_a_folder_of_a_repository_packs_all_of_it(repo: Path) -> None:
    (repo / "jobs" / "big").mkdir(parents=True)
    (repo / "jobs" / "big" / "job.yaml").write_text("name: x\n")
    commit_all(repo)
    found = pack(repo / "jobs" / "big")
    assert (found.directory, found.archive) == ("jobs/big", pack(repo).archive)


def test_a_filter_of_the_working_tree_changes_nothing(repo: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "-q", "-c", "core.autocrlf=true", str(repo), "windows")
    git(tmp_path / "windows", "remote", "remove", "origin")
    assert b"\r\n" in (tmp_path / "windows" / "train.py").read_bytes()
    assert pack(tmp_path / "windows") == pack(repo)


@pytest.mark.parametrize("committed", [True, False])
def test_a_symbolic_link_is_refused_by_name(repo: Path, committed: bool) -> None:
    (repo / "link.py").symlink_to("/etc/hostname")
    if committed:
        commit_all(repo)
    with pytest.raises(BadJob, match=r"link\.py"):
        pack(repo)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://user:secret@example.org/team/digits.git", "https://example.org/team/digits.git"),
        ("https://example.org:8443/digits?token=secret", "https://example.org:8443/digits"),
        ("git@example.org:team/digits.git", "git@example.org:team/digits.git"),
        ("/srv/digits.git", "local:clone"),
    ],
)
def test_the_repository_name_holds_no_secret(repo: Path, url: str, name: str) -> None:
    git(repo, "remote", "add", "origin", url)
    assert pack(repo).code.repository == name


def test_the_archive_of_a_commit_is_proven(repo: Path) -> None:
    (repo / "run.sh").write_text("#!/bin/sh\n")
    (repo / "run.sh").chmod(0o755)
    for name in ("pkg/a.py", "pkg.py", "pkg-x/b.py"):
        (repo / name).parent.mkdir(exist_ok=True)
        (repo / name).write_text(f"# {name}\n")
    commit_all(repo)
    found = pack(repo)
    require_commit(found.code, found.archive, found.commit_object)
    assert tree_id(read_tar(found.archive)) == git(repo, "rev-parse", "HEAD^{tree}")


def test_a_sha256_repository_is_proven_too(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "--object-format=sha256")
    (tmp_path / "train.py").write_text("x = 1\n")
    commit_all(tmp_path)
    found = pack(tmp_path)
    assert len(found.code.commit) == 64
    require_commit(found.code, found.archive, found.commit_object)


@pytest.mark.parametrize("lie", ["content", "mode", "extra", "commit", "object", "digest"])
def test_a_code_reference_that_is_not_so_is_refused(repo: Path, lie: str) -> None:
    found = pack(repo)
    files, code, commit_object = read_tar(found.archive), found.code, found.commit_object
    if lie == "content":
        files[-1] = replace(files[-1], data=b"import os\n")
    elif lie == "mode":
        files[-1] = replace(files[-1], executable=True)
    elif lie == "extra":
        files.append(SourceFile("zz.py", False, b""))
    elif lie == "commit":
        code = code.model_copy(update={"commit": "1" * 40})
    elif lie == "object":
        commit_object += b"x"
    archive = to_tar(files)
    if lie != "digest":
        code = code.model_copy(update={"tree": sha256(archive)})
    else:
        code = code.model_copy(update={"tree": sha256(b"other")})
    with pytest.raises(BadJob):
        require_commit(code, archive, commit_object)


def member(name: str, **fields: Any) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo(name)
        for key, value in fields.items():
            setattr(info, key, value)
        archive.addfile(info)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"no tar at all",
        member("../up.py"),
        member("/etc/passwd"),
        member("a/../../b"),
        member("link", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        member("hard", type=tarfile.LNKTYPE, linkname="x"),
        member("fifo", type=tarfile.FIFOTYPE),
        member("folder", type=tarfile.DIRTYPE),
        member("back\\slash"),
    ],
)
def test_a_hostile_archive_is_refused_and_writes_nothing(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(BadInput):
        unpack(data, tmp_path / "out")
    assert not (tmp_path / "out").exists()


plain_paths = st.text("abc/", min_size=1, max_size=6).filter(lambda path: "//" not in path and path.strip("/") == path)
files = st.lists(
    st.builds(SourceFile, plain_paths, st.booleans(), st.binary(max_size=20)),
    min_size=1,
    max_size=5,
    unique_by=lambda file: file.path,
)


@given(files)
def test_an_archive_holds_what_was_put_in_and_its_bytes_follow_from_it(found: list[SourceFile]) -> None:
    assert read_tar(to_tar(found)) == sorted(found)
    assert to_tar(found) == to_tar(reversed(found))


def test_limits_are_kept() -> None:
    assert (source.MAX_ARCHIVE, source.MAX_FILES) == (64 << 20, 20_000)
    with pytest.raises(BadInput, match="20000 files"):
        to_tar(SourceFile(f"f{number}", False, b"") for number in range(20_001))


def with_headers(**headers: str) -> bytes:
    """The headers of a member without content, in an archive that goes on behind it."""
    info = tarfile.TarInfo("hole.bin")
    info.pax_headers = headers
    return info.tobuf(tarfile.PAX_FORMAT)


DEBT = {"GNU.sparse.map": "0,0", "GNU.sparse.size": "-1000000000000"}


@pytest.mark.parametrize("first", [b"", with_headers(**DEBT)], ids=["alone", "after a debt"])
def test_a_sparse_file_that_would_grow_in_memory_is_refused(first: bytes) -> None:
    holes = first + sparse_member("x.bin", 300 << 20) + to_tar([SourceFile("a.py", False, b"")])
    tracemalloc.start()
    try:
        with pytest.raises(BadInput):
            read_tar(holes)
        assert tracemalloc.get_traced_memory()[1] < source.MAX_ARCHIVE
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "headers",
    [
        {"GNU.sparse.map": "0,x"}, {"GNU.sparse.map": "0,1", "GNU.sparse.size": "1" * 5000}, {"size": "-1000000000000"},
        DEBT,
    ],
    ids=["a map of letters", "a size of 5,000 digits", "a negative size", "a negative sparse size"],
)  # fmt: skip
def test_a_header_of_nonsense_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(BadInput):
        read_tar(with_headers(**headers) + to_tar([SourceFile("a.py", False, b"x")]))


def test_headers_about_headers_without_end_are_refused() -> None:
    with pytest.raises(BadJob, match="not a tar file"):
        read_tar(endless_headers(5000) + to_tar([SourceFile("a.py", False, b"x")]))
