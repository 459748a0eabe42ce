"""Checks the entries and tiles of an audit log against each other and against its checkpoint; builds the root and upper tiles anew.

Memory stays flat: one entry bundle, one tile a level.
"""

from collections.abc import Iterable, Mapping

from services.core import logfile, merkle, tlog
from services.core.errors import NotFound
from services.core.logentry import NO_PREVIOUS, chain_hash
from services.core.logevents import EventChecker
from services.core.logfile import LogReader
from services.core.logfindings import MAX_PROBLEMS, Findings, Kind
from services.core.tlog import TILE_WIDTH, BadLogFormat, Checkpoint

MAX_MISSING = 16
"""Bundles missing one after another before the rest of the log counts as cut off."""


class LogTree:
    """Walks the bundles once, against the tiles; builds the root and the upper tiles anew."""

    def __init__(self, reader: LogReader, checkpoint: Checkpoint, found: Findings, kept: Checkpoint | None) -> None:
        self._reader, self._checkpoint, self._found, self._kept = reader, checkpoint, found, kept
        self._edge = merkle.CompactRange()
        self._kept_root: bytes | None = None
        self._levels: list[list[bytes]] = []
        self._counts: list[int] = []
        self._differing: list[tuple[int, int]] = []
        self._explained: set[int] = set()
        self._bundles = 0
        # Whether every leaf hash so far is known, without which the tiles above cannot be told.
        self._whole = True
        self._short = False

    @property
    def root(self) -> str | None:
        """Hex of the root over all entries, if all are there."""
        return self._edge.root().hex() if self._edge.size == self._checkpoint.size else None

    def walk(self, events: EventChecker) -> None:
        """Feeds every entry that is there."""
        size, missing = self._checkpoint.size, 0
        for number in range(-(-size // TILE_WIDTH)):
            width = tlog.width_at(0, number, size)
            entries, hashes = self._bundle(number, width), self._tile(0, number, width)
            own = [merkle.leaf_hash(entry) for entry in entries]
            leaves = hashes or own
            self._whole = self._whole and len(leaves) == width
            root = merkle.root(leaves) if len(leaves) == TILE_WIDTH else None
            if root is not None:
                self._push(1, root)
            missing = 0 if entries else missing + 1
            if missing > MAX_MISSING:
                return  # without a look at the tiles above, whose leaves are not known
            if entries and self._short and not self._found.has(Kind.REMOVED):
                self._found.add(Kind.REMOVED, "entries before it are missing", number * TILE_WIDTH)
            self._bundles = number + 1
            if hashes is not None and own != hashes[: len(own)]:
                self._diagnose(number * TILE_WIDTH, own, hashes)
                root = None
            for index, entry in enumerate(entries, number * TILE_WIDTH):
                events.feed(index, entry)
            self._grow(own, root)
            if len(entries) < width:
                self._short = True
                events.skip()
        self._check_tiles()

    def finish(self, breaks: Mapping[int, str]) -> None:
        """Reports what entries and tiles together say. breaks: where the chain broke, as EventChecker found it."""
        self._explain(breaks)
        last = self._checkpoint.size - 1
        for first, end in self._differing:
            if any(at in breaks or at + 1 in breaks for at in (first, end)):
                continue
            kind = Kind.EDITED if first == last else Kind.RECHAINED
            self._found.add(kind, f"entries {first} to {end} are not those of the tiles", first)
        if self._short:
            if not self._found.has(Kind.REMOVED):
                self._found.add(Kind.TRUNCATED, f"the checkpoint is of {last + 1} entries, {self._edge.size} are there")
        elif self._edge.root() != self._checkpoint.root:
            content = self._found.has(Kind.EDITED, Kind.REMOVED, Kind.REORDERED, Kind.RECHAINED)
            kind = Kind.WRONG_ROOT if content else Kind.RECHAINED
            self._found.add(kind, "the entries make another root than the checkpoint's")

    def compare(self, kept: Checkpoint) -> tuple[str, ...]:
        """Checks against a checkpoint from elsewhere; what cannot be told is answered."""
        if kept.size > self._checkpoint.size:
            detail = f"the log ends at {self._checkpoint.size} entries, a checkpoint from elsewhere is of {kept.size}"
            self._found.add(Kind.TRUNCATED, detail)
            return ("forks: the log ends before the checkpoint from elsewhere",)
        if self._kept_root is None:
            return (f"forks: entries below {kept.size} are missing",)
        if self._kept_root != kept.root:
            self._found.add(Kind.FORKED, f"the first {kept.size} entries are not those that a checkpoint from elsewhere is of")
        return ()

    def _explain(self, breaks: Mapping[int, str]) -> None:
        # Only a broken chain is worth reading the log a second time.
        places = _places(self._entries(), set(breaks.values())) if breaks else {}
        for index, wanted in breaks.items():
            if self._told(index):
                continue
            if wanted == NO_PREVIOUS:
                self._found.add(Kind.REORDERED, "it is the first entry by its prevHash", index)
            elif wanted in places:
                self._found.add(Kind.REORDERED, f"it follows entry {places[wanted]} by its prevHash", index)
            elif self._found.has(Kind.GAP) or self._short:
                self._found.add(Kind.REMOVED, "the entry before it by its prevHash is nowhere in the log", index)
            else:
                own = index == 0 or (self._differs(index) and not self._differs(index - 1))
                self._found.add(Kind.EDITED, f"entry {index}'s prevHash is of other bytes", index if own else index - 1)

    def _entries(self) -> Iterable[tuple[int, bytes]]:
        """All entries once more, with their indexes."""
        for number in range(self._bundles):
            width = tlog.width_at(0, number, self._checkpoint.size)
            yield from enumerate(self._bundle(number, width), number * TILE_WIDTH)

    def _told(self, index: int) -> bool:
        """Whether a broken chain at this entry is reported already, by its bundle."""
        return index // TILE_WIDTH in self._explained or (index - 1) // TILE_WIDTH in self._explained

    def _differs(self, index: int) -> bool:
        """Whether the entry is not the one of its tile."""
        return any(first <= index <= last for first, last in self._differing)

    def _bundle(self, number: int, width: int) -> list[bytes]:
        """The entries; if the bundle's own file is not there, those of the widest smaller partial one; else none."""
        for path_width in range(width, 0, -1):
            try:
                return logfile.read_bundle(self._reader, number, path_width)
            except NotFound:
                continue
            except BadLogFormat as error:
                self._found.add(Kind.BAD_TILE, f"{tlog.entries_path(number, path_width)}: {error}")
                return []
        return []

    def _tile(self, level: int, number: int, width: int) -> list[bytes] | None:
        try:
            return logfile.read_tile(self._reader, level, number, width)
        except (NotFound, BadLogFormat) as error:
            self._found.add(Kind.BAD_TILE, f"{tlog.tile_path(level, number, width)}: {error}")
            return None

    def _grow(self, own: list[bytes], root: bytes | None) -> None:
        """Adds a bundle's leaf hashes to the tree of what is there. root: over them, if that is known."""
        if self._short:
            return
        if self._kept is not None and 0 < self._kept.size - self._edge.size <= len(own):
            self._kept_root = self._edge.root_with(own[: self._kept.size - self._edge.size])
        if len(own) == TILE_WIDTH:
            self._edge.append(root or merkle.root(own), tlog.TILE_HEIGHT)
        else:
            for item in own:
                self._edge.append(item)

    def _diagnose(self, start: int, own: list[bytes], hashes: list[bytes]) -> None:
        first = next(at for at, item in enumerate(own) if item != hashes[at])
        if sorted(own) == sorted(hashes):
            self._found.add(Kind.REORDERED, "the tile has the same entries in another order", start + first)
            self._explained.add(start // TILE_WIDTH)
        elif len(own) < len(hashes) and set(own) <= set(hashes):
            self._found.add(Kind.REMOVED, "the tile has it, the entry bundle has not", start + first)
        else:
            for at, item in enumerate(own):
                if item != hashes[at]:
                    self._differ(start + at)

    def _differ(self, index: int) -> None:
        if self._differing and self._differing[-1][1] == index - 1:
            self._differing[-1] = (self._differing[-1][0], index)
        elif len(self._differing) < MAX_PROBLEMS:
            self._differing.append((index, index))
        else:
            self._found.more += 1

    def _push(self, level: int, item: bytes) -> None:
        while level >= len(self._levels):
            self._levels.append([])
            self._counts.append(0)
        hashes = self._levels[level]
        hashes.append(item)
        if len(hashes) == TILE_WIDTH:
            self._check_tile(level)
            self._push(level + 1, merkle.root(hashes))
            self._levels[level] = []
            self._counts[level] += 1

    def _check_tiles(self) -> None:
        for level, hashes in enumerate(self._levels):
            if hashes:
                self._check_tile(level)

    def _check_tile(self, level: int) -> None:
        if not self._whole:
            return
        hashes, number = self._levels[level], self._counts[level]
        there = self._tile(level, number, len(hashes))
        if there is not None and there != hashes:
            self._found.add(Kind.BAD_TILE, f"{tlog.tile_path(level, number, len(hashes))} is not made of the tiles below it")


def _places(entries: Iterable[tuple[int, bytes]], wanted: set[str]) -> dict[str, int]:
    """Where the entries with these chain hashes stand."""
    return {digest: index for index, entry in entries if (digest := chain_hash(entry)) in wanted}
