"""The API process as an app: every service's routes, and the threads that run beside them."""

import logging
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, FastAPI
from pydantic import Field
from sqlalchemy import Engine
from starlette.middleware import Middleware

from services.api.idempotency import Idempotency, forget
from services.api.metrics import loop_failures
from services.api.reconcile import Reconciler
from services.audit.service import AuditLog
from services.core.authorise import Authorise, allowed
from services.core.clock import Clock
from services.core.errors import AiInfraError, Unavailable
from services.core.http import Actor, create_app
from services.core.metrics import Gauge
from services.core.outbox import Relay
from services.core.statements import Strict
from services.core.trustfile import TrustNow

FORGET_S = 60.0

log = logging.getLogger(__name__)


class Loop:
    """Calls a step again and again in a thread of its own. A step that fails is logged and repeated."""

    def __init__(self, name: str, interval_s: float, step: Callable[[], Any]) -> None:
        self._name, self._interval_s, self._step = name, interval_s, step
        self._failures = loop_failures.labels(name)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._interval_s):
            try:
                self._step()
                continue
            except Unavailable as error:
                log.info("%s waits: %s", self._name, error)
            except AiInfraError as error:
                log.warning("%s: %s", self._name, error)
            except Exception:  # a bug in one round must not end all later ones silently
                log.exception("%s failed; it tries again", self._name)
            self._failures.inc()


def build_app(
    routers: Sequence[APIRouter],
    loops: Sequence[Any],
    engine: Engine,
    clock: Clock,
    at_start: Callable[[], None],
    at_end: Callable[[], None],
    gauges: Sequence[Gauge] = (),
) -> FastAPI:
    """loops: have start() and stop(), and run beside one that deletes old answers.

    at_start: recovery, in a thread once the port is open; at_end: after the last request.
    """
    loops = [*loops, Loop("idempotency", FORGET_S, lambda: forget(engine, clock))]

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        recovery = threading.Thread(target=at_start, name="recovery", daemon=True)
        recovery.start()
        for loop in loops:
            loop.start()
        yield
        for loop in reversed(loops):
            loop.stop()
        at_end()

    once = Middleware(Idempotency, engine=engine, clock=clock)
    app = create_app("ai-infra", lifespan=life, unlimited=("/v1/objects/",), idempotent=True, middleware=[once], gauges=gauges)
    for router in routers:
        app.include_router(router)
    return app


class VerificationOrder(Strict):
    """against: a signed checkpoint that the caller kept."""

    against: str | None = Field(default=None, max_length=10_000)


def common_routes(trust: TrustNow, audit: AuditLog, relay: Relay, reconciler: Reconciler, authorise: Authorise) -> APIRouter:
    """Health, identity, trust, and the checks of the log."""
    router = APIRouter()

    @router.get("/healthz", tags=["platform"])
    async def health() -> dict[str, bool]:
        """Whether the process answers."""
        return {"live": True}

    @router.get("/v1/me", tags=["platform"])
    def me(actor: Actor) -> dict[str, Any]:
        """The caller's identity and roles."""
        person = next((person for person in trust().people if person.person == actor), None)
        return {"actor": actor, "roles": sorted(person.roles) if person else []}

    @router.get("/v1/trust", tags=["platform"])
    def show_trust(actor: Actor) -> dict[str, Any]:
        """trust.json as the platform sees it. An auditor gets theirs out of band and compares."""
        return trust().to_json()

    @router.post("/v1/audit/verification", tags=["audit"])
    def verify(order: VerificationOrder, actor: str = allowed(authorise, "audit.read")) -> dict[str, Any]:
        """Checks the whole log: chain, sequence, tiles, checkpoint, table."""
        relay.flush()
        audit.publish()
        return audit.verify(order.against.encode() if order.against is not None else None).to_json()

    @router.post("/v1/audit/reconciliation", tags=["audit"])
    def reconcile(actor: str = allowed(authorise, "audit.read")) -> dict[str, Any]:
        """Compares state and log in both directions."""
        return reconciler.run()

    return router
