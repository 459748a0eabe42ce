"""The fork server without KServe and torch: a predictor is ready at once, and there until it is stopped."""

import signal
from collections.abc import Callable
from typing import Any

from services.serving.predictor.forkserver import ForkServer


def serve(order: dict[str, Any], ready: Callable[[int], None]) -> None:
    ready(1)
    signal.pause()


if __name__ == "__main__":
    ForkServer(commands=0, events=1, serve=serve).run()
