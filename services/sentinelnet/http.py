"""Policy routes: decode, call, encode. The API process mounts the router."""

import logging
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import Field

from services.core.canonical import canonical
from services.core.dsse import decode64
from services.core.errors import AiInfraError, BadInput, TooLarge
from services.core.http import Actor
from services.core.statements import Strict
from services.sentinelnet.oversight import Oversight
from services.sentinelnet.service import SentinelNet

log = logging.getLogger(__name__)

Review = Callable[[], list[dict[str, Any]]]

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


class Span(Strict):
    """since: epoch milliseconds; after: the id where the last answer ended."""

    since: Annotated[int, Field(ge=0, lt=2**53)] = 0
    after: Annotated[str, Field(max_length=80)] = ""


class Simulation(Span):
    """bundle: a tar file in base64; it need not be signed."""

    bundle: Annotated[str, Field(max_length=MAX_BASE64)]


def router(sentinelnet: SentinelNet, oversight: Oversight, review: Review) -> APIRouter:
    """The routes below /v1/policy. review: what happens to live deployments under a bundle that has just become active."""
    routes = APIRouter(prefix="/v1/policy", tags=["policy"])

    @routes.post("/check")
    def check(body: Check, actor: Actor) -> dict[str, Any]:
        """What a decision would say; nothing is recorded."""
        sentinelnet.authorise(actor, "policy.check")
        if (size := len(canonical(body.input))) > MAX_CHECK:
            raise TooLarge(f"an input of {size} bytes: at most {MAX_CHECK}")
        if body.action not in (known := sentinelnet.active_bundle().actions):
            raise BadInput(f"no action {body.action!r}: want one of {', '.join(sorted(known))}")
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
        """The decision computed again from its stored input and bundle, and its record compared with its event."""
        sentinelnet.authorise(actor, "decision.read")
        return oversight.replay(decision_id).to_json()

    @routes.post("/replays")
    def replays(body: Span, actor: Actor) -> dict[str, Any]:
        """The same for a page of all decisions: those that are not unchanged, and how many are."""
        sentinelnet.authorise(actor, "decision.read")
        return oversight.replays(body.since, body.after).to_json()

    @routes.post("/simulations")
    def simulate(body: Simulation, actor: Actor) -> dict[str, Any]:
        """Which decisions of a page another bundle would change; nothing is recorded."""
        sentinelnet.authorise(actor, "policy.simulate")
        return oversight.simulate(decode64(body.bundle), body.since, body.after).to_json()

    @routes.post("/bundles", status_code=201)
    def publish(body: Publication, actor: Actor) -> dict[str, Any]:
        """Makes a signed bundle the active one, and decides on every live deployment again.

        `quarantined` is null when that could not be done at once: it goes on in the background until it is.
        """
        sentinelnet.authorise(actor, "policy.publish")
        published = sentinelnet.publish(decode64(body.bundle), decode64(body.envelope), actor)
        # The bundle is active from here, whatever follows: a failure must not be answered as one of the publication.
        try:
            quarantined = review()
        except AiInfraError as error:
            log.warning("live deployments are decided on again later: %s", error)
            quarantined = None
        return published.to_json() | {"quarantined": quarantined}

    @routes.get("/bundles")
    def active(actor: Actor) -> dict[str, Any]:
        """The active bundle's record and its rules by action."""
        sentinelnet.authorise(actor, "policy.check")
        return sentinelnet.active().to_json() | {"actions": dict(sentinelnet.active_bundle().actions)}

    return routes
