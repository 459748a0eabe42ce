"""The audit log as the proxy reaches it: over HTTP, at the API process that owns it."""

from typing import Any

from services.core.calls import Peer


class HttpAuditBus:
    """Implements core.outbox.AuditBus."""

    def __init__(self, log: Peer) -> None:
        self._log = log

    def append(self, events: list[dict[str, Any]]) -> list[int]:
        indexes: list[int] = self._log.call("POST", "/v1/audit/events", {"events": events})["indexes"]
        return indexes
