"""The audit log: durable append, publication as signed tiles, look-up, proofs, and a check of everything.

`append` and `publish` are apart on purpose: an event is in the log when its row is committed, and becomes provable to strangers
with the next checkpoint. They share no lock, because the signer waits for its own events to be appended while it signs.
"""

import dataclasses
import logging
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, Engine, Select, bindparam, func, select

from services.audit import domain
from services.audit.compare import TableCheck
from services.audit.domain import Entry, Known
from services.audit.errors import LogDiffers, NotCosigned, NotPublished
from services.audit.metrics import count
from services.audit.ports import CheckpointSigner, LogStore
from services.audit.publish import write_tiles
from services.audit.tables import events as table
from services.audit.tables import insert_sql
from services.audit.witnesses import Witness, cosigned
from services.core import cosignature, logfile, merkle, tlog
from services.core.database import Writer
from services.core.errors import BadInput, Conflict, NotFound
from services.core.keys import BadSignature
from services.core.logcheck import check_log
from services.core.logentry import NO_PREVIOUS, chain_hash
from services.core.logfindings import Findings, Report
from services.core.tlog import TILE_WIDTH, BadLogFormat, Checkpoint, VerifierKey
from services.signing.ports import CheckpointState

MAX_BATCH = 500
MAX_LISTED = 1000
ROWS = 4 * TILE_WIDTH
"""Read from the table at once while it is checked: putting a query together costs as much however few rows it asks for."""

log = logging.getLogger(__name__)


