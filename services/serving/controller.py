"""The thread that looks at rollouts. It holds no state: a restart continues from the database."""

import logging
import threading

from services.core.errors import AiInfraError, Unavailable
from services.serving.rollouts import Rollouts

INTERVAL_S = 0.2

log = logging.getLogger(__name__)


class Controller:
    """Runs in the API process. One of them, as its transitions are guarded but its probes would be sent twice."""

    def __init__(self, rollouts: Rollouts, interval_s: float = INTERVAL_S) -> None:
        self._rollouts, self._interval_s = rollouts, interval_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rollouts", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Returns when the current look has ended."""
        self._stop.set()
        self._thread.join()

    def look(self) -> None:
        """Looks once at every active rollout; one that fails does not keep the others waiting."""
        for rollout in self._rollouts.active():
            try:
                self._rollouts.advance(rollout)
            except Unavailable as error:
                log.info("rollout %s waits: %s", rollout, error)
            except AiInfraError as error:
                log.warning("rollout %s: %s", rollout, error)

    def _run(self) -> None:
        while not self._stop.wait(self._interval_s):
            try:
                self.look()
            except Exception:  # a bug in one look must not end all rollouts silently
                log.exception("the controller failed; it tries again")
