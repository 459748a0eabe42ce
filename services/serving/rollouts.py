"""Rollouts: moves traffic to another version step by step, and back when the test says so.

`advance` is one look at one rollout. All it knows is stored, so any process that owns the database continues after a crash: a
transition and its events are one transaction, guarded by the state that it started from.
"""

import logging
import math
import os
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, RowMapping, func, insert, select, update

from services.core.database import begin
from services.core.errors import BadInput, Unavailable
from services.core.events import EventDraft, Subject
from services.core.ids import new_id
from services.core.tls import service_id
from services.serving import canary, tables
from services.serving.canary import Counts, Rule, Verdict
from services.serving.domain import (
    ABORTED,
    ACTIVE,
    CALIBRATING,
    COMPLETED,
    ROLLED_BACK,
    RUNNING,
    SERVING,
    STARTING,
    UNDECIDED,
    Pair,
    Probe,
    Reference,
    RolloutSpec,
)
from services.serving.errors import AlreadyServed, NotUndecided, Quarantined, RolloutRunning, UnknownDeployment, UnknownRollout
from services.serving.ports import GoldenProbes
from services.serving.service import Serving

log = logging.getLogger(__name__)

START_TIMEOUT_MS = 60_000
MIN_BLOCKS = 4
"""Fewer blocks of calibration requests say nothing about dispersion, which is then taken as 1 and recorded as not measured."""


