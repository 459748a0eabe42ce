"""Joins the router's parts into one aiohttp application, with its background tasks. Concrete addresses come from bootstrap."""

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from aiohttp import web

from services.core.clock import Clock
from services.core.errors import AiInfraError, Unavailable
from services.core.outbox import Relay
from services.core.tls import write_private
from services.serving.router.admin import Admin
from services.serving.router.answers import as_problems
from services.serving.router.fleet import Fleet
from services.serving.router.launcher import Launcher
from services.serving.router.pool import Pool
from services.serving.router.probes import Probes
from services.serving.router.proxy import Limits, Proxy
from services.serving.router.records import RecordLog
from services.serving.router.state import State
from services.serving.router.upstream import Connections

TICK_S = 0.1
RELAY_S = 0.5

log = logging.getLogger(__name__)

Follow = Callable[[State], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class Parts:
    """follow: keeps the state in step with the API, until cancelled; relay: None where nothing takes the events; scheme: of the
    predictors' addresses; session: for what is no inference."""

    session: aiohttp.ClientSession
    connections: Connections
    launcher: Launcher
    records: RecordLog
    relay: Relay | None
    follow: Follow
    clock: Clock
    salt: bytes
    limits: Limits
    scheme: str = "https"


class Router:
    """The application and what runs beside it."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.pool = Pool(parts.session, parts.limits.max_in_flight)
        self.fleet = Fleet(parts.launcher, self.pool, parts.scheme)
        self.state = State(self.fleet, parts.records)
        proxy = Proxy(
            self.state, self.pool, parts.records, parts.session, parts.connections, parts.clock, parts.salt, parts.limits
        )
        probes = Probes(self.state, self.pool, parts.records, proxy, parts.clock, parts.salt)
        admin = Admin(self.state, self.fleet, self.pool, parts.records, probes)
        self.app = web.Application(client_max_size=8 << 20, middlewares=[as_problems])
        self.app.add_routes([*proxy.routes(), *admin.routes()])
        self.app.cleanup_ctx.append(self._background)

    async def _background(self, _app: web.Application) -> AsyncIterator[None]:
        parts = self._parts
        work = [
            parts.launcher.run(self.fleet.on_event),
            parts.follow(self.state),
            self.pool.probe_forever(),
            self._tick(),
            self._seal(),
            self._relay(),
        ]
        tasks = [asyncio.ensure_future(_logged(part)) for part in work]
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await parts.session.close()
        await parts.connections.close()
        parts.records.close()
        if parts.relay is not None:
            with contextlib.suppress(AiInfraError):
                await asyncio.to_thread(parts.relay.flush)

    async def _tick(self) -> None:
        while True:
            self.fleet.tick()
            await asyncio.sleep(TICK_S)

    async def _seal(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            if self._parts.records.due():
                try:
                    await asyncio.to_thread(self._parts.records.seal)
                except Unavailable as error:
                    log.warning("prediction records wait to be sealed: %s", error)

    async def _relay(self) -> None:
        while self._parts.relay is not None:
            try:
                await asyncio.to_thread(self._parts.relay.flush)
            except Unavailable as error:
                log.debug("events wait for the log: %s", error)
            await asyncio.sleep(RELAY_S)


async def _logged(work: Awaitable[None]) -> None:
    """A background task that dies must not do so silently: the process ends, and its supervisor starts another."""
    try:
        await work
    except asyncio.CancelledError:
        raise
    except BaseException:
        log.critical("a background task of the router failed; the router ends", exc_info=True)
        os._exit(70)


def salt_key(path: Path) -> bytes:
    """The key that salts input digests; made once, as earlier salts must be found again."""
    if not path.exists():
        write_private(path, os.urandom(32))
    return path.read_bytes()

