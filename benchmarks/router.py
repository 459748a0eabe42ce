"""p95 and throughput of predictions through the router, against the same predictor asked directly. Prints JSON.

    python -m benchmarks.router [--clients 8] [--seconds 5]

Both paths are mTLS; the router adds routing, hashing and a prediction record for each request.
"""

import argparse
import asyncio
import json
import random
import ssl
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp

from services.core.errors import Unavailable
from services.core.tls import client_context
from services.serving.domain import DeploymentSpec
from tests.serving import JSON, MODEL, World, api_of, request_of, router_of, row, wait_for

WARM_UP_S = 1.0
ROUNDS = 3


async def measure(url: str, context: ssl.SSLContext, clients: int, seconds: float) -> dict[str, float]:
    """Latencies in milliseconds and requests per second of closed-loop clients."""
    latencies: list[float] = []

    async def client(session: aiohttp.ClientSession, body: bytes) -> None:
        start = time.perf_counter()
        while (now := time.perf_counter()) - start < seconds + WARM_UP_S:
            async with session.post(url, data=body, headers=JSON) as response:
                await response.read()
                response.raise_for_status()
            if now - start > WARM_UP_S:
                latencies.append((time.perf_counter() - now) * 1000)

    rng = random.Random(1)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context, limit=0)) as session:
        await asyncio.gather(*(client(session, request_of(row(rng)[0])) for _ in range(clients)))
    cuts = statistics.quantiles(latencies, n=100)
    return {"rps": len(latencies) / seconds, "p50_ms": cuts[49], "p95_ms": cuts[94], "p99_ms": cuts[98]}


def best(runs: list[dict[str, float]]) -> dict[str, float]:
    """The run with the lowest p95: what the code costs, with the least of what else the machine did."""
    return {key: round(value, 2) for key, value in min(runs, key=lambda run: run["p95_ms"]).items()}


def run(clients: int, seconds: float) -> dict[str, Any]:
    """Rounds of both paths in turn, so that a machine that slows down slows both."""
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        with api_of(world, world.version(1, passes=8)) as api, router_of(world, api):
            spec = DeploymentSpec(model=MODEL, number=1, environment="staging")
            deployment = api.serving.deploy(spec, "spiffe://ai-infra.local/person/dario")["id"]

            def ready() -> int:
                try:
                    return api.serving.backend.health(deployment).ready
                except Unavailable:
                    return 0

            wait_for(ready, "the predictor is ready", 60)
            pid = api.serving.backend.health(deployment).detail[0]["pid"]
            direct_url = f"https://127.0.0.1:{port_of(pid)}/v2/models/{MODEL}/infer"
            router_url = f"{api.router_url}/env/staging/v2/models/{MODEL}/infer"
            direct, routed = [], []
            for _ in range(ROUNDS):
                direct.append(asyncio.run(measure(direct_url, client_context(world.service("router")), clients, seconds)))
                routed.append(asyncio.run(measure(router_url, client_context(world.person), clients, seconds)))
    first, second = best(direct), best(routed)
    ratios = {"p95": round(second["p95_ms"] / first["p95_ms"], 2), "rps": round(second["rps"] / first["rps"], 2)}
    return {"clients": clients, "seconds": seconds, "direct": first, "router": second, "router/direct": ratios}


def port_of(pid: int) -> int:
    """The port that a process listens on (Linux: its sockets' inodes in /proc/net/tcp)."""
    inodes = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        target = str(link.readlink())
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and fields[9] in inodes:
            return int(fields[1].split(":")[1], 16)
    raise LookupError(f"process {pid} listens on no port")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    print(json.dumps(run(options.clients, options.seconds), indent=2))
