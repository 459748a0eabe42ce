"""Prediction records of a cluster's predictors: kept in the object store, sealed by an event of the API's.

Predictors come and go with their pods, so they hand each batch on within seconds. What is sealed is a Merkle root (RFC 9162) over
the canonical bytes of the records, computed here.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field
from sqlalchemy import Engine, func, insert, select

from services.core import merkle
from services.core.canonical import parse
from services.core.clock import Clock
from services.core.database import begin
from services.core.errors import BadInput, Conflict, Unavailable
from services.core.objects import ObjectStore
from services.core.statements import Digest, Strict
from services.serving.errors import UnknownDeployment, UnknownPrediction
from services.serving.ports import Events
from services.serving.records import MOST_RECORDS, PREDICTION, line_of, made_at, root_of, sealed_event, with_proof
from services.serving.tables import deployments, prediction_batches

SPAN_MS = 600_000
"""Between first and last request of a batch. It bounds where a record is looked for; predictors close a batch after seconds."""
AHEAD_MS = 10_000
"""How far the clock of a predictor may be ahead of ours: verifiers allow as much (`verify.prediction`)."""
APART_MS = 1000
"""Between a record's time and the one in its id."""
PredictionId = Annotated[str, Field(pattern=PREDICTION)]
BatchId = Annotated[str, Field(pattern=r"^bat-[0-9a-f]{32}$")]
Count = Annotated[int, Field(ge=0, le=2**53)]


class PredictionRecord(Strict):
    """What one answer was. ts: epoch milliseconds of its start; status: 0 for no answer."""

    id: PredictionId
    ts: Count
    deployment: Annotated[str, Field(max_length=80)]
    artifact_id: Digest
    input_digest: Digest
    output_digest: Digest | None
    latency_us: Count
    outcome: Literal["ok", "error"]
    status: Annotated[int, Field(ge=0, le=599)]
    rollout: None


class RecordBatch(Strict):
    """id: the predictor's, under which it may hand the same batch on again; recovered: written by a process before the one that
    hands it on; lost: records that a killed process had begun and not written."""

    id: BatchId
    deployment: Annotated[str, Field(max_length=80)]
    records: Annotated[tuple[PredictionRecord, ...], Field(max_length=MOST_RECORDS, strict=False)]
    recovered: bool
    lost: Count


@dataclass(frozen=True)
class KeptRecords:
    """Use cases over handed-on records."""

    engine: Engine
    store: ObjectStore
    events: Events
    clock: Clock

    def keep(self, batch: RecordBatch, actor: str) -> dict[str, Any]:
        """Stores and seals a batch; {"batch", "root", "event"}. One that is here already is answered as it was. actor: a predictor.

        Raises:
            UnknownDeployment. BadInput: the records are not of this deployment, or make no batch.
            Conflict: a batch of this id holds other records. Unavailable: nothing was sealed; hand it on again.
        """
        self._require_sound(batch)
        lines = [line_of(record.to_json()) for record in batch.records]
        root = root_of(merkle.leaf_hash(line[:-1]) for line in lines)
        # 1. The records. A crash after it leaves bytes that nothing names; the predictor hands the batch on again.
        stored = self.store.put(b"".join(lines))
        # 2. Row and event, in one transaction. From here they are sealed; a predictor that did not hear of it asks again.
        with begin(self.engine) as connection:
            query = select(prediction_batches).where(prediction_batches.c.batch == batch.id)
            if (known := connection.execute(query).mappings().first()) is not None:
                if known["object"] != stored:
                    raise Conflict(f"batch {batch.id} holds other records")
                return _told(known)
            number = (connection.execute(select(func.max(prediction_batches.c.id))).scalar() or 0) + 1
            ids = [record.id for record in batch.records]
            draft = sealed_event(actor, number, root, ids, recovered=batch.recovered, lost=batch.lost)
            values = {
                "id": number,
                "batch": batch.id,
                "deployment": batch.deployment,
                "object": stored,
                "root": root,
                "records": len(lines),
                "first": min(ids, default=None),
                "last": max(ids, default=None),
                "event": self.events.emit(connection, draft),
            }
            connection.execute(insert(prediction_batches).values(values))
        return _told(values)

    def find(self, prediction: str) -> dict[str, Any]:
        """As the router's `RecordLog.find`. Raises UnknownPrediction."""
        made = made_at(prediction)
        if made is None:
            raise UnknownPrediction(f"no record of prediction {prediction[:100]!r}")
        table = prediction_batches.c
        earliest = f"prd-{max(0, made - SPAN_MS):012x}"
        query = select(prediction_batches).where(table.first.between(earliest, prediction) & (table.last >= prediction))
        with self.engine.connect() as connection:
            rows = connection.execute(query.order_by(table.id)).mappings().all()
        for row in rows:
            lines = self.store.get(row["object"]).split(b"\n")[:-1]
            for position, line in enumerate(lines):
                if prediction.encode("ascii") in line and parse(line)["id"] == prediction:
                    return with_proof(row, lines, position)
        raise UnknownPrediction(f"no record of prediction {prediction}")

    def _require_sound(self, batch: RecordBatch) -> None:
        with self.engine.connect() as connection:
            row = connection.execute(select(deployments).where(deployments.c.id == batch.deployment)).mappings().first()
        if row is None:
            raise UnknownDeployment(f"no deployment {batch.deployment}")
        if not batch.records and not batch.lost:
            raise BadInput(f"batch {batch.id} holds no record and tells of no lost one")
        if len({record.id for record in batch.records}) != len(batch.records):
            raise BadInput(f"batch {batch.id} holds a record twice")
        if any((record.deployment, record.artifact_id) != (row["id"], row["artifact_id"]) for record in batch.records):
            raise BadInput(f"batch {batch.id} holds a record of another deployment or artifact than {batch.deployment}")
        times = [made_at(record.id) or 0 for record in batch.records]
        if any(abs(record.ts - made) > APART_MS for record, made in zip(batch.records, times, strict=True)):
            raise BadInput(f"batch {batch.id} holds a record of another time than its id")
        if times and max(times) - min(times) > SPAN_MS:
            raise BadInput(f"batch {batch.id} spans over {SPAN_MS} ms: set the clock of its node")
        if times and max(times) > self.clock() + AHEAD_MS:
            raise Unavailable(f"batch {batch.id} is from the future: set the clock of its node")


def _told(row: Any) -> dict[str, Any]:
    return {"batch": row["id"], "root": row["root"], "event": row["event"]}
