"""Whether the platform's state and the log say the same: no row without its event, no event without its row."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Engine, Select, select

from services.audit.service import AuditLog
from services.core.canonical import parse
from services.core.history import History
from services.core.outbox import Outbox, Relay
from services.registry import tables as registry
from services.sentinelnet import tables as sentinelnet
from services.serving import tables as serving
from services.training import tables as training

PAGE = 1000

Event = dict[str, Any]


@dataclass(frozen=True)
class Rule:
    """rows: the ids that the state holds; events: type → the id that an event of it gives, None if it gives none."""

    name: str
    rows: Select[Any]
    type: str
    id_of: Callable[[Event], str | None]


def _subject(event: Event) -> str:
    return str(event["subject"]["id"])


def _payload(key: str) -> Callable[[Event], str | None]:
    return lambda event: event["payload"].get(key)


RULES = (
    Rule("data set", select(registry.datasets.c.id), "dataset.registered", _subject),
    Rule("data set approval", select(registry.dataset_approvals.c.payload), "dataset.approved", _payload("approval")),
    Rule("artifact", select(registry.artifacts.c.id), "artifact.uploaded", _subject),
    Rule("run", select(training.runs.c.id), "train.started", _subject),
    Rule("completed run", select(training.runs.c.id).where(training.runs.c.state == "completed"), "train.completed", _subject),
    Rule("evaluation", select(registry.evaluations.c.payload), "evaluation.recorded", _payload("evaluation")),
    Rule("decision", select(sentinelnet.decisions.c.id), "policyCheck", _payload("decision")),
    Rule("policy bundle", select(sentinelnet.policies.c.revision), "policy.published", lambda event: event["subject"]["digest"]),
    Rule("promotion", select(registry.promotions.c.id), "promotion.requested", _payload("promotion")),
    Rule(
        "completed promotion",
        select(registry.promotions.c.id).where(registry.promotions.c.state == "completed"),
        "promotion.completed",
        _payload("promotion"),
    ),
    Rule("flag", select(registry.flags.c.id), "quarantine.set", _payload("flag")),
    Rule(
        "lifted flag",
        select(registry.flags.c.id).where(registry.flags.c.clearance.is_not(None)),
        "quarantine.lifted",
        _payload("flag"),
    ),
    Rule("deployment", select(serving.deployments.c.id), "deploy.started", _subject),
    Rule("rollout", select(serving.rollouts.c.id).where(serving.rollouts.c.rule.is_not(None)), "rollout.started", _subject),
)


@dataclass
class Seen:
    """What one pass over the log finds."""

    ids: dict[str, set[str]] = field(default_factory=lambda: {rule.type: set() for rule in RULES})
    events: dict[str, Event] = field(default_factory=dict)
    history: History = field(default_factory=History)
    count: int = 0


@dataclass(frozen=True)
class Reconciler:
    """Reads both sides; writes nothing but what the relay still has to deliver."""

    engine: Engine
    audit: AuditLog
    outbox: Outbox
    relay: Relay

    def run(self) -> dict[str, Any]:
        """{"rows", "events", "problems": [text…]}: an empty list says that both sides agree.

        Raises:
            Unavailable: the log did not answer; nothing was compared.
        """
        self.relay.flush()
        seen = self._log()
        problems, rows = [], 0
        for rule in RULES:
            with self.engine.connect() as connection:
                held = set(connection.execute(rule.rows).scalars())
            rows += len(held)
            problems += [f"{rule.name} {item} has no {rule.type} event" for item in sorted(held - seen.ids[rule.type])]
            problems += [
                f"a {rule.type} event names {item}, which no {rule.name} is" for item in sorted(seen.ids[rule.type] - held)
            ]
        problems += self._stages(seen)
        problems += self._outbox(seen)
        return {"rows": rows, "events": seen.count, "problems": problems}

    def _log(self) -> Seen:
        seen = Seen()
        by_type = {rule.type: [r for r in RULES if r.type == rule.type] for rule in RULES}
        for event in self._events():
            seen.count += 1
            seen.history.apply(event)
            if event["source"] == self.outbox.source:
                seen.events[event["id"]] = event
            for rule in by_type.get(event["type"], []):
                found = rule.id_of(event)
                if found is not None:
                    seen.ids[rule.type].add(found)
        return seen

    def _stages(self, seen: Seen) -> Iterator[str]:
        table = registry.model_versions
        with self.engine.connect() as connection:
            rows = connection.execute(select(table)).all()
        for row in rows:
            reference = f"{row.model}@{row.number}"
            known = seen.history.versions.get(reference)
            if known is None:
                yield f"model version {reference} has no model.registered event"
            elif (known.stage, known.artifact_id, known.risk_class) != (row.stage, row.artifact_id, row.risk_class):
                yield f"model version {reference} is in {row.stage}; the log says {known.stage} (or another artifact or risk class)"

    def _outbox(self, seen: Seen) -> Iterator[str]:
        with self.engine.connect() as connection:
            for row in connection.execute(select(self.outbox.table)):
                logged = seen.events.pop(row.id, None)
                if logged is None:
                    yield f"event {row.id} is not in the log"
                elif {key: value for key, value in logged.items() if key != "prevHash"} != parse(row.event):
                    yield f"event {row.id} has another content in the log"
        for event_id in seen.events:
            yield f"the log has event {event_id}, which the platform's outbox does not have"

    def _events(self) -> Iterator[Event]:
        after = -1
        while page := self.audit.search(after=after, limit=PAGE):
            yield from (entry.event for entry in page)
            after = page[-1].index
