"""Registration of model versions against MLflow's default server, on one PostgreSQL server with default durability, 8 clients.

Ours is one call: a version with its metrics and lineage, its audit event in the same transaction, behind mutual TLS, the client
certificate's role judged by the policy engine; unsigned, as MLflow's are. MLflow's is a pair of calls: a version, then an alias to
it; plain HTTP, without metrics, lineage, audit or authorisation. Clients keep their connections; each has a model of its own.
"""

import asyncio
import itertools
import json
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
from sqlalchemy import insert

from benchmarks import peers
from benchmarks.harness import Load, Row, Size, Target, against, closed_loop, in_turn, say
from services.core.canonical import canonical
from services.core.clock import system_clock
from services.core.database import begin, open_engine
from services.core.digests import FileEntry, tree_bytes
from services.core.migrations import upgrade
from services.core.object_backends.folder import open_store
from services.core.objects import ObjectStore
from services.core.tls import client_context, person_id
from services.home import Home, create
from services.registry import tables as registry
from services.supervisor import Platform, free_ports
from services.training import tables as training

CLIENTS = 8
PERSON = "tara"
ARTIFACTS = 200
JSON = {"content-type": "application/json"}


def measure(size: Size) -> list[Row]:
    """Rate and p95 of both servers."""
    seconds = size.of(6, 1)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        postgres = stack.enter_context(peers.postgres(folder / "postgres"))
        ours = stack.enter_context(platform(folder, postgres, runs=size.of(1500, 500) * seconds * (size.rounds + 1)))
        say("registration: MLflow starts and makes its tables")
        options = ("--backend-store-uri", database(postgres, "mlflow"))
        mlflow, _ = stack.enter_context(peers.mlflow_server(folder / "mlflow", *options))
        theirs = Mlflow(mlflow)
        say("registration: warm-up, then rounds in turn")
        contenders = {"ours": lambda: asyncio.run(ours.load(seconds)), "mlflow": lambda: asyncio.run(theirs.load(seconds))}
        in_turn(1, contenders)
        found = in_turn(size.rounds, contenders)
    return rows(found)


def rows(found: dict[str, list[Load]]) -> list[Row]:
    rates = [[load.rate for load in found[name]] for name in ("ours", "mlflow")]
    tails = [[load.p95_ms for load in found[name]] for name in ("ours", "mlflow")]
    note = (
        "8 clients, durable PostgreSQL; ours with TLS, authorisation, metrics, lineage and audit event, of risk class low and "
        "unsigned; MLflow's a version and an alias"
    )
    peer = "MLflow 3.17.2"
    return [
        against("registration, rate", "1/s", *rates, peer, Target(4.0, "higher", "ratio"), note),
        against("registration, p95", "ms", *tails, peer, Target(0.25, "lower", "ratio"), note),
    ]


def database(postgres: Any, name: str) -> str:
    """URL of a new database."""
    postgres.psql(f"CREATE DATABASE {name};")
    return str(postgres.get_uri(name)).replace("postgresql://", "postgresql+psycopg://", 1)


@contextmanager
def platform(folder: Path, postgres: Any, runs: int) -> Iterator["Ours"]:
    """A running platform on PostgreSQL, with so many completed runs to register."""
    home = Home.at(folder / "home")
    create(home)
    environ = {"AI_INFRA_DATABASE": database(postgres, "platform"), "AI_INFRA_AUDIT_DATABASE": database(postgres, "audit")}
    ids = completed_runs(home, environ["AI_INFRA_DATABASE"], runs)
    with Platform(home, free_ports(), environ) as running:
        yield Ours(home, running.urls["api"], iter(ids))


class Ours:
    """Registrations over HTTP, each of another run."""

    def __init__(self, home: Home, url: str, runs: Iterator[str]) -> None:
        self._context, self._url, self._runs = client_context(home.person(PERSON)), url, runs

    async def load(self, seconds: float) -> Load:
        connector = aiohttp.TCPConnector(ssl=self._context, limit=0)
        async with aiohttp.ClientSession(connector=connector, headers=JSON) as session:
            return await closed_loop([self._client(session, number) for number in range(CLIENTS)], seconds)

    def _client(self, session: aiohttp.ClientSession, number: int) -> Callable[[], Awaitable[None]]:
        path = f"{self._url}/v1/models/model-{number}/versions"

        async def register() -> None:
            run = next(self._runs)
            body = json.dumps({"run": run, "riskClass": "low", "sign": False})
            await _done(session.post(path, data=body, headers={"idempotency-key": f"bench-{run}"}))

        return register


