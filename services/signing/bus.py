"""The audit log as the proxy reaches it: over HTTP, at the API process that owns it."""

from typing import Any

import httpx

from services.core.calls import call


class HttpAuditBus:
    """Implements core.outbox.AuditBus."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def append(self, events: list[dict[str, Any]]) -> list[int]:
        indexes: list[int] = call(self._client, "POST", "/v1/audit/events", json={"events": events})["indexes"]
        return indexes
