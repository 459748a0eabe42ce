"""Artifacts: immutable file trees. An artifact is visible only when every one of its files is in the store."""

import hashlib
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, insert, select

from services.core.canonical import parse
from services.core.clock import Clock
from services.core.database import begin
from services.core.digests import CHUNK, FileEntry, require_files, tree_bytes, tree_digest
from services.core.errors import BadInput
from services.core.events import EventDraft, Subject
from services.core.objects import ObjectStore, WrongChecksum
from services.core.oms import SIGNATURE_FILE
from services.core.statements import Digest, Strict
from services.registry import tables
from services.registry.errors import UnknownArtifact
from services.registry.ports import Events


class ArtifactUpload(Strict):
    """id: what the uploader computed; it must be the digest of the files. meta: free, at most 32 fields."""

    id: Digest
    files: list[dict[str, Any]]
    meta: dict[str, str] = {}


@dataclass(frozen=True)
class Artifacts:
    """Use cases over artifacts."""

    engine: Engine
    store: ObjectStore
    events: Events
    clock: Clock

    def upload(self, upload: ArtifactUpload, actor: str) -> dict[str, Any]:
        """Makes a tree of objects that were uploaded before into an artifact. Again with the same files: no change.

        Raises:
            WrongChecksum: the id is not the digest of these files, or an object has another size. BadInput: an object is
                missing. Nothing becomes visible then.
        """
        files = require_files(upload.files)
        if len(upload.meta) > 32:
            raise BadInput("meta: at most 32 fields")
        if tree_digest(files) != upload.id:
            raise WrongChecksum(f"the files make artifact {tree_digest(files)}, not {upload.id}")
        for entry in files:
            if not self.store.has(entry.sha256):
                raise BadInput(f"{entry.path}: object {entry.sha256} is not in the store: upload it first")
            if self.store.size(entry.sha256) != entry.size:
                raise WrongChecksum(f"{entry.path}: has {self.store.size(entry.sha256)} bytes, not {entry.size}")
        # 1. Store the file list. A crash here leaves an object that no row names: harmless.
        self.store.put(tree_bytes(files))
        # 2. Row and event in one transaction: from here the artifact is visible.
        with begin(self.engine) as connection:
            self.record(connection, files, actor, run_id=None, meta=upload.meta)
        return self.get(upload.id)

    def record(
        self, connection: Connection, files: list[FileEntry], actor: str, *, run_id: str | None, meta: dict[str, str]
    ) -> str:
        """The artifact's id; its row and event are written in the caller's transaction, unless they are there.

        The caller has stored every file and `tree_bytes(files)` before. Raises BadInput: a file is named model.sig,
        or two paths are one file on some systems.
        """
        if any(entry.path == SIGNATURE_FILE for entry in files):
            raise BadInput(f"{SIGNATURE_FILE} is where an export puts the signature over the tree: leave it out or rename it")
        require_files([entry.to_json() for entry in files])
        artifact_id = tree_digest(files)
        table = tables.artifacts
        if connection.execute(select(table.c.id).where(table.c.id == artifact_id)).first() is not None:
            return artifact_id
        size = sum(entry.size for entry in files)
        connection.execute(
            insert(table).values(
                id=artifact_id,
                size=size,
                run_id=run_id,
                meta=meta,
                uploaded_by=actor,
                uploaded_at=self.clock(),
            )
        )
        payload = {"files": len(files), "size": size, "run": run_id}
        subject = Subject("artifact", artifact_id, artifact_id)
        self.events.emit(connection, EventDraft("artifact.uploaded", actor, subject, payload))
        return artifact_id

    def get(self, artifact_id: str) -> dict[str, Any]:
        """The record with its files. Raises UnknownArtifact."""
        with self.engine.connect() as connection:
            row = connection.execute(select(tables.artifacts).where(tables.artifacts.c.id == artifact_id)).mappings().first()
        if row is None:
            raise UnknownArtifact(f"no artifact {artifact_id}: `ai-infra run list` and `ai-infra model list` show those there are")
        return dict(row) | {"files": parse(self.store.get(artifact_id))}

    def files(self, artifact_id: str) -> list[FileEntry]:
        """The files as recorded. Raises BadInput: the list holds what no upload could have brought in."""
        return require_files(self.get(artifact_id)["files"])

    def recomputed(self, artifact_id: str) -> list[FileEntry]:
        """The files with sizes and digests computed now from the stored bytes; one that is gone is left out."""
        found = []
        for entry in self.files(artifact_id):
            if self.store.has(entry.sha256):
                found.append(_rehash(self.store, entry))
        return found


def _rehash(store: ObjectStore, entry: FileEntry) -> FileEntry:
    hasher, size = hashlib.sha256(), 0
    with store.open(entry.sha256) as source:
        while chunk := source.read(CHUNK):
            hasher.update(chunk)
            size += len(chunk)
    return FileEntry(entry.path, size, "sha256:" + hasher.hexdigest())
