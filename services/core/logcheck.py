"""Checks a whole audit log, offline: every entry, tile and signature, each problem by its name. It repairs nothing.

Memory stays flat: one entry bundle, one tile a level, one number a source. Ids must be unique over the whole log, which no
constant memory can tell, so they go to a temporary SQLite file that vanishes with the check.

What it can *not* see without a checkpoint from elsewhere: that the log was cut back to an earlier checkpoint, or that its key
signed two histories. It says so in `not_checkable`.
"""

import sqlite3
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from services.core import cosignature, logfile, merkle, tlog
from services.core.errors import AiInfraError, BadInput, NotFound
from services.core.keys import BadSignature
from services.core.logentry import NO_PREVIOUS, chain_hash, parse_leaf
from services.core.logfile import LogReader
from services.core.tlog import TILE_WIDTH, BadLogFormat, Checkpoint, VerifierKey

TIME_BACK_MS = 60_000
"""How far a source's time may go back between two of its events: clocks are set, and machines resume."""

MAX_PROBLEMS = 1000
MAX_MISSING = 16
"""Bundles missing one after another before the rest of the log counts as cut off."""


Each = Callable[[int, dict[str, Any], bytes], None]
"""(index, event without prevHash, leaf)"""


class Kind(StrEnum):
    """Names of problems. They are part of the interface: runbooks and tests refer to them."""

    EDITED = "edited"
    REMOVED = "removed"
    REORDERED = "reordered"
    TRUNCATED = "truncated"
    RECHAINED = "re-chained"
    FORKED = "forked"
    GAP = "gap"
    REUSED_ID = "reused id"
    REUSED_SEQ = "reused seq"
    TIME_BACK = "time back"
    BAD_EVENT = "bad event"
    BAD_TILE = "bad tile"
    BAD_CHECKPOINT = "bad checkpoint"
    BAD_SIGNATURE = "bad signature"
    NOT_WITNESSED = "not witnessed"
    WRONG_ROOT = "wrong root"
    TABLE = "table differs"


@dataclass(frozen=True)
class Problem:
    """index: the entry that it is about, where it is about one."""

    kind: Kind
    detail: str
    index: int | None = None

    def to_json(self) -> dict[str, Any]:
        return {"kind": str(self.kind), "index": self.index, "detail": self.detail}


@dataclass(frozen=True)
class Report:
    """size: entries under the checkpoint; problems: the first 1,000; more: the rest; not_checkable: what nobody can tell, why;
    witnesses: name → when it cosigned the checkpoint (epoch seconds), None if it did not."""

    size: int
    root: str | None
    problems: tuple[Problem, ...]
    not_checkable: tuple[str, ...]
    more: int = 0
    witnesses: dict[str, int | None] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """No problem was found. What is not checkable is neither passed nor failed."""
        return not self.problems

    @property
    def kinds(self) -> set[str]:
        return {str(problem.kind) for problem in self.problems}

    def to_json(self) -> dict[str, Any]:
        return {
            "ok": self.ok,
            "size": self.size,
            "root": self.root,
            "problems": [problem.to_json() for problem in self.problems],
            "more": self.more,
            "notCheckable": list(self.not_checkable),
            "witnesses": self.witnesses,
        }


class Findings:
    """Problems as they are found: each once, the first 1,000 kept."""

    def __init__(self) -> None:
        self.problems: dict[tuple[Kind, int | None, str], Problem] = {}
        self.more = 0

    def add(self, kind: Kind, detail: str, index: int | None = None) -> None:
        key = (kind, index, "" if index is not None else detail)
        if key in self.problems:
            return
        if len(self.problems) >= MAX_PROBLEMS:
            self.more += 1
        else:
            self.problems[key] = Problem(kind, detail, index)

    def has(self, *kinds: Kind) -> bool:
        return any(problem.kind in kinds for problem in self.problems.values())

    def sorted(self) -> tuple[Problem, ...]:
        return tuple(sorted(self.problems.values(), key=lambda item: (item.index is None, item.index or 0, item.kind)))


def check_log(
    reader: LogReader,
    vkey: VerifierKey,
    against: bytes | None = None,
    each: Each = lambda index, event, leaf: None,
    witnesses: Sequence[VerifierKey] = (),
    threshold: int = 0,
) -> Report:
    """Checks everything under the log's checkpoint.

    Args:
        reader: the log's files; trusted in nothing.
        vkey: the log's key, from a source other than the log.
        against: a signed checkpoint of this log kept elsewhere (an auditor's, a witness's). Only with it can truncation and
            forks be told.
        each: called for every well-formed entry, in order; to be believed only once the report is ok.
        witnesses: whose cosignatures count; threshold: how many of them the log's checkpoint must bear.
    """
    found = Findings()
    cosigned = _witnessed(reader, witnesses, threshold, found)
    kept, not_checkable = _kept(against, vkey, found)
    checkpoint = _checkpoint(reader, vkey, found)
    if checkpoint is None:
        not_checkable += ("entries: there is no checkpoint that says which",)
        return Report(0, None, found.sorted(), not_checkable, found.more, cosigned)
    with closing(EventChecker(found, each)) as events:
        tree = _Tree(reader, checkpoint, found, kept)
        tree.walk(events)
        events.finish(tree)
        tree.finish(events)
    if kept is not None:
        not_checkable += tree.compare(kept)
    return Report(checkpoint.size, tree.root, found.sorted(), not_checkable, found.more, cosigned)


