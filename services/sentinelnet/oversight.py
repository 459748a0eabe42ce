"""Decides past decisions again: under the bundle that decided (replay) or under another one (simulation). Records nothing.

Always on the embedded engine: an OPA server holds one bundle, the active one, and goes on deciding by it meanwhile. A bundle that
was published is evaluated here, one that nobody signed in a process of its own (`trial`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, func, select

from services.core import rego
from services.core.bundle import Bundle, load_bundle
from services.core.canonical import parse
from services.core.errors import AiInfraError, NotFound, Unavailable
from services.core.objects import ObjectStore
from services.sentinelnet.domain import Decision, Replay, check_event, describe
from services.sentinelnet.service import SentinelNet, decision_of
from services.sentinelnet.tables import decisions
from services.sentinelnet.trial import Trial, tried

PAGE = 100
"""Decisions in one answer: a second or two of evaluation, so that a caller can show how far it is."""


@dataclass(frozen=True)
class Retrial:
    """One decision, decided again. replay: None when it could not be; problems: why not, or what was tampered with."""

    decision: Decision
    replay: Replay | None
    problems: tuple[str, ...] = ()

    @property
    def outcome(self) -> str:
        """unchanged, changed, or failed: could not be decided again, or its record is not what the log tells."""
        if self.problems or self.replay is None:
            return "failed"
        return "unchanged" if self.replay.same else "changed"

    def to_json(self) -> dict[str, Any]:
        found = self.decision.to_json()
        about = {key: found[key] for key in ("action", "subject", "actor", "at", "eventId")}
        again = Replay(self.decision.id, self.decision.policy_revision, self.decision.verdict, self.decision.verdict).to_json()
        told = again | {"now": None} if self.replay is None else self.replay.to_json()
        same = self.outcome == "unchanged"
        return told | about | {"outcome": self.outcome, "problems": list(self.problems), "same": same}


@dataclass(frozen=True)
class Page:
    """Some decisions, oldest first. counts: by outcome; remarkable: those that are not unchanged; after: where the next begins."""

    counts: Mapping[str, int]
    remarkable: list[Retrial]
    after: str | None
    total: int

    def to_json(self) -> dict[str, Any]:
        remarkable = [item.to_json() for item in self.remarkable]
        return {"counts": dict(self.counts), "decisions": remarkable, "after": self.after, "total": self.total}


@dataclass(frozen=True)
class Oversight:
    """logged: the event with this id as the audit log has it; raises NotFound."""

    sentinelnet: SentinelNet
    database: Engine
    store: ObjectStore
    logged: Callable[[str], Mapping[str, Any]]

    def replay(self, decision_id: str) -> Retrial:
        """One decision under the bundle that decided it. Raises NoSuchDecision."""
        return self._replayed(self.sentinelnet.get(decision_id))

    def replays(self, since: int = 0, after: str = "", limit: int = PAGE) -> Page:
        """A page of decisions, each under the bundle that decided it. since: epoch milliseconds; after: id of the last one seen."""
        return self._page(lambda page: [self._replayed(decision) for decision in page], since, after, limit)

    def simulate(self, bundle_tar: bytes, since: int = 0, after: str = "", limit: int = PAGE) -> Page:
        """A page of decisions under a bundle that need not be signed.

        Raises:
            BadInput: not a bundle, one that could not become active, or one that takes too much (see trial.tried).
            Unavailable: another simulation is running; retry.
        """
        bundle = load_bundle(bundle_tar)
        return self._page(lambda page: self._simulated(page, bundle), since, after, limit)

    def _page(self, retry: Callable[[list[Decision]], list[Retrial]], since: int, after: str, limit: int) -> Page:
        wanted = decisions.c.at >= since
        with self.database.connect() as connection:
            total = connection.execute(select(func.count()).select_from(decisions).where(wanted)).scalar_one()
            query = select(decisions).where(wanted & (decisions.c.id > after)).order_by(decisions.c.id).limit(limit)
            rows = connection.execute(query).all()
        counts, remarkable = {"unchanged": 0, "changed": 0, "failed": 0}, []
        for found in retry([decision_of(row) for row in rows]):
            counts[found.outcome] += 1
            if found.outcome != "unchanged":
                remarkable.append(found)
        return Page(counts, remarkable, rows[-1].id if len(rows) == limit else None, total)

    def _replayed(self, decision: Decision) -> Retrial:
        problems = self._differences(decision)
        try:
            bundle = self.sentinelnet.bundle_of(decision)
            return Retrial(decision, self._again(decision, bundle), tuple(problems))
        except (Unavailable, NotFound) as error:
            return Retrial(decision, None, (*problems, str(error)))

    def _simulated(self, page: list[Decision], bundle: Bundle) -> list[Retrial]:
        stated = [self._stored(decision, bundle) for decision in page]
        found = tried(bundle, [value for value in stated if isinstance(value, dict)])
        verdicts = iter(found.verdicts)
        return [
            Retrial(decision, None, (value,))
            if isinstance(value, str)
            else self._compared(Replay(decision.id, bundle.revision, decision.verdict, next(verdicts)), found, decision, value)
            for decision, value in zip(page, stated, strict=True)
        ]

    def _stored(self, decision: Decision, bundle: Bundle) -> dict[str, Any] | str:
        """The stored input; or why the bundle cannot decide on it."""
        if not bundle.rules_for(decision.action):
            return f"the bundle states no rule for the action {decision.action}"
        try:
            return self._input(decision)
        except AiInfraError as error:
            return str(error)

    def _compared(self, replay: Replay, trial: Trial, decision: Decision, value: Mapping[str, Any]) -> Retrial:
        return Retrial(decision, replay, tuple(self._missing(replay, trial, decision, value)))

    def _missing(self, replay: Replay, trial: Trial, decision: Decision, value: Mapping[str, Any]) -> list[str]:
        """Rules that now refuse for want of input that was not recorded then: their answer says nothing about the past."""
        try:
            before = self.sentinelnet.bundle_of(decision)
        except (Unavailable, NotFound) as error:
            return [str(error)]
        return [
            f"{rule} reads {', '.join(absent)}, which the stored input does not have"
            for rule in replay.refused_anew
            if (absent := _absent(before, trial.reads.get(rule, []), rule, value))
        ]

    def _again(self, decision: Decision, bundle: Bundle) -> Replay:
        return Replay(decision.id, bundle.revision, decision.verdict, rego.verdict_on(bundle, self._input(decision)))

    def _input(self, decision: Decision) -> dict[str, Any]:
        value: dict[str, Any] = parse(self.store.get(decision.input_digest))
        return value

    def _differences(self, decision: Decision) -> list[str]:
        """What of the row is not as its event tells it: somebody wrote into the database."""
        try:
            logged = self.logged(decision.event_id)
        except NotFound:
            return [f"its event {decision.event_id} is not in the log"]
        draft = check_event(
            decision.id, decision.action, decision.verdict, decision.policy_revision, decision.input_digest,
            decision.subject, decision.actor,
        )  # fmt: skip
        told: list[tuple[str, Any, Any]] = [
            ("actor", decision.actor, logged["actor"]),
            ("subject", decision.subject.to_json(), logged["subject"]),
            *((key, value, logged["payload"].get(key)) for key, value in draft.payload.items()),
        ]
        return [f"the row's {name} is not the one in its event" for name, mine, theirs in told if mine != theirs]


def _absent(before: Bundle, reads: list[str], rule: str, value: Mapping[str, Any]) -> list[str]:
    """What the METADATA of the rule says that it reads anew, and the stored input lacks altogether."""
    known = describe(before, rule).get("reads") or []
    return [path for path in reads if path not in known and path.split(".")[0] not in value]
