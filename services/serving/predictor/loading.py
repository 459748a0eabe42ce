"""Verifies a model and hands out exactly the bytes that it verified: each object is read once, hashed, and kept in memory.

Order of the checks: quarantine (asked from the API; when that is away, nothing loads), the Manifest and its environment, the
artifact's id recomputed from the bytes, the OMS signature over those files. It builds no model.
"""

from collections.abc import Callable
from dataclasses import dataclass

from services.core import dsse, oms
from services.core.digests import FileEntry, sha256, tree_digest
from services.core.errors import BadInput, NotFound, Refused
from services.core.objects import CorruptObject, ObjectStore
from services.core.statements import Manifest, expect
from services.core.trust import Trust
from services.serving.errors import LoadRefused, Quarantined
from services.serving.predictor.order import Order

ROLE = "manifest"


@dataclass(frozen=True)
class Verified:
    """files: path to the verified bytes; manifest: the payload digest of the Manifest."""

    order: Order
    files: dict[str, bytes]
    manifest: str


def load_verified(
    order: Order, store: ObjectStore, trust: Trust, quarantine: Callable[[str], list[str]]
) -> Verified:
    """The artifact's bytes, verified.

    Args:
        quarantine: deployment id to the reasons of its quarantine; none when it may be served.
    Raises:
        Unavailable: the API or the object store did not answer; retry.
        Quarantined, LoadRefused: a check failed; nothing of the model was loaded; do not retry.
    """
    if reasons := quarantine(order.deployment):
        raise Quarantined(f"{order.model}@{order.number} is quarantined: {'; '.join(reasons)}")
    try:
        manifest, digest = _manifest(order, store, trust)
        files = {entry.path: _read(entry, store) for entry in order.files}
        entries = [FileEntry(path, len(data), sha256(data)) for path, data in files.items()]
        _check_artifact(order, manifest, tree_digest(entries))
        _, subject = oms.verify_any(store.get(order.bundle), entries, trust.signer_with_role(ROLE))
        if subject != manifest.oms_subject:
            raise LoadRefused("the model signature is of another tree than the one in the manifest")
    except (CorruptObject, NotFound, BadInput, Refused) as error:
        if isinstance(error, LoadRefused):
            raise
        raise LoadRefused(f"{order.model}@{order.number} does not verify: {error}") from error
    return Verified(order, files, digest)


def _manifest(order: Order, store: ObjectStore, trust: Trust) -> tuple[Manifest, str]:
    envelope = dsse.parse(store.get(order.manifest))
    if not dsse.verified_signers(envelope, trust.signer_with_role(ROLE)):
        raise LoadRefused(f"the manifest of {order.model}@{order.number} is not signed by a trusted manifest key")
    manifest = expect(Manifest, envelope.payload)
    if manifest.environment != order.environment:
        raise LoadRefused(f"the manifest is for {manifest.environment}, this predictor serves {order.environment}")
    if (manifest.model, manifest.number) != (order.model, order.number):
        raise LoadRefused(f"the manifest is of {manifest.model}@{manifest.number}, not of {order.model}@{order.number}")
    return manifest, dsse.payload_digest(envelope)


def _read(entry: FileEntry, store: ObjectStore) -> bytes:
    data = store.get(entry.sha256)
    # The store hashes what it reads; this predictor answers for itself and does not rely on it.
    if sha256(data) != entry.sha256 or len(data) != entry.size:
        raise LoadRefused(f"{entry.path}: the stored bytes are not those of the artifact")
    return data


def _check_artifact(order: Order, manifest: Manifest, recomputed: str) -> None:
    for name, digest in (("manifest", manifest.artifact_id), ("deployment", order.artifact_id)):
        if digest != recomputed:
            raise LoadRefused(f"the artifact's bytes have id {recomputed}, the {name} says {digest}")
