"""Whether the platform's state and the log say the same: no row without its event, no event without its row, and in each row what
its events tell. `rules` says what they tell of which columns."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Engine, Table, select

from services.api.rules import RULES, Event, Rule
from services.audit.domain import Entry
from services.audit.service import AuditLog
from services.core.canonical import canonical
from services.core.database import snapshot
from services.core.digests import sha256
from services.core.errors import BadInput, BadJson
from services.core.events import PASSED_ON, TYPES
from services.core.outbox import Outbox, Relay

PAGE = 1000
TOLD = 100
"""Characters of a value that a problem shows."""

Facts = dict[str, Any]
"""Column → value; lists and objects as their digests, which bounds what is held of a row."""

_TOLD_BY = {type_: [(rule, told) for rule in RULES for told in rule.told if told.type == type_] for type_ in TYPES}


def _by_rule() -> dict[str, dict[str, Facts]]:
    return {rule.name: {} for rule in RULES}


@dataclass(frozen=True)
class State:
    """The platform's rows at one moment: facts by rule and id; outbox: event id → digest of its bytes; seq: the last one in it."""

    rows: dict[str, dict[str, Facts]]
    outbox: dict[str, str]
    seq: int


@dataclass
class Seen:
    """The same as the log tells it. malformed: problems of single events; count: of all entries."""

    rows: dict[str, dict[str, Facts]] = field(default_factory=_by_rule)
    outbox: dict[str, str] = field(default_factory=dict)
    malformed: list[str] = field(default_factory=list)
    count: int = 0


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
            Unavailable: the log or the database did not answer; nothing was compared.
        """
        # What the log holds by now, the state has too: an event is sent once its transaction is committed.
        size = self.audit.size()
        state = _state(self.engine, self.outbox.table)
        self.relay.flush()
        seen = self._log(size, state.seq)
        problems = list(seen.malformed)
        for rule in RULES:
            problems += _differences(rule, state.rows[rule.name], seen.rows[rule.name])
        problems += _outbox(state.outbox, seen.outbox)
        return {"rows": sum(map(len, state.rows.values())), "events": seen.count, "problems": problems}

    def _log(self, size: int, seq: int) -> Seen:
        seen = Seen()
        for entry in self._entries():
            seen.count += 1
            event, own = entry.event, entry.event["source"] == self.outbox.source
            if own and entry.index >= size and event["seq"] > seq:
                continue  # written since the state was read
            if own:
                seen.outbox[event["id"]] = sha256(canonical({key: value for key, value in event.items() if key != "prevHash"}))
            if own or event["type"] not in PASSED_ON:
                _hear(seen, event)
        return seen

    def _entries(self) -> Iterator[Entry]:
        after = -1
        while page := self.audit.search(after=after, limit=PAGE):
            yield from page
            after = page[-1].index


def _state(engine: Engine, outbox: Table) -> State:
    rows, events, seq = _by_rule(), {}, 0
    with snapshot(engine) as connection:
        for rule in RULES:
            for row in connection.execute(rule.rows).mappings():
                rows[rule.name][row["id"]] = {name: _read(rule, name, row[name]) for name in row if name != "id"}
        for row in connection.execute(select(outbox.c.seq, outbox.c.id, outbox.c.event)).mappings():
            events[row["id"]], seq = sha256(row["event"]), max(seq, row["seq"])
    return State(rows, events, seq)


def _hear(seen: Seen, event: Event) -> None:
    try:
        for rule, told in _TOLD_BY.get(event["type"], ()):
            if (item := told.id(event)) is None:
                continue
            known, facts = seen.rows[rule.name], {name: _fact(value(event)) for name, value in told.columns.items()}
            if told.makes or str(item) in known:
                known.setdefault(str(item), {}).update(facts)
            else:
                seen.malformed.append(f"event {event['id']} of type {event['type']} changes {item}, which no event before it made")
    except (KeyError, TypeError, IndexError) as error:
        # One event that we would not write must not hide what the others tell.
        seen.malformed.append(f"event {event['id']} of type {event['type']} lacks {error}")


def _differences(rule: Rule, rows: dict[str, Facts], told: dict[str, Facts]) -> Iterator[str]:
    for item in sorted(rows.keys() - told.keys()):
        yield f"{rule.name} {item} has no {rule.made_by} event"
    for item in sorted(told.keys() - rows.keys()):
        yield f"a {rule.made_by} event names {item}, which no {rule.name} is"
    for item in sorted(rows.keys() & told.keys()):
        for name, said in told[item].items():
            if (found := rows[item][name]) != said:
                yield f"{rule.name} {item}: {name} is {_short(found)}, the log says {_short(said)}"


def _outbox(written: dict[str, str], logged: dict[str, str]) -> Iterator[str]:
    for event_id, digest in written.items():
        if event_id not in logged:
            yield f"event {event_id} is not in the log"
        elif logged[event_id] != digest:
            yield f"event {event_id} has another content in the log"
    for event_id in logged.keys() - written.keys():
        yield f"the log has event {event_id}, which the platform's outbox does not have"


def _read(rule: Rule, name: str, value: Any) -> Any:
    """What a row's column says, as far as events tell of it; what an edit made unreadable, as it is."""
    try:
        if name in rule.json:
            value = json.loads(value)
        if name in rule.parts:
            value = rule.parts[name](value)
    except (BadInput, ValueError, LookupError, TypeError, RecursionError):
        return _fact(value)
    return _fact(value)


def _fact(value: Any) -> Any:
    if not isinstance(value, dict | list | bytes):
        return value
    try:
        return sha256(value if isinstance(value, bytes) else canonical(value))
    except BadJson:
        return sha256(repr(value).encode())


def _short(value: Any) -> str:
    return repr(value)[:TOLD]
