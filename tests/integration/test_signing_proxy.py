"""The proxy as a process of its own, over mTLS: who may call it, what a kill leaves, and how it refuses to start."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from fastapi import FastAPI

from services.audit import tables as audit_tables
from services.audit.folder import FolderStore
from services.audit.http import create_router
from services.audit.service import AuditLog
from services.core import dsse, keys, oms, tlog
from services.core.calls import call
from services.core.calls import client as http_client
from services.core.database import open_engine
from services.core.digests import FileEntry
from services.core.errors import Refused
from services.core.http import create_app, serve
from services.core.merkle import consistency_proof, leaf_hash, nodes_of, root
from services.core.quorum import QuorumNotReached
from services.core.tls import DevelopmentCa, Identity, service_id
from services.signing.bootstrap import main
from services.signing.client import SigningClient, open_client
from services.signing.errors import BadPayload, CheckpointRefused, KeyRefused, SignerUnavailable
from services.signing.ports import CheckpointState
from tests import signing as world
from tests.fakes.audit_bus import MemoryAuditBus
from tests.ports import free_port
from tests.signing import ORIGIN

PERSON = "spiffe://ai-infra.local/person/rita"
LEAVES = [leaf_hash(str(n).encode()) for n in range(30)]


@dataclass
class Log:
    """The API process as the proxy sees it: the log's append, over mTLS."""

    bus: MemoryAuditBus
    port: int
    stop: Callable[[], None]


@dataclass
class World:
    """A home with a running proxy."""

    home: Path
    log: Log
    port: int
    environment: dict[str, str]
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self) -> None:
        process = run(self.environment)
        self.processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "signing-proxy: ready\n"

    def kill(self) -> None:
        self.processes[-1].send_signal(signal.SIGKILL)
        self.processes[-1].wait(10)

    def client(self, name: str = "api") -> SigningClient:
        return open_client(f"https://127.0.0.1:{self.port}", Identity.in_folder(self.home / "services" / name))

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.communicate()
        self.log.stop()


def run(environment: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "services.signing"],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def start_log(identity: Identity) -> Log:
    bus, port = MemoryAuditBus(), free_port()
    app = create_app("log")

    @app.post("/v1/audit/events")
    def append(body: dict[str, Any]) -> dict[str, list[int]]:
        return {"indexes": bus.append(body["events"])}

    return Log(bus, port, start_server(app, port, identity))


def start_server(app: FastAPI, port: int, identity: Identity) -> Callable[[], None]:
    """Serves in a thread; the answer stops it."""
    ready = threading.Event()
    running: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[None]]] = []

    async def serving() -> None:
        task = asyncio.ensure_future(serve(app, host="127.0.0.1", port=port, identity=identity, ready=ready.set))
        running.append((asyncio.get_running_loop(), task))
        with contextlib.suppress(asyncio.CancelledError):
            await task

    def stop() -> None:
        loop, task = running[0]
        loop.call_soon_threadsafe(task.cancel)
        thread.join(10)

    thread = threading.Thread(target=lambda: asyncio.run(serving()))
    thread.start()
    assert ready.wait(10)
    return stop


def make_home(tmp_path: Path) -> Path:
    ca = DevelopmentCa(tmp_path / "ca")
    for name in ("api", "router", "signing-proxy"):
        ca.issue(service_id(name), tmp_path / "services" / name)
    (tmp_path / "signing" / "keys").mkdir(parents=True)
    for name, key in world.ALL_KEYS.items():
        keys.write_private_pem(tmp_path / "signing" / "keys" / f"{name}.pem", key)
    (tmp_path / "trust.json").write_bytes(world.trust(world.VKEY).to_bytes())
    return tmp_path


def start_world(home: Path, more: Mapping[str, str] = MappingProxyType({})) -> Iterator[World]:
    """more: settings of the proxy."""
    log, port = start_log(Identity.in_folder(home / "services" / "api")), free_port()
    environment = {
        "AI_INFRA_HOME": str(home),
        "AI_INFRA_SIGNING_PORT": str(port),
        "AI_INFRA_API_URL": f"https://127.0.0.1:{log.port}",
        **more,
    }
    made = World(home, log, port, environment)
    try:
        made.start()
        yield made
    finally:
        made.close()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return make_home(tmp_path)


