"""The log over HTTP. `/v1/audit` is a tlog-tiles prefix too: `checkpoint` and `tile/…` below it serve any C2SP client."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from services.audit.service import MAX_BATCH, MAX_LISTED, AuditLog
from services.core.authorise import Authorise, allowed
from services.core.errors import Refused
from services.core.events import TOLD_BY
from services.core.http import Actor, ServiceActor
from services.core.openapi import content
from services.core.tls import service_id

TEXT = "text/plain; charset=utf-8"
BYTES = "application/octet-stream"

Index = Annotated[int, Path(ge=0, lt=2**63)]


class Batch(BaseModel):
    """events: as their source made them, in the order of its seq; the service checks each."""

    model_config = ConfigDict(extra="forbid")

    events: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=MAX_BATCH)]


def create_router(audit: AuditLog, authorise: Authorise) -> APIRouter:
    """Reading takes a role; appending, a service's own identity.

    A checkpoint is for any certificate: it holds a size and a root hash, and the more people keep one, the better.
    """
    router = APIRouter(prefix="/v1/audit", tags=["audit"])
    reader = allowed(authorise, "audit.read")

    @router.post("/events", response_model=dict[str, list[int]])
    async def append(batch: Batch, actor: ServiceActor) -> Response:
        # A service speaks for itself only, else it could use up another one's sequence numbers.
        if foreign := {str(event.get("source")) for event in batch.events} - {actor}:
            raise Refused(f"{actor} may not append events of {sorted(foreign)[0][:200]}")
        if actor != service_id("api") and (untold := {str(event.get("type")) for event in batch.events} - _told_by(actor)):
            raise Refused(f"{actor} may not append events of type {sorted(untold)[0][:200]}")
        # In a thread of the loop's own. Plain routes share forty others, and one that signs keeps its thread until the proxy has
        # appended here: forty such calls, and no append would find a thread.
        return JSONResponse({"indexes": await asyncio.to_thread(audit.append, batch.events)})

    @router.get("/events")
    def events(
        tail: Annotated[int | None, Query(ge=1, le=MAX_LISTED)] = None,
        after: Annotated[int, Query(ge=-1, lt=2**63)] = -1,
        limit: Annotated[int, Query(ge=1, le=MAX_LISTED)] = 100,
        type: str | None = None,
        subject_kind: Annotated[str | None, Query(alias="subjectKind")] = None,
        subject_id: Annotated[str | None, Query(alias="subjectId")] = None,
        actor: str = reader,
    ) -> dict[str, list[dict[str, Any]]]:
        if tail is not None:
            found = audit.tail(tail)
        else:
            found = audit.search(subject_kind=subject_kind, subject_id=subject_id, type=type, after=after, limit=limit)
        return {"entries": [entry.to_json() for entry in found]}

    @router.get("/events/{index}")
    def event(index: Index, actor: str = reader) -> dict[str, Any]:
        return audit.get(index).to_json()

    @router.get("/proof/{index}", response_class=Response, responses=content("text/plain"))
    def proof(index: Index, actor: str = reader) -> Response:
        return Response(audit.prove(index), media_type=TEXT)

    @router.get("/checkpoint", response_class=Response, responses=content("text/plain"))
    def checkpoint(actor: Actor) -> Response:
        return Response(audit.checkpoint(), media_type=TEXT, headers={"Cache-Control": "no-cache"})

    @router.get("/tile/{path:path}", response_class=Response, responses=content(BYTES))
    def tile(path: str, actor: str = reader) -> Response:
        return Response(audit.tile(f"tile/{path}"), media_type=BYTES, headers={"Cache-Control": "max-age=31536000, immutable"})

    return router


def _told_by(actor: str) -> frozenset[str]:
    return next((types for name, types in TOLD_BY.items() if actor == service_id(name)), frozenset())
