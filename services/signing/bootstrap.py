"""Puts the signing proxy together: the only file of the service that names concrete classes and meets the environment."""

import asyncio
import logging
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import uvloop
from fastapi import FastAPI
from sqlalchemy import Engine

from services.core import keys, logs, tlog, tracing
from services.core.backends import load
from services.core.calls import Peer
from services.core.clock import system_clock
from services.core.database import open_engine
from services.core.errors import AiInfraError, BadSetting
from services.core.http import serve
from services.core.migrations import upgrade
from services.core.outbox import Outbox, Relay, pending_gauge
from services.core.processes import die_with_supervisor
from services.core.tls import client_context
from services.core.trust import Trust
from services.core.trustfile import TrustFile
from services.signing import backends, tables
from services.signing.bus import HttpAuditBus
from services.signing.domain import AUDIT_KEY, KEY_NAMES
from services.signing.http import create_signing_app
from services.signing.ports import Signer
from services.signing.service import SigningService
from services.signing.settings import Settings

FLUSH_S = 10.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Proxy:
    """app: to be served with the settings' identity. `close` releases what was opened."""

    app: FastAPI
    engine: Engine
    relay: Relay
    log: Peer

    def close(self) -> None:
        self.log.close()
        self.engine.dispose()


def build(settings: Settings) -> Proxy:
    """Opens the database, the keys and the trust file.

    Raises:
        BadSetting, BadKey, KeyRefused: the message names the file or the variable; the proxy does not start.
        Unavailable: the database or a key service is away.
    """
    signers = open_signers(settings)
    trust = TrustFile(settings.trust)
    _check_log_key(trust(), signers[AUDIT_KEY])
    _private_folder(settings.database)
    engine = open_engine(settings.database)
    upgrade(engine, "signing")
    api = Peer(settings.api_url, client_context(settings.identity), timeout_s=settings.log_timeout_s)
    outbox = Outbox(tables.outbox, settings.source, system_clock)
    relay = Relay(engine, outbox, HttpAuditBus(api))
    service = SigningService(
        engine=engine,
        outbox=outbox,
        relay=relay,
        signers=signers,
        trust=trust,
        origin=trust().log_origin,
        clock=system_clock,
    )
    return Proxy(create_signing_app(service, caller=settings.caller, gauges=[pending_gauge(relay)]), engine, relay, api)


def open_signers(settings: Settings) -> Mapping[str, Signer]:
    """One Signer for each key name; a key that serves two names is refused, as one signature would mean two things."""
    found: dict[str, Signer] = {}
    for name in KEY_NAMES:
        backend = load(backends, settings.signers[name], env=settings.env)
        found[name] = backend.open_signer(settings.keys[name], settings.timeout_s)
    ids = {name: keys.signer_id(signer.public_key()) for name, signer in found.items()}
    for name, signer_id in ids.items():
        same = [other for other in ids if ids[other] == signer_id]
        if len(same) > 1:
            raise BadSetting(f"keys {same} are one key: each needs its own ({name!r} is {settings.keys[name]})")
    return found


def main(environ: Mapping[str, str] = os.environ) -> int:
    """Serves until SIGTERM. Exit status 2 for a setting that is wrong, 1 for anything else."""
    die_with_supervisor(environ)
    logs.configure("signing-proxy", logging.WARNING)
    try:
        settings = Settings.from_env(environ)
        tracing.start("signing-proxy", settings.env, settings.collector)
        proxy = build(settings)
    except AiInfraError as error:
        sys.stderr.write(f"signing-proxy: {error}\n")
        return 2 if not error.retryable else 1
    try:
        uvloop.run(_served(proxy, settings))
    except BadSetting as error:
        sys.stderr.write(f"signing-proxy: {error}\n")
        return 2
    finally:
        proxy.close()
    return 0


async def _served(proxy: Proxy, settings: Settings) -> None:
    def ready() -> None:
        print("signing-proxy: ready", flush=True)

    flushing = asyncio.ensure_future(_flushed(proxy.relay))
    try:
        await serve(proxy.app, host=settings.host, port=settings.port, identity=settings.identity, ready=ready)
    finally:
        flushing.cancel()


async def _flushed(relay: Relay) -> None:
    """Again and again, until cancelled: after a call that broke off its event waits here, and after a start those that the process
    before had not noted."""
    while True:
        await asyncio.sleep(FLUSH_S)
        try:
            await asyncio.to_thread(relay.flush)
        except AiInfraError as error:
            log.info("the relay waits: %s", error)


def _check_log_key(trust: Trust, signer: Signer) -> None:
    if tlog.vkey_text(trust.log_origin, signer.public_key()) != trust.log_vkey:
        raise BadSetting("the audit key is not the one of log.vkey in the trust file: no verifier would take its checkpoints")


def _private_folder(database: str) -> None:
    if database.startswith("sqlite:///"):
        Path(database.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
