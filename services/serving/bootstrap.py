"""Joins the router process with concrete classes. The predictors' own is `predictor.bootstrap`."""

import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping

import aiohttp
import uvloop
from aiohttp import web

from services.core import logs
from services.core.calls import Peer
from services.core.clock import system_clock
from services.core.database import open_engine
from services.core.errors import BadSetting
from services.core.migrations import upgrade
from services.core.outbox import Outbox, Relay
from services.core.processes import die_with_supervisor
from services.core.renewal import renew
from services.core.tls import client_context, server_context, service_id
from services.serving.router import tables
from services.serving.router.app import Parts, Router, salt_key
from services.serving.router.desired import Follower
from services.serving.router.front import HEAD_S, Front
from services.serving.router.launcher import PREDICTOR, ForkServerLauncher
from services.serving.router.proxy import Limits
from services.serving.router.records import RecordLog
from services.serving.router.state import State
from services.serving.router.upstream import Connections
from services.serving.settings import Settings
from services.signing.bus import HttpAuditBus

KEEP_ALIVE_S = 60
API_TIMEOUT_S = 5.0
SWITCH_S = 0.0005


def run_router(environ: Mapping[str, str], ready: Callable[[], None] = lambda: None, predictor: str = PREDICTOR) -> None:
    """Serves until SIGTERM or SIGINT. ready: called when the port is bound; predictor: the module that the fork server runs.

    Raises:
        BadSetting: a wrong setting, or the port is taken.
    """
    settings = Settings.from_env(environ)
    launcher = ForkServerLauncher(environ, settings.data / "had-predictors", predictor)
    uvloop.run(_router(settings, launcher, ready))


async def _router(settings: Settings, launcher: ForkServerLauncher, ready: Callable[[], None]) -> None:
    settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
    identity, actor = settings.identity("router"), service_id("router")
    engine = open_engine(f"sqlite:///{settings.data / 'router.db'}")
    upgrade(engine, "router")
    outbox = Outbox(tables.outbox, actor, system_clock)
    inside, outside = client_context(identity), server_context(identity)
    api = Peer(settings.api_url, inside, timeout_s=API_TIMEOUT_S)
    connector = aiohttp.TCPConnector(ssl=inside, limit=0, keepalive_timeout=KEEP_ALIVE_S)
    session = aiohttp.ClientSession(connector=connector, auto_decompress=False)

    def follow(state: State) -> Awaitable[None]:
        return Follower(session, settings.api_url, state).run()

    parts = Parts(
        session=session,
        connections=Connections(inside),
        launcher=launcher,
        records=RecordLog(settings.data / "predictions", engine, outbox, system_clock, actor),
        relay=Relay(engine, outbox, HttpAuditBus(api)),
        follow=follow,
        clock=system_clock,
        salt=salt_key(settings.data / "salt.key"),
        limits=Limits(settings.timeout_s, settings.max_body, settings.max_in_flight),
    )
    runner = web.AppRunner(Router(parts).app, access_log=None, shutdown_timeout=5.0, keepalive_timeout=KEEP_ALIVE_S)
    await runner.setup()
    assert runner.server is not None
    front = Front(runner.server)
    renewing = asyncio.ensure_future(renew(identity))
    server: asyncio.Server | None = None
    try:
        server = await asyncio.get_running_loop().create_server(
            front, settings.host, settings.port, ssl=outside, ssl_handshake_timeout=HEAD_S, backlog=1024
        )
    except OSError as error:
        remedy = "stop what listens there or set AI_INFRA_ROUTER_PORT"
        raise BadSetting(f"port {settings.port} on {settings.host} is taken: {remedy}") from error
    else:
        # What the start made stays: the collector need not walk through it again between requests.
        gc.freeze()
        # The sealing thread holds the interpreter that long while requests wait; 5 ms would be several answers.
        sys.setswitchinterval(SWITCH_S)
        ready()
        await _until_signal()
    finally:
        renewing.cancel()
        if server is not None:
            server.close()
        front.close()
        await runner.cleanup()
        api.close()
        engine.dispose()


async def _until_signal() -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()


def main() -> None:
    """`python -m services.serving.router`"""
    die_with_supervisor(os.environ)
    logs.configure("router", logging.INFO)
    try:
        run_router(os.environ)
    except BadSetting as error:
        raise SystemExit(f"router: {error}") from error
