"""Reads a log in tlog-tiles layout (`checkpoint`, `tile/…`). It verifies nothing and writes nothing.

Its input may come from anyone: every read has a limit in bytes.
"""

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Protocol

from services.core import merkle, tlog
from services.core.errors import NotFound
from services.core.tlog import BadLogFormat

CHECKPOINT = "checkpoint"
CACHED_TILES = 64


class LogReader(Protocol):
    """Where the files of a log lie."""

    def read(self, path: str, limit: int) -> bytes:
        """One file.

        Args:
            path: as tlog-tiles names it, relative to the log.
            limit: the most bytes that the file may have.
        Raises:
            NotFound: no such file.
            BadLogFormat: a file over the limit.
        """


class FolderReader:
    """A log in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, path: str, limit: int) -> bytes:
        try:
            with (self._folder / path).open("rb") as file:
                return _limited(file, path, limit)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise NotFound(f"the log has no file {path}") from error


def read_checkpoint(reader: LogReader) -> bytes:
    """The signed note, unverified."""
    return reader.read(CHECKPOINT, tlog.MAX_NOTE_BYTES)


def read_tile(reader: LogReader, level: int, index: int, width: int) -> list[bytes]:
    """The first `width` hashes of a tile: from the partial tile of that width or, once that is removed, the full one.

    Raises:
        NotFound: neither is there.
        BadLogFormat: it holds fewer, or no hashes.
    """
    data = _either(reader, tlog.tile_path(level, index, width), tlog.tile_path(level, index), tlog.MAX_TILE_BYTES)
    hashes = tlog.decode_tile(data)
    if len(hashes) < width:
        raise BadLogFormat(f"{tlog.tile_path(level, index, width)} holds {len(hashes)} hashes: want {width}")
    return hashes[:width]


def read_bundle(reader: LogReader, index: int, width: int) -> list[bytes]:
    """The first `width` entries of a bundle, as read_tile; fewer if the file holds fewer."""
    path = tlog.entries_path(index, width)
    return tlog.decode_bundle(_either(reader, path, tlog.entries_path(index), tlog.MAX_BUNDLE_BYTES))[:width]


def read_file(reader: LogReader, path: str) -> bytes:
    """A tile or bundle by its path: a partial one, once it is removed, is the beginning of the full one.

    Raises:
        NotFound: neither is there.
        BadLogFormat: a file over its limit, or a full one that is damaged.
    """
    full, _, width = path.partition(".p/")
    try:
        return reader.read(path, tlog.MAX_BUNDLE_BYTES)
    except NotFound:
        if not width:
            raise
    data = reader.read(full, tlog.MAX_BUNDLE_BYTES)
    if path.startswith("tile/entries/"):
        return tlog.encode_bundle(tlog.decode_bundle(data)[: int(width)])
    return tlog.encode_tile(tlog.decode_tile(data)[: int(width)])


def read_entries(reader: LogReader, size: int) -> Iterator[bytes]:
    """The first `size` entries, one bundle in memory at a time.

    Raises:
        NotFound, BadLogFormat: a bundle is missing, short or damaged.
    """
    for index in range(-(-size // tlog.TILE_WIDTH)):
        width = tlog.width_at(0, index, size)
        entries = read_bundle(reader, index, width)
        if len(entries) < width:
            raise BadLogFormat(f"{tlog.entries_path(index, width)} holds {len(entries)} entries: want {width}")
        yield from entries


def nodes(reader: LogReader, size: int) -> merkle.Nodes:
    """The tree of the first `size` entries, out of its tiles. A tile is read once while it is among the last 64 used."""

    @functools.lru_cache(maxsize=CACHED_TILES)
    def tile(level: int, index: int) -> merkle.Nodes:
        return merkle.nodes_of(read_tile(reader, level, index, tlog.width_at(level, index, size)))

    def node(level: int, index: int) -> bytes:
        tile_level, height = divmod(level, tlog.TILE_HEIGHT)
        per_tile = tlog.TILE_WIDTH >> height
        return tile(tile_level, index // per_tile)(height, index % per_tile)

    return node


def paths(size: int) -> Iterator[str]:
    """Every tile and entry bundle that a checkpoint of that size needs: what an export copies beside `checkpoint`."""
    for index in range(-(-size // tlog.TILE_WIDTH)):
        yield tlog.entries_path(index, tlog.width_at(0, index, size))
    for level, last, _ in tlog.tiles(size):
        for index in range(last + 1):
            yield tlog.tile_path(level, index, tlog.width_at(level, index, size))


def _either(reader: LogReader, path: str, full: str, limit: int) -> bytes:
    try:
        return reader.read(path, limit)
    except NotFound:
        if path == full:
            raise
        return reader.read(full, limit)


def _limited(file: IO[bytes], path: str, limit: int) -> bytes:
    data = file.read(limit + 1)
    if len(data) > limit:
        raise BadLogFormat(f"{path} is over {limit} bytes")
    return data
