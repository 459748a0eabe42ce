"""Digests, safe paths, and the identity of a file tree."""

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.digests import (
    FileEntry,
    require_digest,
    require_files,
    require_safe_path,
    scan_tree,
    sha256,
    sha256_file,
    tree_bytes,
    tree_digest,
)
from services.core.errors import BadInput

EMPTY = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
ENTRIES = st.lists(
    st.builds(FileEntry, st.from_regex(r"[a-z]{1,8}", fullmatch=True), st.integers(0, 2**40), st.binary().map(sha256)),
    min_size=1,
    max_size=8,
    unique_by=lambda entry: entry.path,
)


def entry(path: str, **changes: Any) -> dict[str, Any]:
    return {"path": path, "size": 0, "sha256": EMPTY} | changes


@given(ENTRIES, st.randoms())
def test_a_tree_has_one_digest_in_whatever_order_its_files_come(entries: list[FileEntry], random: Any) -> None:
    shuffled = list(entries)
    random.shuffle(shuffled)
    assert tree_digest(shuffled) == tree_digest(entries)
    assert require_files([item.to_json() for item in shuffled]) == sorted(entries)


@given(ENTRIES, st.data())
def test_every_field_of_every_file_is_in_the_digest(entries: list[FileEntry], data: Any) -> None:
    at = data.draw(st.integers(0, len(entries) - 1))
    old = entries[at]
    for new in (
        FileEntry(old.path + "x1", old.size, old.sha256), FileEntry(old.path, old.size + 1, old.sha256),
        FileEntry(old.path, old.size, sha256(old.sha256.encode())),
    ):  # fmt: skip
        assert tree_digest([*entries[:at], new, *entries[at + 1 :]]) != tree_digest(entries)


def test_the_identity_of_a_tree_is_the_digest_of_its_canonical_list() -> None:
    files = [FileEntry("b", 1, sha256(b"1")), FileEntry("a", 0, EMPTY)]
    listed = f'[{{"path":"a","sha256":"{EMPTY}","size":0}},{{"path":"b","sha256":"{sha256(b"1")}","size":1}}]'.encode()
    assert (tree_bytes(files), tree_digest(files)) == (listed, sha256(listed))


@pytest.mark.parametrize("path", ["a", "a/b.txt", "ä/ö", "日本", ".hidden", "a..b", "a b", "-x", "x" * 1024])
def test_a_plain_relative_path_is_taken(path: str) -> None:
    assert require_safe_path(path) == path


@pytest.mark.parametrize(
    "path",
    [
        "", "/etc/passwd", "..", "../x", "a/../b", "a/..", "./a", "a/.", "a//b", "a/", "/", "a\\b", "C:\\x", "a\0b", "a\nb", "\x7f",
        "a\u202eb", "\ud800", "a\u0308", "x" * 1025, "ö" * 600, "~\r",
    ],
    ids=ascii,
)  # fmt: skip
def test_a_path_that_could_leave_the_tree_or_be_mistaken_is_refused(path: str) -> None:
    with pytest.raises(BadInput):
        require_safe_path(path)


@given(st.text(max_size=30))
def test_an_accepted_path_stays_below_its_folder(path: str) -> None:
    try:
        require_safe_path(path)
    except BadInput:
        return
    joined = os.path.normpath(os.path.join("/base", path))
    assert joined == f"/base/{path}"


@pytest.mark.parametrize(
    "text",
    ["", "sha256:", EMPTY.upper(), EMPTY[7:], EMPTY + "0", EMPTY + "\n", "sha512:" + "0" * 64, None, 7, EMPTY.encode()],
    ids=repr,
)
def test_what_is_no_digest_is_refused(text: Any) -> None:
    with pytest.raises(BadInput):
        require_digest(text)


@pytest.mark.parametrize(
    "files",
    [
        [], {}, "a", None, [entry("a"), entry("a")], [entry("a"), entry("A")], [entry("ﬁ"), entry("fi")],
        [entry("a"), entry("a/b")], [entry("A"), entry("a/b/c")], [entry("a", size=-1)], [entry("a", size=1.0)],
        [entry("a", size=True)], [entry("a", sha256="x")], [entry("../a")], [entry("a", mode=7)],
        [{"path": "a", "size": 0}], ["a"], [entry("a") | {"path": 7}],
    ],
    ids=repr,
)  # fmt: skip
def test_a_list_of_files_that_no_folder_could_hold_is_refused(files: Any) -> None:
    with pytest.raises(BadInput):
        require_files(files)


def test_a_folder_is_scanned_to_its_files_by_path(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "c").write_bytes(b"1")
    (tmp_path / "a").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    assert scan_tree(tmp_path) == [FileEntry("a", 0, EMPTY), FileEntry("b/c", 1, sha256(b"1"))]


def make_link(folder: Path) -> None:
    (folder / "link").symlink_to("/etc/passwd")


def make_linked_folder(folder: Path) -> None:
    (folder / "link").symlink_to("/etc", target_is_directory=True)


def make_fifo(folder: Path) -> None:
    os.mkfifo(folder / "pipe")


def make_bad_name(folder: Path) -> None:
    (folder / "a\nb").touch()


def make_undecodable(folder: Path) -> None:
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff")).touch()


@pytest.mark.parametrize("spoil", [make_link, make_linked_folder, make_fifo, make_bad_name, make_undecodable])
def test_a_folder_with_anything_but_plain_files_is_refused(tmp_path: Path, spoil: Any) -> None:
    (tmp_path / "good").touch()
    spoil(tmp_path)
    with pytest.raises(BadInput):
        scan_tree(tmp_path)


def test_an_empty_folder_is_no_tree(tmp_path: Path) -> None:
    with pytest.raises(BadInput):
        scan_tree(tmp_path)


def test_a_large_file_is_hashed_piece_by_piece(tmp_path: Path) -> None:
    data = os.urandom(3 << 20)
    (tmp_path / "f").write_bytes(data)
    assert sha256_file(tmp_path / "f") == sha256(data)
