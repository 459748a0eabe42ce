"""Zip files in one exact form: what is written is read, by us and by others; limits are told before anything is unpacked."""

import io
import zipfile
from pathlib import Path

import pytest

from services.core.digests import sha256
from services.core.errors import BadInput, TooLarge
from services.core.storedzip import MAX_MEMBERS, MAX_READ, BadZip, Reader, Writer
from tests import archives

MEMBERS = {"a.json": b"{}", "empty": b"", "model/größe.bin": b"\0\xff" * 3_000_000}


def test_what_is_written_is_read_and_any_zip_program_reads_it(tmp_path: Path) -> None:
    path = archives.write(tmp_path / "a.zip", MEMBERS)
    with Reader.open(path) as reader:
        assert {name: reader[name] for name in reader} == MEMBERS
        assert [reader.sha256(name) for name in MEMBERS] == [sha256(data) for data in MEMBERS.values()]
        assert [reader.size(name) for name in MEMBERS] == [len(data) for data in MEMBERS.values()]
    with zipfile.ZipFile(path) as other:
        assert {name: other.read(name) for name in other.namelist()} == MEMBERS


def test_an_archive_without_members_is_read_too(tmp_path: Path) -> None:
    with Reader.open(archives.write(tmp_path / "a.zip", {})) as reader:
        assert list(reader) == []


def test_a_member_of_another_size_than_stated_is_not_written() -> None:
    with pytest.raises(BadInput, match="a has 3 bytes, not 4"):
        Writer(io.BytesIO()).stream("a", 4, [b"ab", b"c"])


def test_more_members_or_bytes_than_the_form_holds_are_refused() -> None:
    target = Writer(io.BytesIO())
    for number in range(MAX_MEMBERS):
        target.add(str(number), b"")
    with pytest.raises(TooLarge, match="over 65534 members"):
        target.add("one more", b"")
    with pytest.raises(TooLarge, match="or 4294967294 bytes"):
        Writer(io.BytesIO()).stream("large", 1 << 32, [])


def test_a_large_member_is_streamed_and_not_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    chunk = bytes(1 << 20)
    with path.open("wb") as file:
        target = Writer(file)
        target.stream("large", MAX_READ + len(chunk), [chunk] * (MAX_READ // len(chunk) + 1))
        target.close()
    with Reader.open(path) as reader:
        assert reader.sha256("large") == sha256(bytes(MAX_READ + len(chunk)))
        with pytest.raises(TooLarge, match="at most 67108864"):
            reader["large"]


def test_data_that_its_checksum_does_not_fit_is_damaged(tmp_path: Path) -> None:
    path = archives.write(tmp_path / "a.zip", {"a": b"1234"})
    data = path.read_bytes()
    path.write_bytes(data.replace(b"1234", b"1235"))
    with Reader.open(path) as reader:
        for read in (reader.sha256, reader.__getitem__):
            with pytest.raises(BadZip, match="checksum is another"):
                read("a")


def test_a_directory_that_states_more_than_there_is_is_refused(tmp_path: Path) -> None:
    path = archives.write(tmp_path / "a.zip", {"a": b"1234"})
    data = path.read_bytes()
    for count in (0, 2, 65_535):
        path.write_bytes(data[:-14] + count.to_bytes(2, "little") * 2 + data[-10:])
        with pytest.raises((BadZip, TooLarge)):
            Reader.open(path)
