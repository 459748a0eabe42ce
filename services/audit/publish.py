"""Writes tiles and entry bundles out of the table of events. A file that is there already is written again, with the same bytes."""

from collections.abc import Callable

from services.audit.ports import LogStore
from services.core import logfile, merkle, tlog
from services.core.tlog import TILE_WIDTH

Leaves = Callable[[int, int], list[bytes]]
"""(first, end) to the leaves of the table, at most 256 at a time."""


def write_tiles(store: LogStore, leaves: Leaves, old: int, size: int) -> None:
    """Brings the files of a tree of `old` entries to one of `size`; from 0 it rebuilds them all.

    A crash leaves files that no checkpoint speaks of yet, and the next call writes them again.
    Raises:
        NotFound, BadLogFormat: a file of the old tree is missing or damaged: call with old = 0.
        Unavailable: the store did not take a file.
    """
    for index in range(old // TILE_WIDTH, -(-size // TILE_WIDTH)):
        width = tlog.width_at(0, index, size)
        entries = leaves(index * TILE_WIDTH, index * TILE_WIDTH + width)
        _write(store, tlog.entries_path(index), width, tlog.encode_bundle(entries))
        _write(store, tlog.tile_path(0, index), width, tlog.encode_tile([merkle.leaf_hash(entry) for entry in entries]))
    for level, last, _ in tlog.tiles(size)[1:]:
        first = (old >> tlog.TILE_HEIGHT * level) // TILE_WIDTH
        for index in range(first, last + 1):
            _write(store, tlog.tile_path(level, index), tlog.width_at(level, index, size), _upper(store, level, index, old, size))


def _upper(store: LogStore, level: int, index: int, old: int, size: int) -> bytes:
    """A tile above level 0: what the old tree had of it, then the roots of full tiles one level below."""
    had, width = tlog.width_at(level, index, old), tlog.width_at(level, index, size)
    hashes = logfile.read_tile(store, level, index, had) if had else []
    below = range(index * TILE_WIDTH + had, index * TILE_WIDTH + width)
    hashes += [merkle.root(logfile.read_tile(store, level - 1, number, TILE_WIDTH)) for number in below]
    return tlog.encode_tile(hashes)


def _write(store: LogStore, full: str, width: int, data: bytes) -> None:
    if width < TILE_WIDTH:
        # Partial forms stay until the full one is there: readers of an older checkpoint ask for them (tlog-tiles).
        store.write(f"{full}.p/{width}", data)
        return
    store.write(full, data)
    store.remove_partials(full)
