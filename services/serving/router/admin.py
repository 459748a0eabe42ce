"""What the platform asks of the router. Counts, health and probes are for the API process; a prediction record is for anyone with
a certificate, as it holds digests only."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from services.core.canonical import parse
from services.core.errors import AiInfraError, BadInput, Refused
from services.core.tls import service_id, spiffe_id
from services.serving.router.answers import problem
from services.serving.router.fleet import Fleet
from services.serving.router.openapi import document
from services.serving.router.pool import Pool
from services.serving.router.probes import Probes
from services.serving.router.records import RecordLog
from services.serving.router.state import State

Handler = Callable[[web.Request], Awaitable[Any]]


class Admin:
    """Handlers of the control plane."""

    def __init__(self, state: State, fleet: Fleet, pool: Pool, records: RecordLog, probes: Probes) -> None:
        self._state, self._fleet, self._pool = state, fleet, pool
        self._records, self._probes = records, probes

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/openapi.json", _json(self.openapi)),
            web.get("/healthz", _json(self.health)),
            web.get("/v1/predictions/{id}", _json(self.prediction)),
            web.get("/v1/deployments/{id}/health", _json(self.deployment, api_only=True)),
            web.get("/v1/deployments/{id}/reference", _json(self.reference, api_only=True)),
            web.get("/v1/rollouts/{id}/counts", _json(self.counts, api_only=True)),
            web.post("/v1/rollouts/{id}/answers", _json(self.answers, api_only=True)),
        ]

    async def openapi(self, request: web.Request) -> dict[str, Any]:
        return document()

    async def health(self, request: web.Request) -> dict[str, Any]:
        return {"live": True, "lost": self._records.lost}

    async def prediction(self, request: web.Request) -> dict[str, Any]:
        return await asyncio.to_thread(self._records.find, request.match_info["id"])

    async def deployment(self, request: web.Request) -> dict[str, Any]:
        name = request.match_info["id"]
        replicas = []
        for replica in self._fleet.of(name):
            backend = self._pool.of(replica.id)
            replicas.append(replica.to_json() | {"healthy": backend is not None and backend.healthy})
        return {"ready": len(self._pool.healthy(name)), "refused": self._fleet.refusal(name), "replicas": replicas}

    async def reference(self, request: web.Request) -> dict[str, Any]:
        return {"latencies": self._pool.latencies(request.match_info["id"])}

    async def counts(self, request: web.Request) -> dict[str, Any]:
        return self._state.counter(request.match_info["id"]).counts().to_json()

    async def answers(self, request: web.Request) -> dict[str, Any]:
        """Both versions' labels for each row. Body: {"probes": [id], "rows": [[number]]}.

        Answer: {"stable": […] or null, "canary": […] or null}.
        """
        body = parse(await request.read())
        if not isinstance(body, dict) or set(body) != {"probes", "rows"}:
            raise BadInput("want exactly the fields probes and rows")
        probes, rows = body["probes"], body["rows"]
        if not _are_rows(rows):
            raise BadInput("rows: want a list of rows of numbers, of equal length")
        if not isinstance(probes, list) or len(probes) != len(rows) or not all(isinstance(probe, str) for probe in probes):
            raise BadInput("probes: want the id of each row's probe")
        stable, canary = await self._probes.answers(request.match_info["id"], probes, rows)
        return {"stable": stable, "canary": canary}


def _are_rows(value: Any) -> bool:
    if not isinstance(value, list) or not value or not all(isinstance(row, list) and row for row in value):
        return False
    return len({len(row) for row in value}) == 1 and all(type(item) in (int, float) for row in value for item in row)


def _json(handler: Handler, *, api_only: bool = False) -> Handler:
    async def answer(request: web.Request) -> web.Response:
        try:
            if api_only and peer(request) != service_id("api"):
                raise Refused("only the API process may ask this")
            return web.json_response(await handler(request))
        except AiInfraError as error:
            return problem(error, {})

    return answer


def peer(request: web.Request) -> str | None:
    """SPIFFE URI of the client's certificate."""
    secure = request.transport.get_extra_info("ssl_object") if request.transport else None
    certificate = secure.getpeercert(binary_form=True) if secure else None
    return spiffe_id(certificate) if certificate else None
