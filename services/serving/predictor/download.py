"""Fills the folder that a predictor in a cluster starts from: with one artifact, verified, or with nothing."""

import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from services.core.digests import FileEntry, sha256_file
from services.core.durable import sync_folder
from services.core.errors import BadInput, NotFound
from services.core.objects import CorruptObject, ObjectStore
from services.core.oms import SIGNATURE_FILE
from services.core.storage import writing
from services.core.trust import Trust
from services.serving.errors import LoadRefused
from services.serving.predictor.folder import FILES, INCOMING, MANIFEST, SOURCE, VERIFIED, ModelFolder
from services.serving.predictor.loading import Quarantine, verify
from services.serving.predictor.order import Order
from services.serving.predictor.source import Source

AT_ONCE = 8
"""Files that are downloaded at the same time."""


def initialise(
    source: Source, target: Path, environment: str, store: ObjectStore, trust: Trust, quarantine: Quarantine
) -> Order:
    """Completes `target/verified`, or leaves nothing there. Answers what lies there.

    Raises:
        Unavailable: API, object store or disk do not answer or take it; retry.
        Quarantined, LoadRefused: a check failed; do not retry.
    """
    incoming, verified = target / INCOMING, target / VERIFIED
    with writing(f"{target} does not take the model"):
        # 1. What an earlier attempt left goes. A crash in here leaves an `incoming` in pieces: it is what goes first the next time.
        shutil.rmtree(incoming, ignore_errors=True)
        if verified.exists():
            verified.rename(incoming)
            shutil.rmtree(incoming)
        # 2. Download into `incoming`, and verify what lies there. A crash leaves some or all of it; nobody starts from that.
        order = _download(source, incoming, environment, store, trust, quarantine)
        # 3. Name it. From here it is complete. It is not flushed first: after a power cut KServe runs us again, and who loads the
        #    folder hashes it.
        incoming.rename(verified)
        sync_folder(target)
    return order


def _download(
    source: Source, incoming: Path, environment: str, store: ObjectStore, trust: Trust, quarantine: Quarantine
) -> Order:
    folder = ModelFolder(incoming)

    def fetch(entries: Sequence[FileEntry]) -> list[FileEntry]:
        if any(entry.path == SIGNATURE_FILE for entry in entries):
            raise LoadRefused(f"a file of the artifact is named {SIGNATURE_FILE}: that is its signature's name")
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(_copier(store, folder.model), entries))

    try:
        folder.model.mkdir(parents=True)
        (incoming / SOURCE).write_text(str(source))
        store.copy_to(source.artifact, incoming / FILES)
        store.copy_to(source.manifest, incoming / MANIFEST)
        store.copy_to(source.bundle, folder.model / SIGNATURE_FILE)
        order = source.order(environment, folder)
    except (CorruptObject, NotFound, BadInput) as error:
        raise LoadRefused(f"{source} is no source of a model: {error}") from error
    verify(order, folder, trust, quarantine, fetch)
    folder.require_complete()
    return order


def _copier(store: ObjectStore, folder: Path) -> Callable[[FileEntry], FileEntry]:
    def copy(entry: FileEntry) -> FileEntry:
        path = folder / entry.path
        path.parent.mkdir(parents=True, exist_ok=True)
        store.copy_to(entry.sha256, path)
        # Of what lies on the disk, not of what went by.
        return FileEntry(entry.path, path.stat().st_size, sha256_file(path))

    return copy
