"""An audit log in memory, with the promises of core.outbox.AuditBus and faults on demand."""

import threading
from typing import Any

from services.core.errors import Conflict, Unavailable


class MemoryAuditBus:
    """events: the log, in order. faults: which call of `append` (from 0) fails, and how: "fails" or "persists_then_fails"."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.faults: dict[int, str] = {}
        self.calls = 0
        self._lock = threading.Lock()

    def append(self, events: list[dict[str, Any]]) -> list[int]:
        with self._lock:
            fault = self.faults.get(self.calls)
            self.calls += 1
            if fault == "fails":
                raise Unavailable("the log is away")
            indexes = [self._append(event) for event in events]
            if fault == "persists_then_fails":
                raise Unavailable("the log's answer was lost")
            return indexes

    def _append(self, event: dict[str, Any]) -> int:
        for index, known in enumerate(self.events):
            if known["id"] == event["id"]:
                if known != event:
                    raise Conflict(f"event {event['id']} is in the log with another body")
                return index
        last = max((known["seq"] for known in self.events if known["source"] == event["source"]), default=0)
        if event["seq"] != last + 1:
            raise Conflict(f"a gap: {event['source']} sent {event['seq']} after {last}")
        self.events.append(event)
        return len(self.events) - 1