@dataclass(frozen=True)
class Rollouts:
    """Use cases over rollouts. probes are read once for each rollout and kept; seen: requests of a step, at the last look."""

    serving: Serving
    golden: GoldenProbes
    _probes: dict[str, list[Probe]] = field(default_factory=dict)
    _seen: dict[tuple[str, int], int] = field(default_factory=dict)

    def start(self, spec: RolloutSpec, actor: str) -> dict[str, Any]:
        """Begins a rollout: the canary's predictors start, and traffic follows once they are ready and stable is calibrated. The
        same order again, while it runs, answers the rollout.

        Raises:
            UnknownDeployment: nothing of this model serves there yet. RolloutRunning. AlreadyServed: it has the traffic. BadInput:
            the golden probes cannot be read, or the backend cannot mirror. Refused: SentinelNet says no. Unavailable: retry.
        """
        if spec.mirror > 0 and not self.serving.backend.mirrors:
            raise BadInput("mirror: this serving backend cannot send a request to both versions: name golden probes instead")
        stable = self._stable(spec)
        if spec.golden is not None and not self.golden.probes(spec.golden):
            raise BadInput(f"the split {spec.golden.split!r} of {spec.golden.dataset} has no rows")
        serving = self.serving
        servable, decision = serving.authorise(spec.model, spec.number, spec.environment, actor)
        rollout = new_id("rol")
        with begin(serving.engine) as connection:
            if (known := self._known(connection, spec, actor)) is not None:
                return self._told(known)
            deployed = serving.insert(connection, servable, decision, stable["replicas"], actor, role="canary")
            values = {
                "id": rollout,
                "model": spec.model,
                "environment": spec.environment,
                "stable": stable["id"],
                "canary": deployed,
                "spec": spec.to_json(),
                "state": STARTING,
                "since": serving.clock(),
                "step": 0,
                "weight": 0.0,
                "seed": os.urandom(32).hex(),
                "reason": "",
                "created_by": actor,
                "created_at": serving.clock(),
            }
            connection.execute(insert(tables.rollouts).values(**values))
        return self.get(rollout)

    def abort(self, rollout: str, reason: str, actor: str) -> dict[str, Any]:
        """A person ends a rollout: all traffic goes back to stable. One that ended already is answered as it is."""
        row = self._row(rollout)
        if row["state"] in ACTIVE:
            self._roll_back(row, ABORTED, reason, None, actor)
        return self.get(rollout)

    def complete(self, rollout: str, reason: str, actor: str) -> dict[str, Any]:
        """A person takes an undecided canary into all traffic, and answers for what the test could not clear. The same order again
        answers the rollout.

        Raises:
            NotUndecided: it still runs, or has ended: only what the test leaves open is a person's to decide. RolloutRunning: it
            changed in between.
        """
        row, why = self._row(rollout), f"completed by {actor}: {reason}"
        if (row["state"], row["reason"]) != (COMPLETED, why):
            _require_undecided(row)
            self._complete(row, Counts.from_json(row["counts"]), Verdict.from_json(row["verdict"]), why, actor)
        return self.get(rollout)

    def extend(self, rollout: str, requests: int, seconds: float, reason: str, actor: str) -> dict[str, Any]:
        """A person gives an undecided rollout more requests and time; its rule stays. The same order again, until the next step,
        answers the rollout. Raises NotUndecided, RolloutRunning; BadInput: more requests than a step may have."""
        row, why = self._row(rollout), f"extended by {actor}: {reason}"
        if (row["state"], row["reason"]) == (RUNNING, why) and row["spec"] == _longer(row, requests, seconds):
            return self.get(rollout)
        _require_undecided(row)
        with begin(self.serving.engine) as connection:
            payload = {"rollout": rollout, "requests": requests, "seconds": int(seconds), "reason": reason, "seed": row["seed"]}
            event = self._emit(connection, row, "rollout.extended", payload | _evidence_of(row), actor)
            values = {"state": RUNNING, "reason": why, "event": event, "spec": _longer(row, requests, seconds)}
            self._change(connection, row, **values)
        return self.get(rollout)

    def get(self, rollout: str) -> dict[str, Any]:
        """The record, and `requests`: finished in the present step by both versions, null while none are compared. Raises
        UnknownRollout."""
        return self._told(self._row(rollout))

    def all(self) -> list[dict[str, Any]]:
        """Every rollout, oldest first."""
        table = tables.rollouts
        with self.serving.engine.connect() as connection:
            return [self._told(row) for row in connection.execute(select(table).order_by(table.c.id)).mappings()]

    def _told(self, row: RowMapping) -> dict[str, Any]:
        compares = row["state"] in (RUNNING, UNDECIDED)
        return dict(row) | {"requests": self._seen.get((row["id"], row["step"])) if compares else None}

    def active(self) -> list[str]:
        """Ids of those that `advance` has work on."""
        table = tables.rollouts
        with self.serving.engine.connect() as connection:
            return list(connection.execute(select(table.c.id).where(table.c.state.in_(ACTIVE))).scalars())

    def explain(self, rollout: str) -> dict[str, Any]:
        """The verdict of the last event, recomputed from that event's counts and rule. Raises UnknownRollout."""
        row = self._row(rollout)
        about = {"rollout": rollout, "state": row["state"], "reason": row["reason"], "event": row["event"], "rule": row["rule"]}
        if row["verdict"] is None:
            return about | {"counts": None, "verdict": None, "recorded": None, "agrees": None}
        payload = {"rule": row["rule"], "counts": row["counts"], "verdict": row["verdict"]}
        return about | {"counts": row["counts"]} | canary.explain(payload)

    def advance(self, rollout: str) -> None:
        """One look: at most one transition. Raises Unavailable: the backend is away; nothing changed; look again later."""
        row = self._row(rollout)
        if row["state"] == STARTING:
            self._await_canary(row)
        elif row["state"] == CALIBRATING:
            self._calibrate(row)
        elif row["state"] in (RUNNING, UNDECIDED):
            self._look(row)

    def _await_canary(self, row: RowMapping) -> None:
        health = self.serving.backend.health(row["canary"])
        waited = self.serving.clock() - row["since"]
        if health.refused:
            self._roll_back(row, ROLLED_BACK, f"the canary does not load: {health.refused}", None)
        elif health.ready > 0:
            with begin(self.serving.engine) as connection:
                self._change(connection, row, state=CALIBRATING)
        elif waited > START_TIMEOUT_MS:
            self._roll_back(row, ROLLED_BACK, f"no predictor of the canary was ready within {waited // 1000} s", None)

    def _calibrate(self, row: RowMapping) -> None:
        spec = RolloutSpec.from_json(row["spec"])
        reference = self.serving.backend.reference(row["stable"])
        waited = self.serving.clock() - row["since"]
        if len(reference.replicas) < spec.calibration_requests and waited < spec.calibration_s * 1000:
            return
        rule, measured = make_rule(spec, reference)
        payload = {
            "rollout": row["id"],
            "model": row["model"],
            "number": spec.number,
            "environment": row["environment"],
            "stable": row["stable"],
            "canary": row["canary"],
            "steps": spec.steps,
            "seed": row["seed"],
            "warmUp": spec.warm_up,
            "rule": rule.to_json(),
            "measuredOn": measured,
            "golden": None if spec.golden is None else spec.golden.to_json(),
        }
        with begin(self.serving.engine) as connection:
            event = self._emit(connection, row, "rollout.started", payload)
            self._change(connection, row, state=RUNNING, weight=spec.weights[0], rule=rule.to_json(), event=event)

    def _look(self, row: RowMapping) -> None:
        spec, rule = RolloutSpec.from_json(row["spec"]), Rule.from_json(row["rule"])
        try:
            answered = self._ask_probes(row, spec)
        except Unavailable as error:
            # A canary that hangs answers no probe either: what its traffic showed is judged all the same.
            log.info("rollout %s: its probes wait: %s", row["id"], error)
            answered = []
        if answered:
            # A crash before this asks the same probes again: they still count once.
            with begin(self.serving.engine) as connection:
                connection.execute(insert(tables.rollout_pairs), answered)
        counts = self._counts(row)
        verdict = canary.judge(rule, counts)
        if verdict.rollback:
            self._roll_back(row, ROLLED_BACK, _cause(verdict), (counts, verdict))
            return
        finished = next((phase.requests for phase in counts.phases if phase.weight == row["weight"]), 0)
        self._seen[row["id"], row["step"]] = finished
        enough, following = finished >= spec.min_requests_per_step, row["step"] + 1
        late = self.serving.clock() - row["since"] >= spec.max_step_s * 1000
        if enough and following < len(spec.steps) - 1:
            self._step(row, spec, following, counts, verdict)
        elif enough and verdict.cleared:
            self._complete(row, counts, verdict, "cleared by every measure", service_id("api"))
        elif row["state"] == RUNNING and (late or finished >= spec.max_requests_per_step):
            little = f"{finished} requests in {spec.max_step_s:g} s are too little traffic; "
            self._hold(row, counts, verdict, "" if enough else little)

    def _ask_probes(self, row: RowMapping, spec: RolloutSpec) -> list[dict[str, Any]]:
        """Rows of the next golden probes, which both versions answered. Each counts once, also after a restart: the table's key
        says so."""
        if spec.golden is None or "quality" not in spec.compares:
            return []
        if row["id"] not in self._probes:
            self._probes[row["id"]] = self.golden.probes(spec.golden)
        table = tables.rollout_pairs
        with self.serving.engine.connect() as connection:
            known = set(connection.execute(select(table.c.probe).where(table.c.rollout == row["id"])).scalars())
        todo = [probe for probe in self._probes[row["id"]] if probe.id not in known][: spec.golden.at_once]
        pairs = self.serving.backend.answer(row["id"], todo) if todo else []
        return [_pair_row(row["id"], probe, pair) for probe, pair in _matched(todo, pairs)]

    def _counts(self, row: RowMapping) -> Counts:
        seen = self.serving.backend.counts(row["id"])
        return Counts(seen.phases, self._pairs(row["id"]), seen.mirrored, seen.mirrored_errors)

    def _pairs(self, rollout: str) -> tuple[tuple[str, int, int, int], ...]:
        table = tables.rollout_pairs
        kinds = (table.c.label, table.c.stable_right, table.c.canary_right)
        query = select(*kinds, func.count()).where(table.c.rollout == rollout).group_by(*kinds)
        classes: dict[str, list[int]] = {}
        with self.serving.engine.connect() as connection:
            for label, stable_right, canary_right, count in connection.execute(query):
                found = classes.setdefault(label, [0, 0, 0])
                found[0] += count
                found[1] += count * (stable_right and not canary_right)
                found[2] += count * (canary_right and not stable_right)
        return tuple((label, n, b, c) for label, (n, b, c) in sorted(classes.items()))

    def _step(self, row: RowMapping, spec: RolloutSpec, step: int, counts: Counts, verdict: Verdict) -> None:
        with begin(self.serving.engine) as connection:
            payload = {"rollout": row["id"], "from": row["weight"], "to": spec.weights[step], "seed": row["seed"]}
            event = self._emit(connection, row, "rollout.step", payload | _evidence(row, counts, verdict))
            self._change(
                connection, row, state=RUNNING, since=self.serving.clock(), step=step, weight=spec.weights[step], event=event,
                counts=counts.to_json(), verdict=verdict.to_json(),
            )

    def _hold(self, row: RowMapping, counts: Counts, verdict: Verdict, why: str) -> None:
        """Neither worse nor cleared after the most requests or time allowed: never `passed`. Weight stays; looking goes on."""
        open_measures = [name for name, value in verdict.log_clear.items() if value < math.log(canary.CLEAR_AT)]
        left = f"not cleared: {', '.join(open_measures)}" if open_measures else "not every step was taken"
        reason = f"{why}{left}; abort, extend or complete it, or leave it to see more requests"
        with begin(self.serving.engine) as connection:
            payload = {"rollout": row["id"], "from": row["weight"], "to": row["weight"], "seed": row["seed"], "reason": reason}
            event = self._emit(connection, row, "rollout.step", payload | _evidence(row, counts, verdict))
            self._change(
                connection, row, state=UNDECIDED, reason=reason, event=event,
                counts=counts.to_json(), verdict=verdict.to_json(),
            )

    def _complete(self, row: RowMapping, counts: Counts, verdict: Verdict, reason: str, actor: str) -> None:
        with begin(self.serving.engine) as connection:
            payload = {"rollout": row["id"], "stable": row["canary"], "before": row["stable"], "seed": row["seed"]}
            more = {"reason": reason} | _evidence(row, counts, verdict)
            event = self._emit(connection, row, "rollout.completed", payload | more, actor)
            self._change(
                connection, row, state=COMPLETED, step=row["step"] + 1, weight=1.0, reason=reason,
                event=event, counts=counts.to_json(), verdict=verdict.to_json(),
            )
            route = tables.routes
            connection.execute(update(route).where(route.c.stable == row["stable"]).values(stable=row["canary"]))
            self.serving.stop(connection, row["stable"], f"replaced by rollout {row['id']}", actor)

    def _roll_back(
        self, row: RowMapping, state: str, reason: str, seen: tuple[Counts, Verdict] | None, actor: str = ""
    ) -> None:
        actor = actor or service_id("api")
        evidence = {} if seen is None else _evidence(row, *seen)
        with begin(self.serving.engine) as connection:
            payload = {"rollout": row["id"], "reason": reason, "state": state, "canary": row["canary"], "seed": row["seed"]}
            event = self._emit(connection, row, "rollback", payload | evidence, actor)
            values = {"state": state, "weight": 0.0, "reason": reason, "event": event}
            if seen is not None:
                values |= {"counts": seen[0].to_json(), "verdict": seen[1].to_json()}
            self._change(connection, row, **values)
            self.serving.stop(connection, row["canary"], reason, actor)

    def _emit(
        self, connection: Connection, row: RowMapping, kind: str, payload: dict[str, Any], actor: str = ""
    ) -> str:
        draft = EventDraft(kind, actor or service_id("api"), Subject("rollout", row["id"]), payload)
        return self.serving.events.emit(connection, draft)

    def _change(self, connection: Connection, row: RowMapping, **values: Any) -> None:
        """Writes a transition, if the rollout is still in the state that it was decided on."""
        table = tables.rollouts
        unchanged = (table.c.id == row["id"]) & (table.c.state == row["state"]) & (table.c.step == row["step"])
        if values.get("state", row["state"]) != row["state"]:
            values["since"] = self.serving.clock()
        if connection.execute(update(table).where(unchanged).values(**values)).rowcount != 1:
            raise RolloutRunning(f"rollout {row['id']} changed in between")

    def _stable(self, spec: RolloutSpec) -> dict[str, Any]:
        route = tables.routes
        query = select(route.c.stable).where((route.c.model == spec.model) & (route.c.environment == spec.environment))
        with self.serving.engine.connect() as connection:
            found = connection.execute(query).scalar()
        if found is None:
            raise UnknownDeployment(f"no version of {spec.model} serves in {spec.environment}: deploy one first")
        stable = self.serving.get(found)
        if stable["number"] == spec.number:
            raise AlreadyServed(f"{spec.model}@{spec.number} serves in {spec.environment} already")
        if stable["state"] != SERVING:
            raise Quarantined(f"{spec.model}@{stable['number']} is {stable['state']}: {stable['reason']}")
        return stable

    def _known(self, connection: Connection, spec: RolloutSpec, actor: str) -> RowMapping | None:
        """The rollout that the same person started with the same words: the answer was lost. Raises RolloutRunning: another one."""
        table = tables.rollouts
        same = (table.c.model == spec.model) & (table.c.environment == spec.environment)
        row = connection.execute(select(table).where(same & table.c.state.in_(ACTIVE))).mappings().first()
        if row is None or (row["spec"], row["created_by"]) == (spec.to_json(), actor):
            return row
        raise RolloutRunning(f"rollout {row['id']} of {spec.model} runs in {spec.environment}: wait for it or abort it")

    def _row(self, rollout: str) -> RowMapping:
        table = tables.rollouts
        with self.serving.engine.connect() as connection:
            row = connection.execute(select(table).where(table.c.id == rollout)).mappings().first()
        if row is None:
            raise UnknownRollout(f"no rollout {rollout[:100]!r}: `ai-infra rollout list` shows those there are")
        return row