@pytest.fixture
def running(home: Path) -> Iterator[World]:
    """A proxy of the test's own, which it may kill."""
    yield from start_world(home)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One proxy for the tests that leave it as it is."""
    yield from start_world(make_home(tmp_path_factory.mktemp("home")))


def test_the_api_gets_envelopes_bundles_and_the_keys(shared: World) -> None:
    api = shared.client()
    payload = world.evaluation().to_statement()
    held = dsse.parse(api.sign_statement("evaluator", payload, {}, PERSON))
    trusted = world.trust().signer_with_role("evaluator")
    assert (held.payload, dsse.verified_signers(held, trusted)) == (payload, set(trusted))
    files = [FileEntry("m", 1, world.digest("m"))]
    bundle = api.sign_model("builder", oms.statement(files), PERSON)
    assert oms.verify(bundle, files, world.SERVICE_KEYS["builder"].public_key()) == oms.subject_digest(files)
    wanted = {name: world.pem(key) for name, key in world.ALL_KEYS.items()}
    assert api.keys() == wanted
    assert [event["type"] for event in shared.log.bus.events[-4:]] == ["signature.requested", "signature.made"] * 2


def test_refusals_reach_the_api_as_their_own_classes(shared: World) -> None:
    api, told = shared.client(), len(shared.log.bus.events)
    of = world.request(issued_at=0, expires_at=253_402_300_799)
    vsa = world.vsa(of, time_verified=1)
    decision = world.envelope(vsa.to_statement(), world.SERVICE_KEYS["sentinelnet"]).to_bytes()
    evidence = {"request": world.approved(of, "ada").to_bytes(), "decision": decision}
    with pytest.raises(QuorumNotReached, match="1 of 3"):
        api.sign_statement("manifest", world.manifest(of, vsa).to_statement(), evidence, PERSON)
    with pytest.raises(KeyRefused, match="signed with key 'evaluator'"):
        api.sign_statement("builder", world.evaluation().to_statement(), {}, PERSON)
    with pytest.raises(BadPayload):
        api.sign_statement("builder", b"bytes", {}, PERSON)
    with pytest.raises(CheckpointRefused):
        api.sign_checkpoint(origin="other", size=1, root=bytes(32), proof=[])
    assert len(shared.log.bus.events) == told


@pytest.mark.parametrize("name", ["router", "signing-proxy"])
def test_other_services_may_not_call(name: str, shared: World) -> None:
    calls: list[Callable[[SigningClient], object]] = [
        lambda c: c.keys(),
        lambda c: c.last_checkpoint(ORIGIN),
        lambda c: c.sign_statement("evaluator", world.evaluation().to_statement(), {}, PERSON),
        lambda c: c.sign_model("builder", b"", PERSON),
        lambda c: c.sign_checkpoint(origin=ORIGIN, size=1, root=bytes(32), proof=[]),
    ]
    for forbidden in calls:
        with pytest.raises(Refused, match="may not call"):
            forbidden(shared.client(name))


def test_anyone_with_a_certificate_sees_that_it_lives(shared: World) -> None:
    router = Identity.in_folder(shared.home / "services" / "router")
    with http_client(f"https://127.0.0.1:{shared.port}", router) as caller:
        assert call(caller, "GET", "/healthz") == {"live": True}


def test_a_certificate_of_another_ca_is_not_served(shared: World, tmp_path: Path) -> None:
    forged = DevelopmentCa(tmp_path / "other-ca").issue(service_id("api"), tmp_path / "forged")
    mixed = Identity(forged.cert, forged.key, shared.home / "services" / "api" / "ca.crt")
    with pytest.raises(SignerUnavailable):
        open_client(f"https://127.0.0.1:{shared.port}", mixed).keys()


def test_a_killed_proxy_keeps_its_checkpoint_and_its_signatures(running: World) -> None:
    api = running.client()
    payload = world.evaluation().to_statement()
    signed = api.sign_statement("evaluator", payload, {}, PERSON)
    note = api.sign_checkpoint(origin=ORIGIN, size=20, root=root(LEAVES[:20]), proof=[])
    running.kill()
    with pytest.raises(SignerUnavailable, match="is it running"):
        api.keys()
    running.start()
    api = running.client()
    assert api.last_checkpoint(ORIGIN) == CheckpointState(20, root(LEAVES[:20]))
    assert api.sign_statement("evaluator", payload, {}, PERSON) == signed
    assert api.sign_checkpoint(origin=ORIGIN, size=20, root=root(LEAVES[:20]), proof=[]) == note
    for size, leaves in ((10, LEAVES), (20, LEAVES[::-1]), (30, LEAVES[::-1])):
        proof = consistency_proof(nodes_of(leaves), min(20, size), size)
        with pytest.raises(CheckpointRefused):
            api.sign_checkpoint(origin=ORIGIN, size=size, root=root(leaves[:size]), proof=proof)
    proof = consistency_proof(nodes_of(LEAVES), 20, 30)
    grown = api.sign_checkpoint(origin=ORIGIN, size=30, root=root(LEAVES), proof=proof)
    assert tlog.open_checkpoint(grown.encode(), tlog.parse_vkey(world.VKEY)).size == 30
    assert len(running.log.bus.events) == 2


def test_without_the_log_nothing_is_signed_until_it_is_back(running: World) -> None:
    api = running.client()
    running.log.bus.faults[0] = "persists_then_fails"
    payload = world.evaluation().to_statement()
    with pytest.raises(SignerUnavailable):
        api.sign_statement("evaluator", payload, {}, PERSON)
    assert api.sign_statement("evaluator", payload, {}, PERSON)
    assert [event["type"] for event in running.log.bus.events] == ["signature.requested", "signature.made"]


def test_a_revocation_takes_effect_without_a_restart(running: World) -> None:
    api = running.client()
    evaluator = keys.signer_id(world.SERVICE_KEYS["evaluator"].public_key())
    (running.home / "trust.json").write_bytes(world.trust(world.VKEY, revoked={evaluator: 0}).to_bytes())
    with pytest.raises(KeyRefused, match="revoked"):
        api.sign_statement("evaluator", world.evaluation().to_statement(), {}, PERSON)


def test_the_proxy_and_the_log_serve_each_other(home: Path) -> None:
    """The log asks the proxy for checkpoints over entries that the proxy itself appends to it."""
    api, vkey = Identity.in_folder(home / "services" / "api"), tlog.parse_vkey(world.VKEY)
    log_port, port = free_port(), free_port()
    environment = {"AI_INFRA_SIGNING_PORT": str(port), "AI_INFRA_API_URL": f"https://127.0.0.1:{log_port}"}
    engine = open_engine(f"sqlite:///{home / 'audit.db'}")
    audit_tables.metadata.create_all(engine)
    proxy = open_client(f"https://127.0.0.1:{port}", api)
    log = AuditLog(engine, FolderStore(home / "log"), proxy, vkey)
    app = create_app("log")
    app.include_router(create_router(log, lambda actor, operation: None))
    stop = start_server(app, log_port, api)
    process = run({"AI_INFRA_HOME": str(home)} | environment)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        sizes = []
        for number in (1, 2, 3):
            proxy.sign_statement("evaluator", world.evaluation(samples=number).to_statement(), {}, PERSON)
            log.publish()
            sizes.append(tlog.open_checkpoint((home / "log" / "checkpoint").read_bytes(), vkey).size)
        assert sizes == [2, 4, 6]
        assert [entry.event["type"] for entry in log.tail(6)] == ["signature.requested", "signature.made"] * 3
    finally:
        proxy.close()
        process.kill()
        process.communicate()
        stop()
        engine.dispose()


def make_readable(home: Path) -> dict[str, str]:
    (home / "signing" / "keys" / "manifest.pem").chmod(0o644)
    return {}


def swap_audit_key(home: Path) -> dict[str, str]:
    path = home / "signing" / "keys" / "audit.pem"
    path.unlink()
    keys.write_private_pem(path, keys.generate_ed25519())
    return {}


def spoil_trust(home: Path) -> dict[str, str]:
    (home / "trust.json").write_text("{}")
    return {}


PROD = {"AI_INFRA_ENV": "prod", "AI_INFRA_SIGNING_DATABASE": "postgresql://db.example/signing"}


def one_key_for_two(home: Path) -> dict[str, str]:
    return {"AI_INFRA_KEY_BUILDER": str(home / "signing" / "keys" / "manifest.pem")}


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (make_readable, "chmod 600"),
        (swap_audit_key, "log.vkey"),
        (spoil_trust, "missing"),
        (one_key_for_two, "are one key"),
        (lambda home: {"AI_INFRA_ENV": "prod"}, "SQLite: env is prod"),
        (lambda home: {**PROD, "AI_INFRA_API_URL": "http://127.0.0.1"}, "use https"),
        (lambda home: PROD, "is for development, env is prod"),
        (lambda home: {"AI_INFRA_ENV": "moon"}, "want one of"),
        (lambda home: {"AI_INFRA_SIGNER": "absent"}, "AI_INFRA_KEY_BUILDER is missing"),
        (lambda home: {"AI_INFRA_SIGNING_PORT": "http"}, "want a number"),
        (lambda home: {"AI_INFRA_TRUST": str(home / "absent.json")}, "ai-infra init"),
        (lambda home: {"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4318"}, "want http://HOST:4318"),
    ],
    ids=["mode", "audit key", "trust", "one key", "database", "plain HTTP", "keys", "env", "backend", "port", "no trust", "URL"],
)
def test_the_proxy_does_not_start_with_a_wrong_setting(
    spoil: Callable[[Path], dict[str, str]], said: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main({"AI_INFRA_HOME": str(home)} | spoil(home)) == 2
    assert said in capsys.readouterr().err


def test_a_busy_port_is_named(shared: World) -> None:
    process = run(shared.environment)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2, errors
    assert f"port {shared.port}" in errors


def test_sigterm_ends_it_cleanly(running: World) -> None:
    api = running.client()
    api.sign_statement("evaluator", world.evaluation().to_statement(), {}, PERSON)
    api.close()
    running.processes[-1].terminate()
    _, errors = running.processes[-1].communicate(timeout=15)
    # uvicorn gives the signal back once it has served what it was serving.
    assert (running.processes[-1].returncode, errors) == (-signal.SIGTERM, "")
