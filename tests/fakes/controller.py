"""What the stand-ins for a cluster's controllers share: a thread that looks again and again."""

import logging
import threading
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Self

from services.core.errors import AiInfraError

LOOK_S = 0.05

log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class StandIn(ABC):
    """Use as a context manager. Whoever inherits says in `look` what one look does."""

    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    @abstractmethod
    def look(self) -> None:
        """One look at all that it is responsible for."""

    def _run(self) -> None:
        while not self._stop.wait(LOOK_S):
            try:
                self.look()
            except AiInfraError as error:
                log.info("the stand-in waits: %s", error)
