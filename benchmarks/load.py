"""A lean HTTPS load generator, in a process of its own: what a client costs must not be taken for what a server costs.

It reads commands as JSON lines on stdin and answers each on stdout:

    {"do": "measure", "url", "identity", "clients", "seconds", "warm_up"}   latencies and throughput of closed-loop clients
    {"do": "run", "url", "identity", "clients", "burst", "pause"}           load until `stop`; burst: clients that come and go
    {"do": "stop"}                                                          what was answered since `run`

Requests are HTTP/1.1 over kept connections; an answer needs a content-length. Latency is from the write of a request to the last
byte of its answer, on one core with the others' work: the same for every server measured by it.
"""

import asyncio
import json
import random
import ssl
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import uvloop

from services.core.tls import Identity, client_context

BODIES = 500
BURST_S = (0.2, 0.6)


class _Client(asyncio.Protocol):
    """One kept connection: the next request when an answer is there. answered: called with (latency in seconds, status)."""

    def __init__(self, requests: list[bytes], seed: int, pause: float, answered: Any) -> None:
        self._requests, self._rng, self._pause, self._answered = requests, random.Random(seed), pause, answered
        self._buffer, self._begun = b"", 0.0
        self._transport: asyncio.Transport | None = None
        self._ended = False
        self.closed = asyncio.get_running_loop().create_future()

    def end(self) -> None:
        """Sends nothing more, also where its connection is still being made."""
        self._ended = True
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        if self._ended:
            transport.abort()
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.closed.done():
            self.closed.set_result(None)

    def _send(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._begun = time.perf_counter()
            self._transport.write(self._rng.choice(self._requests))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._buffer[:end].lower()
        at = head.index(b"content-length:") + 15
        line = head.find(b"\r\n", at)
        if len(self._buffer) < end + 4 + int(head[at : line if line > 0 else None]):
            return
        self._answered(self._begun, time.perf_counter() - self._begun, int(head[9:12]))
        self._buffer = b""
        if self._pause:
            asyncio.get_running_loop().call_later(self._pause, self._send)
        else:
            self._send()


class _Generator:
    """Answers one command after the other."""

    def __init__(self) -> None:
        self._statuses: Counter[int] = Counter()
        self._clients: list[asyncio.Task[None]] = []

    async def serve(self) -> None:
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            command = json.loads(line)
            print(json.dumps(await getattr(self, command.pop("do"))(**command)), flush=True)

    async def measure(self, url: str, identity: str, clients: int, seconds: float, warm_up: float) -> dict[str, Any]:
        make = _maker(url, identity)
        start = time.perf_counter() + warm_up
        seen: list[tuple[float, int]] = []

        def answered(begun: float, latency: float, status: int) -> None:
            if start <= begun < start + seconds:
                seen.append((latency * 1000, status))

        cpu = time.process_time()
        self._begin(make, clients, 0.0, answered)
        await asyncio.sleep(warm_up + seconds)
        spent = time.process_time() - cpu
        await self._end()
        return {
            "rps": len(seen) / seconds,
            "statuses": Counter(str(status) for _, status in seen),
            "accepted_ms": _cuts([latency for latency, status in seen if status == 200]),
            "refused_ms": _cuts([latency for latency, status in seen if status != 200]),
            "client_cpu": spent / (warm_up + seconds),
        }

    async def run(self, url: str, identity: str, clients: int, burst: int, pause: float) -> dict[str, Any]:
        self._statuses.clear()

        def answered(begun: float, latency: float, status: int) -> None:
            self._statuses[status] += 1

        self._begin(_maker(url, identity), clients, pause, answered)
        if burst:
            self._clients.append(asyncio.ensure_future(self._bursts(url, identity, burst, answered)))
        return {}

    async def stop(self) -> dict[str, Any]:
        await self._end()
        return {"statuses": {str(status): count for status, count in self._statuses.items()}}

    def _begin(self, make: Any, clients: int, pause: float, answered: Any) -> None:
        self._clients += [asyncio.ensure_future(_keep(make, seed, pause, answered)) for seed in range(clients)]

    async def _bursts(self, url: str, identity: str, clients: int, answered: Any) -> None:
        rng, make = random.Random(7), _maker(url, identity)
        while True:
            await asyncio.sleep(rng.uniform(*BURST_S))
            extra = [asyncio.ensure_future(_keep(make, 100 + seed, 0.0, answered)) for seed in range(clients)]
            try:
                await asyncio.sleep(rng.uniform(*BURST_S))
            finally:
                # Also when `stop` comes within a burst: its clients would go on into the next rollout.
                await _cancel(extra)

    async def _end(self) -> None:
        await _cancel(self._clients)
        self._clients.clear()


def _maker(url: str, identity: str) -> Any:
    """Makes a client and what connects it."""
    parts, context = urlsplit(url), client_context(Identity.in_folder(Path(identity)))
    host, port = parts.hostname or "", parts.port or 443
    requests = [_request(parts, seed) for seed in range(BODIES)]

    def make(seed: int, pause: float, answered: Any) -> tuple[_Client, Any]:
        client = _Client(requests, seed, pause, answered)
        connecting = asyncio.get_running_loop().create_connection(lambda: client, host, port, ssl=context)
        return client, connecting

    return make


def _request(parts: Any, seed: int) -> bytes:
    from tests.serving import request_of, row

    body = request_of(row(random.Random(seed))[0])
    first, kind = f"POST {parts.path} HTTP/1.1", "content-type: application/json"
    lines = (first, f"host: {parts.netloc}", kind, f"content-length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


async def _keep(make: Any, seed: int, pause: float, answered: Any) -> None:
    """A client that comes back when its connection ends."""
    while True:
        client, connecting = make(seed, pause, answered)
        try:
            await connecting
            await client.closed
        except (OSError, ssl.SSLError):
            await asyncio.sleep(0.1)
        finally:
            client.end()


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _cuts(values: list[float]) -> dict[str, float] | None:
    """Percentiles in milliseconds; None of nothing."""
    if not values:
        return None
    ordered = sorted(values)
    return {f"p{share}": round(ordered[min(len(ordered) - 1, len(ordered) * share // 100)], 3) for share in (50, 95, 99)}


class LoadProcess:
    """The generator as a context manager. identity: the folder of a client's certificate."""

    def __init__(self, identity: Path) -> None:
        self._identity = str(identity)

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "benchmarks.load"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=20)

    def measure(self, url: str, clients: int, seconds: float, warm_up: float = 1.0, identity: Path | None = None) -> dict[str, Any]:
        who = str(identity or self._identity)
        return self._ask({"do": "measure", "url": url, "identity": who, "clients": clients, "seconds": seconds, "warm_up": warm_up})

    def run(self, url: str, clients: int, burst: int = 0, pause: float = 0.0) -> None:
        self._ask({"do": "run", "url": url, "identity": self._identity, "clients": clients, "burst": burst, "pause": pause})

    def stop(self) -> dict[str, int]:
        """Answers by status since `run`."""
        found: dict[str, int] = self._ask({"do": "stop"})["statuses"]
        return found

    def _ask(self, command: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer


if __name__ == "__main__":
    uvloop.run(_Generator().serve())
