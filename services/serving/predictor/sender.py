"""Carries a predictor's records to the API, which keeps and seals them."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from services.core.errors import AiInfraError, BadInput
from services.serving.predictor.spool import Batch, Spool

PAUSE_S = 0.2

Send = Callable[[dict[str, Any]], object]
"""Hands a batch to the API, which takes one that it has already. Raises BadInput: it never takes this one; others: again, later."""

log = logging.getLogger(__name__)


class Sender:
    """A thread of its own. A batch stays in the spool until the API has it, and no later one overtakes it."""

    def __init__(self, spool: Spool, deployment: str, send: Send) -> None:
        self._spool, self._deployment, self._send = spool, deployment, send
        self._stop = threading.Event()
        self._behind: float | None = None
        self._thread = threading.Thread(target=self._run, name="records", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """After the last request: hands on what waits, once, and ends."""
        self._stop.set()
        self._thread.join()
        self.step(all_of_them=True)

    @property
    def behind_s(self) -> float:
        """Seconds since the API took no more; 0 while it does."""
        return 0.0 if self._behind is None else time.monotonic() - self._behind

    def step(self, *, all_of_them: bool = False) -> None:
        """Hands on the batches that are due, until one is not taken."""
        try:
            for name in self._spool.waiting(all_of_them=all_of_them):
                self._hand_on(name)
            if (loss := self._spool.loss()) is not None:
                self._send(self._body(loss))
                self._spool.told(loss)
            self._behind = None
        except (AiInfraError, OSError) as error:
            if self._behind is None:
                self._behind = time.monotonic()
                log.warning("prediction records wait: the API does not take them: %s", error)

    def _hand_on(self, name: str) -> None:
        try:
            self._send(self._body(self._spool.read(name)))
        except BadInput as error:
            log.error("the API will never take prediction records %s, which are put aside: %s", name, error)
            self._spool.refused(name)
        else:
            self._spool.done(name)

    def _body(self, batch: Batch) -> dict[str, Any]:
        told = {"records": batch.records, "recovered": batch.recovered, "lost": batch.lost}
        return {"id": batch.id, "deployment": self._deployment} | told

    def _run(self) -> None:
        while not self._stop.wait(PAUSE_S):
            self.step()
