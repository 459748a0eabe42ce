"""The door of the router: a connection becomes aiohttp's once its first request line and headers are there, whole and in time.

aiohttp waits for a first head as long as a client likes; a client that sends a byte now and then would hold a connection forever.
Between requests aiohttp's own keep-alive limit holds, and a body has the proxy's. After the first head this file costs nothing.
"""

import asyncio
from typing import cast

from aiohttp import web

HEAD_S = 10.0
"""Seconds for a TLS handshake, and again for the first head."""
MAX_HEAD = 32 << 10
MAX_CONNECTIONS = 2000
"""Of all clients together; more are closed at once."""


class Front:
    """Protocol factory around aiohttp's server."""

    def __init__(self, server: web.Server, head_s: float = HEAD_S, max_connections: int = MAX_CONNECTIONS) -> None:
        self.server, self.head_s = server, head_s
        self._max = max_connections
        self.waiting: set[_Waiting] = set()

    def __call__(self) -> asyncio.Protocol:
        return _Waiting(self)

    @property
    def full(self) -> bool:
        return len(self.waiting) + len(self.server.connections) >= self._max

    def close(self) -> None:
        """Ends the connections that sent no request yet; aiohttp ends the others."""
        for connection in list(self.waiting):
            connection.end()


class _Waiting(asyncio.Protocol):
    """A connection whose first head is not whole yet."""

    def __init__(self, front: Front) -> None:
        self._front = front
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self._front.full:
            self._transport.abort()
            return
        self._front.waiting.add(self)
        self._timer = asyncio.get_running_loop().call_later(self._front.head_s, self.end)

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        self._buffer += data
        if b"\r\n\r\n" not in self._buffer:
            if len(self._buffer) > MAX_HEAD:
                self.end()
            return
        self._forget()
        handler = self._front.server()
        handler.connection_made(self._transport)
        self._transport.set_protocol(handler)
        handler.data_received(self._buffer)

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()

    def end(self) -> None:
        self._forget()
        if self._transport is not None:
            self._transport.abort()

    def _forget(self) -> None:
        self._front.waiting.discard(self)
        if self._timer is not None:
            self._timer.cancel()
