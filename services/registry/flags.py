"""Safety flags on models, artifacts and data sets. A flag stops traffic at once; lifting one needs a signed clearance."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, Engine, insert, select, update

from services.core import dsse
from services.core.clock import Clock
from services.core.database import begin
from services.core.errors import Refused
from services.core.events import EventDraft, Subject
from services.core.ids import new_id
from services.core.objects import ObjectStore
from services.core.policy_facts import clearance_input
from services.core.statements import Clearance, Reason, Strict, Text, expect
from services.core.trustfile import TrustNow
from services.registry import tables
from services.registry.errors import UnknownFlag
from services.registry.ports import Events, Policy


class FlagOrder(Strict):
    """kind and target: model `name@number`, data set id, or artifact id."""

    kind: Literal["model", "dataset", "artifact"]
    target: Text
    reason: Reason


@dataclass(frozen=True)
class Flags:
    """Use cases over flags. resolve: kind, target → the id that the flag is kept under; raises NotFound."""

    engine: Engine
    store: ObjectStore
    events: Events
    clock: Clock
    trust: TrustNow
    policy: Policy
    resolve: Callable[[str, str], str]

    def set(self, order: FlagOrder, actor: str) -> dict[str, Any]:
        """Flags the target; traffic of what it touches stops when this is committed (the router asks every 0.3 s)."""
        target = self.resolve(order.kind, order.target)
        flag_id = new_id("flag")
        with begin(self.engine) as connection:
            found = connection.execute(_active().where((tables.flags.c.kind == order.kind) & (tables.flags.c.target == target)))
            row = found.mappings().first()
            if row is not None:
                return dict(row)
            since = self.clock() // 1000
            values = {"kind": order.kind, "target": target, "reason": order.reason, "since": since}
            connection.execute(insert(tables.flags).values(id=flag_id, set_by=actor, **values))
            subject = Subject(order.kind, target, target if target.startswith("sha256:") else None)
            self.events.emit(connection, EventDraft("quarantine.set", actor, subject, values | {"flag": flag_id}))
        return self.get(flag_id)

    def lift(self, flag_id: str, envelope_bytes: bytes, actor: str) -> dict[str, Any]:
        """Lifts a flag by a clearance that a person with the role security signed for this very flag.

        Raises:
            UnknownFlag. Refused: rule serving.clearance. Unavailable: retry.
        """
        flag = self.get(flag_id)
        envelope = dsse.parse(envelope_bytes)
        clearance = expect(Clearance, envelope.payload)
        # 1. The decision. A crash after it leaves a decision without an effect; a repeated call decides anew.
        facts = clearance_input(_fact(flag), envelope_bytes, self.trust(), now=self.clock() // 1000)
        decision = self.policy.decide("clearance", facts, Subject(flag["kind"], flag["target"]), actor)
        if decision.verdict != "pass":
            raise Refused(f"the clearance does not lift {flag_id}", decision.refusals)
        # 2. Row and event in one transaction.
        stored = self.store.put(envelope.to_bytes())
        with begin(self.engine) as connection:
            table = tables.flags
            changed = connection.execute(
                update(table).where((table.c.id == flag_id) & table.c.clearance.is_(None)).values(clearance=stored)
            )
            if changed.rowcount == 1:
                subject = Subject(flag["kind"], flag["target"])
                payload = {"flag": flag_id, "clearance": dsse.payload_digest(envelope), "reason": clearance.reason}
                self.events.emit(connection, EventDraft("quarantine.lifted", actor, subject, payload, signature_ref=stored))
        return self.get(flag_id)

    def get(self, flag_id: str) -> dict[str, Any]:
        """Raises UnknownFlag."""
        with self.engine.connect() as connection:
            row = connection.execute(select(tables.flags).where(tables.flags.c.id == flag_id)).mappings().first()
        if row is None:
            raise UnknownFlag(f"no flag {flag_id!r}: `ai-infra quarantine list` shows the active ones")
        return dict(row)

    def active(self) -> list[dict[str, Any]]:
        """Flags that are not lifted, oldest first."""
        with self.engine.connect() as connection:
            return [dict(row) for row in connection.execute(_active()).mappings()]

    def ever(self, text: str, actor: str) -> bool:
        """Whether this actor set a flag, lifted or not, for a reason that holds this text."""
        held = tables.flags.c.reason.contains(text, autoescape=True) & (tables.flags.c.set_by == actor)
        query = select(tables.flags.c.id).where(held).limit(1)
        with self.engine.connect() as connection:
            return connection.execute(query).first() is not None

    def on(self, connection: Connection, targets: Collection[tuple[str, str]]) -> list[dict[str, Any]]:
        """Active flags on any of the (kind, id) pairs, as a decision's input holds them, sorted by id. See Models.targets."""
        return _on(connection, targets)


def active_flags(engine: Engine, targets: set[tuple[str, str]]) -> list[dict[str, Any]]:
    """Active flags on any of the (kind, id) pairs, as a decision's input holds them, sorted by id."""
    with engine.connect() as connection:
        return _on(connection, targets)


def _on(connection: Connection, targets: Collection[tuple[str, str]]) -> list[dict[str, Any]]:
    rows = connection.execute(_active()).mappings().all()
    found = [_fact(dict(row)) for row in rows if (row["kind"], row["target"]) in targets]
    return sorted(found, key=lambda flag: str(flag["id"]))


def _fact(flag: Mapping[str, Any]) -> dict[str, Any]:
    return {key: flag[key] for key in ("id", "kind", "target", "reason", "since")}


def _active() -> Any:
    return select(tables.flags).where(tables.flags.c.clearance.is_(None)).order_by(tables.flags.c.since)