def _witnessed(reader: LogReader, witnesses: Sequence[VerifierKey], threshold: int, found: Findings) -> dict[str, int | None]:
    by: dict[str, int] = {}
    try:
        by = cosignature.cosigners(logfile.read_checkpoint(reader), witnesses)
    except BadSignature as error:
        found.add(Kind.BAD_SIGNATURE, str(error))
    except (NotFound, BadLogFormat):
        pass  # the check of the checkpoint says so
    if len(by) < threshold:
        absent = ", ".join(witness.name for witness in witnesses if witness.name not in by)
        found.add(Kind.NOT_WITNESSED, f"{len(by)} cosignatures, trust asks for {threshold}: none of {absent}")
    return {witness.name: by.get(witness.name) for witness in witnesses}


def _checkpoint(reader: LogReader, vkey: VerifierKey, found: Findings) -> Checkpoint | None:
    try:
        note = logfile.read_checkpoint(reader)
    except (NotFound, BadLogFormat) as error:
        found.add(Kind.BAD_CHECKPOINT, str(error))
        return None
    try:
        return tlog.open_checkpoint(note, vkey)
    except BadSignature as error:
        found.add(Kind.BAD_SIGNATURE, str(error))
    except BadLogFormat as error:
        found.add(Kind.BAD_CHECKPOINT, str(error))
    try:
        # The rest is still worth telling: which entries differ from what this checkpoint claims.
        return tlog.unverified_checkpoint(note)
    except BadLogFormat:
        return None


def _kept(note: bytes | None, vkey: VerifierKey, found: Findings) -> tuple[Checkpoint | None, tuple[str, ...]]:
    why = "no checkpoint from elsewhere was given"
    if note is not None:
        try:
            kept = tlog.open_checkpoint(note, vkey)
            if kept.size > 0:
                return kept, ()
            why = "the checkpoint from elsewhere is of an empty log"
        except AiInfraError as error:
            kind = Kind.BAD_SIGNATURE if isinstance(error, BadSignature) else Kind.BAD_CHECKPOINT
            found.add(kind, f"the checkpoint from elsewhere: {error}")
            why = "the checkpoint from elsewhere is not this log's"
    return None, (f"truncation: {why}", f"forks: {why}")


@dataclass
class _Source:
    """last: highest seq so far; missing: ranges of seq skipped, first to last; ts: latest time so far."""

    last: int = 0
    ts: int = 0
    missing: list[tuple[int, int]] = field(default_factory=list)

    def fill(self, seq: int) -> bool:
        """Whether this seq was skipped before; it is no longer."""
        # The ranges are in order. Whoever forges a log chooses how many there are, so they are not read one by one.
        at = bisect_right(self.missing, seq, key=lambda part: part[0]) - 1
        if at < 0 or self.missing[at][1] < seq:
            return False
        first, last = self.missing[at]
        self.missing[at : at + 1] = [part for part in ((first, seq - 1), (seq + 1, last)) if part[0] <= part[1]]
        return True


