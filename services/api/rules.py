"""What the log tells of the rows of the platform database: the rules that reconciliation goes by.

Every table whose changes have events is here, with all that an event tells of its columns. Not compared, as no event tells of it:

- times, which a row and its event take from the clock one after the other;
- where evidence lies and what is in it (`envelope` of an approval, `files`, `meta`, a run's progress…): events name it by the
  digest that was signed or that the id is made of, and whoever uses it verifies that;
- what only a last event tells (`rerun_of` of a run, `decision_id` of a promotion), until there is one;
- `decided` of a promotion, which is a request until it takes effect: the decision is a row with an event of its own;
- `starting` and `calibrating` of a rollout, which moves no traffic yet: its first event is the start of its canary;
- `rollout_pairs`, answers to single probes: the next event of the rollout counts them;
- `idempotency`, answers that are kept for a week.

The outbox is compared byte by byte. The databases of router and signing proxy are their own.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from pydantic.alias_generators import to_camel
from sqlalchemy import JSON, ColumnElement, LargeBinary, Select, String, Table, Text, cast, exists, select, true

from services.core.facts import run_key
from services.core.verdict import Report
from services.registry import promotion
from services.registry.tables import (
    artifacts,
    dataset_approvals,
    datasets,
    evaluations,
    flags,
    manifests,
    model_versions,
    promotions,
)
from services.sentinelnet.domain import brief
from services.sentinelnet.tables import decisions, policies
from services.serving import domain as serving
from services.serving.tables import deployments, prediction_batches, rollouts, routes
from services.training import domain as training
from services.training.tables import runs

Event = dict[str, Any]
Value = Callable[[Event], Any]


@dataclass(frozen=True)
class Told:
    """What events of a type tell. id: of which row, None for none; columns: what is in them; makes: whether the row may be new."""

    type: str
    id: Value
    columns: Mapping[str, Value]
    makes: bool


@dataclass(frozen=True)
class Rule:
    """One kind of row.

    key: its id in events; columns: those that the table has in another form; parts: column → what of its value the events tell;
    where: leaves out rows that no event tells of yet.
    """

    name: str
    table: Table
    key: ColumnElement[Any]
    told: tuple[Told, ...]
    columns: Mapping[str, ColumnElement[Any]] = field(default_factory=dict)
    parts: Mapping[str, Callable[[Any], Any]] = field(default_factory=dict)
    where: ColumnElement[bool] = field(default_factory=true)

    @property
    def made_by(self) -> str:
        return " or ".join(dict.fromkeys(told.type for told in self.told if told.makes))

    @cached_property
    def rows(self) -> Select[Any]:
        """`id`, then each column that is told of; JSON as text, since an edit may have left anything in it."""
        shown = [cast(column, Text) if isinstance(column.type, JSON) else column for column in self._told_of.values()]
        named = zip(self._told_of, shown, strict=True)
        return select(self.key.label("id"), *(column.label(name) for name, column in named)).where(self.where)

    @cached_property
    def json(self) -> frozenset[str]:
        """The columns that hold JSON."""
        return frozenset(name for name, column in self._told_of.items() if isinstance(column.type, JSON | LargeBinary))

    @property
    def _told_of(self) -> dict[str, ColumnElement[Any]]:
        names = dict.fromkeys(name for told in self.told for name in told.columns)
        return {name: self.columns[name] if name in self.columns else self.table.c[name] for name in names}


def _subject(event: Event) -> str:
    return str(event["subject"]["id"])


def _digest(event: Event) -> Any:
    return event["subject"]["digest"]


def _of(name: str) -> Value:
    return lambda event: event[name]


def _payload(name: str) -> Value:
    return lambda event: event["payload"][name]


def _when(condition: Callable[[Event], bool], value: Value = _subject) -> Value:
    """For an id: of events whose payload is so."""
    return lambda event: value(event) if condition(event["payload"]) else None


def _constant(value: Any) -> Value:
    return lambda event: value


def _columns(same: tuple[str, ...], other: Mapping[str, Any]) -> dict[str, Value]:
    read = {name: value if callable(value) else _constant(value) for name, value in other.items()}
    return {name: _payload(to_camel(name)) for name in same} | read


def _makes(type_: str, id_of: Value, *same: str, **other: Any) -> Told:
    """same: columns that the payload has too, in camelCase; other: what gives the value of a column, or the value."""
    return Told(type_, id_of, _columns(same, other), makes=True)


def _changes(type_: str, id_of: Value, *same: str, **other: Any) -> Told:
    """As `_makes`, of a row that an event before has told of."""
    return Told(type_, id_of, _columns(same, other), makes=False)


def _at(name: ColumnElement[str], version: ColumnElement[Any]) -> ColumnElement[str]:
    """`name@version`, as events and people say it."""
    return name + "@" + cast(version, String)


_EVENT, _ACTOR, _SIGNATURE, _MANIFEST = _of("id"), _of("actor"), _of("signatureRef"), _of("manifestRef")
_EVIDENCE = ("counts", "verdict")
_routed = exists().where(
    (routes.c.stable == deployments.c.id)
    & (routes.c.environment == deployments.c.environment)
    & (routes.c.model == deployments.c.model)
)

RULES = (
    Rule(
        "data set",
        datasets,
        datasets.c.id,
        (_makes("dataset.registered", _subject, "name", "licence", "pii", "parents", registered_by=_ACTOR),),
        columns={"name": _at(datasets.c.name, datasets.c.version)},
    ),
    Rule(
        "data set approval",
        dataset_approvals,
        dataset_approvals.c.payload,
        (_makes("dataset.approved", _payload("approval"), dataset=_subject, approved_by=_ACTOR),),
    ),
    Rule(
        "artifact",
        artifacts,
        artifacts.c.id,
        (_makes("artifact.uploaded", _subject, "size", run_id=_payload("run"), uploaded_by=_ACTOR),),
    ),
    Rule(
        "run",
        runs,
        runs.c.id,
        (
            _makes(
                "train.started", _subject, "attempt", state=training.RUNNING, run_key=_digest, inputs=_digest,
                job=lambda event: [event["payload"][name] for name in ("job", "purpose")], decision_id=_payload("decision"),
                artifact_id=None, provenance=None, error=None,
            ),
            # Who retries a run is not who started it.
            _changes("train.started", _when(lambda payload: payload["attempt"] == 1), started_by=_ACTOR),
            _changes(
                "train.completed", _subject, "artifact_id", "provenance", "rerun_of", "metrics", state=training.COMPLETED,
            ),
            _changes("train.failed", _subject, "state", error=_payload("reason")),
        ),
        parts={
            "inputs": run_key,
            "job": lambda job: [job["name"], job["purpose"]],
            "metrics": lambda epochs: epochs[-1]["metrics"] if epochs else {},
        },
    ),
    Rule(
        "model version",
        model_versions,
        _at(model_versions.c.model, model_versions.c.number),
        (
            _makes(
                "model.registered", _subject, "artifact_id", "run_key", "risk_class", "signature", "provenance", "datasets",
                "ancestors", "parents", run_id=_payload("run"), registered_by=_ACTOR, stage="dev",
            ),
            _changes("promotion.completed", _subject, stage=_payload("to")),
        ),
    ),
    Rule(
        "evaluation",
        evaluations,
        evaluations.c.payload,
        (
            _makes(
                "evaluation.recorded", _payload("evaluation"), "dataset", "split", artifact_id=_digest, envelope=_SIGNATURE,
                passed=lambda event: event["payload"]["result"] == "PASSED", metrics=_payload("accuracy"),
            ),
        ),
        parts={"metrics": lambda metrics: metrics["accuracy"]},
    ),
    Rule(
        "decision",
        decisions,
        decisions.c.id,
        (
            # A refusal outside the policies is an event without a decision.
            _makes(
                "policyCheck", _when(lambda payload: "decision" in payload, _payload("decision")), "action", "verdict", "rules",
                "policy_revision", "input_digest", subject_kind=lambda event: event["subject"]["kind"], subject_id=_subject,
                subject_digest=_digest, actor=_ACTOR, event_id=_EVENT,
            ),
        ),
        parts={"rules": lambda reports: [brief(Report.from_json(report)) for report in reports]},
    ),
    Rule(
        "policy bundle",
        policies,
        cast(policies.c.version, String),
        (_makes("policy.published", _payload("version"), "revision", "bundle", "envelope", actor=_ACTOR, event_id=_EVENT),),
    ),
    Rule(
        "promotion",
        promotions,
        promotions.c.id,
        (
            _makes(
                "promotion.requested", _payload("promotion"), "request", version=_subject, to_stage=_payload("to"),
                envelope=_SIGNATURE, requested_by=_ACTOR, state=promotion.REQUESTED,
            ),
            _changes("promotion.approved", _payload("promotion"), envelope=_SIGNATURE),
            _changes("promotion.completed", _payload("promotion"), decision_id=_payload("decision"), state=promotion.COMPLETED),
        ),
        columns={"version": _at(promotions.c.model, promotions.c.number)},
        parts={"state": lambda state: promotion.REQUESTED if state == promotion.DECIDED else state},
    ),
    Rule(
        "manifest",
        manifests,
        manifests.c.payload,
        (
            _makes(
                "promotion.completed", _MANIFEST, "promotion", "bundle", version=_subject, environment=_payload("to"),
                envelope=_SIGNATURE,
            ),
        ),
        columns={"version": _at(manifests.c.model, manifests.c.number)},
    ),
    Rule(
        "flag",
        flags,
        flags.c.id,
        (
            _makes("quarantine.set", _payload("flag"), "kind", "target", "reason", "since", set_by=_ACTOR, clearance=None),
            _changes("quarantine.lifted", _payload("flag"), clearance=_SIGNATURE),
        ),
    ),
    Rule(
        "deployment",
        deployments,
        deployments.c.id,
        (
            _makes(
                "deploy.started", _when(lambda payload: "decision" in payload), "model", "number", "environment", "artifact_id",
                "replicas", manifest_ref=_MANIFEST, decision_id=_payload("decision"), created_by=_ACTOR,
                routed=lambda event: event["payload"]["role"] == "stable",
            ),
            # This one also when a quarantine is lifted.
            _changes("deploy.started", _subject, state=serving.SERVING, reason=""),
            _changes("deploy.stopped", _subject, "state", "reason"),
            _changes("deploy.stopped", _when(lambda payload: payload["state"] == serving.STOPPED), routed=False),
            _changes("rollout.completed", _payload("stable"), routed=True),
        ),
        columns={"routed": _routed},
    ),
    Rule(
        "canary",
        rollouts,
        rollouts.c.canary,
        (
            _makes(
                "deploy.started", _when(lambda payload: payload.get("role") == "canary"), "model", "environment",
                spec=_payload("number"), created_by=_ACTOR,
            ),
        ),
        parts={"spec": lambda spec: spec["number"]},
    ),
    Rule(
        "rollout",
        rollouts,
        rollouts.c.id,
        (
            _makes(
                "rollout.started", _subject, "stable", "canary", "seed", "rule", spec=_payload("steps"), state=serving.RUNNING,
                weight=lambda event: event["payload"]["steps"][0] / 100, reason="", counts=None, verdict=None, event=_EVENT,
            ),
            _changes(
                "rollout.step", _subject, *_EVIDENCE, weight=_payload("to"), event=_EVENT,
                state=lambda event: serving.UNDECIDED if "reason" in event["payload"] else serving.RUNNING,
            ),
            _changes("rollout.step", _when(lambda payload: "reason" in payload), "reason"),
            _changes(
                "rollout.extended", _subject, state=serving.RUNNING, event=_EVENT,
                reason=lambda event: f"extended by {event['actor']}: {event['payload']['reason']}",
            ),
            _changes("rollout.completed", _subject, *_EVIDENCE, "reason", state=serving.COMPLETED, weight=1.0, event=_EVENT),
            # Before any traffic too, and then without evidence.
            _makes("rollback", _subject, "canary", "state", "reason", weight=0.0, event=_EVENT),
            _changes("rollback", _when(lambda payload: "counts" in payload), *_EVIDENCE),
        ),
        parts={"spec": lambda spec: spec["steps"]},
        where=rollouts.c.state.not_in((serving.STARTING, serving.CALIBRATING)),
    ),
    Rule(
        "prediction batch",
        prediction_batches,
        cast(prediction_batches.c.id, String),
        (_makes("predictions.sealed", _payload("batch"), "root", "records", event=_EVENT),),
    ),
)  # fmt: skip
