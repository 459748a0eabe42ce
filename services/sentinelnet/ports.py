"""What SentinelNet needs from outside, beside the core's database, object store and outbox."""

from collections.abc import Mapping
from typing import Any, Protocol

from services.core.bundle import Bundle


class PolicyEngine(Protocol):
    """Evaluates bundles. It judges nothing: `core.verdict` takes its answer apart and denies on every doubt."""

    def evaluate(self, bundle: Bundle, input_value: Mapping[str, Any]) -> Any:
        """The value of `data.sentinelnet.decision` for exactly this bundle and input.

        Args:
            bundle: which policies to use; a backend loads them when they are not the ones that it holds.
        Raises:
            PolicyUnavailable: the engine did not answer; retry.
            EvaluationFailed: it answered with an error or with no value; every rule denies.
        """
