"""The lineage of a version over a graph of 1,000 nodes, asked over HTTP with mutual TLS: p95 of one client."""

import asyncio
import tempfile
import time
from pathlib import Path

import aiohttp
from sqlalchemy import insert

from benchmarks.harness import Row, Size, Target, alone, p95, say
from services.core.clock import system_clock
from services.core.database import begin, open_engine
from services.core.digests import sha256
from services.core.migrations import upgrade
from services.core.tls import client_context, person_id
from services.home import Home, create
from services.registry import tables
from services.supervisor import Platform, free_ports

DATASETS, VERSIONS = 200, 400
NODES = DATASETS + 2 * VERSIONS
"""Each version has a run of its own."""


def measure(size: Size) -> list[Row]:
    """Milliseconds until the whole answer is there."""
    with tempfile.TemporaryDirectory() as folder:
        home = Home.at(Path(folder) / "home")
        create(home)
        chain(f"sqlite:///{home.root / 'platform.db'}")
        say(f"lineage: {NODES} nodes")
        with Platform(home, free_ports()) as platform:
            url = f"{platform.urls['api']}/v1/models/chain/versions/{VERSIONS}/lineage"
            rounds = [asyncio.run(asked(home, url, size.of(40, 5))) for _ in range(size.rounds)]
    limit = Target(100.0, "lower", "figure")
    found = [p95(values) * 1000 for values in rounds]
    return [alone(f"lineage over {NODES} nodes, p95", "ms", found, limit, "over HTTP, mutual TLS")]


async def asked(home: Home, url: str, count: int) -> list[float]:
    found = []
    connector = aiohttp.TCPConnector(ssl=client_context(home.person("aude")))
    async with aiohttp.ClientSession(connector=connector) as session:
        for _ in range(count):
            start = time.perf_counter()
            async with session.get(url) as response:
                answer = await response.json()
            found.append(time.perf_counter() - start)
            if len(answer["nodes"]) != NODES:
                raise SystemExit(f"the lineage has {len(answer['nodes'])} nodes, not {NODES}")
    return found


def chain(database: str) -> None:
    """Data sets made one from the other, and versions made one from the other and from a data set each."""
    engine, now, actor = open_engine(database), system_clock(), person_id("tara")
    upgrade(engine, "platform")
    ids = [sha256(b"data set %d" % number) for number in range(DATASETS)]
    datasets = [
        {
            "id": identity, "name": "links", "version": str(number), "licence": "CC0-1.0", "pii": "none",
            "parents": ids[number - 1 : number], "registered_by": actor, "registered_at": now,
        }
        for number, identity in enumerate(ids)
    ]  # fmt: skip
    version = {
        "model": "chain", "artifact_id": ids[0], "run_key": ids[0], "risk_class": "low", "stage": "dev", "code_ref": {},
        "ancestors": [], "metrics": {}, "provenance": ids[0], "registered_by": actor, "registered_at": now,
    }  # fmt: skip
    versions = [
        version
        | {
            "number": number,
            "run_id": f"run-{number}",
            "datasets": [ids[number % DATASETS]],
            "parents": [f"chain@{number - 1}"] if number > 1 else [],
        }
        for number in range(1, VERSIONS + 1)
    ]
    with begin(engine) as connection:
        connection.execute(insert(tables.datasets), datasets)
        connection.execute(insert(tables.model_versions), versions)
    engine.dispose()