def make_rule(spec: RolloutSpec, reference: Reference) -> tuple[Rule, dict[str, Any]]:
    """The rule of a rollout, fixed before its first canary request, and on how much it was measured."""
    shared = [latency for latency, _ in reference.replicas]
    latencies = shared if len(shared) >= spec.calibration_requests else list(reference.latencies)
    enough = len(latencies) >= canary.MIN_REFERENCE
    edges = canary.latency_edges(latencies) if enough else []
    ratios = canary.latency_ratios(edges, latencies) if enough else []
    blocks = canary.slow_blocks(reference.replicas)
    calm = canary.dispersion(blocks) if len(blocks) >= MIN_BLOCKS else 1.0
    rule = Rule(
        measures=tuple(spec.compares),
        alpha=spec.alpha,
        margins=spec.margins.to_json(),
        edges=tuple(edges),
        ratios=tuple(tuple(row) for row in ratios),
        dispersion=calm,
        tolerance=spec.latency_tolerance,
        labelled=spec.golden is not None,
        mirrored=spec.mirror > 0,
    )
    return rule, {"latencies": len(latencies), "dispersionRequests": len(reference.replicas) if len(blocks) >= MIN_BLOCKS else 0}


def _require_undecided(row: RowMapping) -> None:
    if row["state"] != UNDECIDED:
        raise NotUndecided(f"rollout {row['id']} is {row['state']}: only an undecided one is for a person to complete or extend")


