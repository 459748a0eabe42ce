"""Bundles: one identity, one tar form, and nothing that climbs out of it."""

import io
import tarfile
import tracemalloc
from pathlib import Path

import pytest

from services.core.bundle import MAX_TAR_BYTES, BadBundle, load_bundle, to_tar
from services.core.errors import BadInput, TooLarge
from tests.archives import endless_headers, sparse_member
from tests.names import told
from tests.sentinelnet import BUNDLE, POLICIES, blocking

DATA = b'{"actions": {"train": ["a.b"]}, "limits": {}}'
MODULE = b"package sentinelnet\n"


def _tar(*members: tuple[tarfile.TarInfo | str, bytes], mode: str = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for member, data in members:
            info = tarfile.TarInfo(member) if isinstance(member, str) else member
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def _special(name: str, kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "/etc/passwd"
    return info


def test_directory_and_tar_have_one_revision() -> None:
    assert load_bundle(to_tar(BUNDLE)) == BUNDLE
    assert load_bundle(to_tar(BUNDLE)).revision == load_bundle(POLICIES).revision


def test_tar_depends_on_nothing_but_the_files(tmp_path: Path) -> None:
    for path, data in reversed(BUNDLE.files.items()):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(data)
    assert to_tar(load_bundle(tmp_path)) == to_tar(BUNDLE)


def test_tests_are_no_part_of_a_bundle(tmp_path: Path) -> None:
    for name, data in (("data.json", DATA), ("a.rego", MODULE)):
        (tmp_path / name).write_bytes(data)
    before = load_bundle(tmp_path).revision
    (tmp_path / "a_test.rego").write_bytes(b"package a_test\n")
    assert load_bundle(tmp_path).revision == before


def test_any_change_is_another_revision() -> None:
    assert blocking("sha256:" + "d" * 64).revision != BUNDLE.revision


@pytest.mark.parametrize(
    "members",
    [
        (("../x.rego", MODULE),),
        (("/x.rego", MODULE),),
        (("a/../x.rego", MODULE),),
        (("a\\x.rego", MODULE),),
        ((_special("x.rego", tarfile.SYMTYPE), b""),),
        ((_special("x.rego", tarfile.LNKTYPE), b""),),
        ((_special("x.rego", tarfile.CHRTYPE), b""),),
        ((_special("x.rego", tarfile.FIFOTYPE), b""),),
        (("x.rego", MODULE), ("x.rego", b"package other\n")),
        (("x.rego", b"\xff\xfe"),),
        (("x.rego", b"package x\n\0"),),
        (("x.py", b"print()"),),
        (("sub/data.json", DATA), ("x.rego", MODULE)),
        (),
    ],
    ids=told,
)
def test_unsafe_or_odd_members_are_refused(members: tuple[tuple[tarfile.TarInfo | str, bytes], ...]) -> None:
    with pytest.raises(BadInput):
        load_bundle(_tar(("data.json", DATA), *members))


@pytest.mark.parametrize(
    "data",
    [
        b"[]", b"{", b"{}", b'{"actions": {}}', b'{"actions": [], "limits": {}}', b'{"actions": {"a": []}, "limits": {}}',
        b'{"actions": {"a": [1]}, "limits": {}}', b'{"actions": {"a": ["x", "x"]}, "limits": {}}',
        b'{"actions": {"a": "x"}, "limits": {}}', b'{"actions": {"a": ["x"]}, "limits": {}, "limits": {}}',
        b'{"actions": {"a": ["x"]}, "limits": {"n": NaN}}',
    ],
)
def test_odd_data_is_refused(data: bytes) -> None:
    with pytest.raises(BadInput):
        load_bundle(_tar(("data.json", data), ("x.rego", MODULE)))


@pytest.mark.parametrize("count", [1, 900])
def test_a_sparse_file_that_would_grow_in_memory_is_refused(count: int) -> None:
    holes = b"".join(sparse_member(f"x{number}.rego", MAX_TAR_BYTES) for number in range(count))
    tracemalloc.start()
    try:
        with pytest.raises(BadBundle, match=r"x0\.rego is a link, a device or a sparse file"):
            load_bundle(holes + to_tar(BUNDLE))
        assert tracemalloc.get_traced_memory()[1] < 8 * MAX_TAR_BYTES
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "headers",
    [{"GNU.sparse.map": "0,x"}, {"GNU.sparse.map": "0,1", "GNU.sparse.size": "1" * 5000}, {"path": "../x.rego"}],
    ids=str,
)
def test_a_header_of_nonsense_is_refused(headers: dict[str, str]) -> None:
    info = tarfile.TarInfo("x.rego")
    info.pax_headers = headers
    with pytest.raises(BadInput):
        load_bundle(_tar(("data.json", DATA), (info, MODULE)))


@pytest.mark.parametrize("data", [b"", b"no tar", b"\0" * 512, endless_headers(2000)], ids=["empty", "text", "zeros", "headers"])
def test_bytes_that_are_no_tar_are_refused(data: bytes) -> None:
    with pytest.raises(BadBundle):
        load_bundle(data)


def test_compressed_and_oversize_archives_are_refused() -> None:
    with pytest.raises(BadBundle, match="not a tar file"):
        load_bundle(_tar(("data.json", DATA), ("x.rego", MODULE), mode="w:gz"))
    with pytest.raises(TooLarge):
        load_bundle(_tar(("data.json", DATA), ("x.rego", b"#" * MAX_TAR_BYTES)))
    with pytest.raises(TooLarge):
        load_bundle(_tar(("data.json", DATA), *((f"x{number}.rego", MODULE) for number in range(1001))))


def test_symbolic_link_in_a_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data.json").write_bytes(DATA)
    (tmp_path / "x.rego").symlink_to("/etc/passwd")
    with pytest.raises(BadBundle, match=r"x\.rego is a link"):
        load_bundle(tmp_path)
