"""Writes the evidence archive: everything that a stranger needs to verify one promotion, or one prediction by the version that was
promoted, offline. Its layout: core.archive."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any, Protocol

from sqlalchemy import Engine, select

from services.core import archive, dsse
from services.core.canonical import canonical
from services.core.digests import CHUNK, FileEntry, tree_bytes
from services.core.errors import BadInput, Unavailable
from services.core.objects import ObjectStore
from services.core.statements import PromotionRequest, expect
from services.core.storage import writing
from services.core.storedzip import Writer
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
    """The audit log."""

    def holds(self, event_id: str) -> bool:
        """Whether the event is an entry already."""

    def snapshot(self) -> Iterator[tuple[str, bytes]]:
        """Path below the log's folder → bytes: the checkpoint, signed now, and the entry bundles that it covers."""


class Served(Protocol):
    """Serving: what was predicted, and by which deployment."""

    def prediction(self, prediction: str) -> dict[str, Any]:
        """{"record", "sealed": {"batch", "event", "index", "size", "root", "proof"} or None}; see serving's router.records.

        Raises:
            NotFound: no such prediction. Unavailable: the router is away; retry.
        """

    def deployment(self, deployment: str) -> dict[str, Any]:
        """Its row: at least model, number, environment, manifest_ref and decision_id. Raises NotFound."""


@dataclass(frozen=True)
class Prediction:
    """A sealed record, the deployment that answered, and the decision that let it be deployed."""

    record: dict[str, Any]
    sealed: dict[str, Any]
    deployment: dict[str, Any]


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
            return self.flags_service.on(connection, self.models.targets(version))

    def build(self, model: str, number: int, environment: str | None, weights_up_to: int) -> IO[bytes]:
        """The archive of the latest promotion (to `environment`), as a temporary file at its start.

        weights_up_to: bytes; the files of a larger model are not in it, and the verifier is given a folder.
        Raises:
            UnknownModel: no such version, or it was not promoted there.
        """
        self.models.get(model, number)
        found = [item for item in self.manifests(model, number) if environment in (None, item["environment"])]
        if not found:
            raise UnknownModel(f"{model}@{number} has no manifest for {environment or 'any environment'}: promote it first")
        return self._file(found[-1], None, weights_up_to)

    def build_for(self, prediction: str, served: Served, weights_up_to: int) -> IO[bytes]:
        """As build, of one prediction and of the promotion under which its deployment serves.

        Raises:
            NotFound: no such prediction. BadInput: no version answered it.
            Unavailable: its batch is not sealed, or not in the log yet (a matter of seconds); retry.
        """
        found = served.prediction(prediction)
        record, sealed = found["record"], found["sealed"]
        if sealed is None or not self.log.holds(sealed["event"]):
            raise Unavailable(f"prediction {prediction} is not sealed in the log yet: its batch will be within seconds; retry")
        if record["artifactId"] is None:
            raise BadInput(f"prediction {prediction} was answered by no version: {record['outcome']}")
        deployment = served.deployment(record["deployment"])
        manifests = self.manifests(deployment["model"], deployment["number"])
        manifest = next(item for item in manifests if item["payload"] == deployment["manifest_ref"])
        return self._file(manifest, Prediction(record, sealed, deployment), weights_up_to)

    def _file(self, manifest: dict[str, Any], prediction: Prediction | None, weights_up_to: int) -> IO[bytes]:
        with writing("the archive could not be put aside"):
            file = tempfile.TemporaryFile()  # noqa: SIM115  # the caller reads and closes it
            try:
                target = Writer(file)
                self._write(target, manifest, prediction, weights_up_to)
                target.close()
                file.seek(0)
            except BaseException:
                file.close()
                raise
            return file

    def _write(self, target: Writer, manifest: dict[str, Any], prediction: Prediction | None, weights_up_to: int) -> None:
        promotion = self.promotions.get(manifest["promotion"])
        assert promotion["state"] == COMPLETED
        version = self.models.get(manifest["model"], manifest["number"])
        files = self.artifacts.files(version["artifact_id"])
        weights = sum(entry.size for entry in files) <= weights_up_to
        index = {
            "version": archive.VERSION,
            "model": manifest["model"],
            "number": manifest["number"],
            "environment": manifest["environment"],
            "decision": promotion["decision_id"],
            "weights": weights,
            "prediction": prediction and prediction.record["id"],
            "deployDecision": prediction and prediction.deployment["decision_id"],
        }
        # In the order that the verifier asks for; the log after all that it has to tell of, and before what cannot change.
        target.add(archive.INDEX, canonical(index))
        self._write_promotion(target, manifest, promotion)
        self._write_version(target, version, files)
        if prediction is not None:
            self._write_prediction(target, prediction)
        self._write_datasets(target, version["ancestors"])
        for path, data in self.log.snapshot():
            target.add(archive.LOG + path, data)
        if weights:
            for entry in sorted(files):
                target.stream(archive.MODEL + entry.path, entry.size, self._chunks(entry))

    def _write_prediction(self, target: Writer, prediction: Prediction) -> None:
        decision = prediction.deployment["decision_id"]
        tar, published = self.decisions.bundle(decision)
        target.add(archive.PREDICTION, canonical(prediction.record))
        target.add(archive.PREDICTION_PROOF, canonical(prediction.sealed))
        target.add(archive.DEPLOY_INPUT, self.decisions.input(decision))
        target.add(archive.DEPLOY_POLICY, tar)
        target.add(archive.DEPLOY_POLICY_SIGNATURE, published)

    def _write_promotion(self, target: Writer, manifest: dict[str, Any], promotion: dict[str, Any]) -> None:
        envelope = self.store.get(promotion["envelope"])
        tar, published = self.decisions.bundle(promotion["decision_id"])
        evaluation = self.models.evaluation_envelope(expect(PromotionRequest, dsse.parse(envelope).payload).evaluation)
        assert evaluation is not None, "a promotion is not decided without an evaluation"
        target.add(archive.MANIFEST, self.store.get(manifest["envelope"]))
        target.add(archive.REQUEST, envelope)
        target.add(archive.DECISION, self.store.get(promotion["summary"]))
        target.add(archive.DECISION_INPUT, self.decisions.input(promotion["decision_id"]))
        target.add(archive.EVALUATION, evaluation)
        target.add(archive.POLICY, tar)
        target.add(archive.POLICY_SIGNATURE, published)
        target.add(archive.MODEL_SIGNATURE, self.store.get(manifest["bundle"]))

    def _write_version(self, target: Writer, version: dict[str, Any], files: list[FileEntry]) -> None:
        target.add(archive.PROVENANCE, self.store.get(version["provenance"]))
        target.add(archive.ARTIFACT_SIGNATURE, self.store.get(version["signature"]))
        target.add(archive.FILES, tree_bytes(files))

    def _write_datasets(self, target: Writer, datasets: list[str]) -> None:
        approvals = {stored for dataset in datasets for stored in self.datasets.approvals(dataset)["envelopes"]}
        for stored in sorted(approvals):
            target.add(archive.hex_name(archive.DATASET_APPROVALS, stored, ".dsse.json"), self.store.get(stored))
        for dataset in sorted(datasets):
            target.add(archive.hex_name(archive.DATASETS, dataset), self.store.get(dataset))

    def _chunks(self, entry: FileEntry) -> Iterator[bytes]:
        with self.store.open(entry.sha256) as source:
            while chunk := source.read(CHUNK):
                yield chunk
