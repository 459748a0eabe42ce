"""What the tests of the audit log share: events, a log in a folder, and a hand that forges one."""

import shutil
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from services.audit.folder import FolderStore
from services.audit.ports import CheckpointSigner, LogStore
from services.audit.publish import write_tiles
from services.audit.service import AuditLog
from services.audit.tables import metadata
from services.core import logfile, merkle, tlog
from services.core.database import open_engine
from services.core.events import EventDraft, Subject
from services.core.logcheck import check_log
from services.core.logentry import NO_PREVIOUS, chain_hash, leaf_bytes
from services.core.logfindings import Kind, Problem, Report
from tests import databases
from tests.fakes.checkpoint_signer import FakeCheckpointSigner
from tests.fakes.log_store import MemoryLogStore

API = "spiffe://ai-infra.local/service/api"
PROXY = "spiffe://ai-infra.local/service/signing-proxy"
START = 1_700_000_000_000
SIGNER = FakeCheckpointSigner()
"""The key of the logs that `stored` makes."""

WRONG_ROOT = Problem(Kind.WRONG_ROOT, "the entries make another root than the checkpoint's")


def event(seq: int, source: str = API, **changes: Any) -> dict[str, Any]:
    """A plain event; `changes` replace whole fields."""
    draft = EventDraft("model.registered", "spiffe://ai-infra.local/person/ada", Subject("model", f"digits@{seq}"), {"n": seq})
    made = draft.to_event(event_id=f"evt-{source[-3:]}-{seq:06d}", source=source, seq=seq, ts=START + seq)
    return {**made, **changes}


def events(count: int, first: int = 1, source: str = API) -> list[dict[str, Any]]:
    return [event(seq, source) for seq in range(first, first + count)]


def chained(items: list[dict[str, Any]], head: str = NO_PREVIOUS) -> list[bytes]:
    """Leaves whose prevHash fit, whatever the events are."""
    leaves = []
    for item in items:
        leaves.append(leaf_bytes(item, head))
        head = chain_hash(leaves[-1])
    return leaves


def append(audit: AuditLog, count: int, first: int = 1) -> None:
    """More than one batch takes."""
    for at in range(first, first + count, 500):
        audit.append(events(min(500, first + count - at), at))


def note(leaves: list[bytes]) -> bytes:
    """A checkpoint over these leaves."""
    return SIGNER.sign_anything(len(leaves), merkle.root(map(merkle.leaf_hash, leaves))).encode()


def stored(leaves: list[bytes], *, over: list[bytes] | None = None) -> MemoryLogStore:
    """A log of these leaves in memory, with a checkpoint over them or over others."""
    store = MemoryLogStore()
    write_tiles(store, lambda first, end: leaves[first:end], 0, len(leaves))
    store.write("checkpoint", note(leaves if over is None else over))
    return store


def rebundled(leaves: list[bytes], of: list[bytes]) -> MemoryLogStore:
    """A log whose entry bundles alone somebody wrote anew, under tiles and checkpoint of other leaves."""
    store = stored(of)
    for path in logfile.paths(len(of)):
        if path.startswith("tile/entries/"):
            del store.files[path]
    for first in range(0, len(leaves), 256):
        part = leaves[first : first + 256]
        store.write(tlog.entries_path(first // 256, len(part)), tlog.encode_bundle(part))
    return store


def edited(leaf: bytes) -> bytes:
    """The same event with another trace id."""
    assert b'"traceId":""' in leaf
    return leaf.replace(b'"traceId":""', b'"traceId":"other"')


def swapped(leaves: list[bytes], one: int, two: int) -> list[bytes]:
    """With two of them in each other's place."""
    made = list(leaves)
    made[one], made[two] = made[two], made[one]
    return made


def kinds_of(report: Report) -> set[str]:
    """Names of its problems."""
    return {str(problem.kind) for problem in report.problems}


class Home:
    """A log with its database, folder and signer; `open` gives a new AuditLog on them, as a restarted process has."""

    def __init__(self, folder: Path, url: str | None = None) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder / "log"
        self.engine: Engine = open_engine(url or databases.url(folder, "audit"))
        metadata.create_all(self.engine)
        self.signer = FakeCheckpointSigner()
        self.store = FolderStore(self.folder)
        self.vkey = self.signer.vkey

    def open(self, store: LogStore | None = None, signer: CheckpointSigner | None = None) -> AuditLog:
        return AuditLog(self.engine, store or self.store, signer or self.signer, self.vkey)

    def filled(self, count: int) -> AuditLog:
        """Holds and has published that many events."""
        audit = self.open()
        append(audit, count)
        audit.publish()
        return audit

    def check(self, against: str | None = None) -> Report:
        return check_log(self.store, self.vkey, against.encode() if against else None)

    def note(self) -> str:
        return logfile.read_checkpoint(self.store).decode()

    def leaves(self) -> list[bytes]:
        return list(logfile.read_entries(self.store, tlog.unverified_checkpoint(self.note().encode()).size))

    def write_bundles(self, leaves: list[bytes]) -> None:
        """Entry bundles only: the tiles stay as they are."""
        shutil.rmtree(self.folder / "tile" / "entries")
        for first in range(0, len(leaves), 256):
            part = leaves[first : first + 256]
            self.store.write(tlog.entries_path(first // 256, len(part)), tlog.encode_bundle(part))

    def write_tree(self, leaves: list[bytes]) -> None:
        """Bundles and tiles; the checkpoint stays as it is."""
        shutil.rmtree(self.folder / "tile")
        write_tiles(self.store, lambda first, end: leaves[first:end], 0, len(leaves))

    def sign(self, leaves: list[bytes]) -> None:
        """A checkpoint over these leaves with the log's own key, against the signer's rules."""
        note = self.signer.sign_anything(len(leaves), merkle.root(map(merkle.leaf_hash, leaves)))
        self.store.write("checkpoint", note.encode())
