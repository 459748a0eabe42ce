"""Writes the evidence archive: everything that a stranger needs to verify one promotion, offline. Its layout: core.archive."""

import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any, Protocol

from sqlalchemy import Engine, select

from services.core import archive, dsse
from services.core.canonical import canonical
from services.core.digests import CHUNK, tree_bytes
from services.core.objects import ObjectStore
from services.core.statements import PromotionRequest, expect
from services.registry import tables
from services.registry.artifacts import Artifacts
from services.registry.datasets import Datasets
from services.registry.errors import UnknownModel
from services.registry.flags import Flags
from services.registry.models import Models
from services.registry.promotion import COMPLETED, Promotions


class Decisions(Protocol):
    """SentinelNet's records."""

    def input(self, decision_id: str) -> bytes:
        """Canonical bytes of a decision's input."""

    def bundle(self, decision_id: str) -> tuple[bytes, bytes]:
        """The bundle that a decision was made with: its tar, and the envelope under which it was active then."""


class Log(Protocol):
    """The audit log's files."""

    def snapshot(self) -> Iterator[tuple[str, bytes]]:
        """Path below the log's folder → bytes: the checkpoint, signed now, and the entry bundles that it covers."""


@dataclass(frozen=True)
class Evidences:
    """Use cases over evidence."""

    engine: Engine
    store: ObjectStore
    datasets: Datasets
    artifacts: Artifacts
    models: Models
    promotions: Promotions
    flags_service: Flags
    decisions: Decisions
    log: Log

    def manifests(self, model: str, number: int) -> list[dict[str, Any]]:
        """Manifests of a version, one for each stage that it reached, in that order."""
        table, promotions = tables.manifests, tables.promotions
        query = (
            select(table)
            .join(promotions, promotions.c.id == table.c.promotion)
            .where((table.c.model == model) & (table.c.number == number))
            .order_by(promotions.c.requested_at, promotions.c.id)
        )
        with self.engine.connect() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def flags(self, version: dict[str, Any]) -> list[dict[str, Any]]:
        """Active flags on a version."""
        with self.engine.connect() as connection:
            return self.flags_service.on(
                connection, version["model"], version["number"], version["artifact_id"], version["ancestors"]
            )

    def build(self, model: str, number: int, environment: str | None, weights: bool) -> IO[bytes]:
        """The archive of the latest promotion (to `environment`), as a temporary file at its start.

        weights: whether the model's files are in it; without them the verifier is given a folder.
        Raises:
            UnknownModel: no such version, or it was not promoted there.
        """
        self.models.get(model, number)
        found = [item for item in self.manifests(model, number) if environment in (None, item["environment"])]
        if not found:
            raise UnknownModel(f"{model}@{number} has no manifest for {environment or 'any environment'}: promote it first")
        file = tempfile.TemporaryFile()  # noqa: SIM115  # the caller reads and closes it
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as target:
            self._write(target, found[-1], weights)
        file.seek(0)
        return file

    def _write(self, target: zipfile.ZipFile, manifest: dict[str, Any], weights: bool) -> None:
        promotion = self.promotions.get(manifest["promotion"])
        assert promotion["state"] == COMPLETED
        version = self.models.get(manifest["model"], manifest["number"])
        files = self.artifacts.files(version["artifact_id"])
        envelope = self.store.get(promotion["envelope"])
        request = expect(PromotionRequest, dsse.parse(envelope).payload)
        tar, published = self.decisions.bundle(promotion["decision_id"])
        evaluation = self.models.evaluation_envelope(request.evaluation)
        assert evaluation is not None, "a promotion is not decided without an evaluation"
        index = {
            "version": archive.VERSION,
            "model": manifest["model"],
            "number": manifest["number"],
            "environment": manifest["environment"],
            "decision": promotion["decision_id"],
            "weights": weights,
        }
        target.writestr(archive.INDEX, canonical(index))
        target.writestr(archive.MANIFEST, self.store.get(manifest["envelope"]))
        target.writestr(archive.REQUEST, envelope)
        target.writestr(archive.DECISION, self.store.get(promotion["summary"]))
        target.writestr(archive.DECISION_INPUT, self.decisions.input(promotion["decision_id"]))
        target.writestr(archive.EVALUATION, evaluation)
        target.writestr(archive.PROVENANCE, self.store.get(version["provenance"]))
        target.writestr(archive.ARTIFACT_SIGNATURE, self.store.get(version["signature"]))
        target.writestr(archive.FILES, tree_bytes(files))
        target.writestr(archive.POLICY, tar)
        target.writestr(archive.POLICY_SIGNATURE, published)
        target.writestr(archive.MODEL_SIGNATURE, self.store.get(manifest["bundle"]))
        for dataset in version["ancestors"]:
            target.writestr(archive.hex_name(archive.DATASETS, dataset), self.store.get(dataset))
            for stored in self.datasets.approvals(dataset)["envelopes"]:
                target.writestr(archive.hex_name(archive.DATASET_APPROVALS, stored, ".dsse.json"), self.store.get(stored))
        if weights:
            for entry in files:
                with (
                    target.open(archive.MODEL + entry.path, "w", force_zip64=True) as member,
                    self.store.open(entry.sha256) as source,
                ):
                    while chunk := source.read(CHUNK):
                        member.write(chunk)
        for path, data in self.log.snapshot():
            target.writestr(archive.LOG + path, data)
