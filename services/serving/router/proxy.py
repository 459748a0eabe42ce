"""Open Inference Protocol v2 in front of the predictors: /env/{environment}/v2/… for any v2 client with a certificate.

Every inference that reaches a predictor, or finds none, leaves a prediction record. A request id is the router's own, never the
client's: who could choose ids could choose the arm of a rollout.
"""

import asyncio
import hashlib
import hmac
import json
import logging
import time
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp import web

from services.core.clock import Clock
from services.core.errors import AiInfraError, BadInput, TooLarge, Unavailable
from services.core.ids import new_id
from services.serving.domain import QUARANTINED
from services.serving.errors import Overloaded, Quarantined
from services.serving.records import record_of
from services.serving.router.answers import problem
from services.serving.router.counts import ERROR, OK, TIMEOUT, UNAVAILABLE, coin
from services.serving.router.pool import Backend, Pool
from services.serving.router.records import RecordLog
from services.serving.router.state import Route, Split, State
from services.serving.router.upstream import Answer, Broken, Connections, Unreachable

BUFFER = 64 << 10
"""Bytes up to which a body is held in memory; a longer one is streamed (and cannot be mirrored)."""
UPLOAD_S = 10.0
"""Seconds for a client's whole body: while it is waited for, the predictor's time does not run."""
PATIENCE = 0.5
"""Share of a predictor's time that waiting for a slow reader may take: the predictor is not to be blamed for it."""
MAX_MIRRORS = 64
"""Mirrored requests at once; more are not mirrored, so that a canary that hangs cannot fill the memory."""
FORWARDED = ("content-type", "inference-header-content-length", "accept", "traceparent", "tracestate")
RETURNED = ("content-type", "inference-header-content-length")
JSON = "application/json"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limits:
    """timeout_s: seconds for one answer of a predictor; max_body: bytes of a request; max_in_flight: requests of one predictor;
    upload_s: seconds for one body of a client."""

    timeout_s: float
    max_body: int
    max_in_flight: int
    upload_s: float = UPLOAD_S


@dataclass(frozen=True)
class Target:
    """Where a request goes. canary: None outside of rollouts; counted: whether the rollout's counts take it; second: after the
    canary failed to take it."""

    deployment: str
    canary: bool | None = None
    counted: bool = True
    second: bool = False


