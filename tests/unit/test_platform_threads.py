"""The API's threads: while callers hold all that routes share, what they wait for is answered, and so are health and services."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from services.api.app import build_app, common_routes
from services.audit.http import create_router as audit_routes
from services.core.tls import service_id
from services.registry.http import MAX_EVALUATIONS, routes
from services.registry.ports import Measured
from services.serving.http import create_router as serving_routes
from services.serving.kept import KeptRecords
from services.serving.rollouts import Rollouts
from services.serving.service import Serving
from tests.audit import event
from tests.fakes.registry import SaysEvaluator
from tests.fakes.serving import AllowAll, ListedProbes, ScriptedBackend, StoredVersions
from tests.registry import EVA, GOOD, Rig, opened

CALLS = 50
SHARED = 40
"""Threads of plain routes: anyio's own number."""
PATIENCE_S = 20
ROUTER, PREDICTOR = service_id("router"), service_id("predictor")


class Door:
    """Holds whoever comes, in their own thread, until it is opened."""

    def __init__(self) -> None:
        self._came, self._open, self.waiting = threading.Condition(), False, 0

    def pass_through(self) -> None:
        with self._came:
            self.waiting += 1
            self._came.notify_all()
            self._came.wait_for(lambda: self._open, PATIENCE_S)

    def until(self, waiting: int) -> None:
        with self._came:
            assert self._came.wait_for(lambda: self.waiting >= waiting, PATIENCE_S)

    def open(self) -> None:
        with self._came:
            self._open = True
            self._came.notify_all()


class HeldEvaluator(SaysEvaluator):
    """Measures behind a door."""

    def __init__(self, door: Door) -> None:
        super().__init__(GOOD)
        self._door = door

    def evaluate(self, artifact_files: dict[str, str], dataset_files: dict[str, str]) -> Measured:
        self._door.pass_through()
        return super().evaluate(artifact_files, dataset_files)


class Platform:
    """The API over a rig. Its port Authorise lets everybody do everything; who reads the log, or evaluates, waits at a door."""

    def __init__(self, rig: Rig) -> None:
        self.door = Door()
        rig.evaluator = HeldEvaluator(self.door)
        rig.use(rig.ports)
        base = (rig.engine, rig.outbox, rig.clock)
        serving = Serving(*base, StoredVersions({}), AllowAll(), ScriptedBackend())
        kept = KeptRecords(rig.engine, rig.store, rig.outbox, rig.clock)
        routers = [
            audit_routes(rig.audit, self.authorise),
            common_routes(rig.trust_now, rig.audit, rig.relay, rig.reconciler, self.authorise),
            routes(rig.registry(), self.authorise),
            serving_routes(serving, Rollouts(serving, ListedProbes([])), kept, self.authorise),
        ]
        self.app: FastAPI = build_app(routers, [], rig.engine, rig.clock, lambda: None, lambda: None)

    def authorise(self, actor: str, operation: str) -> None:
        if operation == "audit.read":
            self.door.pass_through()

    def client(self, caller: str) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.ASGITransport(_By(self.app, caller)), base_url="https://api", timeout=PATIENCE_S)


class _By:
    def __init__(self, app: ASGIApp, caller: str) -> None:
        self._app, self._caller = app, caller

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app({**scope, "spiffe_id": self._caller}, receive, send)


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    with opened(tmp_path) as rig:
        yield Platform(rig)


def test_what_callers_with_all_threads_wait_for_is_answered_meanwhile(platform: Platform) -> None:
    async def asked(caller: str, method: str, path: str, **options: Any) -> int:
        async with platform.client(caller) as client:
            answer = await asyncio.wait_for(client.request(method, path, **options), PATIENCE_S / 2)
            return answer.status_code

    async def test() -> None:
        async with platform.client(EVA) as client:
            held = [asyncio.ensure_future(client.get("/v1/audit/events")) for _ in range(CALLS)]
            try:
                await asyncio.to_thread(platform.door.until, SHARED)
                batch = {"events": [event(1, ROUTER, type="predictions.sealed")]}
                assert await asked(ROUTER, "POST", "/v1/audit/events", json=batch) == 200
                assert await asked(ROUTER, "GET", "/v1/serving/desired") == 200
                assert await asked(PREDICTOR, "GET", "/v1/serving/quarantine/dep-none") == 404
                assert await asked(EVA, "GET", "/healthz") == 200
                assert platform.door.waiting == SHARED
            finally:
                platform.door.open()
            assert {answer.status_code for answer in await asyncio.gather(*held)} == {200}

    asyncio.run(test())


def test_evaluations_leave_threads_to_others(platform: Platform) -> None:
    async def test() -> None:
        path, order = "/v1/models/digits/versions/1/evaluations", {"dataset": "digits@1"}
        async with platform.client(EVA) as client:
            asked = [asyncio.ensure_future(client.post(path, json=order)) for _ in range(CALLS)]
            try:
                while sum(task.done() for task in asked) < CALLS - MAX_EVALUATIONS:
                    await asyncio.sleep(0.01)
                refused = [task.result() for task in asked if task.done()]
                assert {(answer.status_code, answer.headers.get("retry-after")) for answer in refused} == {(503, "1")}
                # Those that were let in are on their way: they fetch artifact and data set first.
                await asyncio.to_thread(platform.door.until, MAX_EVALUATIONS)
                assert platform.door.waiting == MAX_EVALUATIONS
            finally:
                platform.door.open()
            answers = await asyncio.gather(*asked)
            assert [answer.status_code for answer in answers].count(201) == MAX_EVALUATIONS
            assert (await client.post(path, json=order)).status_code == 201

    asyncio.run(test())
