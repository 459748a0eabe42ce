"""Whether the platform's state and the log say the same: no row without its event, no event without its row."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Engine, Select, select

from services.audit.service import AuditLog
from services.core.canonical import canonical
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

    ids: dict[str, set[str]] = field(default_factory=lambda: {rule.name: set() for rule in RULES})
    events: dict[str, Event] = field(default_factory=dict)
    history: History = field(default_factory=History)
    malformed: list[str] = field(default_factory=list)
    count: int = 0


@dataclass(frozen=True)
class State:
    """The platform's rows: ids by rule; versions: reference → stage, artifact and risk class; outbox: event id → bytes."""

    ids: dict[str, set[str]]
    versions: dict[str, tuple[str, str, str]]
    outbox: dict[str, bytes]


@dataclass(frozen=True)
class Reconciler:
    """Reads both sides; writes nothing but what the relay still has to deliver."""

    engine: Engine
    audit: AuditLog
    outbox: Outbox
    relay: Relay

    def run(self) -> dict[str, Any]:
        """{"rows", "events", "problems": [text…]}: an empty list says that both sides agree. Safe while others write.

        Raises:
            Unavailable: the log did not answer; nothing was compared.
        """
        # Rows are read before the log for "has this row an event?", and after it for "has this event a row?": what is
        # written meanwhile is then no problem on either side.
        before = self._state()
        self.relay.flush()
        seen = self._log()
        after = self._state()
        problems = list(seen.malformed)
        for rule in RULES:
            known, old, new = seen.ids[rule.name], before.ids[rule.name], after.ids[rule.name]
            problems += [f"{rule.name} {item} has no {rule.type} event" for item in sorted(old - known)]
            problems += [f"a {rule.type} event names {item}, which no {rule.name} is" for item in sorted(known - new)]
        problems += _stages(before, after, seen)
        problems += _outbox(before, after, seen)
        return {"rows": sum(map(len, after.ids.values())), "events": seen.count, "problems": problems}

    def _state(self) -> State:
        versions = registry.model_versions
        with self.engine.connect() as connection:
            return State(
                {rule.name: set(connection.execute(rule.rows).scalars()) for rule in RULES},
                {f"{row.model}@{row.number}": _version(row) for row in connection.execute(select(versions))},
                {row.id: row.event for row in connection.execute(select(self.outbox.table))},
            )

    def _log(self) -> Seen:
        seen = Seen()
        by_type = {rule.type: [r for r in RULES if r.type == rule.type] for rule in RULES}
        for event in self._events():
            seen.count += 1
            if event["source"] == self.outbox.source:
                seen.events[event["id"]] = event
            try:
                seen.history.apply(event)
                for rule in by_type.get(event["type"], []):
                    if (found := rule.id_of(event)) is not None:
                        seen.ids[rule.name].add(found)
            except (KeyError, TypeError) as error:
                # One event that we would not write must not hide what the others tell.
                seen.malformed.append(f"event {event['id']} of type {event['type']} lacks {error}")
        return seen

    def _events(self) -> Iterator[Event]:
        after = -1
        while page := self.audit.search(after=after, limit=PAGE):
            yield from (entry.event for entry in page)
            after = page[-1].index


def _version(row: Any) -> tuple[str, str, str]:
    return row.stage, row.artifact_id, row.risk_class


def _stages(before: State, after: State, seen: Seen) -> Iterator[str]:
    for reference, (stage, *_) in before.versions.items():
        known = seen.history.versions.get(reference)
        if known is None:
            yield f"model version {reference} has no model.registered event"
        elif _version(known) not in (before.versions[reference], after.versions.get(reference)):
            yield f"model version {reference} is in {stage}; the log says {known.stage} (or another artifact or risk class)"
    for reference in sorted(set(seen.history.versions) - set(after.versions)):
        yield f"a model.registered event names {reference}, which no model version is"


def _outbox(before: State, after: State, seen: Seen) -> Iterator[str]:
    for event_id in before.outbox:
        if event_id not in seen.events:
            yield f"event {event_id} is not in the log"
    for event_id, logged in seen.events.items():
        written = after.outbox.get(event_id)
        if written is None:
            yield f"the log has event {event_id}, which the platform's outbox does not have"
        elif canonical({key: value for key, value in logged.items() if key != "prevHash"}) != written:
            yield f"event {event_id} has another content in the log"
