"""Model versions and their evaluations."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field
from sqlalchemy import BindParameter, Connection, Engine, Row, bindparam, insert, select

from services.core import oms
from services.core.clock import Clock
from services.core.database import begin
from services.core.digests import sha256
from services.core.errors import AiInfraError, BadInput
from services.core.events import EventDraft, Subject
from services.core.objects import ObjectStore
from services.core.statements import Evaluation, RiskClass, Strict
from services.core.trustfile import TrustNow
from services.registry import tables
from services.registry.artifacts import Artifacts
from services.registry.datasets import Datasets
from services.registry.errors import AlreadyRegistered, UnknownModel
from services.registry.ports import Evaluator, Events, Measured, Run, Runs, Signing

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
BUILDER_KEY = "builder"
EVALUATOR_KEY = "evaluator"
RISK_RULE, TREE_RULE = "registration.risk-class", "registration.artifact"
"""Names under which a registration is refused."""

_VERSIONS = tables.model_versions
_MODEL: BindParameter[str] = bindparam("model")
# Made once: putting a statement together costs more than the database takes to answer it.
_VERSION = select(_VERSIONS).where((_VERSIONS.c.model == _MODEL) & (_VERSIONS.c.number == bindparam("number")))
_INSERT = insert(_VERSIONS)
_LAST = select(_VERSIONS.c.number).where(_VERSIONS.c.model == _MODEL).order_by(_VERSIONS.c.number.desc()).limit(1)
_HIGH = select(_VERSIONS.c.number).where(_VERSIONS.c.model == _MODEL, tables.HIGH_RISK).limit(1)
_OTHER_CLASS = select(_VERSIONS).where(
    (_VERSIONS.c.artifact_id == bindparam("artifact")) & (_VERSIONS.c.risk_class != bindparam("risk"))
)
_OF_RUN = select(_VERSIONS.c.number).where((_VERSIONS.c.model == _MODEL) & (_VERSIONS.c.run_id == bindparam("run")))
_SIGNED, _UNSIGNED = (_OF_RUN.where(found) for found in (_VERSIONS.c.signature.is_not(None), _VERSIONS.c.signature.is_(None)))
_EVALUATIONS = (
    select(tables.evaluations)
    .where(tables.evaluations.c.artifact_id == bindparam("artifact"))
    .order_by(tables.evaluations.c.issued_at)
)
# All that a registration looks up, in one round trip: it holds the writers' lock.
_LOOK_UP = {
    sign: select(
        _OTHER_CLASS.exists().label("other_class"),
        _HIGH.scalar_subquery().label("high"),
        _LAST.scalar_subquery().label("last"),
        of_run.limit(1).scalar_subquery().label("known"),
        _EVALUATIONS.exists().label("evaluated"),
    )
    for sign, of_run in ((True, _SIGNED), (False, _UNSIGNED))
}


class Registration(Strict):
    """parents: `name@number` of versions that this one was made from; sign: whether the builder key signs the artifact."""

    run: Annotated[str, Field(max_length=100)]
    risk_class: RiskClass
    parents: list[str] = []
    sign: bool = True


class EvaluationOrder(Strict):
    """dataset: id or name@version; split: the held-out one; minimum_accuracy: below it the test result is FAILED."""

    dataset: Annotated[str, Field(max_length=200)]
    split: Annotated[str, Field(max_length=50)] = "test"
    minimum_accuracy: Annotated[float, Field(ge=0, le=1)] = 0.9


@dataclass(frozen=True)
class Models:
    """Use cases over model versions. held_out: names of the splits on which the active policies take an evaluation."""

    engine: Engine
    store: ObjectStore
    events: Events
    clock: Clock
    datasets: Datasets
    artifacts: Artifacts
    runs: Runs
    signing: Signing
    evaluator: Evaluator
    trust: TrustNow
    held_out: Callable[[], Sequence[str]]

    def register(self, model: str, registration: Registration, actor: str) -> dict[str, Any]:
        """The next version of a model, from a completed run. The same run again answers the version that is there.

        Raises:
            NotFound: the run or a parent is unknown. Conflict: the run is not completed. Unavailable: the signer is away.
            AlreadyRegistered: its artifact is registered with another risk class. BadInput: no name for a model.
        """
        if not _NAME.fullmatch(model):
            raise BadInput(f"model {model[:100]!r}: want 1 to 100 of a-z, 0-9, '.', '_' and '-', a letter or digit first")
        run = self.runs.completed(registration.run)
        # What a parent was made from, this version descends from too: its rules and flags hold here.
        inherited = [item for parent in registration.parents for item in self.get(*parse_reference(parent))["ancestors"]]
        ancestors = sorted({*self.datasets.ancestors(run.datasets), *inherited})
        try:
            return self._register(model, registration, run, ancestors, actor)
        except (AlreadyRegistered, BadInput) as error:
            self._tell(model, registration, run, error, actor)
            raise

    def _tell(self, model: str, registration: Registration, run: Run, error: AiInfraError, actor: str) -> None:
        """Records a refused registration as a policyCheck event."""
        rule = RISK_RULE if isinstance(error, AlreadyRegistered) else TREE_RULE
        rules = [{"rule": rule, "verdict": "deny", "reasons": [str(error)[:1000]]}]
        payload = {"action": "register", "verdict": "deny", "rules": rules, "run": run.id, "riskClass": registration.risk_class}
        with begin(self.engine) as connection:
            subject = Subject("model", model, run.artifact_id)
            self.events.emit(connection, EventDraft("policyCheck", actor, subject, payload))

    def _register(
        self, model: str, registration: Registration, run: Run, ancestors: list[str], actor: str
    ) -> dict[str, Any]:
        bundle, signer = None, None
        if registration.sign:
            with self.engine.connect() as connection:
                known = self._look_up(connection, model, run, registration).known
            if known is not None:
                return self.get(model, known)
            # 1. Sign. A crash here leaves a signature in the proxy's record and an object that no row names: a retry
            #    of the registration gets the same signature.
            files = self.artifacts.files(run.artifact_id)
            signed = self.signing.sign_model(BUILDER_KEY, oms.statement(files, name=f"{model}"), actor)
            signer, _ = oms.verify_any(signed, files, self.trust().signer_with_role(BUILDER_KEY))
            bundle = self.store.put(signed)
        # 2. Row and event in one transaction.
        with begin(self.engine) as connection:
            # Looked up again where no other writer comes between: two registrations at once are one version.
            found = self._look_up(connection, model, run, registration)
            number = found.known or (found.last or 0) + 1
            if found.known is None:
                made = self._insert(connection, model, number, registration, run, ancestors, bundle, signer, actor)
                if not found.evaluated:
                    return made | {"evaluations": []}
        return self.get(model, number)

    def _insert(
        self,
        connection: Connection,
        model: str,
        number: int,
        registration: Registration,
        run: Run,
        ancestors: list[str],
        bundle: str | None,
        signer: str | None,
        actor: str,
    ) -> dict[str, Any]:
        values = {
            "model": model,
            "number": number,
            "artifact_id": run.artifact_id,
            "run_id": run.id,
            "run_key": run.run_key,
            "risk_class": registration.risk_class,
            "stage": "dev",
            "code_ref": run.code_ref,
            "datasets": run.datasets,
            "ancestors": ancestors,
            "parents": list(registration.parents),
            "metrics": run.metrics,
            "signer_id": signer,
            "signature": bundle,
            "provenance": run.provenance,
            "registered_by": actor,
            "registered_at": self.clock(),
        }
        connection.execute(_INSERT, values)
        payload = {
            "model": model,
            "number": number,
            "artifactId": run.artifact_id,
            "run": run.id,
            "runKey": run.run_key,
            "riskClass": registration.risk_class,
            "signature": bundle,
            "provenance": run.provenance,
            "datasets": run.datasets,
            "ancestors": ancestors,
            "parents": list(registration.parents),
        }
        subject = Subject("model", f"{model}@{number}", run.artifact_id)
        self.events.emit(connection, EventDraft("model.registered", actor, subject, payload, signature_ref=bundle))
        return values

    def get(self, model: str, number: int) -> dict[str, Any]:
        """The record of a version, with its evaluations. Raises UnknownModel."""
        with self.engine.connect() as connection:
            return self._read(connection, model, number)

    def targets(self, version: dict[str, Any]) -> set[tuple[str, str]]:
        """(kind, id) of all whose flags hold for it: itself, the versions it was made from, their artifacts and data sets."""
        found: set[tuple[str, str]] = {("dataset", dataset) for dataset in version["ancestors"]}
        waiting = [version]
        while waiting:
            item = waiting.pop()
            reference = ("model", f"{item['model']}@{item['number']}")
            if reference not in found:
                found |= {reference, ("artifact", item["artifact_id"])}
                waiting += [self.get(*parse_reference(parent)) for parent in item["parents"]]
        return found

    def all(self, model: str | None = None) -> list[dict[str, Any]]:
        """Every version (of one model), oldest first."""
        table = tables.model_versions
        query = select(table).order_by(table.c.model, table.c.number)
        if model is not None:
            query = query.where(table.c.model == model)
        with self.engine.connect() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def evaluate(self, model: str, number: int, order: EvaluationOrder, actor: str) -> dict[str, Any]:
        """Measures the version on a held-out split; the signed test result is recorded, passed or failed.

        Raises:
            UnknownModel, UnknownDataset; BadInput: no such split, one that is not held out, or the model cannot be run;
            Unavailable: retry.
        """
        version = self.get(model, number)
        dataset = self.datasets.get(order.dataset)
        manifest = dataset["manifest"]
        if order.split not in manifest["splits"]:
            raise BadInput(f"data set {order.dataset} has no split {order.split!r}: {sorted(manifest['splits'])}")
        if order.split not in (held_out := self.held_out()):
            taken = ", ".join(held_out) or "none"
            raise BadInput(f"the split {order.split!r} is not a held-out one: evaluate on one that the policies take ({taken})")
        paths = set(manifest["splits"][order.split])
        data = {item["path"]: item["sha256"] for item in manifest["files"] if item["path"] in paths}
        files = {entry.path: entry.sha256 for entry in self.artifacts.files(version["artifact_id"])}
        measured = self.evaluator.evaluate(files, data)
        passed = _accuracy(measured) >= order.minimum_accuracy
        test = f"accuracy >= {order.minimum_accuracy}"
        result = Evaluation(
            artifact_id=version["artifact_id"],
            dataset=dataset["id"],
            split=order.split,
            samples=measured.samples,
            metrics=measured.metrics,
            issued_at=self.clock() // 1000,
            passed=[test] if passed else [],
            failed=[] if passed else [test],
        )
        # 1. Sign, and store the envelope. A crash here leaves an attestation that no row names: evaluate again.
        envelope = self.signing.sign_statement(EVALUATOR_KEY, result.to_statement(), {}, actor)
        self.record_evaluation(envelope, result, actor, f"{model}@{number}")
        return self.get(model, number)

    def record_evaluation(self, envelope: bytes, result: Evaluation, actor: str, reference: str) -> None:
        """Row and event of a signed evaluation, in one transaction; a known one changes nothing."""
        payload, stored, table = sha256(result.to_statement()), self.store.put(envelope), tables.evaluations
        with begin(self.engine) as connection:
            if connection.execute(select(table).where(table.c.payload == payload)).first() is not None:
                return
            connection.execute(
                insert(table).values(
                    payload=payload,
                    envelope=stored,
                    artifact_id=result.artifact_id,
                    dataset=result.dataset,
                    split=result.split,
                    metrics=result.metrics,
                    passed=not result.failed,
                    issued_at=result.issued_at,
                )
            )
            facts = {
                "evaluation": payload,
                "result": "FAILED" if result.failed else "PASSED",
                "split": result.split,
                "accuracy": result.metrics["accuracy"],
                "dataset": result.dataset,
            }
            subject = Subject("model", reference, result.artifact_id)
            self.events.emit(connection, EventDraft("evaluation.recorded", actor, subject, facts, signature_ref=stored))

    def evaluation_envelope(self, payload: str | None) -> bytes | None:
        """The stored envelope of an evaluation, by its payload's digest."""
        table = tables.evaluations
        with self.engine.connect() as connection:
            stored = connection.execute(select(table.c.envelope).where(table.c.payload == payload)).scalar()
        return None if stored is None else self.store.get(stored)

    def _look_up(self, connection: Connection, model: str, run: Run, registration: Registration) -> Row[Any]:
        """known: number of the version that this run is already, signed or not as asked; last: the model's highest number;
        evaluated: whether the artifact was. Raises AlreadyRegistered."""
        of = {"model": model, "run": run.id, "artifact": run.artifact_id, "risk": registration.risk_class}
        found = connection.execute(_LOOK_UP[registration.sign], of).one()
        # The same bytes have one risk class, under whatever name or run: else a rerun would need fewer approvals.
        if found.other_class:
            other = connection.execute(_OTHER_CLASS.limit(1), of).one()
            raise AlreadyRegistered(
                f"artifact {run.artifact_id} is {other.model}@{other.number}, of risk class {other.risk_class}: it keeps that"
            )
        # Nor does a model lower its class from version to version: other bytes of the same model serve the same people.
        if registration.risk_class == "low" and found.high is not None:
            raise AlreadyRegistered(f"{model}@{found.high} is of risk class high: later versions of {model} are not low")
        return found

    def _read(self, connection: Connection, model: str, number: int) -> dict[str, Any]:
        row = connection.execute(_VERSION, {"model": model, "number": number}).mappings().first()
        if row is None:
            raise UnknownModel(f"no model version {model}@{number}: `ai-infra model list` shows those there are")
        found = connection.execute(_EVALUATIONS, {"artifact": row["artifact_id"]}).mappings()
        return dict(row) | {"evaluations": [dict(item) for item in found]}


def _accuracy(measured: Measured) -> float:
    """What a model's process answered is looked at before it is signed."""
    accuracy = measured.metrics.get("accuracy")
    if not isinstance(accuracy, int | float) or not 0 <= accuracy <= 1 or measured.samples < 1:
        raise BadInput(f"the evaluation gave accuracy {str(accuracy)[:40]} on {measured.samples} samples: want 0 to 1 on 1 or more")
    return accuracy


def parse_reference(reference: str) -> tuple[str, int]:
    """`name@number` → its parts. Raises BadInput."""
    model, _, number = reference.rpartition("@")
    if not model or not re.fullmatch(r"[1-9][0-9]{0,8}", number):
        raise BadInput(f"{reference[:100]!r}: want name@number")
    return model, int(number)
