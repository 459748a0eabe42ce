"""The registry's routes: decode, call, encode."""

import os
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi import Path as PathParam
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse

from services.core import archive, dsse
from services.core.authorise import Authorise, allowed
from services.core.digests import CHUNK, require_digest
from services.core.errors import BadInput, TooLarge, Unavailable
from services.core.http import Actor, told
from services.core.objects import ObjectStore
from services.core.openapi import content
from services.core.statements import Strict
from services.core.storage import writing
from services.registry.artifacts import Artifacts, ArtifactUpload
from services.registry.datasets import DatasetRegistration, Datasets
from services.registry.evidence import Evidences, Served
from services.registry.flags import FlagOrder, Flags
from services.registry.lineage import Graph
from services.registry.models import EvaluationOrder, Models, Registration
from services.registry.promotion import Promotions

MAX_OBJECT = 64 << 30
"""Bytes of one uploaded object."""
MAX_EVALUATIONS = 8
"""At once. Each keeps one of the forty threads that routes share, and a process, for up to 600 s."""

OCTETS, ZIP, DOT = "application/octet-stream", "application/zip", "text/vnd.graphviz"


Number = Annotated[int, PathParam(ge=1, le=999_999_999)]
"""Of a version; databases hold no larger integers."""

WeightsUpTo = Annotated[int, Query(alias="weightsUpTo", ge=0, le=archive.WEIGHTS_UP_TO)]
"""Bytes: the files of a larger model are not put into an archive."""


class EnvelopeBody(Strict):
    """A DSSE envelope; payload and sig in standard base64."""

    class SignatureBody(Strict):
        keyid: str
        sig: str

    payload: str
    payload_type: str
    signatures: list[SignatureBody]

    def to_bytes(self) -> bytes:
        return dsse.from_json(self.to_json()).to_bytes()


@dataclass(frozen=True)
class Registry:
    """The use cases behind the routes. graph: the whole lineage now."""

    store: ObjectStore
    datasets: Datasets
    artifacts: Artifacts
    models: Models
    promotions: Promotions
    flags: Flags
    evidences: Evidences
    graph: Any


def routes(registry: Registry, authorise: Authorise) -> APIRouter:
    """Every route of the registry."""
    router = APIRouter(prefix="/v1")
    _objects(router, registry, authorise)
    _datasets(router, registry, authorise)
    _models(router, registry, authorise)
    _promotions(router, registry, authorise)
    _flags(router, registry, authorise)
    return router


def _objects(router: APIRouter, registry: Registry, authorise: Authorise) -> None:
    @router.put("/objects/{digest}", status_code=201, tags=["objects"])
    async def upload_object(digest: str, request: Request, actor: str = allowed(authorise, "object.write")) -> dict[str, Any]:
        """Stores the body, if its digest is the one in the path. A body that breaks off leaves nothing."""
        require_digest(digest)
        with writing("the upload could not be put aside"), tempfile.NamedTemporaryFile() as aside:
            size = 0
            async for chunk in request.stream():
                size += len(chunk)
                if size > MAX_OBJECT:
                    raise TooLarge(f"an object has at most {MAX_OBJECT} bytes")
                await run_in_threadpool(aside.write, chunk)
            aside.flush()
            await run_in_threadpool(registry.store.put_file, Path(aside.name), digest)
        return {"digest": digest, "size": size}

    @router.get("/objects/{digest}", tags=["objects"], response_class=StreamingResponse, responses=content(OCTETS))
    def download_object(digest: str, actor: str = allowed(authorise, "object.read")) -> StreamingResponse:
        """The bytes; whoever reads them hashes them."""
        source = registry.store.open(require_digest(digest))
        return StreamingResponse(iter(lambda: source.read(CHUNK), b""), media_type=OCTETS)

    @router.post("/artifacts", status_code=201, tags=["artifacts"])
    def upload_artifact(upload: ArtifactUpload, actor: str = allowed(authorise, "artifact.upload")) -> dict[str, Any]:
        """Makes objects that were uploaded before into an artifact; it becomes visible whole or not at all."""
        return told(registry.artifacts.upload(upload, actor))

    @router.get("/artifacts/{artifact_id}", tags=["artifacts"])
    def show_artifact(artifact_id: str, actor: Actor) -> dict[str, Any]:
        """The artifact's files and metadata."""
        return told(registry.artifacts.get(artifact_id))


