"""Starts and stops predictors through the fork server, a child of this process that is there once a predictor is wanted."""

import asyncio
import contextlib
import json
import logging
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

log = logging.getLogger(__name__)

PREDICTOR = "services.serving.predictor"
RESTART_S = 0.5
STOP_S = 5.0

OnEvent = Callable[[dict[str, Any]], None]


class Launcher(Protocol):
    """Where predictors run. Events are those of predictor.forkserver, and {"event": "gone"}: all predictors ended at once."""

    async def run(self, on_event: OnEvent) -> None:
        """Until cancelled."""

    def start(self, replica: str, order: dict[str, Any]) -> None:
        """Begins to start a predictor; an event tells how it went."""

    def stop(self, replica: str) -> None:
        """Lets a predictor finish its requests and end; one that is gone already is fine."""


class ForkServerLauncher:
    """Starts the fork server with the first predictor: with KServe and torch it holds half a gigabyte, for nothing as long as
    nothing is deployed. It stays when its last predictor ends, since the next one is likely. Commands that it cannot take yet are
    kept for it.

    environ: of its process (settings); mark: a file that says to the next router that this one had predictors: they will be wanted
    again, so the imports need not wait for the API to say so; module: what it runs.
    """

    def __init__(self, environ: Mapping[str, str], mark: Path, module: str = PREDICTOR) -> None:
        self._environ, self._mark, self._module = dict(environ), mark, module
        self._process: asyncio.subprocess.Process | None = None
        self._waiting: list[bytes] = []
        self._wanted = asyncio.Event()
        if mark.exists():
            self._wanted.set()
            with contextlib.suppress(OSError):
                mark.unlink()

    def start(self, replica: str, order: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):  # without the mark the next router starts its predictors later, no more
            self._mark.touch()
        self._wanted.set()
        self._send({"op": "start", "replica": replica, "order": order})

    def stop(self, replica: str) -> None:
        self._send({"op": "stop", "replica": replica})

    async def run(self, on_event: OnEvent) -> None:
        try:
            while True:
                await self._wanted.wait()
                await self._one_life(on_event)
                self._wanted.clear()
                on_event({"event": "gone"})
                await asyncio.sleep(RESTART_S)
        finally:
            await self._end()

    async def _one_life(self, on_event: OnEvent) -> None:
        # A session of its own: Ctrl-C in the terminal reaches the router only, which then ends its predictors in order.
        self._process = process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", self._module,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, env=self._environ, start_new_session=True,
        )
        assert process.stdout is not None
        assert process.stdin is not None
        for line in self._waiting:
            process.stdin.write(line)
        self._waiting.clear()
        while line := await process.stdout.readline():
            on_event(json.loads(line))
        log.error("the fork server of the predictors ended with status %s; starting another", await process.wait())
        self._process = None

    def _send(self, command: dict[str, Any]) -> None:
        line = json.dumps(command).encode("ascii") + b"\n"
        if self._process is None or self._process.stdin is None:
            self._waiting.append(line)
        elif not self._process.stdin.is_closing():
            # Else it is dead, which `gone` is about to say: replicas are started anew then, under new names.
            self._process.stdin.write(line)

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is None or process.stdin is None:
            return
        process.stdin.close()
        with contextlib.suppress(ProcessLookupError):
            try:
                await asyncio.wait_for(process.wait(), STOP_S)
            except TimeoutError:
                os.kill(process.pid, 9)
