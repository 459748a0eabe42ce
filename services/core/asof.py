"""Which version a stage had at some point of the log, answered by replay of its entries and shown under its checkpoint.

That is the version promoted there last: once it is promoted on, the stage serves it all the same. Order is that of the log, not of
clocks: a time stands for all entries before the first one that is later. Memory grows with the number of versions and of active
flags, never with the log.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from services.core import cosignature, logfile, merkle, tlog
from services.core.canonical import canonical
from services.core.errors import BadInput, NotFound
from services.core.logentry import parse_leaf
from services.core.logfile import LogReader
from services.core.tlog import TILE_WIDTH
from services.core.trust import Trust

Event = dict[str, Any]


@dataclass
class StageFold:
    """Feed it entries in log order. held: the last promotion into the stage; moved_on: the one of that version after it."""

    model: str
    stage: str
    size: int = 0
    registered: dict[str, tuple[int, Event]] = field(default_factory=dict)
    held: tuple[int, Event] | None = None
    moved_on: tuple[int, Event] | None = None
    flags: dict[str, tuple[int, Event]] = field(default_factory=dict)

    def apply(self, event: Event) -> None:
        """One event. Those of the types replayed here have the payload that the platform writes."""
        change = _CHANGES.get(event["type"])
        if change is not None:
            change(self, event)
        self.size += 1

    def holder(self) -> "Holder | None":
        """None: no version of the model was promoted into the stage."""
        if self.held is None:
            return None
        promoted, event = self.held
        reference = event["subject"]["id"]
        payload = self.registered[reference][1]["payload"]
        descent = self._descent(reference)
        targets = {("dataset", dataset) for dataset in payload["ancestors"]}
        for name in descent:
            targets |= {("model", name), ("artifact", self.registered[name][1]["payload"]["artifactId"])}
        flags = {
            name: at for name, (at, flag) in self.flags.items() if (flag["payload"]["kind"], flag["payload"]["target"]) in targets
        }
        version = {
            "model": self.model,
            "number": payload["number"],
            "artifactId": payload["artifactId"],
            "runKey": payload["runKey"],
            "riskClass": payload["riskClass"],
            "stage": self.stage,
            "promotedOn": self.moved_on[1]["payload"]["to"] if self.moved_on else None,
            "since": event["ts"],
            "manifest": event["manifestRef"],
            "flags": sorted(flags),
        }
        moved = [self.moved_on[0]] if self.moved_on else []
        rests_on = {promoted, *moved, *(self.registered[name][0] for name in descent), *flags.values()}
        return Holder(version, tuple(sorted(rests_on)))

    def _descent(self, reference: str) -> list[str]:
        """The version, and all those that it was made from: a flag on one of them is a flag on it."""
        found = [reference]
        for name in found:
            found += [parent for parent in self.registered[name][1]["payload"]["parents"] if parent not in found]
        return found


@dataclass(frozen=True)
class Holder:
    """version: what the stage had; rests_on: indexes of the entries that say so."""

    version: dict[str, Any]
    rests_on: tuple[int, ...]


@dataclass(frozen=True)
class Until:
    """How much of the log counts: up to the entry `index`, it included, or up to `ts` (epoch milliseconds)."""

    index: int | None = None
    ts: int | None = None

    def ends_before(self, index: int, event: Event) -> bool:
        return (self.index is not None and index > self.index) or (self.ts is not None and event["ts"] > self.ts)


def as_of(reader: LogReader, trust: Trust, model: str, stage: str, until: Until) -> dict[str, Any]:
    """{"version": …|null, "entries": how many counted, "checkpoint", "witnesses", "restsOn": [{index, event, proof}]}.

    Every entry that counts is read; their tree is shown to be the beginning of the checkpoint's. proof: a `.tlog-proof` file.
    Raises:
        BadLogFormat, BadSignature, NotWitnessed: the checkpoint is not to be believed.
        BadProof, BadInput: an entry is not what the checkpoint covers.
        NotFound: a file of the log is missing, or the checkpoint does not reach `until.index`.
    """
    note = logfile.read_checkpoint(reader)
    cosigned = cosignature.open_cosigned(note, trust)
    size = cosigned.checkpoint.size
    if until.index is not None and until.index >= size:
        raise NotFound(f"no entry {until.index} under the checkpoint, which is of {size} entries: wait for the next one")
    fold, edge = StageFold(model, stage), merkle.CompactRange()
    for index, leaf in enumerate(logfile.read_entries(reader, size)):
        event = parse_leaf(leaf)[0]
        if until.ends_before(index, event):
            break
        edge.append(merkle.leaf_hash(leaf))
        _apply(fold, index, event)
    nodes = logfile.nodes(reader, size)
    shown = merkle.consistency_proof(nodes, edge.size, size)
    merkle.verify_consistency(edge.size, edge.root(), size, cosigned.checkpoint.root, shown)
    holder = fold.holder()
    return {
        "model": model,
        "stage": stage,
        "version": holder.version if holder else None,
        "entries": edge.size,
        "checkpoint": note.decode(),
        "witnesses": cosigned.witnesses,
        "restsOn": [_shown(reader, nodes, index, size, note.decode(), trust) for index in (holder.rests_on if holder else ())],
    }


def _apply(fold: StageFold, index: int, event: Event) -> None:
    try:
        fold.apply(event)
    except (KeyError, TypeError) as error:
        raise BadInput(f"entry {index} of type {event['type']} lacks {error}: run `ai-infra audit verify`") from error


def _shown(reader: LogReader, nodes: merkle.Nodes, index: int, size: int, note: str, trust: Trust) -> dict[str, Any]:
    bundle = index // TILE_WIDTH
    leaf = logfile.read_bundle(reader, bundle, tlog.width_at(0, bundle, size))[index % TILE_WIDTH]
    proof = tlog.TlogProof(index, tuple(merkle.inclusion_proof(nodes, index, size)), note).text()
    tlog.verify_proof(proof, leaf, tlog.parse_vkey(trust.log_vkey))
    event, prev_hash = parse_leaf(leaf)
    return {"index": index, "event": {**event, "prevHash": prev_hash}, "proof": proof}


def check_proof(proof: str, entry: Event, trust: Trust) -> dict[str, Any]:
    """That an entry, as `audit show` prints it, is in the log: {"index", "size", "witnesses"}. Needs nothing but trust.

    Raises:
        BadLogFormat, BadSignature, NotWitnessed, BadProof: it is not shown, each by its name.
    """
    cosigned = cosignature.open_cosigned(tlog.parse_proof(proof).checkpoint.encode(), trust)
    index, checkpoint = tlog.verify_proof(proof, canonical(entry), tlog.parse_vkey(trust.log_vkey))
    return {"index": index, "size": checkpoint.size, "witnesses": cosigned.witnesses}


def _registered(fold: StageFold, event: Event) -> None:
    fold.registered[event["subject"]["id"]] = (fold.size, event)


def _promoted(fold: StageFold, event: Event) -> None:
    reference, to = event["subject"]["id"], event["payload"]["to"]
    if to == fold.stage and reference.rpartition("@")[0] == fold.model:
        fold.held, fold.moved_on = (fold.size, event), None
    elif fold.held is not None and fold.held[1]["subject"]["id"] == reference:
        fold.moved_on = (fold.size, event)


def _flagged(fold: StageFold, event: Event) -> None:
    fold.flags[event["payload"]["flag"]] = (fold.size, event)


def _lifted(fold: StageFold, event: Event) -> None:
    fold.flags.pop(event["payload"]["flag"], None)


_CHANGES: dict[str, Callable[[StageFold, Event], None]] = {
    "model.registered": _registered,
    "promotion.completed": _promoted,
    "quarantine.set": _flagged,
    "quarantine.lifted": _lifted,
}
