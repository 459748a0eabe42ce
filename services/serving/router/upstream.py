"""HTTP/1.1 to the predictors: kept connections, one request at a time on each, and one sweeper for every deadline.

A general client builds headers, timers and tasks for what is always the same request to the same few addresses. This one speaks
only what predictors answer: no redirects, no compression, no proxies.
"""

import asyncio
import math
import ssl
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping
from typing import Any, cast

import httptools

SWEEP_S = 0.05
IDLE_S = 60.0
"""Kept connections that were idle for longer are closed: before the predictors' own keep-alive (75 s) ends."""
CONNECT_S = 2.0
HIGH_WATER = 256 << 10
"""Bytes of an answer that wait for the client, above which no more is read from the predictor."""


class Unreachable(Exception):
    """No connection could be made: the request was not sent."""


class Broken(Exception):
    """The connection ended, or spoke no HTTP, before the answer was whole."""


class Connections:
    """Connections to predictors by address. context: of TLS; None for plain HTTP, in tests. close() at the end."""

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self._context = context
        self._idle: dict[tuple[str, int], list[_Connection]] = {}
        self._all: set[_Connection] = set()
        self._sweeper: asyncio.TimerHandle | None = None

    async def post(
        self, address: tuple[str, int], path: str, headers: Mapping[str, str], body: bytes | AsyncIterator[bytes], timeout_s: float
    ) -> "Answer":
        """The answer once its head is there.

        timeout_s: until the last byte of the answer, from when `body` is sent; also for the predictor to take a part of it. `body`
        itself must end in time.

        Raises:
            Unreachable, Broken, TimeoutError; what `body` raises.
        """
        while True:
            connection = self._take(address)
            fresh = connection is None
            connection = connection or await self._connect(address)
            answer = connection.begin(timeout_s)
            try:
                await connection.send(_head(address, path, headers, body), body)
                await answer.started
            except Broken:
                # A kept connection that the predictor closed just now: the request was not taken, a new one is made for it.
                if fresh or answer.touched or not isinstance(body, bytes):
                    raise
                continue
            except BaseException:
                connection.abort()
                raise
            return answer

    async def close(self) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
        for connection in list(self._all):
            connection.abort()
        await asyncio.sleep(0)

    def _take(self, address: tuple[str, int]) -> "_Connection | None":
        idle = self._idle.get(address)
        while idle:
            connection = idle.pop()
            if connection.usable:
                return connection
        return None

    async def _connect(self, address: tuple[str, int]) -> "_Connection":
        loop = asyncio.get_running_loop()
        if self._sweeper is None:
            self._sweeper = loop.call_later(SWEEP_S, self._sweep)
        try:
            async with asyncio.timeout(CONNECT_S):
                _, made = await loop.create_connection(lambda: _Connection(self, address), *address, ssl=self._context)
        except (OSError, TimeoutError) as error:
            raise Unreachable(f"{address[0]}:{address[1]}: {error or 'no answer'}") from error
        return made

    def _sweep(self) -> None:
        now = time.monotonic()
        for connection in list(self._all):
            connection.expire(now)
        self._sweeper = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)

    def opened(self, connection: "_Connection") -> None:
        self._all.add(connection)

    def released(self, connection: "_Connection", address: tuple[str, int]) -> None:
        self._idle.setdefault(address, []).append(connection)

    def closed(self, connection: "_Connection", address: tuple[str, int]) -> None:
        self._all.discard(connection)
        idle = self._idle.get(address, [])
        if connection in idle:
            idle.remove(connection)
            if not idle:
                del self._idle[address]


