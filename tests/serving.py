"""A small serving world: signed models that answer the index of their largest input, a platform API, a router process."""

import asyncio
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import uvicorn
from sqlalchemy import Engine

from services.core import dsse, keys, oms, tlog
from services.core.clock import system_clock
from services.core.database import open_engine
from services.core.digests import FileEntry, sha256, tree_bytes, tree_digest
from services.core.http import TlsIdentityProtocol, create_app
from services.core.object_backends.folder import open_store
from services.core.outbox import Outbox, outbox_table
from services.core.statements import Manifest
from services.core.tables import metadata
from services.core.tls import DevelopmentCa, Identity, client_context, person_id, server_context, service_id
from services.core.trust import Signer, Trust
from services.serving.backends import local
from services.serving.controller import Controller
from services.serving.domain import Probe, Servable
from services.serving.http import create_router
from services.serving.kept import KeptRecords
from services.serving.predictor.order import Order
from services.serving.rollouts import Rollouts
from services.serving.service import Serving
from tests.fakes.serving import AllowAll, ListedProbes, StoredVersions

SIDE = 3
WIDTH = SIDE * SIDE
LABELS = [str(index) for index in range(WIDTH)]
MODEL = "corner"
WAIT_S = 40.0
JSON = {"content-type": "application/json"}


def weights() -> bytes:
    """One linear layer that is the identity."""
    import torch
    from safetensors.torch import save

    return save({"0.weight": torch.eye(WIDTH) * 4, "0.bias": torch.zeros(WIDTH)})


def config(labels: list[str] = LABELS, passes: int = 1) -> bytes:
    value = {"inputs": WIDTH, "hidden": [], "input_scale": 1.0, "labels": labels, "passes": passes}
    return json.dumps(value).encode()


def row(rng: random.Random) -> tuple[list[float], str]:
    """An input and its label; far enough apart that shifted copies do not change the answer."""
    values = [rng.uniform(0, 0.2) for _ in range(WIDTH)]
    label = rng.randrange(WIDTH)
    values[label] = 1.0
    return values, str(label)


def request_of(*rows: list[float]) -> bytes:
    """An Open Inference Protocol v2 request."""
    data = [value for values in rows for value in values]
    return json.dumps({"inputs": [{"name": "input", "shape": [len(rows), WIDTH], "datatype": "FP32", "data": data}]}).encode()


def probes(count: int = 300) -> list[Probe]:
    rng = random.Random(4)
    made = [row(rng) for _ in range(count)]
    return [Probe(f"golden:{index}", tuple(values), label) for index, (values, label) in enumerate(made)]