def _longer(row: RowMapping, requests: int, seconds: float) -> dict[str, Any]:
    """The order of a rollout, with so much more than what its step had seen at the last verdict."""
    finished = sum(phase.requests for phase in Counts.from_json(row["counts"]).phases if phase.weight == row["weight"])
    more = {"max_requests_per_step": finished + requests, "max_step_s": seconds}
    # Read back: a copy is not held to the limits, and an order over them could never be looked at again.
    return RolloutSpec.from_json(RolloutSpec.from_json(row["spec"]).model_copy(update=more).to_json()).to_json()


def _evidence(row: RowMapping, counts: Counts, verdict: Verdict) -> dict[str, Any]:
    """What `explain` recomputes the verdict from; a third party needs the event alone."""
    return {"rule": row["rule"], "counts": counts.to_json(), "verdict": verdict.to_json()}


def _evidence_of(row: RowMapping) -> dict[str, Any]:
    """The same, of the last verdict."""
    return {"rule": row["rule"], "counts": row["counts"], "verdict": row["verdict"]}


def _cause(verdict: Verdict) -> str:
    return f"{verdict.cause} regressed: log E = {verdict.log_e[verdict.cause]:.1f}"


def _matched(probes: list[Probe], pairs: list[Pair]) -> list[tuple[Probe, Pair]]:
    by_id = {pair.probe: pair for pair in pairs}
    return [(probe, by_id[probe.id]) for probe in probes if probe.id in by_id]


def _pair_row(rollout: str, probe: Probe, pair: Pair) -> dict[str, Any]:
    return {
        "rollout": rollout,
        "probe": probe.id,
        "label": probe.label,
        "stable_right": pair.stable == probe.label,
        "canary_right": pair.canary == probe.label,
    }
