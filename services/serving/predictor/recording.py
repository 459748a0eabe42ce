"""Around a predictor in a cluster: each inference leaves a prediction record before its answer leaves, as behind our router."""

import asyncio
import hashlib
import os
import time
from dataclasses import dataclass
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.core.clock import Clock
from services.core.errors import TooLarge, Unavailable
from services.core.ids import new_id
from services.serving.predictor.measure import ERROR, OK
from services.serving.predictor.order import Order
from services.serving.predictor.spool import Spool
from services.serving.records import record_of

INFER = "/infer"
SALT_BYTES = 16
LATER = {"Retry-After": "1"}
UPLOAD_S = 10.0


@dataclass(frozen=True)
class Limits:
    """max_body: bytes of one request; max_in_flight: requests at once; upload_s: seconds for one body."""

    max_body: int
    max_in_flight: int
    upload_s: float = UPLOAD_S


class Recorded:
    """Records what everybody but `unrecorded` asks (the API's golden probes are no predictions), and lets them predict in this one
    way only: KServe has older ones, which would leave no record.

    An answer is held until it is recorded; one that cannot be recorded is not given.
    """

    def __init__(self, app: ASGIApp, spool: Spool, order: Order, unrecorded: str, limits: Limits, clock: Clock) -> None:
        self._app, self._spool, self._order, self._unrecorded = app, spool, order, unrecorded
        self._limits, self._clock = limits, clock
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or scope.get("spiffe_id") == self._unrecorded:
            await self._app(scope, receive, send)
        elif not scope["path"].endswith(INFER):
            await _refuse(404, "predictions are asked for by POST /v2/models/MODEL/infer")(scope, receive, send)
        elif self._in_flight >= self._limits.max_in_flight:
            await _refuse(429, f"{self._in_flight} requests are being answered; retry after a pause")(scope, receive, send)
        else:
            self._in_flight += 1
            try:
                await self._answer(scope, receive, send)
            finally:
                self._in_flight -= 1

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with asyncio.timeout(self._limits.upload_s):
                body = await _body(receive, self._limits.max_body)
        except TimeoutError:
            await _refuse(400, f"the body did not arrive within {self._limits.upload_s:g} s")(scope, receive, send)
            return
        except TooLarge as error:
            await _refuse(413, str(error))(scope, receive, send)
            return
        except ClientDisconnect:
            return  # nobody is left to answer, and there was no prediction
        exchange = _Exchange(self._clock(), body)
        failure: Exception | None = None
        self._spool.expect()
        try:
            await self._app(exchange.named(scope), exchange.replayed(receive), exchange.hold)
        except Exception as error:  # Starlette answered 500 before it raised; that answer is recorded too
            failure = error
        try:
            self._spool.append(exchange.record(self._order))
        except Unavailable as error:
            await _refuse(503, str(error))(scope, receive, send)
            return
        for message in exchange.held(self._order):
            await send(message)
        if failure is not None:
            raise failure


def _refuse(status: int, error: str) -> JSONResponse:
    """As the Open Inference Protocol words errors."""
    return JSONResponse({"error": error}, status, LATER if status in (429, 503) else None)


async def _body(receive: Receive, limit: int) -> bytes:
    """The whole body of a request. Raises TooLarge; ClientDisconnect: its client went away before its end."""
    parts, size, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        part, more = message.get("body", b""), message.get("more_body", False)
        parts.append(part)
        size += len(part)
        if size > limit:
            raise TooLarge(f"the body is over {limit} bytes")
    return b"".join(parts)


class _Exchange:
    """One request and its answer. ts: epoch milliseconds of its start."""

    def __init__(self, ts: int, body: bytes) -> None:
        self.id, self._ts, self._body, self._begun = new_id("prd"), ts, body, time.perf_counter()
        # Who has the salt and the input can show which record is theirs. The record alone gives an input away only to who guesses
        # it and can ask the same model: the answer's digest has no salt.
        self._salt = os.urandom(SALT_BYTES)
        self._output = hashlib.sha256()
        self._status = 0
        self._messages: list[Message] = []

    def named(self, scope: Scope) -> Scope:
        """The request under our own id, whatever its sender or the gateway called it: KServe puts it into the answer."""
        others = [(name, value) for name, value in scope["headers"] if name != b"x-request-id"]
        return {**scope, "headers": [*others, (b"x-request-id", self.id.encode("ascii"))]}

    def replayed(self, receive: Receive) -> Receive:
        """The body again, then whatever comes after it."""
        left = [{"type": "http.request", "body": self._body, "more_body": False}]

        async def take() -> Message:
            return left.pop() if left else await receive()

        return take

    async def hold(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
        self._output.update(message.get("body", b""))
        self._messages.append(message)

    def record(self, order: Order) -> dict[str, Any]:
        return record_of(
            self.id, self._ts, deployment=order.deployment, artifact_id=order.artifact_id,
            input_digest=hashlib.sha256(self._salt + self._body).hexdigest(), output_digest=self._output.hexdigest(),
            latency_us=int((time.perf_counter() - self._begun) * 1e6), outcome=OK if 0 < self._status < 400 else ERROR,
            # The gateway tossed the coin: what it meant for a rollout is not known here.
            status=self._status, rollout=None,
        )  # fmt: skip

    def held(self, order: Order) -> list[Message]:
        """The answer, with what the client needs to ask for evidence."""
        told = {
            "x-request-id": self.id,
            "x-prediction-salt": self._salt.hex(),
            "x-model-version": f"{order.model}@{order.number}",
            "x-deployment": order.deployment,
        }
        added = [(name.encode("ascii"), value.encode("ascii")) for name, value in told.items()]
        return [
            {**message, "headers": [*message.get("headers", ()), *added]} if message["type"] == "http.response.start" else message
            for message in self._messages
        ]
