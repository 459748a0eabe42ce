"""The embedded engine: regopy in this process. For development and for the offline verifier."""

import threading
from collections.abc import Mapping
from typing import Any

from services.core import rego
from services.core.bundle import Bundle
from services.core.canonical import canonical
from services.sentinelnet.ports import PolicyEngine

PRODUCTION = False
REMEMBERED = 1_000


class RegopyEngine:
    """See core.rego for what it does differently from OPA.

    Whether somebody may call a route is asked with each call, about the same few inputs: those answers are remembered. A bundle has
    no rule whose answer could change for the same input; other actions' inputs hold the time and are never the same.
    """

    def __init__(self) -> None:
        self._authorised: dict[tuple[str, bytes], Any] = {}
        self._lock = threading.Lock()

    def evaluate(self, bundle: Bundle, input_value: Mapping[str, Any]) -> Any:
        if input_value.get("action") != "authz":
            return rego.evaluate(bundle, input_value)
        key = (bundle.revision, canonical(dict(input_value)))
        if (known := self._authorised.get(key)) is not None:
            return known
        found = rego.evaluate(bundle, input_value)
        with self._lock:
            if len(self._authorised) >= REMEMBERED:
                self._authorised.clear()
            self._authorised[key] = found
        return found


def open_engine(url: str = "") -> PolicyEngine:
    """url: unused, there is no server."""
    del url
    return RegopyEngine()
