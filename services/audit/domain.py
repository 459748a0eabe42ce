"""How events become rows of the log. Pure: it is told what the table holds, and answers what to add."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from services.audit.errors import Gap, KnownEvent
from services.core.logentry import chain_hash, leaf_bytes, parse_leaf, require_event


class Row(NamedTuple):
    """One entry of the log, in the order of the table's columns. at: its index. All but at and leaf repeat what the leaf says, for
    looking it up."""

    at: int
    id: str
    source: str
    seq: int
    ts: int
    type: str
    subject_kind: str
    subject_id: str
    leaf: bytes

    @classmethod
    def of(cls, at: int, event: Mapping[str, Any], leaf: bytes) -> "Row":
        subject = event["subject"]
        return cls(at, event["id"], event["source"], event["seq"], event["ts"], event["type"], subject["kind"], subject["id"], leaf)


@dataclass(frozen=True)
class Entry:
    """index: its place in the log; event: as logged, with prevHash."""

    index: int
    event: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        return {"index": self.index, "event": self.event}

    @classmethod
    def of(cls, index: int, leaf: bytes) -> "Entry":
        event, prev_hash = parse_leaf(leaf)
        return cls(index, {**event, "prevHash": prev_hash})


@dataclass
class Known:
    """What the table holds of a batch. size: entries; head: chain hash of the last one; entries: by id, those of the batch that
    are in the log; seqs: highest seq of each source."""

    size: int
    head: str
    entries: dict[str, tuple[int, bytes]]
    seqs: dict[str, int]


def plan(events: list[dict[str, Any]], known: Known) -> tuple[list[int], list[Row]]:
    """The index of each event, and the rows to add. `known` is moved along.

    Raises:
        BadInput, TooLarge: an event is malformed.
        Gap, KnownEvent: it does not follow its source's last one; nothing of the batch may be added.
    """
    indexes, rows = [], []
    for event in map(require_event, events):
        if (entry := known.entries.get(event["id"])) is None:
            rows.append(_next(event, known))
            entry = known.entries[event["id"]] = (rows[-1].at, rows[-1].leaf)
        elif leaf_bytes(event, parse_leaf(entry[1])[1]) != entry[1]:
            raise KnownEvent(f"event {event['id']!r} is entry {entry[0]} with another body: an event never changes")
        indexes.append(entry[0])
    return indexes, rows


def _next(event: dict[str, Any], known: Known) -> Row:
    source, seq = event["source"], event["seq"]
    last = known.seqs.get(source, 0)
    if seq > last + 1:
        raise Gap(f"{source} sent seq {seq} after {last}: send seq {last + 1} first")
    if seq <= last:
        raise KnownEvent(f"{source} sent seq {seq} before, in another event: its outbox was rewritten")
    row = Row.of(known.size, event, leaf_bytes(event, known.head))
    known.size, known.head, known.seqs[source] = known.size + 1, chain_hash(row.leaf), seq
    return row
