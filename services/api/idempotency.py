"""Idempotency-Key on writes (draft-ietf-httpapi-idempotency-key-header): a repeat gets the first one's answer, for a week.

The key is remembered with the answer, after the effect. A crash in between, or a database that is away then, lets a repeat run the
use case again, which is idempotent by itself (by digests and names); this saves the caller from a second, different answer.
"""

import asyncio
import logging
import re
import threading
from typing import Any

from sqlalchemy import BigInteger, Column, Engine, Integer, LargeBinary, String, Table, bindparam, delete, insert, select, tuple_
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.core.clock import Clock
from services.core.database import begin
from services.core.digests import sha256
from services.core.errors import AiInfraError, Unavailable
from services.core.http import problem
from services.core.tables import metadata

MAX_KEY = 200
KEPT_MS = 7 * 86_400_000
FORGET_ROWS = 10_000
"""Deleted at once, so that other writes of the database need not wait for long."""
KEY = re.compile(rf"[!-~]{{1,{MAX_KEY}}}")

log = logging.getLogger(__name__)

table = Table(
    "idempotency",
    metadata,
    Column("actor", String(250), primary_key=True),
    Column("key", String(MAX_KEY), primary_key=True),
    Column("request", String(71), nullable=False),
    Column("status", Integer, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("at", BigInteger, nullable=False, index=True),
)


_FIND = select(table.c.request, table.c.status, table.c.body).where(
    (table.c.actor == bindparam("actor")) & (table.c.key == bindparam("key"))
)
_STORE = insert(table)
_KEY = (table.c.actor, table.c.key)
_OLD = select(*_KEY).where(table.c.at < bindparam("before")).order_by(table.c.at).limit(FORGET_ROWS)
_FORGET = delete(table).where(tuple_(*_KEY).in_(_OLD))


class Idempotency:
    """ASGI middleware for POST with an Idempotency-Key.

    An error is not remembered: what was in the way may be gone at the repeat, and who may do nothing must not fill the table.
    """

    def __init__(self, app: ASGIApp, engine: Engine, clock: Clock) -> None:
        self._app, self._engine, self._clock = app, engine, clock
        self._running: set[tuple[str, str]] = set()
        self._lock = threading.Lock()
        self._ended: list[dict[str, Any]] = []
        self._storing = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        key = _header(scope, b"idempotency-key") if scope["type"] == "http" and scope["method"] == "POST" else None
        if key is None:
            await self._app(scope, receive, send)
            return
        if not KEY.fullmatch(key):
            detail = f"Idempotency-Key: want 1 to {MAX_KEY} visible ASCII characters"
            await problem(400, "BadInput", detail, retryable=False)(scope, receive, send)
            return
        owner = (str(scope.get("spiffe_id")), key)
        with self._lock:
            busy = owner in self._running
            self._running.add(owner)
        if busy:
            detail = "a request with this Idempotency-Key is still running: wait for its answer"
            await problem(409, "Conflict", detail, retryable=True)(scope, receive, send)
            return
        try:
            await self._once(owner, scope, receive, send)
        finally:
            with self._lock:
                self._running.discard(owner)

    async def _once(self, owner: tuple[str, str], scope: Scope, receive: Receive, send: Send) -> None:
        body = await _read(receive)
        request = sha256(f"{scope['path']}\n".encode() + scope["query_string"] + b"\n" + body)
        try:
            known = await run_in_threadpool(self._find, owner)
        except Unavailable as error:
            await problem(503, "Unavailable", str(error), retryable=True)(scope, receive, send)
            return
        if known is not None:
            if known.request != request:
                detail = "this Idempotency-Key was used with another request: choose a new key for a new request"
                await problem(409, "Conflict", detail, retryable=False)(scope, receive, send)
            else:
                await _answer(send, known.status, known.body)
            return
        answer = _Recorder()
        await self._app(scope, _replay(body), answer)
        if answer.status < 400:
            key = {"actor": owner[0], "key": owner[1], "request": request}
            await self._remember(key | {"status": answer.status, "body": answer.body, "at": self._clock()})
        for message in answer.messages:
            await send(message)

    def _find(self, owner: tuple[str, str]) -> Any:
        with self._engine.connect() as connection:
            return connection.execute(_FIND, {"actor": owner[0], "key": owner[1]}).first()

    async def _remember(self, row: dict[str, Any]) -> None:
        """Answers that come while others are stored go together, in one write."""
        self._ended.append(row)
        async with self._storing:
            if row not in self._ended:
                return
            rows, self._ended = self._ended, []
            await run_in_threadpool(self._store, rows)

    def _store(self, rows: list[dict[str, Any]]) -> None:
        try:
            with begin(self._engine) as connection:
                connection.execute(_STORE, rows)
        except AiInfraError as error:
            if len(rows) > 1 and not error.retryable:
                # One that cannot be stored must not be in the way of the others.
                for row in rows:
                    self._store([row])
                return
            # What was asked for has happened: the callers are told so. A repeat runs the use case again, which is idempotent.
            log.warning("%d answers were not remembered: %s", len(rows), error)


def forget(engine: Engine, clock: Clock) -> None:
    """Deletes answers that are older than KEPT_MS, not all at once. Raises Unavailable: call again."""
    with begin(engine) as connection:
        connection.execute(_FORGET, {"before": clock() - KEPT_MS})


class _Recorder:
    """Keeps an answer until it is remembered; answers of writes are small."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    async def __call__(self, message: Message) -> None:
        self.messages.append(message)

    @property
    def status(self) -> int:
        return int(self.messages[0]["status"])

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages)


def _header(scope: Scope, name: bytes) -> str | None:
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), None)


async def _read(receive: Receive) -> bytes:
    chunks = []
    while True:
        message = await receive()
        chunks.append(message.get("body", b""))
        if message["type"] == "http.disconnect" or not message.get("more_body"):
            return b"".join(chunks)


def _replay(body: bytes) -> Receive:
    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


async def _answer(send: Send, status: int, body: bytes) -> None:
    length = str(len(body)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", length), (b"idempotency-replayed", b"true")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