class Proxy:
    """Handlers of the data plane."""

    def __init__(
        self, state: State, pool: Pool, records: RecordLog, session: aiohttp.ClientSession, connections: Connections,
        clock: Clock, salt: bytes, limits: Limits,
    ) -> None:
        self._state, self._pool, self._records, self._session, self._connections = state, pool, records, session, connections
        self._clock, self._salt, self._limits = clock, salt, limits
        self._mirrors: set[asyncio.Task[None]] = set()
        self._begun: set[str] = set()

    def routes(self) -> list[web.RouteDef]:
        base = "/env/{environment}/v2"
        return [
            web.post(base + "/models/{model}/infer", self.infer),
            web.get(base + "/models/{model}/ready", self.model_ready),
            web.get(base + "/models/{model}", self.metadata),
            web.get(base + "/models", self.models),
            web.get(base + "/health/live", self.live),
            web.get(base + "/health/ready", self.live),
            web.get(base, self.server),
        ]

    async def server(self, request: web.Request) -> web.Response:
        return web.json_response({"name": "ai-infra-router", "version": "1", "extensions": ["binary_tensor_data"]})

    async def live(self, request: web.Request) -> web.Response:
        return web.json_response({"live": True, "ready": True})

    async def models(self, request: web.Request) -> web.Response:
        found = self._state.routes(request.match_info["environment"])
        return web.json_response({"models": sorted(route.model for route in found)})

    async def model_ready(self, request: web.Request) -> web.Response:
        try:
            route = self._route(request)
            if not self._pool.healthy(route.stable):
                raise Unavailable(f"no predictor of {route.model} is ready in {route.environment}")
        except AiInfraError as error:
            return problem(error, {})
        return web.json_response({"name": route.model, "ready": True})

    async def metadata(self, request: web.Request) -> web.Response:
        try:
            route = self._route(request)
            backend = self._pool.choose(route.stable, new_id("prd"))
            if backend is None:
                raise Unavailable(f"no predictor of {route.model} is ready in {route.environment}")
            async with self._session.get(f"{backend.url}/v2/models/{route.model}", timeout=self._timeout()) as response:
                return web.Response(body=await response.read(), status=response.status, content_type=JSON)
        except AiInfraError as error:
            return problem(error, {})
        except (aiohttp.ClientError, TimeoutError):
            return problem(Unavailable("the predictor did not answer"), {})

    async def infer(self, request: web.Request) -> web.StreamResponse:
        call = Call(request, self._salt, self._limits)
        try:
            route = self._route(request)
            call.body = await self._buffer(request, call)
            return await self._serve(call, route)
        except AiInfraError as error:
            return problem(error, call.headers)

    def _route(self, request: web.Request) -> Route:
        route = self._state.route(request.match_info["environment"], request.match_info["model"])
        if route.state == QUARANTINED:
            raise Quarantined(f"{route.model} is under quarantine in {route.environment}: {route.reason}")
        return route

    async def _buffer(self, request: web.Request, call: "Call") -> bytes:
        """The whole body, or its first part; then call.more says that the rest is to be streamed."""
        if (request.content_length or 0) > self._limits.max_body:
            raise TooLarge(f"the body is over {self._limits.max_body} bytes")
        content = request.content
        if content.is_eof() and content.total_bytes <= BUFFER:
            return content.read_nowait()  # came with its head, as most do: no timer and no turn of the loop
        parts: list[bytes] = []
        size = 0
        while size <= BUFFER:
            part = await call.part()
            if not part:
                return b"".join(parts)
            parts.append(part)
            size += len(part)
        call.more = True
        return b"".join(parts)

    async def _serve(self, call: "Call", route: Route) -> web.StreamResponse:
        split = route.split
        target = Target(route.stable)
        if split is not None:
            chosen = coin(split.seed, call.id) < split.weight
            target = Target(split.canary if chosen else route.stable, chosen, self._comparable(route, split))
        answer, outcome = await self._attempt(call, route, split, target)
        # Whatever stable's outcome was: a mirror that saw only its successes would compare unequal requests.
        if split is not None and target.canary is False and target.counted and not call.more:
            self._mirror(call, route, split, outcome)
        if answer is None and not call.streamed:
            # A failure of the canary is counted; the client need not suffer from it. Nor from a stable version that was replaced
            # while it was asked: then the route leads elsewhere by now.
            now = self._route(call.request).stable
            if now != target.deployment:
                answer, _ = await self._attempt(call, route, split, Target(now, False, counted=False, second=True))
        if answer is None:
            raise Unavailable(f"no healthy predictor of {route.model} in {route.environment}")
        return answer

    def _comparable(self, route: Route, split: Split) -> bool:
        """Whether this request tells the versions apart; asked before the coin's side is looked at, so it favours neither.

        Not before both had a ready predictor in this life of the router, and not while neither has one: an outage of ours is no
        failure of the canary, and thousands of refusals would drown what is to be seen.
        """
        healthy = [bool(self._pool.healthy(deployment)) for deployment in (route.stable, split.canary)]
        if all(healthy):
            self._begun.add(split.id)
        return any(healthy) and split.id in self._begun

    async def _attempt(
        self, call: "Call", route: Route, split: Split | None, target: Target
    ) -> tuple[web.StreamResponse | None, str]:
        """The answer of a deployment, None when none of its predictors gave one and the request may go elsewhere; its outcome.

        Raises:
            Overloaded. Unavailable: the answer could not be recorded. BadInput: the client did not send all of its body.
        """
        exchange = Exchange(self._clock())
        answer: web.StreamResponse | None = None
        over: Overloaded | None = None
        backend: Backend | None = None
        try:
            backend = self._pool.choose(target.deployment, call.id)
        except Overloaded as error:
            if split is None or target.canary is None or not target.counted:
                raise  # no predictor was asked and no version is judged: no record
            over = error
        self._records.expect()
        if backend is not None:
            try:
                answer = await self._forward(call, route, target, backend, exchange)
            except BadInput:  # of the client's stream: no predictor had a whole request, so there was no prediction
                self._records.withdraw()
                raise
            if answer is None and not call.streamed:
                answer = await self._again(call, route, target, backend, exchange)
        try:
            self._record(call, split, target, exchange)
        except Unavailable:
            if exchange.stream is None:
                raise
            log.exception("prediction %s was answered and not recorded", call.id)
        if answer is not None and exchange.stream is None:
            answer.headers.update(call.headers)
        if over is not None and not target.canary:
            raise over  # counted against stable, as it is against a canary; the client hears 429
        return answer, exchange.outcome

    async def _again(
        self, call: "Call", route: Route, target: Target, failed: Backend, exchange: "Exchange"
    ) -> web.StreamResponse | None:
        """The answer of another predictor of the same deployment, if one is free."""
        try:
            other = self._pool.choose(target.deployment, call.id, without=failed)
        except Overloaded:
            return None
        return None if other is None else await self._forward(call, route, target, other, exchange)

    async def _forward(
        self, call: "Call", route: Route, target: Target, backend: Backend, exchange: "Exchange"
    ) -> web.StreamResponse | None:
        order = self._state.order(target.deployment)
        call.headers["x-model-version"] = f"{route.model}@{order.get('number', '')}"
        call.headers["x-deployment"] = target.deployment
        headers = {name: call.request.headers[name] for name in FORWARDED if name in call.request.headers}
        headers["x-request-id"] = call.id
        path, body = f"/v2/models/{route.model}/infer", call.payload()
        begun = time.perf_counter()
        backend.in_flight += 1
        try:
            response = await self._connections.post(backend.address, path, headers, body, self._limits.timeout_s)
            answer = await self._relay(call, response, exchange)
        except TimeoutError:
            backend.failed()
            exchange.failed(TIMEOUT, begun)
            if exchange.stream is not None:
                return _cut(call, exchange.stream)
            if target.canary:
                return None
            late = Unavailable(f"the predictor did not answer within {self._limits.timeout_s:g} s")
            return problem(late, call.headers, "PredictorTimeout")
        except Unreachable:
            backend.failed()
            exchange.failed(UNAVAILABLE, begun)
            return None
        except (Broken, OSError):
            exchange.failed(ERROR, begun)
            backend.failed()
            # An inference has no side effect: while nothing of an answer has left, another predictor may give it.
            return None if exchange.stream is None else _cut(call, exchange.stream)
        finally:
            backend.in_flight -= 1
        exchange.finished(begun)
        backend.answered_request()
        if exchange.outcome == OK:
            self._pool.note(backend, exchange.latency_us)
        return answer

    async def _relay(self, call: "Call", response: Answer, exchange: "Exchange") -> web.StreamResponse:
        """The predictor's answer: whole when it is short, else streamed to the client while it arrives."""
        exchange.outcome, exchange.status = (OK if response.status < 400 else ERROR), response.status
        headers = {name: response.headers[name] for name in RETURNED if name in response.headers}
        if response.content_length is not None and response.content_length <= BUFFER:
            call.answer = await response.read()
            exchange.output.update(call.answer)
            return web.Response(body=call.answer, status=response.status, headers=headers)
        exchange.stream = answer = web.StreamResponse(status=response.status, headers=headers | call.headers)
        client = Client(self._limits.timeout_s * PATIENCE)
        await client.take(answer.prepare(call.request))
        async for part in response.parts():
            exchange.output.update(part)
            # A client that went away, or reads too slowly, is no failure of the predictor; the record covers the whole answer.
            await client.take(answer.write(part))
        await client.take(answer.write_eof())
        return _cut(call, answer) if client.gone else answer

    def _record(self, call: "Call", split: Split | None, target: Target, exchange: "Exchange") -> None:
        place = None
        if split is not None and target.canary is not None and target.counted:
            counter = self._state.counter(split.id)
            seen = counter.add(split.weight, target.canary, exchange.outcome, exchange.latency_us)
            arm = "canary" if target.canary else "stable"
            place = {"id": split.id, "weight": split.weight, "arm": arm, **seen}
        # A canary that nobody answered for is followed by stable's answer to the same request: ids must differ.
        record_id = call.id + "-fallback" if target.second else call.id
        self._write(record_id, call, target.deployment, exchange, place)

    def _write(
        self, record_id: str, call: "Call", deployment: str, exchange: "Exchange", place: dict[str, Any] | None
    ) -> None:
        self._records.append(exchange.record(record_id, deployment, self._state, call.input.hexdigest(), place))

    def _mirror(self, call: "Call", route: Route, split: Split, stable: str) -> None:
        if split.mirror == 0 or coin(split.seed, call.id + "-mirror") >= split.mirror or len(self._mirrors) >= MAX_MIRRORS:
            return
        task = asyncio.get_running_loop().create_task(self._ask_mirror(call, route, split, stable))
        self._mirrors.add(task)
        task.add_done_callback(self._mirrors.discard)

    async def _ask_mirror(self, call: "Call", route: Route, split: Split, stable: str) -> None:
        """The canary's answer to a request that stable answered: compared, recorded, shown to nobody."""
        exchange = Exchange(self._clock())
        self._records.expect()
        backend, agree = self._free(split.canary, call.id), None
        if backend is not None:
            answer = await self.ask(backend, route.model, call.body, exchange, call.request.headers.get("content-type", JSON))
            first, second = labels(call.answer), labels(answer)
            agree = None if first is None or second is None else first == second
        self._state.counter(split.id).add_mirrored(stable, exchange.outcome, agree)
        place = {"id": split.id, "arm": "mirror", "agree": agree, "stable": stable}
        self._write(call.id + "-mirror", call, split.canary, exchange, place)

    def _free(self, deployment: str, request_id: str) -> Backend | None:
        try:
            return self._pool.choose(deployment, request_id)
        except Overloaded:
            return None

    async def ask(self, backend: Backend, model: str, body: bytes, exchange: "Exchange", kind: str = JSON) -> bytes | None:
        """One answer outside of a client's request; None when there is none."""
        begun = time.perf_counter()
        backend.in_flight += 1
        path, headers = f"/v2/models/{model}/infer", {"content-type": kind}
        try:
            response = await self._connections.post(backend.address, path, headers, body, self._limits.timeout_s)
            answer = await response.read()
        except (Unreachable, Broken, OSError) as error:
            backend.failed()
            exchange.failed(TIMEOUT if isinstance(error, TimeoutError) else ERROR, begun)
            return None
        finally:
            backend.in_flight -= 1
        exchange.outcome, exchange.status = (OK if response.status < 400 else ERROR), response.status
        exchange.output.update(answer)
        exchange.finished(begun)
        return answer if exchange.outcome == OK else None

    def _timeout(self) -> aiohttp.ClientTimeout:
        return aiohttp.ClientTimeout(total=self._limits.timeout_s)


