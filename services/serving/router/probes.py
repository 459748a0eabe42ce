"""Golden probes: labelled rows that both versions of a rollout answer, outside of any client's traffic. Answers leave records.

The record of a probe request names the probes and the labels given, so that the pairs of a verdict can be counted again from
sealed records and the data set alone. A golden data set is the platform's own: nothing of a client's is written down.
"""

import asyncio
import hashlib
import hmac
import json

from services.core.clock import Clock
from services.core.errors import Unavailable
from services.core.ids import new_id
from services.serving.router.pool import Backend, Pool
from services.serving.router.proxy import Exchange, Proxy, labels
from services.serving.router.records import RecordLog
from services.serving.router.state import State

Labels = list[str] | None


class Probes:
    """salt: as the proxy's, of input digests."""

    def __init__(self, state: State, pool: Pool, records: RecordLog, proxy: Proxy, clock: Clock, salt: bytes) -> None:
        self._state, self._pool, self._records = state, pool, records
        self._proxy, self._clock, self._salt = proxy, clock, salt

    async def answers(self, rollout: str, probes: list[str], rows: list[list[float]]) -> tuple[Labels, Labels]:
        """Stable's and the canary's label of each row; None from a version that did not answer, or not to each row.

        Raises:
            UnknownRollout. Unavailable: one of them has no healthy predictor, or the records could not be written.
        """
        route = self._state.split_of(rollout)
        assert route.split is not None
        body = _request(rows)
        # Both are chosen before one is asked: each time, both or neither leaves a record.
        stable, canary = self._choose(route.stable), self._choose(route.split.canary)
        first, second = await asyncio.gather(
            self._ask(rollout, "stable", stable, route.model, probes, body),
            self._ask(rollout, "canary", canary, route.model, probes, body),
        )
        return first, second

    def _choose(self, deployment: str) -> tuple[str, Backend]:
        """Id of a record, and the predictor that it is of."""
        record_id = new_id("prb")
        backend = self._pool.choose(deployment, record_id)
        if backend is None:
            raise Unavailable(f"no healthy predictor of deployment {deployment}")
        return record_id, backend

    async def _ask(
        self, rollout: str, version: str, chosen: tuple[str, Backend], model: str, probes: list[str], body: bytes
    ) -> Labels:
        record_id, backend = chosen
        exchange = Exchange(self._clock())
        self._records.expect()
        found = labels(await self._proxy.ask(backend, model, body, exchange))
        if found is not None and len(found) != len(probes):
            found = None
        salt = hmac.digest(self._salt, record_id.encode("ascii"), hashlib.sha256)[:16]
        place = {"id": rollout, "arm": "probe", "version": version, "probes": probes, "labels": found}
        asked = hashlib.sha256(salt + body).hexdigest()
        self._records.append(exchange.record(record_id, backend.deployment, self._state, asked, place))
        return found


def _request(rows: list[list[float]]) -> bytes:
    """One v2 request for all rows."""
    data = [value for row in rows for value in row]
    tensor = {"name": "input", "shape": [len(rows), len(rows[0])], "datatype": "FP32", "data": data}
    return json.dumps({"inputs": [tensor]}).encode("ascii")
