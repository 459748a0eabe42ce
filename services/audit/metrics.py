"""What the log counts for Prometheus: entries by type, as they are appended."""

import functools
from collections.abc import Iterable, Mapping
from typing import Any

from prometheus_client import Counter

from services.core.events import TYPES
from services.core.verdict import SEVERITY

appended = Counter(
    "ai_infra_audit_events_total", "Entries appended since the process started; verdict: of policy checks.", ["type", "verdict"]
)
_of = functools.cache(appended.labels)
"""The same without its lock, which takes longer than to count."""

for name in TYPES:
    # From zero on, so that the first one of a process is an increase too.
    for verdict in SEVERITY if name == "policyCheck" else ("",):
        _of(name, verdict)


def count(events: Iterable[Mapping[str, Any]], new: Iterable[str]) -> None:
    """events: of a batch that was committed; new: ids of those that were not in the log before."""
    ids = frozenset(new)
    for event in events:
        if event["id"] in ids:
            verdict = str(event["payload"].get("verdict", "")) if event["type"] == "policyCheck" else ""
            _of(event["type"], verdict).inc()
