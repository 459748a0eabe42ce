"""The embedded engine: regopy in this process. For development and for the offline verifier."""

from collections.abc import Mapping
from typing import Any

from services.core import rego
from services.core.bundle import Bundle
from services.sentinelnet.ports import PolicyEngine

PRODUCTION = False


class RegopyEngine:
    """See core.rego for what it does differently from OPA."""

    def evaluate(self, bundle: Bundle, input_value: Mapping[str, Any]) -> Any:
        return rego.evaluate(bundle, input_value)


def open_engine(url: str = "") -> PolicyEngine:
    """url: unused, there is no server."""
    del url
    return RegopyEngine()
