"""What the API process shows Prometheus of its state, read when it is scraped."""

from prometheus_client import Counter

from services.audit.service import AuditLog
from services.core.metrics import Gauge
from services.core.outbox import Relay, pending_gauge

loop_failures = Counter("ai_infra_loop_failures_total", "Rounds of a background loop that failed, and will be repeated.", ["loop"])


def gauges(audit: AuditLog, relay: Relay) -> list[Gauge]:
    return [
        pending_gauge(relay),
        Gauge("ai_infra_log_entries", "Entries of the log.", audit.size),
        Gauge("ai_infra_log_unpublished_entries", "Entries under no checkpoint yet.", audit.unpublished),
        Gauge(
            "ai_infra_log_witnesses_missing",
            "Witnesses that have not cosigned the published checkpoint.",
            lambda: list(audit.witnessed().values()).count(None),
        ),
    ]
