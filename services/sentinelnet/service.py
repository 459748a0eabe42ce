"""Decides by the active bundle, records before the effect, publishes bundles. Callers build the input (core.facts) and act.

Fail closed: an engine, database or store that is away raises Unavailable, and nothing was decided.
"""

import threading
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

from sqlalchemy import Connection, Engine, insert, select
from sqlalchemy.engine import Row

from services.core import dsse, rego, tracing
from services.core.bundle import Bundle, load_bundle, to_tar
from services.core.canonical import canonical, parse
from services.core.clock import Clock
from services.core.database import begin
from services.core.errors import BadInput, Conflict
from services.core.events import Subject
from services.core.ids import new_id
from services.core.objects import ObjectStore
from services.core.outbox import Outbox, Relay
from services.core.policy_facts import publish_input
from services.core.rego import EvaluationFailed
from services.core.statements import PolicyBundle, expect
from services.core.trust import Trust
from services.core.verdict import Report, Verdict, decide
from services.sentinelnet.domain import Decision, Published, check_event, describe, published_event
from services.sentinelnet.errors import Denied, NoSuchDecision, PolicyChanged, PolicyUnavailable
from services.sentinelnet.ports import PolicyEngine
from services.sentinelnet.refusals import Refusals
from services.sentinelnet.tables import decisions, policies

BUNDLES_KEPT = 8
_NEWEST = select(policies).order_by(policies.c.version.desc()).limit(1)


