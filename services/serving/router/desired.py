"""Follows the desired state of the API. While the API is away the last state stays in force."""

import asyncio
import json
import logging

import aiohttp

from services.serving.router.state import State

INTERVAL_S = 0.3
TIMEOUT_S = 3.0

log = logging.getLogger(__name__)


class Follower:
    """session: with the router's certificate."""

    def __init__(self, session: aiohttp.ClientSession, api_url: str, state: State) -> None:
        self._session, self._url, self._state = session, f"{api_url}/v1/serving/desired", state
        self._tag = ""
        self._away = False

    async def run(self) -> None:
        while True:
            try:
                await self._look()
                self._away = False
            except (aiohttp.ClientError, TimeoutError, json.JSONDecodeError) as error:
                if not self._away:
                    log.warning("the API is away (%s): serving its last state", error or type(error).__name__)
                self._away = True
            await asyncio.sleep(INTERVAL_S)

    async def _look(self) -> None:
        limit = aiohttp.ClientTimeout(total=TIMEOUT_S)
        headers = {"If-None-Match": self._tag} if self._tag else {}
        async with self._session.get(self._url, headers=headers, timeout=limit) as response:
            if response.status == 304:
                return
            response.raise_for_status()
            state, tag = await response.json(), response.headers.get("ETag", "")
        await self._state.apply(state)
        self._tag = tag