class EventChecker:
    """Checks entries one after the other: form, chain, seq, ids, time. Feed it in index order, then finish, then close."""

    def __init__(self, found: Findings, each: Each) -> None:
        self._found, self._each = found, each
        self._previous: str | None = NO_PREVIOUS
        self._sources: dict[str, _Source] = {}
        # An empty name is a temporary file of SQLite's own, unlinked when it is closed.
        self._ids = sqlite3.connect("", isolation_level=None)
        for statement in ("PRAGMA journal_mode=OFF", "PRAGMA synchronous=OFF", "BEGIN"):
            self._ids.execute(statement)
        self._ids.execute("CREATE TABLE ids (id TEXT PRIMARY KEY, at INTEGER) WITHOUT ROWID")
        self._new_ids: list[tuple[str, int]] = []
        self.breaks: dict[int, str] = {}

    def close(self) -> None:
        self._ids.close()

    def skip(self) -> None:
        """Entries are missing here: the next one has no predecessor to be compared with."""
        self._previous = None

    def feed(self, index: int, leaf: bytes) -> None:
        """One entry."""
        expected, self._previous = self._previous, chain_hash(leaf)
        try:
            event, prev_hash = parse_leaf(leaf)
        except BadInput as error:
            self._found.add(Kind.BAD_EVENT, str(error), index)
            return
        if expected not in (None, prev_hash):
            if len(self.breaks) < MAX_PROBLEMS:
                self.breaks[index] = prev_hash
            else:
                self._found.more += 1
        self._new_ids.append((event["id"], index))
        if len(self._new_ids) >= TILE_WIDTH:
            self._check_ids()
        self._check_source(index, event["source"], event["seq"], event["ts"])
        self._each(index, event, leaf)

    def finish(self, tree: "_Tree") -> None:
        """Reports what only the end can tell: gaps, and why the chain broke where it did."""
        self._check_ids()
        for name, source in self._sources.items():
            for first, last in source.missing:
                self._found.add(Kind.GAP, f"{name}: seq {first} to {last} is nowhere in the log")
        # Only a broken chain is worth reading the log a second time.
        places = _places(tree.entries(), set(self.breaks.values())) if self.breaks else {}
        for index, wanted in self.breaks.items():
            if tree.explains(index):
                continue
            if wanted == NO_PREVIOUS:
                self._found.add(Kind.REORDERED, "it is the first entry by its prevHash", index)
            elif wanted in places:
                self._found.add(Kind.REORDERED, f"it follows entry {places[wanted]} by its prevHash", index)
            elif self._found.has(Kind.GAP) or tree.short:
                self._found.add(Kind.REMOVED, "the entry before it by its prevHash is nowhere in the log", index)
            else:
                own = index == 0 or (tree.differs(index) and not tree.differs(index - 1))
                self._found.add(Kind.EDITED, f"entry {index}'s prevHash is of other bytes", index if own else index - 1)

    def _check_ids(self) -> None:
        new, self._new_ids = self._new_ids, []
        before = self._ids.total_changes
        self._ids.executemany("INSERT OR IGNORE INTO ids VALUES (?, ?)", new)
        if self._ids.total_changes - before == len(new):
            return
        for event_id, index in new:
            (first,) = self._ids.execute("SELECT at FROM ids WHERE id = ?", (event_id,)).fetchone()
            if first != index:
                self._found.add(Kind.REUSED_ID, f"{event_id} is the id of entry {first} too", index)

    def _check_source(self, index: int, name: str, seq: int, ts: int) -> None:
        source = self._sources.get(name)
        if source is None:
            source = self._sources[name] = _Source()
        if seq == source.last + 1:
            source.last = seq
        elif seq > source.last:
            if len(source.missing) < MAX_PROBLEMS:
                source.missing.append((source.last + 1, seq - 1))
            else:
                self._found.more += 1
            source.last = seq
        elif source.fill(seq):
            self._found.add(Kind.REORDERED, f"{name}: seq {seq} stands after a later one", index)
        else:
            self._found.add(Kind.REUSED_SEQ, f"{name}: seq {seq} stands in the log twice", index)
        if ts >= source.ts:
            source.ts = ts
        elif ts < source.ts - TIME_BACK_MS:
            self._found.add(Kind.TIME_BACK, f"{name}: {source.ts - ts} ms before an earlier event of its", index)


class _Tree:
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
        self.short = False

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
            if entries and self.short and not self._found.has(Kind.REMOVED):
                self._found.add(Kind.REMOVED, "entries before it are missing", number * TILE_WIDTH)
            self._bundles = number + 1
            if hashes is not None and own != hashes[: len(own)]:
                self._diagnose(number * TILE_WIDTH, own, hashes)
                root = None
            for index, entry in enumerate(entries, number * TILE_WIDTH):
                events.feed(index, entry)
            self._grow(own, root)
            if len(entries) < width:
                self.short = True
                events.skip()
        self._check_tiles()

    def finish(self, events: EventChecker) -> None:
        """Reports what entries and tiles together say."""
        last = self._checkpoint.size - 1
        for first, end in self._differing:
            if any(at in events.breaks or at + 1 in events.breaks for at in (first, end)):
                continue
            kind = Kind.EDITED if first == last else Kind.RECHAINED
            self._found.add(kind, f"entries {first} to {end} are not those of the tiles", first)
        if self.short:
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

    def entries(self) -> Iterable[tuple[int, bytes]]:
        """All entries once more, with their indexes."""
        for number in range(self._bundles):
            width = tlog.width_at(0, number, self._checkpoint.size)
            yield from enumerate(self._bundle(number, width), number * TILE_WIDTH)

    def explains(self, index: int) -> bool:
        """Whether a broken chain at this entry is reported already, by its bundle."""
        return index // TILE_WIDTH in self._explained or (index - 1) // TILE_WIDTH in self._explained

    def differs(self, index: int) -> bool:
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
        if self.short:
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