class Answer:
    """One answer. started: done when status and headers are known; touched: whether a byte of it has arrived."""

    def __init__(self, connection: "_Connection") -> None:
        self._connection = connection
        self.status = 0
        self.headers: dict[str, str] = {}
        self.started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.touched = False
        self._parts: deque[bytes] = deque()
        self._size = 0
        self._whole = False
        self._error: BaseException | None = None
        self._waiter: asyncio.Future[None] | None = None

    @property
    def content_length(self) -> int | None:
        found = self.headers.get("content-length", "")
        return int(found) if found.isdigit() else None

    async def read(self) -> bytes:
        """The whole body. Raises Broken, TimeoutError."""
        if self._whole and self._error is None:
            parts, self._size = b"".join(self._parts), 0
            self._parts.clear()
            return parts
        return b"".join([part async for part in self.parts()])

    async def parts(self) -> AsyncIterator[bytes]:
        """The body as it arrives. Raises Broken, TimeoutError. One that is left in the middle ends its connection."""
        try:
            while True:
                while self._parts:
                    part = self._parts.popleft()
                    self._size -= len(part)
                    yield part
                if self._error is not None:
                    raise self._error
                if self._whole:
                    return
                self._connection.resume()
                self._waiter = asyncio.get_running_loop().create_future()
                await self._waiter
        finally:
            if not self._whole:
                self._connection.abort()

    def add(self, part: bytes) -> bool:
        """Whether the reader keeps up."""
        self._parts.append(part)
        self._size += len(part)
        self._wake()
        return self._size < HIGH_WATER

    def end(self) -> None:
        self._whole = True
        self._wake()

    def fail(self, error: BaseException) -> None:
        self._error = error
        if not self.started.done():
            self.started.set_exception(error)
            self.started.exception()  # read, also where nobody waits any more
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class _Connection(asyncio.Protocol):
    def __init__(self, owner: Connections, address: tuple[str, int]) -> None:
        self._owner, self._address = owner, address
        self._transport: asyncio.Transport | None = None
        self._parser: Any = None
        self._answer: Answer | None = None
        self._deadline, self._timeout_s = time.monotonic() + IDLE_S, 0.0
        self._writable = asyncio.Event()
        self._writable.set()
        self._paused = self._sending = False
        self._keep = True

    @property
    def usable(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def begin(self, timeout_s: float) -> Answer:
        self._answer, self._timeout_s = Answer(self), timeout_s
        self._from_now()
        self._parser = httptools.HttpResponseParser(self)
        return self._answer

    async def send(self, head: bytes, body: bytes | AsyncIterator[bytes]) -> None:
        assert self._transport is not None
        if isinstance(body, bytes):
            self._transport.write(head + body)
            return
        self._transport.write(head)
        self._sending, self._deadline = True, math.inf  # the predictor's time does not run while a part is waited for
        async for part in body:
            self._from_now()
            await self._writable.wait()
            if self._answer is None or self._answer.started.done():
                return  # answered or failed before the end of the body: this connection is not kept
            self._transport.write(b"%x\r\n%b\r\n" % (len(part), part))
            self._deadline = math.inf
        self._transport.write(b"0\r\n\r\n")
        self._sending = False
        self._from_now()

    def _from_now(self) -> None:
        self._deadline = time.monotonic() + self._timeout_s

    def expire(self, now: float) -> None:
        """Ends a request whose time is over, and a connection that nobody used for long."""
        if now < self._deadline:
            return
        if self._answer is not None:
            self._fail(TimeoutError("the predictor did not answer in time"))
        self.abort()

    def resume(self) -> None:
        if self._paused and self._transport is not None and self.usable:
            self._paused = False
            self._transport.resume_reading()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._owner.opened(self)

    def data_received(self, data: bytes) -> None:
        if self._answer is None:
            self.abort()  # an answer that nobody asked for
            return
        self._answer.touched = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(Broken(f"no HTTP: {error}"))
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(Broken("the predictor closed the connection"))
        self._writable.set()
        self._owner.closed(self, self._address)

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # httptools

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._answer is not None:
            self._answer.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        answer = self._answer
        if answer is None:
            return
        answer.status, self._keep = self._parser.get_status_code(), self._parser.should_keep_alive()
        if not answer.started.done():
            answer.started.set_result(None)

    def on_body(self, body: bytes) -> None:
        if self._answer is not None and not self._answer.add(body) and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        answer, self._answer = self._answer, None
        self._deadline = time.monotonic() + IDLE_S
        if answer is not None:
            answer.end()
        if self._keep and self.usable and not self._sending and self._writable.is_set():
            self._owner.released(self, self._address)
        else:
            self.abort()

    def _fail(self, error: BaseException) -> None:
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.fail(error)


def _head(address: tuple[str, int], path: str, headers: Mapping[str, str], body: bytes | AsyncIterator[bytes]) -> bytes:
    """Names and values are of requests that a strict parser took: none holds a line end."""
    length = f"content-length: {len(body)}" if isinstance(body, bytes) else "transfer-encoding: chunked"
    lines = [f"POST {path} HTTP/1.1", f"host: {address[0]}:{address[1]}", length]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