class World:
    """A home with certificates, an object store, a manifest key and the trust in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.ca = DevelopmentCa(root / "ca")
        self.certs = root / "services"
        for name in ("api", "router", "predictor"):
            self.ca.issue(service_id(name), self.certs / name)
        self.ca.issue(person_id("dario"), root / "people" / "dario")
        self.objects = root / "objects"
        self.store = open_store(str(self.objects))
        self.manifest_key = keys.generate_p256()
        self.write_trust(self.manifest_key)

    def write_trust(self, key: keys.PrivateKey) -> None:
        log_key = keys.generate_ed25519().public_key()
        signer = Signer("manifest", keys.public_pem(key.public_key()))
        trust = Trust(log_origin="test/log", log_vkey=tlog.vkey_text("test/log", log_key), signers=(signer,), people=())
        (self.root / "trust.json").write_bytes(trust.to_bytes())

    def service(self, name: str) -> Identity:
        return Identity.in_folder(self.certs / name)

    @property
    def person(self) -> Identity:
        return Identity.in_folder(self.root / "people" / "dario")

    def version(
        self, number: int, *, labels: list[str] = LABELS, passes: int = 1, environment: str = "staging",
        key: keys.PrivateKey | None = None, more: tuple[FileEntry, ...] = (),
    ) -> Servable:
        """A model version with a manifest for one environment, signed with the manifest key or another one. more: files of it."""
        files = {"config.json": config(labels, passes), "model.safetensors": weights()}
        own = (FileEntry(path, len(data), self.store.put(data)) for path, data in files.items())
        entries = tuple(sorted((*own, *more)))
        self.store.put(tree_bytes(entries))
        payload = oms.statement(entries, MODEL)
        signer = key or self.manifest_key
        bundle = oms.bundle(payload, dsse.sign(payload, signer), signer.public_key())
        manifest = Manifest(
            model=MODEL,
            number=number,
            environment=environment,  # type: ignore[arg-type]
            artifact_id=tree_digest(entries),
            oms_subject=oms.subject_digest(entries),
            request=sha256(b"request"),
            decision=sha256(b"decision"),
            evaluation=sha256(b"evaluation"),
            provenance=sha256(b"provenance"),
        ).to_statement()
        envelope = dsse.Envelope(dsse.PAYLOAD_TYPE, manifest, (dsse.sign(manifest, signer),)).to_bytes()
        return Servable(
            model=MODEL,
            number=number,
            environment=environment,
            artifact_id=tree_digest(entries),
            files=entries,
            manifest=self.store.put(envelope),
            manifest_ref=sha256(manifest),
            bundle=self.store.put(bundle),
        )

    def environ(self, api_url: str, port: int = 0) -> dict[str, str]:
        return os.environ | {
            "AI_INFRA_HOME": str(self.root),
            "AI_INFRA_CERTS": str(self.certs),
            "AI_INFRA_OBJECTS": str(self.objects),
            "AI_INFRA_API_URL": api_url,
            "AI_INFRA_ROUTER_PORT": str(port),
        }


def order_of(servable: Servable, deployment: str = "dep-1") -> Order:
    return Order(
        deployment=deployment,
        environment=servable.environment,
        model=servable.model,
        number=servable.number,
        artifact_id=servable.artifact_id,
        files=servable.files,
        manifest=servable.manifest,
        bundle=servable.bundle,
    )


@dataclass
class Api:
    """The API process's share of serving, in a thread. events: what the router sealed, by event id."""

    world: World
    versions: StoredVersions
    engine: Engine
    port: int = 0
    sealed: dict[str, dict[str, Any]] = field(default_factory=dict)
    _server: uvicorn.Server | None = None
    _thread: threading.Thread | None = None

    def __post_init__(self) -> None:
        self.port = self.port or free_port()
        self.router_port = free_port()
        self.outbox = outbox_of(metadata)
        metadata.create_all(self.engine)
        backend = local.open_backend({"AI_INFRA_ROUTER_URL": self.router_url}, self.world.service("api"))
        outbox = Outbox(self.outbox, service_id("api"), system_clock)
        self.serving = Serving(self.engine, outbox, system_clock, self.versions, AllowAll(), backend)
        self.rollouts = Rollouts(self.serving, ListedProbes(probes()))
        self.kept = KeptRecords(self.engine, self.world.store, outbox, system_clock)
        self.controller = Controller(self.rollouts)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def router_url(self) -> str:
        return f"https://127.0.0.1:{self.router_port}"

    def start(self) -> None:
        app = create_app("serving")
        app.include_router(create_router(self.serving, self.rollouts, self.kept, lambda actor, operation: None))

        @app.post("/v1/audit/events")
        def append(batch: dict[str, Any]) -> dict[str, list[int]]:
            for event in batch["events"]:
                self.sealed.setdefault(event["id"], event)
            order = list(self.sealed)
            return {"indexes": [order.index(event["id"]) for event in batch["events"]]}

        identity = self.world.service("api")
        options = uvicorn.Config(
            app, host="127.0.0.1", port=self.port, http=TlsIdentityProtocol, log_level="error",
            ssl_certfile=identity.cert, ssl_keyfile=identity.key,
        )
        options.load()
        options.ssl = server_context(identity)
        self._server = uvicorn.Server(options)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        wait_for(lambda: self._server is not None and self._server.started, "the API starts")

    def stop(self) -> None:
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join()
            self._server = None

    def events(self) -> list[dict[str, Any]]:
        """Of the platform database's outbox, in order."""
        with self.engine.connect() as connection:
            rows = connection.execute(self.outbox.select().order_by(self.outbox.c.seq)).all()
        return [json.loads(row.event) for row in rows]


