"""Traffic for a served model: requests over mTLS from a thread of its own, at a bounded rate, until stopped."""

import asyncio
import itertools
import threading
from collections import Counter
from collections.abc import Sequence

import aiohttp

from services.core.tls import Identity, client_context


class Traffic:
    """Use as a context manager. rate: requests a second; answered: by model version and HTTP status."""

    def __init__(
        self, url: str, identity: Identity, rows: Sequence[Sequence[float]], rate: float = 120.0, workers: int = 8
    ) -> None:
        self._url, self._identity, self._rate, self._workers = url, identity, rate, workers
        self._rows = itertools.cycle(rows)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="traffic", daemon=True)
        self.answered: Counter[tuple[str, int]] = Counter()

    def __enter__(self) -> "Traffic":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=15)

    async def _run(self) -> None:
        connector = aiohttp.TCPConnector(ssl=client_context(self._identity), limit=self._workers)
        timeout = aiohttp.ClientTimeout(total=30)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            await asyncio.gather(*(self._ask(session) for _ in range(self._workers)))

    async def _ask(self, session: aiohttp.ClientSession) -> None:
        loop, pause = asyncio.get_running_loop(), self._workers / self._rate
        due = loop.time()
        while not self._stop.is_set():
            row = list(next(self._rows))
            tensor = {"name": "images", "datatype": "FP32", "shape": [1, len(row)], "data": [row]}
            try:
                async with session.post(self._url, json={"inputs": [tensor]}) as response:
                    await response.read()
                    self.answered[response.headers.get("x-model-version", ""), response.status] += 1
            except (aiohttp.ClientError, TimeoutError):
                self.answered["", 0] += 1
            due = max(due + pause, loop.time())
            await asyncio.sleep(due - loop.time())