class Call:
    """One client's request. headers: of every answer to it; input: hash over salt and body; more: the rest is to be streamed."""

    def __init__(self, request: web.Request, salt_key: bytes, limits: Limits) -> None:
        self.request, self.id, self._limits = request, new_id("prd"), limits
        self._until = asyncio.get_running_loop().time() + limits.upload_s
        salt = hmac.digest(salt_key, self.id.encode("ascii"), hashlib.sha256)[:16]
        # Who has the salt and the input can show which record is theirs. The record alone gives an input away only to who guesses
        # it and can ask the same model: the answer's digest has no salt.
        self.headers = {"x-request-id": self.id, "x-prediction-salt": salt.hex()}
        self.input = hashlib.sha256(salt)
        self.body, self.answer = b"", b""
        self.more = self.streamed = False
        self._hashed = False

    def payload(self) -> bytes | AsyncIterator[bytes]:
        """The body for the predictor. A streamed one is read once: such a request is not tried twice."""
        if not self._hashed:
            self.input.update(self.body)
            self._hashed = True
        if not self.more:
            return self.body
        self.streamed = True
        return self._stream()

    async def part(self) -> bytes:
        """What arrived of the body; empty at its end.

        Raises:
            BadInput: the client went away, or its time for the whole body is over. Whoever sends on must not blame the predictor.
        """
        try:
            async with asyncio.timeout_at(self._until):
                return await self.request.content.readany()
        except TimeoutError:
            raise BadInput(f"the body did not arrive within {self._limits.upload_s:g} s") from None
        except (OSError, web.RequestPayloadError) as error:
            raise BadInput(f"the body broke off: {error}") from error

    async def _stream(self) -> AsyncIterator[bytes]:
        """Raises BadInput, TooLarge."""
        size = len(self.body)
        yield self.body
        while part := await self.part():
            size += len(part)
            if size > self._limits.max_body:
                raise TooLarge(f"the body is over {self._limits.max_body} bytes")
            self.input.update(part)
            yield part


