"""Verifies a model. Who loads it takes exactly the bytes that were verified: each object is read once, hashed, and kept.

Order of the checks: quarantine (asked from the API; when that is away, nothing loads), the Manifest and its environment, the
artifact's id recomputed from the bytes, the OMS signature over those files. It builds no model.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from services.core import dsse, oms
from services.core.digests import FileEntry, sha256, tree_digest
from services.core.errors import BadInput, NotFound, Refused
from services.core.objects import CorruptObject
from services.core.statements import Manifest, expect
from services.core.trust import Trust
from services.serving.errors import LoadRefused, Quarantined
from services.serving.predictor.order import Order
from services.serving.predictor.source import Objects

ROLE = "manifest"

Quarantine = Callable[[str], list[str]]
"""Deployment id to the reasons of its quarantine; none when it may be served."""
Fetch = Callable[[Sequence[FileEntry]], list[FileEntry]]
"""Takes the files in, and answers what it took: path, size and digest of the bytes themselves, in the same order."""


@dataclass(frozen=True)
class Verified:
    """files: path to the verified bytes; manifest: the payload digest of the Manifest."""

    order: Order
    files: dict[str, bytes]
    manifest: str


def load_verified(order: Order, objects: Objects, trust: Trust, quarantine: Quarantine) -> Verified:
    """The artifact's bytes, in memory. Raises as `verify` does."""
    files: dict[str, bytes] = {}

    def fetch(entries: Sequence[FileEntry]) -> list[FileEntry]:
        # The store hashes what it reads; this predictor answers for itself and does not rely on it.
        files.update({entry.path: objects.get(entry.sha256) for entry in entries})
        return [FileEntry(entry.path, len(files[entry.path]), sha256(files[entry.path])) for entry in entries]

    return Verified(order, files, verify(order, objects, trust, quarantine, fetch))


def verify(order: Order, objects: Objects, trust: Trust, quarantine: Quarantine, fetch: Fetch) -> str:
    """Has the files fetched once the Manifest holds, and verifies them. Answers the payload digest of the Manifest.

    Raises:
        Unavailable: the API or the object store did not answer; retry.
        Quarantined, LoadRefused: a check failed; what was fetched is not to be used; do not retry.
    """
    if reasons := quarantine(order.deployment):
        raise Quarantined(f"{order.model}@{order.number} is quarantined: {'; '.join(reasons)}")
    try:
        manifest, digest = _manifest(order, objects, trust)
        entries = fetch(order.files)
        _check_files(order, entries)
        _check_artifact(order, manifest, tree_digest(entries))
        _, subject = oms.verify_any(objects.get(order.bundle), entries, trust.signer_with_role(ROLE))
        if subject != manifest.oms_subject:
            raise LoadRefused("the model signature is of another tree than the one in the manifest")
    except (CorruptObject, NotFound, BadInput, Refused) as error:
        if isinstance(error, LoadRefused):
            raise
        raise LoadRefused(f"{order.model}@{order.number} does not verify: {error}") from error
    return digest


def _manifest(order: Order, objects: Objects, trust: Trust) -> tuple[Manifest, str]:
    envelope = dsse.parse(objects.get(order.manifest))
    if not dsse.verified_signers(envelope, trust.signer_with_role(ROLE)):
        raise LoadRefused(f"the manifest of {order.model}@{order.number} is not signed by a trusted manifest key")
    manifest = expect(Manifest, envelope.payload)
    if manifest.environment != order.environment:
        raise LoadRefused(f"the manifest is for {manifest.environment}, this predictor serves {order.environment}")
    if (manifest.model, manifest.number) != (order.model, order.number):
        raise LoadRefused(f"the manifest is of {manifest.model}@{manifest.number}, not of {order.model}@{order.number}")
    return manifest, dsse.payload_digest(envelope)


def _check_files(order: Order, entries: Sequence[FileEntry]) -> None:
    for wanted, found in zip(order.files, entries, strict=True):
        if found != wanted:
            raise LoadRefused(f"{wanted.path}: the stored bytes are not those of the artifact")


def _check_artifact(order: Order, manifest: Manifest, recomputed: str) -> None:
    for name, digest in (("manifest", manifest.artifact_id), ("deployment", order.artifact_id)):
        if digest != recomputed:
            raise LoadRefused(f"the artifact's bytes have id {recomputed}, the {name} says {digest}")
