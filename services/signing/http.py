"""The proxy's HTTP side: decode, call, encode. Only the API process may call; whoever else has a certificate is refused."""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from services.core.digests import sha256
from services.core.dsse import BadEnvelope, decode64, encode64
from services.core.errors import Refused
from services.core.http import Actor, create_app
from services.core.metrics import Gauge
from services.signing.errors import BadPayload
from services.signing.ports import Signed, StatementRequest
from services.signing.service import SigningService

KeyName = Annotated[str, Field(max_length=20)]
Spiffe = Annotated[str, Field(pattern=r"^spiffe://[A-Za-z0-9._/-]{1,240}$", alias="onBehalfOf")]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, populate_by_name=True)


class StatementBody(_Body):
    """payload and evidence: base64."""

    key: KeyName
    payload: str
    evidence: Annotated[dict[str, str], Field(max_length=8)] = {}
    on_behalf_of: Spiffe


class ModelBody(_Body):
    """payload: base64 of an OMS statement."""

    key: KeyName
    payload: str
    on_behalf_of: Spiffe


class CheckpointBody(_Body):
    """root and proof: base64 of 32-byte hashes; size: entries in the log."""

    origin: Annotated[str, Field(max_length=200)]
    size: Annotated[int, Field(ge=0, lt=2**53)]
    root: str
    proof: Annotated[list[str], Field(max_length=64)]


def create_signing_app(service: SigningService, *, caller: str, gauges: Sequence[Gauge] = ()) -> FastAPI:
    """caller: SPIFFE identity of the one client."""
    app = create_app("ai-infra signing proxy", gauges=gauges)
    app.include_router(_router(service, caller))

    @app.get("/healthz")
    async def health() -> dict[str, bool]:
        """Whether the process answers; it says nothing about the keys or the log."""
        return {"live": True}

    return app


def _router(service: SigningService, caller: str) -> APIRouter:
    router = APIRouter(prefix="/v1")

    def allow(actor: str) -> None:
        if actor != caller:
            raise Refused(f"{actor} may not call the signing proxy: only {caller} does")

    @router.post("/sign/statement", response_model=dict[str, str])
    def sign_statement(body: StatementBody, actor: Actor) -> JSONResponse:
        allow(actor)
        evidence = {name: _bytes(data, f"evidence.{name}") for name, data in body.evidence.items()}
        request = StatementRequest(body.key, _bytes(body.payload, "payload"), body.on_behalf_of, evidence)
        return _signed(service.sign_statement(request, actor=actor))

    @router.post("/sign/model", response_model=dict[str, str])
    def sign_model(body: ModelBody, actor: Actor) -> JSONResponse:
        allow(actor)
        payload = _bytes(body.payload, "payload")
        return _signed(service.sign_model(key=body.key, payload=payload, on_behalf_of=body.on_behalf_of, actor=actor))

    @router.post("/sign/checkpoint")
    def sign_checkpoint(body: CheckpointBody, actor: Actor) -> dict[str, str]:
        allow(actor)
        proof = [_bytes(item, "proof") for item in body.proof]
        root = _bytes(body.root, "root")
        return {"note": service.sign_checkpoint(origin=body.origin, size=body.size, root=root, proof=proof)}

    @router.get("/checkpoint")
    def last_checkpoint(origin: str, actor: Actor) -> dict[str, Any]:
        allow(actor)
        last = service.last_checkpoint(origin)
        return {"last": None if last is None else {"size": last.size, "root": encode64(last.root)}}

    @router.get("/keys")
    def keys(actor: Actor) -> dict[str, dict[str, str]]:
        allow(actor)
        return {"keys": dict(service.keys())}

    return router


def _signed(signed: Signed) -> JSONResponse:
    """As a finished answer: FastAPI hands any other value to one more thread, to check it against its type."""
    return JSONResponse(
        {
            "keyid": signed.keyid,
            "signature": encode64(signed.signature),
            "signatureRef": sha256(signed.signature),
            "publicKey": signed.public_key,
        }
    )


def _bytes(text: str, name: str) -> bytes:
    try:
        return decode64(text)
    except BadEnvelope as error:
        raise BadPayload(f"{name}: {error}") from error