class Exchange:
    """What happened with a predictor. ts: epoch milliseconds of the start; status: 0 when there was no answer; stream: the answer,
    once its first part may have left."""

    def __init__(self, ts: int) -> None:
        self.ts, self.outcome, self.status, self.latency_us = ts, UNAVAILABLE, 0, 0
        self.output = hashlib.sha256()
        self.stream: web.StreamResponse | None = None

    def failed(self, outcome: str, begun: float) -> None:
        self.outcome, self.status = outcome, 0
        self.finished(begun)

    def finished(self, begun: float) -> None:
        self.latency_us = int((time.perf_counter() - begun) * 1e6)

    def record(
        self, record_id: str, deployment: str, state: State, input_digest: str, place: dict[str, Any] | None
    ) -> dict[str, Any]:
        """The prediction record. input_digest: in hex; place: what a rollout says of it."""
        return record_of(
            record_id, self.ts, deployment=deployment, artifact_id=state.order(deployment).get("artifactId"),
            input_digest=input_digest, output_digest=self.output.hexdigest(), latency_us=self.latency_us, outcome=self.outcome,
            status=self.status, rollout=place,
        )  # fmt: skip


class Client:
    """Takes the parts of a long answer. seconds: that all waiting for it may take; then, or when it went away, it is gone."""

    def __init__(self, seconds: float) -> None:
        self._left = seconds
        self.gone = False

    async def take(self, writing: Coroutine[Any, Any, Any]) -> None:
        if self.gone:
            writing.close()
            return
        begun = time.monotonic()
        try:
            async with asyncio.timeout(self._left):
                await writing
        except (ConnectionError, TimeoutError):
            self.gone = True
        self._left -= time.monotonic() - begun


def _cut(call: Call, answer: web.StreamResponse) -> web.StreamResponse:
    """Breaks the client's connection: half an answer must not look whole."""
    if call.request.transport is not None:
        call.request.transport.abort()
    return answer


def labels(answer: bytes | None) -> list[str] | None:
    """The `label` output of a v2 answer in JSON; None if it has none."""
    try:
        outputs = json.loads(answer or b"")["outputs"]
        return next([str(label) for label in output["data"]] for output in outputs if output["name"] == "label")
    except (ValueError, KeyError, TypeError, StopIteration):
        return None
