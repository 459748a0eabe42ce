"""A log is read from a folder or an archive, and nothing in it is believed."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.core import logfile, merkle, tlog
from services.core.errors import NotFound
from services.core.logcheck import check_log
from services.core.logfile import FolderReader, LogReader
from services.core.storedzip import Reader
from services.core.tlog import BadLogFormat
from services.verify.walk import BrokenLink, LogMembers
from tests.archives import write_in_order
from tests.audit import Home, chained, events


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path)
    made.filled(300)
    return made


@pytest.fixture(params=["folder", "archive"])
def reader(request: pytest.FixtureRequest, home: Home, tmp_path: Path) -> Iterator[LogReader]:
    if request.param == "folder":
        yield FolderReader(home.folder)
        return
    names = ("checkpoint", *logfile.paths(300))
    write_in_order(tmp_path / "export.zip", {f"log/{name}": (home.folder / name).read_bytes() for name in names})
    with Reader.open(tmp_path / "export.zip") as members:
        yield LogMembers(members)


def test_all_entries_come_out_in_order(reader: LogReader) -> None:
    assert list(logfile.read_entries(reader, 300)) == chained(events(300))
    assert list(logfile.read_entries(reader, 256)) == chained(events(300))[:256]


def test_the_paths_of_a_size_are_all_that_its_check_needs(reader: LogReader, home: Home) -> None:
    assert sorted(logfile.paths(300)) == [
        "tile/0/000",
        "tile/0/001.p/44",
        "tile/1/000.p/1",
        "tile/entries/000",
        "tile/entries/001.p/44",
    ]
    assert check_log(reader, home.vkey).problems == ()


def test_the_tree_comes_out_of_the_tiles(reader: LogReader) -> None:
    hashes = [merkle.leaf_hash(leaf) for leaf in chained(events(300))]
    nodes = logfile.nodes(reader, 300)
    assert [merkle.range_root(nodes, 0, size) for size in (1, 255, 256, 257, 300)] == [
        merkle.root(hashes[:size]) for size in (1, 255, 256, 257, 300)
    ]


def test_a_full_tile_stands_in_for_a_partial_one_that_is_gone(reader: LogReader) -> None:
    assert logfile.read_tile(reader, 0, 0, 7) == [merkle.leaf_hash(leaf) for leaf in chained(events(7))]
    assert logfile.read_bundle(reader, 0, 7) == chained(events(7))
    assert logfile.read_file(reader, "tile/0/000.p/7") == tlog.encode_tile(logfile.read_tile(reader, 0, 0, 7))
    assert logfile.read_file(reader, "tile/entries/000.p/7") == tlog.encode_bundle(chained(events(7)))


def test_a_missing_file_is_named(reader: LogReader) -> None:
    with pytest.raises(NotFound, match="tile/0/007"):
        reader.read("tile/0/007", 10)
    with pytest.raises(NotFound):
        list(logfile.read_entries(reader, 301))


def test_a_file_over_its_limit_is_refused(reader: LogReader) -> None:
    with pytest.raises((BadLogFormat, BrokenLink), match="over 10 bytes"):
        reader.read("checkpoint", 10)


def test_a_folder_is_no_file(home: Home) -> None:
    with pytest.raises(NotFound):
        FolderReader(home.folder).read("tile/0", 10)


def test_a_bundle_cut_short_ends_the_reading_with_its_name(home: Home) -> None:
    home.store.write("tile/entries/001.p/44", tlog.encode_bundle(home.leaves()[256:299]))
    with pytest.raises(BadLogFormat, match=r"tile/entries/001.p/44 holds 43 entries: want 44"):
        list(logfile.read_entries(home.store, 300))