def _datasets(router: APIRouter, registry: Registry, authorise: Authorise) -> None:
    @router.post("/datasets", status_code=201, tags=["data sets"])
    def register_dataset(registration: DatasetRegistration, actor: str = allowed(authorise, "dataset.register")) -> dict[str, Any]:
        """Registers an immutable snapshot, whose files were uploaded as objects."""
        return told(registry.datasets.register(registration, actor))

    @router.get("/datasets", tags=["data sets"])
    def list_datasets(actor: Actor) -> list[dict[str, Any]]:
        """Every data set, oldest first."""
        return [told(dataset) for dataset in registry.datasets.all()]

    @router.get("/datasets/{reference}", tags=["data sets"])
    def show_dataset(reference: str, actor: Actor) -> dict[str, Any]:
        """One data set by id or name@version, with its manifest and approvals."""
        return told(registry.datasets.get(reference))

    @router.post("/datasets/approvals", status_code=201, tags=["data sets"])
    def approve_dataset(body: EnvelopeBody, actor: str = allowed(authorise, "dataset.approve")) -> dict[str, Any]:
        """A steward's signed approval of one data set's digest."""
        return told(registry.datasets.approve(body.to_bytes(), actor))


def evidence_routes(evidences: Evidences, served: Served, authorise: Authorise) -> APIRouter:
    """Evidence of what was served: registry and serving together."""
    router = APIRouter(prefix="/v1", tags=["serving"])

    @router.get("/predictions/{prediction}/evidence", response_class=StreamingResponse, responses=content(ZIP))
    def evidence(
        prediction: str,
        weights_up_to: WeightsUpTo = archive.WEIGHTS_UP_TO,
        actor: str = allowed(authorise, "evidence.export"),
    ) -> StreamingResponse:
        """A zip archive from which a stranger verifies one prediction back to the data sets, offline. 503 until it is sealed."""
        return _zip(evidences.build_for(prediction, served, weights_up_to))

    return router


def _zip(file: IO[bytes]) -> StreamingResponse:
    def chunks() -> Iterator[bytes]:
        with file:
            while chunk := file.read(CHUNK):
                yield chunk

    size = str(file.seek(0, os.SEEK_END))
    file.seek(0)
    return StreamingResponse(chunks(), media_type=ZIP, headers={"Content-Length": size})


def _models(router: APIRouter, registry: Registry, authorise: Authorise) -> None:
    places = threading.BoundedSemaphore(MAX_EVALUATIONS)

    @router.get("/models", tags=["models"])
    def list_models(actor: Actor, model: str | None = None) -> list[dict[str, Any]]:
        """Every version (of one model)."""
        return [told(version) for version in registry.models.all(model)]

    @router.post("/models/{model}/versions", status_code=201, response_model=dict[str, Any], tags=["models"])
    def register_model(model: str, registration: Registration, actor: str = allowed(authorise, "model.register")) -> JSONResponse:
        """The next version, from a completed run."""
        # A finished answer: FastAPI hands any other value to one more thread, to check it against its type.
        return JSONResponse(_version(registry.models.register(model, registration, actor)), 201)

    @router.get("/models/{model}/versions/{number}", tags=["models"])
    def show_model(model: str, number: Number, actor: Actor) -> dict[str, Any]:
        """One version with its evaluations, active flags and manifests."""
        version = registry.models.get(model, number)
        manifests = registry.evidences.manifests(model, number)
        return _version(version) | {"flags": registry.evidences.flags(version), "manifests": manifests}

    @router.post("/models/{model}/versions/{number}/evaluations", status_code=201, tags=["models"])
    def evaluate_model(
        model: str, number: Number, order: EvaluationOrder, actor: str = allowed(authorise, "evaluation.record")
    ) -> dict[str, Any]:
        """Measures the version on a held-out split and records the signed result. 503 while many others are measured."""
        if not places.acquire(blocking=False):
            raise Unavailable(f"{MAX_EVALUATIONS} evaluations are running: try again when one of them has ended")
        try:
            return _version(registry.models.evaluate(model, number, order, actor))
        finally:
            places.release()

    @router.get("/models/{model}/versions/{number}/lineage", tags=["models"], responses=content(DOT))
    def lineage(model: str, number: Number, actor: Actor, direction: str = "up", form: str = "json") -> Response:
        """What the version was made from (up) or what was made from it (down), as json or dot."""
        registry.models.get(model, number)
        if direction not in ("up", "down") or form not in ("json", "dot"):
            raise BadInput("direction is up or down, form is json or dot")
        graph: Graph = registry.graph().reach(("model", f"{model}@{number}"), up=direction == "up")
        if form == "dot":
            return PlainTextResponse(graph.to_dot(), media_type=DOT)
        return JSONResponse(graph.to_json())

    @router.get(
        "/models/{model}/versions/{number}/evidence", tags=["models"], response_class=StreamingResponse, responses=content(ZIP)
    )
    def evidence(
        model: str,
        number: Number,
        environment: str | None = None,
        weights_up_to: WeightsUpTo = archive.WEIGHTS_UP_TO,
        actor: str = allowed(authorise, "evidence.export"),
    ) -> StreamingResponse:
        """A zip archive from which a stranger verifies the version's promotion, offline."""
        return _zip(registry.evidences.build(model, number, environment, weights_up_to))


