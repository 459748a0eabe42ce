"""Routes of serving in the API process. Reads need a certificate only."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import Field

from services.core.authorise import Authorise, allowed
from services.core.canonical import canonical
from services.core.digests import sha256
from services.core.errors import Refused
from services.core.http import Actor, ServiceActor, told
from services.core.statements import Reason, Strict, Text
from services.core.tls import service_id
from services.serving.domain import DeploymentSpec, RolloutSpec
from services.serving.kept import KeptRecords, RecordBatch
from services.serving.rollouts import Rollouts
from services.serving.service import Serving


class Abort(Strict):
    """reason: why a person ends the rollout."""

    reason: Text = "aborted by a person"


class Completion(Strict):
    """reason: why a person takes the canary although the test leaves it open."""

    reason: Reason


class Extension(Strict):
    """requests: more of them in the present step; seconds: for them; reason: why."""

    requests: Annotated[int, Field(ge=1, le=10_000_000)]
    seconds: Annotated[float, Field(ge=1, le=2_592_000)] = 86_400.0
    reason: Reason


def create_router(serving: Serving, rollouts: Rollouts, kept: KeptRecords, authorise: Authorise) -> APIRouter:
    """Every route of serving; authorise: who may change something."""
    router = APIRouter(tags=["serving"])
    _deployments(router, serving, authorise)
    _rollouts(router, rollouts, authorise)
    _services(router, serving)
    _records(router, kept)
    return router


def _deployments(router: APIRouter, serving: Serving, authorise: Authorise) -> None:
    @router.post("/v1/deployments", status_code=201)
    def deploy(spec: DeploymentSpec, actor: str = allowed(authorise, "deploy.start")) -> dict[str, Any]:
        return told(serving.deploy(spec, actor))

    @router.get("/v1/deployments")
    def deployments(actor: Actor) -> list[dict[str, Any]]:
        return [told(record) for record in serving.all()]

    @router.get("/v1/deployments/{deployment}")
    def deployment(deployment: str, actor: Actor) -> dict[str, Any]:
        return told(serving.status(deployment))

    @router.delete("/v1/deployments/{deployment}")
    def undeploy(deployment: str, actor: str = allowed(authorise, "deploy.stop")) -> dict[str, Any]:
        return told(serving.undeploy(deployment, actor))


def _rollouts(router: APIRouter, rollouts: Rollouts, authorise: Authorise) -> None:
    @router.post("/v1/rollouts", status_code=201)
    def start(spec: RolloutSpec, actor: str = allowed(authorise, "rollout.start")) -> dict[str, Any]:
        return told(rollouts.start(spec, actor))

    @router.get("/v1/rollouts")
    def all_rollouts(actor: Actor) -> list[dict[str, Any]]:
        return [told(record) for record in rollouts.all()]

    @router.get("/v1/rollouts/{rollout}")
    def rollout(rollout: str, actor: Actor) -> dict[str, Any]:
        return told(rollouts.get(rollout))

    @router.get("/v1/rollouts/{rollout}/explain")
    def explain(rollout: str, actor: Actor) -> dict[str, Any]:
        return rollouts.explain(rollout)

    @router.post("/v1/rollouts/{rollout}/abort")
    def abort(rollout: str, order: Abort, actor: str = allowed(authorise, "rollout.stop")) -> dict[str, Any]:
        return told(rollouts.abort(rollout, order.reason, actor))

    @router.post("/v1/rollouts/{rollout}/complete")
    def complete(rollout: str, order: Completion, actor: str = allowed(authorise, "rollout.complete")) -> dict[str, Any]:
        return told(rollouts.complete(rollout, order.reason, actor))

    @router.post("/v1/rollouts/{rollout}/extend")
    def extend(rollout: str, order: Extension, actor: str = allowed(authorise, "rollout.extend")) -> dict[str, Any]:
        return told(rollouts.extend(rollout, order.requests, order.seconds, order.reason, actor))


def _services(router: APIRouter, serving: Serving) -> None:
    """In threads of the loop's own: router and predictors do not wait while callers hold all that plain routes share."""

    @router.get("/v1/serving/desired", responses={304: {"description": "It is the one that If-None-Match names"}})
    async def desired(request: Request, actor: ServiceActor) -> Response:
        """The desired state; 304 when it is the one that If-None-Match names."""
        state = await asyncio.to_thread(serving.desired)
        tag = f'"{sha256(canonical(state))}"'
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers={"ETag": tag})
        return JSONResponse(state, headers={"ETag": tag})

    @router.get("/v1/serving/quarantine/{deployment}")
    async def quarantine(deployment: str, actor: ServiceActor) -> dict[str, Any]:
        """What a predictor asks before it loads: why it must not, and the manifest that the deployment is of."""
        reasons = await asyncio.to_thread(serving.quarantine_reasons, deployment)
        record = await asyncio.to_thread(serving.get, deployment)
        return {"reasons": reasons, "manifest": record["manifest"]}


def _records(router: APIRouter, kept: KeptRecords) -> None:
    @router.post("/v1/serving/records")
    def keep(batch: RecordBatch, actor: ServiceActor) -> dict[str, Any]:
        """What a predictor in a cluster hands on. It may do so again: a batch that is here is answered as it was."""
        if actor != service_id("predictor"):
            raise Refused(f"{actor} may not hand prediction records on: only predictors may")
        return kept.keep(batch, actor)
