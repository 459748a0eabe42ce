"""When the router's fork server runs: from the first predictor on, again when it dies, and at once after a router that had some."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import uvloop

from services.serving.router.launcher import ForkServerLauncher

WAIT_S = 20.0
NOTHING_S = 0.5
"""Long enough for a fork server that should not start: it tells of itself in a tenth of that."""


class Life:
    """A launcher that runs, and what it told."""

    def __init__(self, launcher: ForkServerLauncher) -> None:
        self.launcher = launcher
        self.events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def told(self, count: int) -> list[str]:
        """The next events' kinds."""
        return [(await asyncio.wait_for(self.events.get(), WAIT_S))["event"] for _ in range(count)]

    async def predictor(self, replica: str) -> int:
        """Starts one; its process id."""
        self.launcher.start(replica, {})
        while True:
            event = await asyncio.wait_for(self.events.get(), WAIT_S)
            if event["event"] == "ready" and event["replica"] == replica:
                return int(event["pid"])

    async def nothing(self) -> bool:
        await asyncio.sleep(NOTHING_S)
        return self.events.empty()


@asynccontextmanager
async def life(folder: Path) -> AsyncIterator[Life]:
    made = Life(ForkServerLauncher(os.environ, folder / "had-predictors", "tests.fakes.predictors"))
    running = asyncio.ensure_future(made.launcher.run(made.events.put_nowait))
    try:
        yield made
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_the_fork_server_starts_with_the_first_predictor_and_stays(tmp_path: Path) -> None:
    async def run() -> None:
        async with life(tmp_path) as router:
            assert await router.nothing()
            first = await router.predictor("rep-1")
            forkserver = parent_of(first)
            router.launcher.stop("rep-1")
            assert await router.told(1) == ["exited"]
            assert parent_of(await router.predictor("rep-2")) == forkserver

    asyncio.run(run())


def test_one_that_dies_is_replaced_when_a_predictor_is_wanted(tmp_path: Path) -> None:
    async def run() -> None:
        async with life(tmp_path) as router:
            forkserver = parent_of(await router.predictor("rep-1"))
            os.kill(forkserver, signal.SIGKILL)
            assert await router.told(1) == ["gone"]
            assert parent_of(await router.predictor("rep-2")) != forkserver

    asyncio.run(run())


def test_commands_to_one_that_is_dying_do_no_harm(tmp_path: Path) -> None:
    async def run() -> None:
        async with life(tmp_path) as router:
            os.kill(parent_of(await router.predictor("rep-1")), signal.SIGKILL)
            while router.events.empty():
                router.launcher.stop("rep-1")
                await asyncio.sleep(0)
            assert await router.told(1) == ["gone"]
            await router.predictor("rep-2")

    uvloop.run(run())


def test_after_a_router_that_had_predictors_it_starts_at_once(tmp_path: Path) -> None:
    async def run() -> None:
        async with life(tmp_path) as router:
            await router.predictor("rep-1")
        async with life(tmp_path) as router:
            assert await router.told(1) == ["idle"]
        async with life(tmp_path) as router:
            assert await router.nothing()

    asyncio.run(run())