def _version(record: dict[str, Any]) -> dict[str, Any]:
    return told(record) | {"evaluations": [told(evaluation) for evaluation in record["evaluations"]]}


def _promotions(router: APIRouter, registry: Registry, authorise: Authorise) -> None:
    @router.get("/promotions", tags=["promotion"])
    def list_promotions(actor: Actor) -> list[dict[str, Any]]:
        """Every promotion, oldest first."""
        return [told(promotion) for promotion in registry.promotions.all()]

    @router.post("/promotions", status_code=201, tags=["promotion"])
    def request_promotion(body: EnvelopeBody, actor: str = allowed(authorise, "promotion.request")) -> dict[str, Any]:
        """A promotion request that its requester signed."""
        return told(registry.promotions.request(body.to_bytes(), actor))

    @router.get("/promotions/{promotion_id}", tags=["promotion"])
    def show_promotion(promotion_id: str, actor: Actor) -> dict[str, Any]:
        """The promotion, and the envelope that an approver signs."""
        promotion, approvals = registry.promotions.get(promotion_id), registry.promotions.approvals(promotion_id)
        return told(promotion) | approvals | {"requestEnvelope": dsse.parse(registry.promotions.envelope(promotion_id)).to_json()}

    @router.post("/promotions/{promotion_id}/approvals", status_code=201, tags=["promotion"])
    def approve_promotion(
        promotion_id: str, body: EnvelopeBody, actor: str = allowed(authorise, "promotion.approve")
    ) -> dict[str, Any]:
        """The caller's own signature over the request's bytes."""
        return told(registry.promotions.approve(promotion_id, body.to_bytes(), actor)) | registry.promotions.approvals(promotion_id)

    @router.post("/promotions/{promotion_id}/execution", tags=["promotion"])
    def carry_out(promotion_id: str, actor: str = allowed(authorise, "promotion.execute")) -> dict[str, Any]:
        """Decide, sign, promote. Safe to repeat."""
        return told(registry.promotions.carry_out(promotion_id, actor))


def _flags(router: APIRouter, registry: Registry, authorise: Authorise) -> None:
    @router.get("/flags", tags=["quarantine"])
    def list_flags(actor: Actor) -> list[dict[str, Any]]:
        """Active flags, oldest first."""
        return [told(flag) for flag in registry.flags.active()]

    @router.post("/flags", status_code=201, tags=["quarantine"])
    def set_flag(order: FlagOrder, actor: str = allowed(authorise, "quarantine.set")) -> dict[str, Any]:
        """Flags a model, artifact or data set; traffic of all that descends from it stops."""
        return told(registry.flags.set(order, actor))

    @router.post("/flags/{flag_id}/clearance", tags=["quarantine"])
    def lift_flag(flag_id: str, body: EnvelopeBody, actor: str = allowed(authorise, "quarantine.lift")) -> dict[str, Any]:
        """Lifts the flag by a signed clearance."""
        return told(registry.flags.lift(flag_id, body.to_bytes(), actor))