class Mlflow:
    """Pairs over HTTP: a version, and the alias that points to it."""

    def __init__(self, url: str) -> None:
        self._url = f"{url}/api/2.0/mlflow"
        self._numbers = itertools.count()

    async def load(self, seconds: float) -> Load:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=JSON) as session:
            prefix = f"round-{next(self._numbers)}"
            names = [f"{prefix}-model-{number}" for number in range(CLIENTS)]
            for name in names:
                await _done(session.post(f"{self._url}/registered-models/create", json={"name": name}))
            return await closed_loop([self._client(session, name) for name in names], seconds)

    def _client(self, session: aiohttp.ClientSession, name: str) -> Callable[[], Awaitable[None]]:
        async def pair() -> None:
            order = {"name": name, "source": f"s3://models/{name}"}
            made = await _done(session.post(f"{self._url}/model-versions/create", json=order))
            alias = {"name": name, "alias": "champion", "version": made["model_version"]["version"]}
            await _done(session.post(f"{self._url}/registered-models/alias", json=alias))

        return pair


async def _done(request: Any) -> Any:
    """The answer; a failed call ends the benchmark: a quick refusal is no fast registration."""
    async with request as response:
        answer = await response.json()
        if response.status >= 300:
            raise SystemExit(f"{response.url.path} answered {response.status}: {answer}")
        return answer


def completed_runs(home: Home, database: str, count: int) -> list[str]:
    """Ids of runs as training leaves them, written before the platform starts; many runs share an artifact, as reruns do."""
    store = open_store(str(home.root / "objects"))
    engine = open_engine(database)
    upgrade(engine, "platform")
    now, actor = system_clock(), person_id(PERSON)
    dataset, artifacts = _dataset(store, actor, now), []
    for number in range(ARTIFACTS):
        content = b"weights %d" % number
        artifacts.append(store.put(tree_bytes([FileEntry("model.safetensors", len(content), store.put(content))])))
    ids = [f"run_bench{number:06d}" for number in range(count)]
    commit = {"repository": "https://git.example/digits", "commit": "0" * 40, "tree": artifacts[0], "dirty": False}
    with begin(engine) as connection:
        connection.execute(insert(registry.datasets), dataset)
        one = {"size": 10, "run_id": None, "meta": {}, "uploaded_by": actor, "uploaded_at": now}
        connection.execute(insert(registry.artifacts), [one | {"id": artifact} for artifact in artifacts])
        run = {
            "run_key": artifacts[0],
            "state": "completed",
            "job": {"name": "digits"},
            "inputs": {"codeRef": commit, "datasets": [dataset["id"]]},
            "attempt": 1,
            "decision_id": "dec_bench",
            "provenance": artifacts[0],
            "metrics": [{"epoch": 1, "metrics": {"loss": 0.1, "accuracy": 0.97}}],
            "started_by": actor,
            "started_at": now,
            "finished_at": now,
        }
        connection.execute(
            insert(training.runs), [run | {"id": name, "artifact_id": artifacts[n % ARTIFACTS]} for n, name in enumerate(ids)]
        )
    engine.dispose()
    return ids


def _dataset(store: ObjectStore, actor: str, now: int) -> dict[str, Any]:
    """Row of the data set that the runs were trained on; its manifest is stored."""
    manifest = {
        "files": [FileEntry("train.csv", 6, store.put(b"1,2,3\n")).to_json()],
        "schema": {"pixel": "uint8"},
        "licence": "CC0-1.0",
        "source": "https://data.example/digits",
        "pii": "none",
        "parents": [],
        "splits": {"train": ["train.csv"]},
    }
    row = {"name": "digits", "version": "1", "licence": "CC0-1.0", "pii": "none", "parents": []}
    return row | {"id": store.put(canonical(manifest)), "registered_by": actor, "registered_at": now}