class SentinelNet:
    """The one place that asks the policies.

    trust: gives the trust of now; relay: carries events to the log, for decisions that must be in it.
    """

    def __init__(
        self,
        *,
        engine: PolicyEngine,
        database: Engine,
        store: ObjectStore,
        outbox: Outbox,
        relay: Relay,
        trust: Callable[[], Trust],
        clock: Clock,
    ) -> None:
        self._engine, self._database, self._store = engine, database, store
        self._outbox, self._relay, self._trust, self._clock = outbox, relay, trust, clock
        self._bundles: dict[tuple[str, int, str], Bundle] = {}
        self._refusals = Refusals(clock)
        self._lock = threading.Lock()

    def decide(
        self, action: str, facts: Mapping[str, Any], subject: Subject, actor: str, *, logged: bool = False
    ) -> Decision:
        """The recorded decision; `require_pass()` on it raises Denied.

        Args:
            facts: the input without `action`; `policyRevision` in it, if any, is the revision it was built for.
            subject: what it is about; actor: SPIFFE URI of who wants it.
            logged: wait until its event is in the audit log.
        Raises:
            PolicyUnavailable: engine away or no bundle published. Nothing was recorded; retry.
            PolicyChanged: another bundle became active. Nothing was recorded; build the input again.
            Unavailable: database, store or (with `logged`) the log is away; retry. Only with `logged` may the decision stand.
        """
        with tracing.step("policy decision", action=action):
            published = self.active()
            return self._record(action, facts, subject, actor, self._bundle(published), published, logged)

    def authorise(self, actor: str, operation: str) -> None:
        """Whether the actor may do this, by the roles that trust gives it.

        A pass is not recorded: the write that follows has an event with the same actor. A refusal is, up to a number a minute;
        further ones are counted, and the count is in the next recorded one (see refusals).
        Raises:
            Denied: a rule says no.
            PolicyUnavailable, PolicyChanged, Unavailable: see decide.
        """
        verdict, _ = self.check("authz", self._authz(actor, operation))
        if verdict.passed:
            return
        if self._refusals.record(actor, operation):
            self._record_refusal(actor, operation).require_pass()
        raise Denied(f"authz of {operation}: {verdict.verdict} by {verdict.told} (counted in the log)", verdict.refusals)

    def tell_refusals(self, *, all_of_them: bool = False) -> None:
        """Records refusals that were only counted, once their minute is over. Raises as decide; what was not told is told later."""
        for actor, operation in self._refusals.due(all_of_them=all_of_them):
            self._record_refusal(actor, operation)

    def check(self, action: str, facts: Mapping[str, Any]) -> tuple[Verdict, str]:
        """What decide would say, and the revision that says it. Nothing is recorded."""
        published = self.active()
        return self._verdict(self._bundle(published), _input(action, facts)), published.revision

    def get(self, decision_id: str) -> Decision:
        """Raises NoSuchDecision."""
        with self._database.connect() as connection:
            row = connection.execute(select(decisions).where(decisions.c.id == decision_id)).first()
        if row is None:
            raise NoSuchDecision(f"no decision {decision_id[:100]!r}: `ai-infra policy list` shows the newest")
        return decision_of(row)

    def recent(self, limit: int = 50, subject: str | None = None) -> list[Decision]:
        """The newest decisions first. subject: only those on the thing with this id."""
        query = select(decisions).order_by(decisions.c.id.desc()).limit(limit)
        if subject is not None:
            query = query.where(decisions.c.subject_id == subject)
        with self._database.connect() as connection:
            return [decision_of(row) for row in connection.execute(query)]

    def explain(self, decision_id: str) -> dict[str, Any]:
        """The decision, its input, and what each of its rules is for (title, description, owner, runbook)."""
        decision = self.get(decision_id)
        bundle = self.bundle_of(decision)
        rules = [report.to_json() | describe(bundle, report.rule) for report in decision.verdict.reports]
        return decision.to_json() | {"rules": rules, "input": parse(self._store.get(decision.input_digest))}

    def active(self, connection: Connection | None = None) -> Published:
        """The active bundle's record. connection: of the transaction in which it has to be the active one.

        Raises:
            PolicyUnavailable: none was published yet.
        """
        with nullcontext(connection) if connection is not None else self._database.connect() as reading:
            row = _newest(reading)
        if row is None:
            raise PolicyUnavailable("no policy bundle is published: run `ai-infra policy publish`")
        return _published(row)

    def active_bundle(self) -> Bundle:
        """The modules and data that decide now."""
        return self._bundle(self.active())

    def publish(self, bundle_tar: bytes, envelope: bytes, actor: str) -> Published:
        """Makes a bundle the active one. The same bundle and version again answers what is recorded.

        The active bundle decides on its successor; the first one decides on itself (trust names its signers all the same).
        Args:
            envelope: DSSE envelope of a PolicyBundle statement, signed by a person of trust's policySigners.
        Raises:
            BadInput: not a bundle, not one that every engine can evaluate, or not such an envelope.
            Denied: rule signing.bundle, recorded.
            Conflict: another bundle took this version or a later one meanwhile.
            PolicyUnavailable, PolicyChanged, Unavailable: see decide.
        """
        bundle = load_bundle(bundle_tar)
        with self._database.connect() as connection:
            row = _newest(connection)
        before = _published(row) if row is not None else None
        known = (before.revision, before.version) if before else None
        facts = publish_input(bundle, envelope, self._trust(), active=known, now=self._clock() // 1000)
        # A bundle can end or stop the engine, and with it this process: only one that security signed gets there.
        if facts["signature"] is not None and facts["statement"]["revision"] == bundle.revision:
            rego.check_bundle(bundle)
        version: int = facts["statement"]["version"]
        if before and (before.revision, before.version) == (bundle.revision, version) == (facts["statement"]["revision"], version):
            return before
        subject = Subject("policy", f"policies@{version}", bundle.revision)
        # 1. The decision, by the bundle that is still active. A crash after it leaves a decision without an effect.
        judge = self._bundle(before) if before else bundle
        decision = self._record("publish", facts, subject, actor, judge, before, False).require_pass()
        # 2. The objects. A crash after this leaves them unreferenced: harmless.
        made: dict[str, Any] = {
            "version": version,
            "revision": bundle.revision,
            "bundle": self._store.put(to_tar(bundle)),
            "envelope": self._store.put(envelope),
        }
        # 3. Row and event in one transaction. From here the bundle is active, even if we crash.
        with begin(self._database) as connection:
            # The event first: it takes the writers' lock, so what is newest cannot change after we look.
            event_id = self._outbox.emit(connection, published_event(made, decision.id, actor))
            newest = _newest(connection)
            if newest is not None and newest.version >= version:
                raise Conflict(f"version {newest.version} of the policies was published meanwhile: sign a later one")
            row_values = made | {"actor": actor, "at": self._clock(), "event_id": event_id}
            connection.execute(insert(policies).values(**row_values))
        return Published(**row_values)

    def _authz(self, actor: str, operation: str) -> dict[str, Any]:
        person = next((person for person in self._trust().people if person.person == actor), None)
        return {"actor": actor, "roles": sorted(person.roles) if person else [], "operation": operation}

    def _record_refusal(self, actor: str, operation: str) -> Decision:
        published, subject = self.active(), Subject("operation", operation)
        facts, bundle = self._authz(actor, operation), self._bundle(published)
        with self._refusals.counted(actor) as suppressed:
            return self._record("authz", facts, subject, actor, bundle, published, False, suppressed)

    def _record(
        self,
        action: str,
        facts: Mapping[str, Any],
        subject: Subject,
        actor: str,
        bundle: Bundle,
        active: Published | None,
        logged: bool,
        suppressed: int = 0,
    ) -> Decision:
        value = _input(action, facts)
        if value.get("policyRevision", bundle.revision) != bundle.revision:
            raise PolicyChanged(f"the input was built for policy {value['policyRevision']}, {bundle.revision} is active")
        # 1. Evaluate. An engine that is away stops us here, with nothing written.
        verdict = self._verdict(bundle, value)
        # 2. Store the input. A crash after it leaves an unreferenced object: harmless.
        digest = self._store.put(canonical(value))
        decision_id = new_id("dec")
        event = check_event(decision_id, action, verdict, bundle.revision, digest, subject, actor, suppressed)
        # 3. Decision and event in one transaction. From here the decision stands; the effect is the caller's, after it.
        with begin(self._database) as connection:
            # The event first: it takes the writers' lock, so what is newest cannot change after we look.
            event_id = self._outbox.emit(connection, event)
            newest = _newest(connection)
            if (newest.version if newest is not None else None) != (active.version if active else None):
                raise PolicyChanged("another policy bundle became active meanwhile")
            at = self._clock()
            connection.execute(
                insert(decisions).values(
                    id=decision_id,
                    action=action,
                    verdict=verdict.verdict,
                    rules=canonical(verdict.rules_json()),
                    policy_revision=bundle.revision,
                    input_digest=digest,
                    subject_kind=subject.kind,
                    subject_id=subject.id,
                    subject_digest=subject.digest,
                    actor=actor,
                    at=at,
                    event_id=event_id,
                )
            )
        # 4. In the log, where the caller needs that. When this raises, the decision stands and its event goes later.
        if logged:
            self._relay.wait_for([event_id])
        return Decision(
            id=decision_id,
            action=action,
            verdict=verdict,
            policy_revision=bundle.revision,
            input_digest=digest,
            subject=subject,
            actor=actor,
            at=at,
            event_id=event_id,
        )

    def _verdict(self, bundle: Bundle, value: Mapping[str, Any]) -> Verdict:
        expected = bundle.rules_for(value["action"])
        try:
            with tracing.step("policy evaluation"):
                result = self._engine.evaluate(bundle, value)
            return decide(result, expected)
        except EvaluationFailed as error:
            return decide(None, expected, str(error))

    def bundle_of(self, decision: Decision) -> Bundle:
        """The bundle that made a decision. Raises as published_for; NotFound: its object is gone."""
        return self._bundle(self.published_for(decision))

    def published_for(self, decision: Decision) -> Published:
        """The publication that was active when a decision was made; for a first bundle, which decided on itself, its own.

        Raises:
            PolicyUnavailable: it decided as a first bundle whose publication then broke off.
        """
        revision = policies.c.revision == decision.policy_revision
        query = select(policies).where(revision).order_by(policies.c.version)
        with self._database.connect() as connection:
            rows = connection.execute(query).all()
        before = [row for row in rows if row.at <= decision.at]
        if not rows:
            raise PolicyUnavailable(f"policy bundle {decision.policy_revision} decided, but its publication broke off")
        row = before[-1] if before else rows[0]
        return _published(row)

    def _bundle(self, published: Published) -> Bundle:
        key = (published.revision, published.version, published.envelope)
        known = self._bundles.get(key)
        if known is not None:
            return known
        bundle = load_bundle(self._store.get(published.bundle))
        if bundle.revision != published.revision:
            raise PolicyUnavailable(f"the stored bundle {published.bundle} is not revision {published.revision}: restore it")
        self._require_signed(published)
        with self._lock:
            while len(self._bundles) >= BUNDLES_KEPT:
                self._bundles.pop(next(iter(self._bundles)))
            self._bundles[key] = bundle
        return bundle

    def _require_signed(self, published: Published) -> None:
        """A row is not believed: a bundle decides because security signed it, with a key that was valid at its place in the log."""
        held = dsse.parse(self._store.get(published.envelope))
        statement = expect(PolicyBundle, held.payload)
        outbox = self._outbox.table
        with self._database.connect() as connection:
            index = connection.execute(select(outbox.c.log_index).where(outbox.c.id == published.event_id)).scalar()
        signers = dsse.verified_signers(held, self._trust().policy_keys(index))
        if not signers or (statement.revision, statement.version) != (published.revision, published.version):
            raise PolicyUnavailable(f"version {published.version} of the policies is not signed by security: restore the row")


def _input(action: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    if facts.get("action", action) != action:
        raise BadInput(f"the input is for action {facts['action']!r}, not {action!r}")
    return {**facts, "action": action}


def _newest(connection: Connection) -> Row[Any] | None:
    return connection.execute(_NEWEST).first()


def _published(row: Row[Any]) -> Published:
    return Published(**row._mapping)


def decision_of(row: Row[Any]) -> Decision:
    """A row of the table of decisions."""
    reports = tuple(Report.from_json(item) for item in parse(row.rules))
    return Decision(
        id=row.id,
        action=row.action,
        verdict=Verdict(row.verdict, reports),
        policy_revision=row.policy_revision,
        input_digest=row.input_digest,
        subject=Subject(row.subject_kind, row.subject_id, row.subject_digest),
        actor=row.actor,
        at=row.at,
        event_id=row.event_id,
    )
