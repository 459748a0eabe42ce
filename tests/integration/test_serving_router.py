"""The router over tiny upstream servers: what a client sees when predictors die, hang, stream or are withdrawn."""

import asyncio
import contextlib
import json
import os
import shutil
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from scipy.stats import binomtest

from services.core.clock import system_clock
from services.core.database import open_engine
from services.core.outbox import Outbox
from services.core.tls import service_id
from services.serving.owed import Owed
from services.serving.router import tables
from services.serving.router.app import Parts, Router
from services.serving.router.launcher import OnEvent
from services.serving.router.pool import EJECT_AFTER
from services.serving.router.proxy import BUFFER, Limits
from services.serving.router.records import RecordLog
from services.serving.router.state import State
from services.serving.router.upstream import Connections

TIMEOUT_S = 0.4
MAX_BODY = 1 << 20
MAX_IN_FLIGHT = 4
HUGE = 40_000_000
"""Bytes of an answer: more than the buffers between a predictor and a client hold."""
UPLOAD_S = 1.0
INFER = "/env/staging/v2/models/m/infer"
BODY = b'{"inputs": []}'
JSON = {"content-type": "application/json"}


class Upstream:
    """One predictor's address. mode: answer, hang, fail, break (closes in the middle), drop, late, big, huge; released: when drop
    happens, and when late answers."""

    def __init__(self, label: str) -> None:
        self.label, self.mode = label, "answer"
        self.released = asyncio.Event()
        self.released.set()
        self.seen: list[tuple[bytes, dict[str, str]]] = []
        self.port = 0

    async def start(self) -> None:
        app = web.Application(client_max_size=1 << 30)
        app.add_routes([web.post("/v2/models/m/infer", self._infer), web.get("/v2/health/ready", self._ready)])
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        await self._runner.cleanup()

    def request_ids(self) -> list[str]:
        return [{name.lower(): value for name, value in headers.items()}["x-request-id"] for _, headers in self.seen]

    async def _ready(self, request: web.Request) -> web.Response:
        return web.Response(status=503 if self.mode in ("hang", "fail") else 200)

    async def _infer(self, request: web.Request) -> web.StreamResponse:
        self.seen.append((await request.read(), dict(request.headers)))
        if self.mode == "hang":
            await asyncio.sleep(60)
        if self.mode == "drop" and request.transport is not None:
            await self.released.wait()
            request.transport.abort()
        if self.mode == "late":
            await self.released.wait()
        if self.mode == "fail":
            return web.json_response({"error": "no"}, status=500)
        if self.mode in ("break", "big", "huge"):
            return await self._stream(request)
        return web.json_response({"outputs": [{"name": "label", "data": [self.label]}]})

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        for _ in range(40):
            await answer.write(b"x" * (HUGE // 40 if self.mode == "huge" else 10_000))
        if self.mode == "break" and request.transport is not None:
            request.transport.abort()
        return answer


class Upstreams:
    """A launcher whose predictors are there already: replica n of a deployment is its n-th upstream."""

    def __init__(self, by_deployment: dict[str, list[Upstream]]) -> None:
        self._left = {name: list(found) for name, found in by_deployment.items()}
        self._tell: OnEvent = lambda event: None
        self.stopped: list[str] = []

    async def run(self, on_event: OnEvent) -> None:
        self._tell = on_event
        await asyncio.Event().wait()

    def start(self, replica: str, order: dict[str, Any]) -> None:
        upstream = self._left[order["deployment"]].pop(0)
        event = {"event": "ready", "replica": replica, "pid": 1, "port": upstream.port}
        asyncio.get_running_loop().call_soon(lambda: self._tell(event))

    def stop(self, replica: str) -> None:
        self.stopped.append(replica)


def desired(stable: int = 1, split: dict[str, Any] | None = None, state: str = "serving") -> dict[str, Any]:
    """One model in staging. stable: replicas."""
    deployments = [{"deployment": "dep-s", "model": "m", "number": 1, "artifactId": "sha256:s", "replicas": stable}]
    if split is not None:
        canary = {"deployment": "dep-c", "model": "m", "number": 2, "artifactId": "sha256:c", "replicas": 1}
        deployments.append(canary)
    route = {"environment": "staging", "model": "m", "state": state, "reason": "flag-1", "stable": "dep-s", "rollout": split}
    return {"deployments": deployments if state == "serving" else [], "routes": [route]}


def split_of(weight: float, mirror: float = 0.0) -> dict[str, Any]:
    edges = [float(edge) for edge in (100, 200, 300, 400, 500, 600)]
    return {
        "id": "rol-1", "canary": "dep-c", "weight": weight, "seed": "11" * 32, "warmUp": 0, "mirror": mirror,
        "edges": edges, "tolerance": 1.0,
    }


class Bench:
    """A router on a free port, over given upstreams."""

    def __init__(self, root: Path, stable: list[Upstream], canary: list[Upstream]) -> None:
        self.root, self.stable, self.canary = root, stable, canary

    async def __aenter__(self) -> "Bench":
        for upstream in self.stable + self.canary:
            await upstream.start()
        engine = open_engine(f"sqlite:///{self.root / 'router.db'}")
        tables.metadata.create_all(engine)
        outbox = Outbox(tables.outbox, service_id("router"), system_clock)
        self.launcher = Upstreams({"dep-s": self.stable, "dep-c": self.canary})
        self.records = RecordLog(self.root / "predictions", engine, outbox, system_clock, service_id("router"))
        parts = Parts(
            session=aiohttp.ClientSession(auto_decompress=False),
            connections=Connections(None),
            launcher=self.launcher,
            records=self.records,
            relay=None,
            follow=_never,
            clock=system_clock,
            salt=b"s" * 32,
            limits=Limits(TIMEOUT_S, MAX_BODY, MAX_IN_FLIGHT, UPLOAD_S),
            scheme="http",
        )
        self.router = Router(parts)
        self._runner = web.AppRunner(self.router.app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        self.client = aiohttp.ClientSession(auto_decompress=False)
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.close()
        await self._runner.cleanup()
        for upstream in self.stable + self.canary:
            await upstream.stop()

    async def apply(self, state: dict[str, Any]) -> None:
        await self.router.state.apply(state)
        await asyncio.sleep(0.02)

    async def post(self, path: str = INFER, data: Any = BODY, headers: dict[str, str] | None = None) -> "Seen":
        async with self.client.post(self.url + path, data=data, headers=JSON | (headers or {})) as response:
            headers = {name.lower(): value for name, value in response.headers.items()}
            return Seen(response.status, await response.read(), headers)

    async def upload(self, *parts: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection whose request is said to be longer than what was sent of it."""
        reader, writer = await asyncio.open_connection("127.0.0.1", int(self.url.rsplit(":", 1)[1]))
        head = f"POST {INFER} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
        writer.write(head.encode() + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts))
        await writer.drain()
        return reader, writer

    def in_flight(self) -> int:
        return sum(backend.in_flight for backend in self.router.pool.healthy("dep-s"))

    def owed(self) -> int:
        """Records that the next router would miss, were this one killed now."""
        copy = self.root / "inflight"
        shutil.copy(self.root / "predictions" / "inflight", copy)
        return Owed(copy).open()

    def written(self) -> list[dict[str, Any]]:
        lines = (self.root / "predictions" / "00000001.jsonl").read_bytes().splitlines()
        return [json.loads(line) for line in lines]


class Seen:
    """What a client got."""

    def __init__(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.status, self.body, self.headers = status, body, headers

    @property
    def label(self) -> str:
        return str(json.loads(self.body)["outputs"][0]["data"][0])

    @property
    def problem(self) -> dict[str, Any]:
        assert self.headers["content-type"].startswith("application/problem+json")
        value: dict[str, Any] = json.loads(self.body)
        return value


async def _never(_state: State) -> None:
    await asyncio.Event().wait()


async def received(reader: asyncio.StreamReader) -> bytes:
    """What comes until the connection ends, however it does."""
    got = bytearray()
    with contextlib.suppress(ConnectionResetError):
        while part := await reader.read(BUFFER):
            got += part
    return bytes(got)


def bench(root: Path, test: Callable[[Bench], Awaitable[None]], stable: int = 1, canary: int = 1) -> None:
    """Runs a test against a fresh router."""

    async def run() -> None:
        ups = [Upstream(f"s{index}") for index in range(stable)], [Upstream(f"c{index}") for index in range(canary)]
        async with Bench(root, *ups) as made:
            await test(made)

    asyncio.run(run())


def test_an_answer_names_its_version_and_its_record(tmp_path: Path) -> None:
    async def test(b: Bench) -> None:
        await b.apply(desired())
        seen = await b.post(headers={"x-request-id": "mine"})
        assert (seen.status, seen.label, seen.headers["x-model-version"]) == (200, "s0", "m@1")
        (written,) = b.written()
        assert written["id"] == seen.headers["x-request-id"] != "mine"
        assert {key: written[key] for key in ("deployment", "artifactId", "outcome", "status", "rollout")} == {
            "deployment": "dep-s", "artifactId": "sha256:s", "outcome": "ok", "status": 200, "rollout": None,
        }
        assert b.stable[0].request_ids() == [written["id"]]

    bench(tmp_path, test)


def test_who_has_salt_and_input_finds_them_in_the_record(tmp_path: Path) -> None:
    import hashlib

    async def test(b: Bench) -> None:
        await b.apply(desired())
        seen = await b.post()
        salt = bytes.fromhex(seen.headers["x-prediction-salt"])
        (written,) = b.written()
        assert written["inputDigest"] == "sha256:" + hashlib.sha256(salt + BODY).hexdigest()
        assert written["outputDigest"] == "sha256:" + hashlib.sha256(seen.body).hexdigest()

    bench(tmp_path, test)


@pytest.mark.parametrize("path", ["/env/staging/v2/models/other/infer", "/env/prod/v2/models/m/infer"])
def test_an_unknown_model_is_404(tmp_path: Path, path: str) -> None:
    async def test(b: Bench) -> None:
        await b.apply(desired())
        seen = await b.post(path)
        assert (seen.status, seen.problem["title"], b.written()) == (404, "UnknownRoute", [])

    bench(tmp_path, test)


def test_no_healthy_predictor_is_503_with_a_time_to_retry(tmp_path: Path) -> None:
    async def test(b: Bench) -> None:
        await b.apply(desired() | {"deployments": []})
        seen = await b.post()
        assert (seen.status, seen.headers["retry-after"], seen.problem["retryable"]) == (503, "1", True)
        assert [item["outcome"] for item in b.written()] == ["unavailable"]

    bench(tmp_path, test)


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_the_limit_is_413(tmp_path: Path, chunked: bool) -> None:
    async def parts() -> Any:
        for _ in range(MAX_BODY // 10_000 + 2):
            yield b"x" * 10_000

    async def test(b: Bench) -> None:
        await b.apply(desired())
        seen = await b.post(data=parts() if chunked else b"x" * (MAX_BODY + 1))
        assert (seen.status, seen.problem["title"]) == (413, "TooLarge")
        assert (await b.post()).status == 200

    bench(tmp_path, test)


def test_a_long_body_and_a_long_answer_are_streamed_whole(tmp_path: Path) -> None:
    import hashlib

    async def test(b: Bench) -> None:
        await b.apply(desired())
        b.stable[0].mode = "big"
        sent = b"y" * (BUFFER * 5)
        seen = await b.post(data=sent)
        assert (seen.status, len(seen.body), seen.headers["x-model-version"]) == (200, 400_000, "m@1")
        assert b.stable[0].seen[0][0] == sent
        salt = bytes.fromhex(seen.headers["x-prediction-salt"])
        (written,) = b.written()
        assert written["inputDigest"] == "sha256:" + hashlib.sha256(salt + sent).hexdigest()
        assert written["outputDigest"] == "sha256:" + hashlib.sha256(seen.body).hexdigest()

    bench(tmp_path, test)


def test_a_hung_predictor_times_out_and_is_ejected(tmp_path: Path) -> None:
    async def test(b: Bench) -> None:
        await b.apply(desired(stable=2))
        b.stable[0].mode = "hang"
        statuses = Counter([(await b.post()).status for _ in range(30)])
        assert statuses[503] <= 4
        assert {item["outcome"] for item in b.written()} == {"ok", "timeout"}
        assert {(await b.post()).label for _ in range(20)} == {"s1"}

    bench(tmp_path, test, stable=2)


def test_more_than_a_predictor_can_take_is_refused_at_once_and_leaves_no_record(tmp_path: Path) -> None:
    async def test(b: Bench) -> None:
        await b.apply(desired())
        b.stable[0].mode = "late"
        b.stable[0].released.clear()
        taken = [asyncio.ensure_future(b.post()) for _ in range(MAX_IN_FLIGHT)]
        while len(b.stable[0].seen) < MAX_IN_FLIGHT:
            await asyncio.sleep(0.01)
        refused = await asyncio.gather(*(b.post() for _ in range(6)))
        assert {(seen.status, seen.headers["retry-after"], seen.problem["title"]) for seen in refused} == {(429, "1", "Overloaded")}
        b.stable[0].released.set()
        assert {seen.status for seen in await asyncio.gather(*taken)} == {200}
        assert len(b.written()) == MAX_IN_FLIGHT

    bench(tmp_path, test)


def test_in_a_rollout_a_refusal_counts_against_the_version_that_was_full(tmp_path: Path) -> None:
    async def test(b: Bench) -> None:
        await b.apply(desired(split=split_of(1e-9)))
        b.stable[0].mode = "late"
        b.stable[0].released.clear()
        taken = [asyncio.ensure_future(b.post()) for _ in range(MAX_IN_FLIGHT)]
        while len(b.stable[0].seen) < MAX_IN_FLIGHT:
            await asyncio.sleep(0.01)
        assert (await b.post()).status == 429
        b.stable[0].released.set()
        await asyncio.gather(*taken)
        assert b.router.state.counter("rol-1").counts().phases[0].errors == (0, 1)

    bench(tmp_path, test)


def test_a_client_that_reads_nothing_is_cut_and_no_predictor_is_blamed(tmp_path: Path) -> None:
    async def test(b: Bench) -> None:
        await b.apply(desired())
        b.stable[0].mode = "huge"
        port = int(b.url.rsplit(":", 1)[1])
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        head = f"POST {INFER} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(BODY)}\r\n\r\n"
        for _ in range(3):
            writer.write(head.encode() + BODY)
        while b.in_flight() == 0:
            await asyncio.sleep(0.01)
        b.stable[0].mode = "answer"
        assert (await b.post()).status == 200
        async with asyncio.timeout(20):
            while b.in_flight() > 0:
                await asyncio.sleep(0.01)
            got = await received(reader)
        assert (len(got) < HUGE, got.endswith(b"\r\n0\r\n\r\n")) == (True, False)  # cut, and does not look whole
        assert {item["outcome"] for item in b.written()} == {"ok"}
        assert len(b.router.pool.healthy("dep-s")) == 1
        writer.close()

    bench(tmp_path, test)


@pytest.mark.parametrize("end", ["the client goes away", "the client sends no HTTP", "the body is too long"])
def test_an_upload_that_breaks_off_leaves_no_record_and_no_predictor_is_blamed(tmp_path: Path, end: str) -> None:
    async def test(b: Bench) -> None:
        await b.apply(desired(split=split_of(1e-9)))
        for _ in range(EJECT_AFTER):
            _, writer = await b.upload(b"x" * BUFFER, b"x")
            while b.in_flight() == 0:
                await asyncio.sleep(0.01)
            if end != "the client goes away":
                writer.write(b"no size\r\n" if end == "the client sends no HTTP" else b"%x\r\n" % MAX_BODY + b"x" * MAX_BODY)
                await writer.drain()
            else:
                writer.transport.abort()
            while b.in_flight() > 0:
                await asyncio.sleep(0.01)
            writer.close()
        assert len(b.router.pool.healthy("dep-s")) == 1
        assert b.written() == []
        assert b.router.state.counter("rol-1").counts().phases == ()
        assert b.owed() == 0
        assert (await b.post()).status == 200
        assert len(b.written()) == 1

    bench(tmp_path, test)


def test_an_upload_that_stalls_is_ended_and_no_predictor_is_blamed(tmp_path: Path) -> None:
    async def test(b: Bench) -> None:
        await b.apply(desired())
        stalled = [await b.upload(b"x" * BUFFER, b"x") for _ in range(MAX_IN_FLIGHT)]
        while b.in_flight() < MAX_IN_FLIGHT:
            await asyncio.sleep(0.01)
        answers = [(await reader.readuntil(b"\r\n")) for reader, _ in stalled]
        assert {answer.split()[1] for answer in answers} == {b"400"}
        assert (b.in_flight(), b.written()) == (0, [])
        assert {(await b.post()).status for _ in range(MAX_IN_FLIGHT)} == {200}
        for _, writer in stalled:
            writer.close()

    bench(tmp_path, test)


def test_a_slow_upload_takes_nothing_of_the_predictors_time(tmp_path: Path) -> None:
    async def parts() -> Any:
        yield b"x" * BUFFER
        for _ in range(4):
            await asyncio.sleep(TIMEOUT_S / 2)
            yield b"x"

    async def test(b: Bench) -> None:
        await b.apply(desired())
        seen = await b.post(data=parts())
        assert (seen.status, b.stable[0].seen[0][0]) == (200, b"x" * (BUFFER + 4))

    bench(tmp_path, test)


def test_a_predictor_that_hangs_over_a_long_body_is_ejected(tmp_path: Path) -> None:
    async def test(b: Bench) -> None:
        await b.apply(desired())
        b.stable[0].mode = "late"  # its health probes are answered
        b.stable[0].released.clear()
        seen = await asyncio.gather(*(b.post(data=b"x" * (BUFFER + 1)) for _ in range(EJECT_AFTER)))
        assert ({item.status for item in seen}, b.router.pool.healthy("dep-s")) == ({503}, [])
        assert [item["outcome"] for item in b.written()] == ["timeout"] * EJECT_AFTER

    bench(tmp_path, test)


def test_a_dead_predictor_costs_no_client_an_answer_and_comes_back(tmp_path: Path) -> None:
    async def test(b: Bench) -> None:
        await b.apply(desired(stable=2))
        await b.stable[0].stop()
        assert {(await b.post()).status for _ in range(30)} == {200}
        assert len(b.router.pool.healthy("dep-s")) == 1
        await b.stable[0].start()
        await asyncio.sleep(2.0)
        assert {(await b.post()).label for _ in range(40)} == {"s0", "s1"}

    bench(tmp_path, test, stable=2)


def test_a_predictor_whose_health_fails_is_ejected_without_traffic(tmp_path: Path) -> None:
    async def test(b: Bench) -> None:
        await b.apply(desired(stable=2))
        b.stable[1].mode = "fail"
        await asyncio.sleep(2.2)
        assert [backend.slot for backend in b.router.pool.healthy("dep-s")] == [0]

    bench(tmp_path, test, stable=2)


def test_half_an_answer_does_not_look_whole(tmp_path: Path) -> None:
    async def test(b: Bench) -> None:
        await b.apply(desired())
        b.stable[0].mode = "break"
        with pytest.raises(aiohttp.ClientError):
            await b.post()
        assert [item["outcome"] for item in b.written()] == ["error"]

    bench(tmp_path, test)


def test_quarantine_answers_403_and_stops_the_predictors(tmp_path: Path) -> None:
    async def test(b: Bench) -> None:
        await b.apply(desired())
        assert (await b.post()).status == 200
        await b.apply(desired(state="quarantined"))
        seen = await b.post()
        assert (seen.status, seen.problem["title"], "flag-1" in seen.problem["detail"]) == (403, "Quarantined", True)
        assert len(b.launcher.stopped) == 1
        assert len(b.written()) == 1

    bench(tmp_path, test)


def test_traffic_is_split_by_weight_and_counted(tmp_path: Path) -> None:
    async def test(b: Bench) -> None:
        await b.apply(desired(split=split_of(0.3)))
        labels = Counter([(await b.post()).label for _ in range(400)])
        assert binomtest(labels["c0"], 400, 0.3).pvalue > 1e-4
        phase = b.router.state.counter("rol-1").counts().phases[0]
        assert (phase.weight, phase.requests, phase.canary_requests) == (0.3, 400, labels["c0"])
        written = b.written()
        assert Counter(item["rollout"]["arm"] for item in written) == {"canary": labels["c0"], "stable": labels["s0"]}
        assert {item["deployment"] for item in written if item["rollout"]["arm"] == "canary"} == {"dep-c"}

    bench(tmp_path, test)


def test_a_canary_that_is_gone_is_counted_and_stable_answers(tmp_path: Path) -> None:
    async def test(b: Bench) -> None:
        await b.apply(desired(split=split_of(0.5)))
        await b.canary[0].stop()
        seen = [await b.post() for _ in range(60)]
        assert ({item.status for item in seen}, {item.label for item in seen}) == ({200}, {"s0"})
        phase = b.router.state.counter("rol-1").counts().phases[0]
        assert phase.errors == (phase.canary_requests, 0)
        assert phase.canary_requests > 0
        ids = [item["id"] for item in b.written()]
        assert len(set(ids)) == len(ids) == 60 + phase.canary_requests
        await b.canary[0].start()

    bench(tmp_path, test)


def test_mirrored_requests_are_compared_and_shown_to_nobody(tmp_path: Path) -> None:
    async def test(b: Bench) -> None:
        await b.apply(desired(split=split_of(0.0, mirror=1.0)))
        labels = {(await b.post()).label for _ in range(20)}
        await asyncio.sleep(0.3)
        assert labels == {"s0"}
        assert b.router.state.counter("rol-1").counts().mirrored == (20, 20)
        assert len(b.canary[0].seen) == 20
        assert Counter(item["rollout"]["arm"] for item in b.written()) == {"stable": 20, "mirror": 20}

    bench(tmp_path, test)


def test_a_restarted_router_counts_the_same(tmp_path: Path) -> None:
    before: dict[str, Any] = {}

    async def first(b: Bench) -> None:
        await b.apply(desired(split=split_of(0.5)))
        for _ in range(50):
            await b.post()
        before.update(b.router.state.counter("rol-1").counts().to_json())

    async def second(b: Bench) -> None:
        await b.apply(desired(split=split_of(0.5)))
        assert b.router.state.counter("rol-1").counts().to_json() == before

    bench(tmp_path, first)
    bench(tmp_path, second)


def test_predictions_are_answered_while_a_new_rollout_waits_for_old_records(tmp_path: Path) -> None:
    async def test(b: Bench) -> None:
        await b.apply(desired())
        answered = threading.Event()
        told: list[bool] = []
        old = tmp_path / "predictions" / "00000000.jsonl"
        os.mkfifo(old)  # whoever reads it waits until somebody writes

        def write() -> None:
            told.append(answered.wait(5))
            old.write_bytes(b"")

        writer = threading.Thread(target=write)
        writer.start()
        applied = asyncio.ensure_future(b.apply(desired(split=split_of(0.5))))
        await asyncio.sleep(0)
        seen = [await b.post() for _ in range(20)]
        answered.set()
        await applied
        writer.join()
        assert told == [True]
        assert ({item.status for item in seen}, {item["rollout"] for item in b.written()}) == ({200}, {None})
        assert {(await b.post()).label for _ in range(40)} == {"s0", "c0"}

    bench(tmp_path, test)


def test_a_client_that_goes_away_is_no_failure_of_the_predictor(tmp_path: Path) -> None:
    async def test(b: Bench) -> None:
        await b.apply(desired())
        b.stable[0].mode = "big"
        for _ in range(5):
            response = await b.client.post(b.url + INFER, data=BODY, headers=JSON)
            response.close()
        await asyncio.sleep(0.3)
        assert len(b.router.pool.healthy("dep-s")) == 1
        assert {item["outcome"] for item in b.written()} == {"ok"}

    bench(tmp_path, test)


def test_counts_and_probes_are_for_the_api_process_only(tmp_path: Path) -> None:
    async def test(b: Bench) -> None:
        await b.apply(desired(split=split_of(0.5)))
        async with b.client.get(b.url + "/v1/rollouts/rol-1/counts") as response:
            assert response.status == 403
        async with b.client.post(b.url + "/v1/rollouts/rol-1/answers", json={"probes": ["p"], "rows": [[1.0]]}) as response:
            assert response.status == 403

    bench(tmp_path, test)


def test_a_canary_that_drops_connections_harms_no_client(tmp_path: Path) -> None:
    async def test(b: Bench) -> None:
        await b.apply(desired(split=split_of(0.5)))
        b.canary[0].mode = "drop"
        seen = [await b.post() for _ in range(40)]
        assert ({item.status for item in seen}, {item.label for item in seen}) == ({200}, {"s0"})
        phase = b.router.state.counter("rol-1").counts().phases[0]
        assert phase.errors == (phase.canary_requests, 0)

    bench(tmp_path, test)


def test_a_stable_version_that_is_replaced_while_it_is_asked_harms_no_client(tmp_path: Path) -> None:
    async def test(b: Bench) -> None:
        await b.apply(desired(split=split_of(1e-9)))
        b.stable[0].mode = "drop"
        b.stable[0].released.clear()
        asked = asyncio.ensure_future(b.post())
        while not b.stable[0].seen:
            await asyncio.sleep(0.01)
        promoted = desired(split=split_of(1e-9))
        promoted["deployments"] = promoted["deployments"][1:]
        promoted["routes"][0] |= {"stable": "dep-c", "rollout": None}
        await b.apply(promoted)
        b.stable[0].released.set()
        seen = await asked
        assert (seen.status, seen.label) == (200, "c0")

    bench(tmp_path, test)
