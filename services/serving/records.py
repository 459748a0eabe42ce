"""Prediction records and their batches, whoever writes them: our router; or a predictor in a cluster, and the API for it.

A record is one canonical JSON line. A batch is sealed by its Merkle root (RFC 9162 tree over the lines, without their line ends),
which goes to the audit log as `predictions.sealed`.
"""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from services.core import merkle
from services.core.canonical import canonical, parse
from services.core.errors import BadJson, Unavailable
from services.core.events import EventDraft, Subject
from services.core.storage import FULL, why

BATCH_RECORDS = 2000
BATCH_MS = 2000
MOST_RECORDS = 8000
"""That a batch ever has: one that cannot be closed in time goes on, and is handed on whole."""
PREDICTION = r"^prd-[0-9a-f]{32}$"
"""An id as `core.ids` makes it, without the endings that the router gives to some."""


def made_at(prediction: str) -> int | None:
    """Epoch milliseconds in an id; None if it is no plain one."""
    return int(prediction[4:16], 16) if re.fullmatch(PREDICTION, prediction) else None


def record_of(
    prediction: str, ts: int, *, deployment: str, artifact_id: str | None, input_digest: str, output_digest: str, latency_us: int,
    outcome: str, status: int, rollout: dict[str, Any] | None,
) -> dict[str, Any]:
    """ts: epoch milliseconds of the start; digests: in hex; status: 0 for no answer; rollout: what a rollout says of it."""
    return {
        "id": prediction,
        "ts": ts,
        "deployment": deployment,
        "artifactId": artifact_id,
        "inputDigest": "sha256:" + input_digest,
        "outputDigest": "sha256:" + output_digest if status else None,
        "latencyUs": latency_us,
        "outcome": outcome,
        "status": status,
        "rollout": rollout,
    }


def line_of(record: Mapping[str, Any]) -> bytes:
    """With its line end."""
    return canonical(record) + b"\n"


def append_line(file: int, length: int, line: bytes) -> None:
    """Hands a line to the operating system. length: of the file so far, from where it began to be ours.

    Raises:
        Unavailable: the disk did not take it, and the file is as it was.
    """
    try:
        written = os.write(file, line)
    except OSError as error:
        raise Unavailable(f"the prediction could not be recorded: {why(error)}") from error
    if written != len(line):
        # The half line must not stand before the next one.
        os.ftruncate(file, length)
        raise Unavailable(f"the prediction could not be recorded: {FULL}")


def whole_record(line: bytes) -> dict[str, Any] | None:
    """The record of a complete line; None for a torn one."""
    try:
        value: dict[str, Any] = parse(line)
    except BadJson:
        return None
    return value if line.endswith(b"\n") else None


def root_of(leaves: Iterable[bytes]) -> str:
    """The digest under which a batch is sealed. leaves: leaf hashes of its lines."""
    return "sha256:" + merkle.root(leaves).hex()


def sealed_event(actor: str, number: int, root: str, ids: Sequence[str], *, recovered: bool, lost: int) -> EventDraft:
    """actor: who answered; number: of the batch among its keeper's; recovered: written by a process before the one that hands it
    on; lost: records that a killed process had begun and not written."""
    payload = {
        "batch": number,
        "records": len(ids),
        "root": root,
        "first": ids[0] if ids else None,
        "last": ids[-1] if ids else None,
        "recovered": recovered,
        "lost": lost,
    }
    return EventDraft("predictions.sealed", actor, Subject("predictions", f"{actor.rsplit('/', 1)[-1]}-{number}", root), payload)


def with_proof(batch: Mapping[Any, Any], lines: Sequence[bytes], position: int) -> dict[str, Any]:
    """A record of a sealed batch, its place, and the proof that the root covers it.

    Args:
        batch: its id, event, records and root.
        lines: of the batch, without their line ends.
    Returns:
        {"record", "sealed": {"batch", "event", "index", "size", "root", "proof": [hex]}}.
    """
    leaves = [merkle.leaf_hash(line) for line in lines]
    proof = merkle.inclusion_proof(merkle.nodes_of(leaves), position, len(leaves))
    place = {
        "batch": batch["id"],
        "event": batch["event"],
        "index": position,
        "size": batch["records"],
        "root": batch["root"],
        "proof": [node.hex() for node in proof],
    }
    return {"record": parse(lines[position]), "sealed": place}