class AuditLog:
    """Implements core.outbox.AuditBus. Safe in threads; one process owns the database and the store.

    vkey: the log's key, whose name is the log's origin; witnesses: asked to cosign each checkpoint; threshold: how many of them
    must have done so before `require_cosigned` passes.
    """

    def __init__(
        self,
        engine: Engine,
        store: LogStore,
        signer: CheckpointSigner,
        vkey: VerifierKey,
        witnesses: Sequence[Witness] = (),
        threshold: int = 0,
    ) -> None:
        self._engine, self._store, self._signer, self._vkey = engine, store, signer, vkey
        self._witnesses, self._threshold = witnesses, threshold
        # The database has a lock of its own; this one makes threads wait their turn instead of running into its timeout.
        self._appending, self._writer = threading.Lock(), Writer(engine)
        self._head: Known | None = None
        self._insert = insert_sql(engine)
        self._publishing = threading.Lock()

    def append(self, events: list[dict[str, Any]]) -> list[int]:
        """See AuditBus. All of the batch or none of it.

        Raises:
            Gap, KnownEvent: see there; do not retry.
            BadInput, TooLarge: an event is malformed, or over 500 of them.
            Unavailable: the database did not take it; retry.
        """
        if len(events) > MAX_BATCH:
            raise BadInput(f"{len(events)} events at once: send at most {MAX_BATCH}")
        with self._appending:
            # After an error nobody knows what the table holds: the next append asks it.
            head, self._head = self._head, None
            if head is not None:
                try:
                    # Unless a batch simply follows, the table tells what it is: repeated, forged, or after another process's.
                    return self._follow(events, Known(head.size, head.head, {}, dict(head.seqs)))
                except Conflict:
                    pass
            return self._append(events, head.seqs if head else {})

    def _follow(self, events: list[dict[str, Any]], known: Known) -> list[int]:
        """known: what the table held when this process last wrote; was more added since, index or seq are taken, and nothing is
        written."""
        indexes, rows = domain.plan(events, known)
        if len(rows) == 1:
            self._writer.insert(self._insert, rows[0])
        elif rows:
            with self._writer.begin() as connection:
                connection.exec_driver_sql(self._insert, list[Any](rows))
        self._wrote(events, rows, known, known.seqs)
        return indexes

    def _append(self, events: list[dict[str, Any]], seqs: dict[str, int]) -> list[int]:
        """Asks the table what it holds. seqs: of sources in earlier batches, as far as this process knows."""
        with self._writer.begin() as connection:
            if connection.dialect.name == "postgresql":
                # One appender at a time: index, prevHash and seq all follow from the rows before. Readers are not held up.
                connection.exec_driver_sql("LOCK TABLE events IN EXCLUSIVE MODE")
            known = _known(connection, events)
            indexes, rows = domain.plan(events, known)
            # A crash before the commit leaves nothing; after it, the sender repeats the batch and gets these indexes.
            if rows:
                connection.exec_driver_sql(self._insert, list[Any](rows))
        self._wrote(events, rows, known, {**seqs, **known.seqs})
        return indexes

    def _wrote(self, events: list[dict[str, Any]], rows: list[domain.Row], known: Known, seqs: dict[str, int]) -> None:
        self._head = Known(known.size, known.head, {}, seqs)
        count(events, (row.id for row in rows))

    def publish(self) -> Checkpoint | None:
        """The checkpoint over all entries, signed and written; None while there are none. Repeating it is harmless. Where none is
        published (somebody moved the files aside), every tile and bundle is written anew from the table.

        Raises:
            LogDiffers: the signer has signed another history, or more of it than the table holds; nothing was published.
            Unavailable: signer, store or database did not answer; retry.
        """
        with self._publishing:
            size, published = self.size(), self._published()
            if size == 0 and published is None:
                return None
            if published is not None and published.size == size:
                self._cosign_again(published)
                return published
            last = self._signer.last_checkpoint(self._vkey.name)
            known = max(published.size if published else 0, last.size if last else 0)
            if size < known:
                raise LogDiffers(f"checkpoints are signed up to {known} entries, the table holds {size}: restore the newest backup")
            # 1. Write tiles and bundles. A crash leaves files that no checkpoint speaks of; the next call writes them again.
            root, proof = self._grow(0 if published is None else published.size, size, last)
            # 2. Sign. The signer keeps (size, root) before it answers. A crash here leaves it ahead of the published
            #    checkpoint; the next proof starts from its state, not from ours.
            note = self._signer.sign_checkpoint(origin=self._vkey.name, size=size, root=root, proof=proof)
            signed = tlog.open_checkpoint(note.encode(), self._vkey)
            if (signed.size, signed.root) != (size, root):
                raise LogDiffers("the signer answered with a checkpoint of another tree")
            # 3. Ask the witnesses. A crash here leaves them ahead too; the next request is told the size that they know.
            # 4. Publish. From here on readers see the new tree, all of whose files are durable.
            self._store.write(logfile.CHECKPOINT, self._cosigned(note.encode(), size))
            return signed

    def require_cosigned(self) -> None:
        """Passes when all that was appended before the call is under a checkpoint with as many cosignatures as trust asks for.

        Raises:
            NotCosigned: a witness is away; retry. Unavailable, LogDiffers: as publish.
        """
        if self._threshold == 0:
            return
        size, published = self.size(), self.publish()
        found = self.witnessed()
        by = [name for name, at in found.items() if at is not None]
        if published is None or published.size < size or len(by) < self._threshold:
            absent = "; ".join(f"{w.vkey.name} ({w.problem})" for w in self._witnesses if w.vkey.name not in by)
            raise NotCosigned(f"{len(by)} witnesses cosigned the log, trust asks for {self._threshold}: retry; without {absent}")

    def witnessed(self) -> dict[str, int | None]:
        """Witness → when it cosigned the published checkpoint, epoch seconds; None: it did not. Empty without witnesses."""
        try:
            found = cosignature.cosigners(logfile.read_checkpoint(self._store), [witness.vkey for witness in self._witnesses])
        except (NotFound, BadLogFormat, BadSignature):
            found = {}
        return {witness.vkey.name: found.get(witness.vkey.name) for witness in self._witnesses}

    def size(self) -> int:
        """How many entries the log has, published or not."""
        with self._engine.connect() as connection:
            return _size(connection)

    def unpublished(self) -> int:
        """How many entries are under no checkpoint yet."""
        published = self._published()
        return self.size() - (published.size if published is not None else 0)

    def get(self, index: int) -> Entry:
        """Raises NotFound."""
        return self._one(select(table.c.index, table.c.leaf).where(table.c.index == index), f"entry {index}")

    def by_id(self, event_id: str) -> Entry:
        """Raises NotFound."""
        return self._one(select(table.c.index, table.c.leaf).where(table.c.id == event_id), f"event {event_id!r}")

    def tail(self, count: int) -> list[Entry]:
        """The last entries, oldest first; 1,000 at most."""
        query = select(table.c.index, table.c.leaf).order_by(table.c.index.desc()).limit(_limit(count))
        return self._many(query)[::-1]

    def search(
        self,
        *,
        subject_kind: str | None = None,
        subject_id: str | None = None,
        type: str | None = None,
        after: int = -1,
        limit: int = 100,
    ) -> list[Entry]:
        """Entries that match everything given, in log order.

        Args:
            after: entries with a higher index only: the last index of a page gives the next one.
            limit: 1,000 at most.
        """
        query = select(table.c.index, table.c.leaf).where(table.c.index > after).order_by(table.c.index).limit(_limit(limit))
        for column, value in ((table.c.subject_kind, subject_kind), (table.c.subject_id, subject_id), (table.c.type, type)):
            if value is not None:
                query = query.where(column == value)
        return self._many(query)

    def checkpoint(self) -> str:
        """The signed note last published.

        Raises:
            NotPublished: there is none yet.
        """
        try:
            return logfile.read_checkpoint(self._store).decode()
        except NotFound as error:
            raise NotPublished("no checkpoint is published yet; retry") from error

    def tile(self, path: str) -> bytes:
        """A tile or entry bundle by its tlog-tiles path; a partial one also after the full one has replaced it.

        Raises:
            BadLogFormat: no such path. NotFound: no such file.
        """
        return logfile.read_file(self._store, tlog.require_tile_path(path))

    def prove(self, index: int) -> str:
        """A `.tlog-proof` file: that the entry is in the log, under the published checkpoint.

        Raises:
            NotFound: no such entry. NotPublished: under no checkpoint yet; retry.
            LogDiffers: the tiles do not show what the table holds; runbooks/audit-log-differs.md has them written anew.
        """
        leaf = self._one_leaf(index)
        note = self.checkpoint()
        checkpoint = tlog.open_checkpoint(note.encode(), self._vkey)
        if index >= checkpoint.size:
            raise NotPublished(f"entry {index} is under no checkpoint yet: the last is of {checkpoint.size} entries")
        hashes = merkle.inclusion_proof(logfile.nodes(self._store, checkpoint.size), index, checkpoint.size)
        try:
            merkle.verify_inclusion(merkle.leaf_hash(leaf), index, checkpoint.size, hashes, checkpoint.root)
        except merkle.BadProof as error:
            raise LogDiffers(f"entry {index} of the table is not the published one: run the log's verify") from error
        return tlog.TlogProof(index, tuple(hashes), note).text()

    def verify(self, against: bytes | None = None) -> Report:
        """Everything that the offline check does, and that the table holds what was published.

        Args:
            against: a signed checkpoint kept elsewhere, without which truncation and forks cannot be told.
        """
        witnesses = [witness.vkey for witness in self._witnesses]
        found = Findings()
        rows = TableCheck(self._rows(), found)
        report = check_log(self._store, self._vkey, against, rows.see, witnesses, self._threshold)
        rows.finish(report.size)
        return dataclasses.replace(report, problems=report.problems + found.sorted(), more=report.more + found.more)

    def _cosigned(self, note: bytes, size: int) -> bytes:
        nodes = logfile.nodes(self._store, size)
        return cosigned(note, self._witnesses, size, lambda old: merkle.consistency_proof(nodes, old, size))

    def _cosign_again(self, published: Checkpoint) -> None:
        """Adds the lines of witnesses that were away when the checkpoint was published."""
        if None in self.witnessed().values():
            note = logfile.read_checkpoint(self._store)
            better = self._cosigned(note, published.size)
            if better != note:
                self._store.write(logfile.CHECKPOINT, better)

    def _published(self) -> Checkpoint | None:
        try:
            return tlog.open_checkpoint(logfile.read_checkpoint(self._store), self._vkey)
        except NotFound:
            return None
        except (BadLogFormat, BadSignature) as error:
            # Files are rebuilt from the table then; that this keeps history is the signer's to judge.
            log.warning("the published checkpoint is damaged and will be replaced: %s", error)
            return None

    def _grow(self, old: int, size: int, last: CheckpointState | None) -> tuple[bytes, list[bytes]]:
        """Root and consistency proof of the written tree. Damaged files of the old tree are replaced by a rebuild of all."""
        try:
            return self._written(old, size, last)
        except (NotFound, BadLogFormat, LogDiffers) as error:
            if old == 0:
                raise
            log.warning("the published tiles are damaged and will be rebuilt from the table: %s", error)
            return self._written(0, size, last)

    def _written(self, old: int, size: int, last: CheckpointState | None) -> tuple[bytes, list[bytes]]:
        write_tiles(self._store, self._leaves, old, size)
        nodes = logfile.nodes(self._store, size)
        if last is not None and merkle.range_root(nodes, 0, last.size) != last.root:
            raise LogDiffers(f"the first {last.size} entries are not those whose checkpoint was signed: history was changed")
        return merkle.range_root(nodes, 0, size), merkle.consistency_proof(nodes, last.size if last else 0, size)

    def _rows(self) -> Iterator[tuple[Any, ...]]:
        """The whole table in order, 1,024 rows in memory at a time, as the driver gives them."""
        after = -1
        query = select(table).where(table.c.index > bindparam("after")).order_by(table.c.index).limit(ROWS)
        while True:
            with self._engine.connect() as connection:
                cursor = connection.execute(query, {"after": after}).cursor
                rows = cursor.fetchall() if cursor is not None else []
            yield from rows
            if not rows:
                return
            after = rows[-1][0]

    def _leaves(self, first: int, end: int) -> list[bytes]:
        query = select(table.c.leaf).where(table.c.index >= first, table.c.index < end).order_by(table.c.index)
        with self._engine.connect() as connection:
            leaves = list(connection.execute(query).scalars())
        if len(leaves) != end - first:
            raise LogDiffers(f"the table lacks entries between {first} and {end}: restore the newest backup")
        return leaves

    def _one_leaf(self, index: int) -> bytes:
        with self._engine.connect() as connection:
            leaf: bytes | None = connection.execute(select(table.c.leaf).where(table.c.index == index)).scalar()
        if leaf is None:
            raise NotFound(f"no entry {index} in the log: `ai-infra audit tail` shows the newest")
        return leaf

    def _one(self, query: Select[Any], name: str) -> Entry:
        found = self._many(query)
        if not found:
            raise NotFound(f"no {name} in the log")
        return found[0]

    def _many(self, query: Select[Any]) -> list[Entry]:
        with self._engine.connect() as connection:
            return [Entry.of(index, leaf) for index, leaf in connection.execute(query)]