def outbox_of(tables: Any) -> Any:
    return tables.tables["outbox"] if "outbox" in tables.tables else outbox_table(tables)


@contextmanager
def api_of(world: World, *versions: Servable) -> Iterator[Api]:
    """The API, in a database that outlives it."""
    stored = StoredVersions({(item.model, item.number): item for item in versions})
    api = Api(world, stored, open_engine(f"sqlite:///{world.root / 'platform.db'}"))
    api.start()
    try:
        yield api
    finally:
        api.stop()


@contextmanager
def router_of(world: World, api: Api, module: str = "services.serving.router") -> Iterator["RouterProcess"]:
    """The router process, stopped at the end."""
    router = RouterProcess(world, api, module)
    router.start()
    try:
        yield router
    finally:
        router.stop()


class RouterProcess:
    """`python -m services.serving.router`, or another module that runs it."""

    def __init__(self, world: World, api: Api, module: str = "services.serving.router") -> None:
        self._world, self._api, self._module = world, api, module
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        environ = self._world.environ(self._api.url, self._api.router_port)
        log = (self._world.root / "router.log").open("ab")
        self.process = subprocess.Popen([sys.executable, "-m", self._module], env=environ, stderr=log, stdout=log)
        log.close()

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(timeout=20)

    @property
    def log(self) -> str:
        return (self._world.root / "router.log").read_text()


def wait_for(condition: Callable[[], Any], what: str, timeout_s: float = WAIT_S) -> Any:
    """The first true value of a condition."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within {timeout_s:.0f} s: {what}")


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Answered:
    """Statuses and `x-model-version` of a load, and what was wrong in the answers. pauses: `retry-after` of answers 429."""

    statuses: dict[int, int] = field(default_factory=dict)
    pauses: set[str | None] = field(default_factory=set)
    versions: dict[str, int] = field(default_factory=dict)
    ids: list[str] = field(default_factory=list)
    wrong: int = 0


class Load:
    """Clients that send requests one after the other, in a thread, until stopped."""

    def __init__(self, url: str, identity: Identity, clients: int = 4) -> None:
        self._url, self._identity, self._clients = url, identity, clients
        self._stop = threading.Event()
        self.answered = Answered()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    async def _run(self) -> None:
        connector = aiohttp.TCPConnector(ssl=client_context(self._identity))
        async with aiohttp.ClientSession(connector=connector) as session:
            await asyncio.gather(*(self._client(session, index) for index in range(self._clients)))

    async def _client(self, session: aiohttp.ClientSession, index: int) -> None:
        rng = random.Random(index)
        while not self._stop.is_set():
            values, label = row(rng)
            try:
                async with session.post(self._url, data=request_of(values), headers=JSON) as response:
                    body = await response.read()
            except aiohttp.ClientError:
                await asyncio.sleep(0.1)
                continue
            self._note(response, body, label)

    def _note(self, response: aiohttp.ClientResponse, body: bytes, label: str) -> None:
        found = self.answered
        found.statuses[response.status] = found.statuses.get(response.status, 0) + 1
        version = response.headers.get("x-model-version", "")
        found.versions[version] = found.versions.get(version, 0) + 1
        found.ids.append(response.headers.get("x-request-id", ""))
        if response.status == 429:
            found.pauses.add(response.headers.get("retry-after"))
        if response.status == 200:
            outputs = {output["name"]: output["data"] for output in json.loads(body)["outputs"]}
            found.wrong += outputs["label"] != [label]
