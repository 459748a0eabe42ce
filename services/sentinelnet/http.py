"""Policy routes: decode, call, encode. The API process mounts the router."""

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import Field

from services.core.canonical import canonical
from services.core.dsse import decode64
from services.core.errors import TooLarge
from services.core.http import Actor
from services.core.statements import Strict
from services.sentinelnet.service import SentinelNet

MAX_BASE64 = 3 << 20
MAX_CHECK = 32 << 10
"""Bytes of an input that anybody may have checked. Rules compare lists with lists, in time that grows with the square, and the
embedded engine answers one question at a time: 200 KB would keep everybody else waiting for a minute."""


class Check(Strict):
    """input: without `action`."""

    action: Annotated[str, Field(max_length=100)]
    input: dict[str, Any]


class Publication(Strict):
    """bundle: a tar file, envelope: a DSSE envelope of a PolicyBundle statement; both in base64."""

    bundle: Annotated[str, Field(max_length=MAX_BASE64)]
    envelope: Annotated[str, Field(max_length=MAX_BASE64)]


def router(sentinelnet: SentinelNet) -> APIRouter:
    """The routes below /v1/policy."""
    routes = APIRouter(prefix="/v1/policy", tags=["policy"])

    @routes.post("/check")
    def check(body: Check, actor: Actor) -> dict[str, Any]:
        """What a decision would say; nothing is recorded."""
        sentinelnet.authorise(actor, "policy.check")
        if (size := len(canonical(body.input))) > MAX_CHECK:
            raise TooLarge(f"an input of {size} bytes: at most {MAX_CHECK}")
        verdict, revision = sentinelnet.check(body.action, body.input)
        return {"verdict": verdict.verdict, "rules": verdict.rules_json(), "policyRevision": revision}

    @routes.get("/decisions")
    def recent(
        actor: Actor, limit: Annotated[int, Query(ge=1, le=1000)] = 50, subject: str | None = None
    ) -> list[dict[str, Any]]:
        """The newest decisions first."""
        sentinelnet.authorise(actor, "decision.read")
        return [decision.to_json() for decision in sentinelnet.recent(limit, subject)]

    @routes.get("/decisions/{decision_id}")
    def explain(decision_id: str, actor: Actor) -> dict[str, Any]:
        """A decision with its input and what its rules are for."""
        sentinelnet.authorise(actor, "decision.read")
        return sentinelnet.explain(decision_id)

    @routes.get("/decisions/{decision_id}/replay")
    def replay(decision_id: str, actor: Actor) -> dict[str, Any]:
        """The decision computed again from its stored input."""
        sentinelnet.authorise(actor, "decision.read")
        return sentinelnet.replay(decision_id).to_json()

    @routes.post("/bundles", status_code=201)
    def publish(body: Publication, actor: Actor) -> dict[str, Any]:
        """Makes a signed bundle the active one."""
        sentinelnet.authorise(actor, "policy.publish")
        return sentinelnet.publish(decode64(body.bundle), decode64(body.envelope), actor).to_json()

    @routes.get("/bundles")
    def active(actor: Actor) -> dict[str, Any]:
        """The active bundle's record and its rules by action."""
        sentinelnet.authorise(actor, "policy.check")
        return sentinelnet.active().to_json() | {"actions": dict(sentinelnet.active_bundle().actions)}

    return routes