def _known(connection: Connection, events: list[dict[str, Any]]) -> Known:
    """What the table holds of the batch; malformed events are left to domain.plan."""
    ids = {event["id"] for event in events if isinstance(event.get("id"), str)}
    sources = {event["source"] for event in events if isinstance(event.get("source"), str)}
    newest = select(table.c.index, table.c.leaf).order_by(table.c.index.desc()).limit(1)
    last, leaf = connection.execute(newest).first() or (-1, b"")
    entries = connection.execute(select(table.c.id, table.c.index, table.c.leaf).where(table.c.id.in_(ids)))
    seqs = connection.execute(
        select(table.c.source, func.max(table.c.seq)).where(table.c.source.in_(sources)).group_by(table.c.source)
    )
    return Known(
        size=last + 1,
        head=chain_hash(leaf) if leaf else NO_PREVIOUS,
        entries={event_id: (index, leaf) for event_id, index, leaf in entries},
        seqs={source: int(seq) for source, seq in seqs},
    )


def _size(connection: Connection) -> int:
    last = connection.execute(select(func.max(table.c.index))).scalar()
    return 0 if last is None else last + 1


def _limit(count: int) -> int:
    if not 1 <= count <= MAX_LISTED:
        raise BadInput(f"{count} entries: ask for 1 to {MAX_LISTED}")
    return count
