"""The use cases of training. It runs in the API process and trains nothing itself."""

import base64
import binascii
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, RowMapping, Select, bindparam, insert, select, update

from services.core.canonical import canonical, parse
from services.core.clock import Clock
from services.core.database import begin
from services.core.digests import FileEntry, require_safe_path, scan_tree, tree_bytes
from services.core.errors import AiInfraError, BadInput, Unavailable
from services.core.events import EventDraft, Subject
from services.core.facts import run_key
from services.core.ids import new_id
from services.core.objects import ObjectStore
from services.core.rounds import each
from services.core.statements import CodeRef, Provenance, RunInputs
from services.training import domain, source, tables
from services.training.domain import CANCELLED, COMPLETED, FAILED, RUNNING, Job, StartRun
from services.training.environment import Environment
from services.training.errors import BadJob, InputsDiffer, TrainingRefused, UnknownRun, WrongState
from services.training.ports import Artifacts, ComputeBackend, Datasets, Events, Flags, Order, Policy, Progress, Run, Signing

log = logging.getLogger(__name__)

BUILDER_KEY = "builder"
MAX_PROGRESS = 10_000
# Made once: putting a statement together costs more than the database takes to answer it.
_RUN = select(tables.runs).where(tables.runs.c.id == bindparam("run"))
_MADE = _RUN.with_only_columns(
    *(tables.runs.c[name] for name in ("state", "run_key", "artifact_id", "inputs", "metrics", "provenance"))
)
"""What a version is registered from; each column costs."""


@dataclass(frozen=True, kw_only=True)
class Site:
    """What this installation trains with. environment, lock: asked for each run, since a machine can change under a process."""

    builder: str
    environment: Callable[[], Environment]
    lock: Callable[[], str]
    """Digest of the dependency lock that the environment was installed from."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """Use cases over runs. `step` is to be called again and again (5 times a second); it carries runs to their end."""

    engine: Engine
    store: ObjectStore
    events: Events
    clock: Clock
    datasets: Datasets
    artifacts: Artifacts
    flags: Flags
    policy: Policy
    signing: Signing
    compute: ComputeBackend
    site: Site
    _stepping: threading.Lock = field(default_factory=threading.Lock)

    def start(self, order: StartRun, actor: str) -> dict[str, Any]:
        """Starts a run of uploaded source.

        Raises:
            BadInput: a malformed job, or an archive that is not what `code` says. NotFound: a data set.
            TrainingRefused: the policy forbids it; only the decision was recorded. Unavailable: retry.
        """
        job = domain.require_job(order.job.to_json())
        if order.directory:
            require_safe_path(order.directory)
        if not self.store.has(order.code.tree):
            raise BadJob(f"object {order.code.tree} (the source archive) is not in the store: upload it first")
        if self.store.size(order.code.tree) > 2 * source.MAX_ARCHIVE:
            raise BadJob("the source archive is too large")
        archive = self.store.get(order.code.tree)
        source.require_commit(order.code, archive, _decoded(order.commit_object))
        self._require_entrypoint(job, order.directory, archive)
        return self._begin(job, self._inputs(job, order.code, order.directory), actor, rerun_of=None)

    def rerun(self, run_id: str, actor: str) -> dict[str, Any]:
        """Trains again from the record alone. The new run says whether it made the same artifact (`reproduced`).

        Raises:
            UnknownRun. InputsDiffer: this machine's environment or lock is another one, or an object is gone: named, and
                nothing was started. TrainingRefused, Unavailable: as `start`.
        """
        row = self._row(run_id)
        job, recorded = Job.from_json(row["job"]), RunInputs.from_json(row["inputs"])
        if not self.store.has(recorded.code_ref.tree):
            raise InputsDiffer(f"run {run_id}: codeRef.tree {recorded.code_ref.tree} is no longer in the object store")
        now = self._inputs(job, recorded.code_ref, recorded.environment.get("directory", ""))
        difference = domain.first_difference(recorded.to_json(), now.to_json())
        if difference is not None:
            # What is in an environment is worth more than its digest.
            difference = self._why(recorded.image, now.image) or difference
            raise InputsDiffer(f"run {run_id} cannot be repeated here: {difference}")
        return self._begin(job, now, actor, rerun_of=run_id)

    def retry(self, run_id: str, actor: str) -> dict[str, Any]:
        """Goes on with a failed or cancelled run from its last checkpoint. One that goes on already is answered as it is.

        Raises:
            UnknownRun. WrongState: it runs for the first time, or is completed. TrainingRefused, Unavailable: as `start`.
        """
        row = self._row(run_id)
        if row["state"] == RUNNING and row["attempt"] > 1:
            return self.get(run_id)
        if row["state"] not in (FAILED, CANCELLED):
            raise WrongState(f"run {run_id} is {row['state']}: only a failed or cancelled one can be retried")
        job, inputs = Job.from_json(row["job"]), RunInputs.from_json(row["inputs"])
        decision = self._decide(job, inputs, run_id, actor)
        # 1. How the last attempt ended, or it would be taken for this one's end. A crash here leaves the run as it was.
        self.compute.cancel(run_id)
        # 2. Row and event in one transaction, then the work itself: as a run begins.
        attempt = row["attempt"] + 1
        with begin(self.engine) as connection:
            values = {"state": RUNNING, "attempt": attempt, "error": None, "finished_at": None, "decision_id": decision}
            if not self._move(connection, run_id, row["state"], values):
                raise WrongState(f"run {run_id} was changed meanwhile")
            self._started(connection, run_id, job, inputs, actor, decision, attempt)
        self._submit(run_id, job, inputs)
        return self.get(run_id)

    def cancel(self, run_id: str, actor: str) -> dict[str, Any]:
        """Stops a run; its checkpoints stay for a retry. One that is cancelled already is answered as it is.

        Raises:
            UnknownRun. WrongState: it is over.
        """
        row = self._row(run_id)
        if row["state"] == CANCELLED:
            return self.get(run_id)
        with self._stepping:
            # 1. The state first: the next step then leaves the run alone. A crash here leaves what works on it to the next `step`.
            if not self._fail(run_id, CANCELLED, f"cancelled by {actor}", actor):
                raise WrongState(f"run {run_id} is {row['state']}: it cannot be cancelled")
            # 2. The process.
            self.compute.cancel(run_id)
        return self.get(run_id)

    def get(self, run_id: str) -> dict[str, Any]:
        """The record of a run, with its progress. Raises UnknownRun."""
        row = self._row(run_id)
        return self._record(row) | {"progress": self.progress(run_id), "epochs": _epochs(row)}

    def all(self) -> list[dict[str, Any]]:
        """Every run, newest first, without progress."""
        with self.engine.connect() as connection:
            rows = connection.execute(select(tables.runs).order_by(tables.runs.c.started_at.desc(), tables.runs.c.id)).mappings()
            return [self._record(row) for row in rows]

    def progress(self, run_id: str, after: int = 0) -> list[dict[str, Any]]:
        """{"epoch", "metrics"} of each reported epoch behind the first `after` ones. Raises UnknownRun."""
        row = self._row(run_id)
        if row["state"] != RUNNING:
            return list(row["metrics"][after:])
        try:
            return _progress(self.compute.events(run_id, after))
        except BadInput:
            return []  # the next step ends the run with the reason

    def completed(self, run_id: str) -> Run:
        """What the registry needs of a run. Raises UnknownRun, WrongState."""
        row = self._row(run_id, _MADE)
        if row["state"] != COMPLETED:
            raise WrongState(f"run {run_id} is {row['state']}, not completed")
        return Run(
            id=run_id,
            run_key=row["run_key"],
            artifact_id=row["artifact_id"],
            code_ref=row["inputs"]["codeRef"],
            datasets=row["inputs"]["datasets"],
            metrics=row["metrics"][-1]["metrics"] if row["metrics"] else {},
            provenance=row["provenance"],
        )

    def step(self) -> None:
        """Looks at every running run once. After a restart the same code resubmits what was in flight, and ends what is left over.

        Raises:
            Exception: the first for which a run could not be carried on, once all others were; the next step tries again.
        """
        self._tidy()
        with self._stepping, self.engine.connect() as connection:
            rows = connection.execute(select(tables.runs).where(tables.runs.c.state == RUNNING).order_by(tables.runs.c.started_at))
            running = [dict(row) for row in rows.mappings()]
        each("run", running, self._look)

    def _look(self, row: dict[str, Any]) -> None:
        with self._stepping:
            if self._row(row["id"])["state"] != RUNNING:
                return
            try:
                self._carry_on(row)
            except Unavailable:
                raise
            except AiInfraError as error:
                self._fail(row["id"], FAILED, str(error), row["started_by"])

    def _tidy(self) -> None:
        """Ends what is still there of runs that are over: a crash came between their end and its removal, or they failed."""
        with self._stepping:
            # Compute first: what it holds has a row by then. What has none is not ours to end.
            held = self.compute.held()
            with self.engine.connect() as connection:
                query = select(tables.runs.c.id, tables.runs.c.state).where(tables.runs.c.id.in_(held))
                states = {row.id: row.state for row in connection.execute(query)} if held else {}
            for run_id, state in states.items():
                if state == COMPLETED:
                    self.compute.forget(run_id)
                elif state != RUNNING:
                    self.compute.cancel(run_id)

    def _begin(self, job: Job, inputs: RunInputs, actor: str, *, rerun_of: str | None) -> dict[str, Any]:
        run_id, key = new_id("run"), run_key(inputs.to_json())
        # 1. The decision, durable and in the log. A crash after it leaves a decision on a run that never was: harmless.
        decision = self._decide(job, inputs, run_id, actor)
        # 2. Row and event in one transaction. A crash after it leaves a running run that nobody works on: the next step submits it.
        with begin(self.engine) as connection:
            connection.execute(
                insert(tables.runs).values(
                    id=run_id,
                    run_key=key,
                    state=RUNNING,
                    job=job.to_json(),
                    inputs=inputs.to_json(),
                    attempt=1,
                    rerun_of=rerun_of,
                    decision_id=decision,
                    metrics=[],
                    started_by=actor,
                    started_at=self.clock(),
                )
            )
            self._started(connection, run_id, job, inputs, actor, decision, 1)
        # 3. The work itself; submitting twice is harmless.
        self._submit(run_id, job, inputs)
        return self.get(run_id)

    def _submit(self, run_id: str, job: Job, inputs: RunInputs) -> None:
        """Hands the run to compute. If that fails now, the next step does it, or ends the run with the reason."""
        try:
            self.compute.submit(self._order(run_id, job, inputs))
        except AiInfraError as error:
            log.warning("run %s was not submitted yet: %s", run_id, error)

    def _carry_on(self, row: dict[str, Any]) -> None:
        run_id = row["id"]
        found = self.compute.poll(run_id)
        if found.state == "unknown":
            self.compute.submit(self._order(run_id, Job.from_json(row["job"]), RunInputs.from_json(row["inputs"])))
        elif found.state == "failed":
            self._fail(run_id, FAILED, found.error or "no reason given", row["started_by"])
        elif found.state == "completed":
            self._complete(row, found)

    def _complete(self, row: dict[str, Any], found: Progress) -> None:
        """Each part may be repeated: a crash or an Unavailable in between leaves the run running, and the next step starts here."""
        job, inputs = Job.from_json(row["job"]), RunInputs.from_json(row["inputs"])
        progress, usage = _progress(self.compute.events(row["id"], 0)), self._usage(row["id"])
        files = self._outputs(row["id"], job)
        # 1. The files and their list. A crash after it leaves objects that no row names: harmless.
        folder = self.compute.output(row["id"])
        for entry in files:
            self.store.put_file(folder / entry.path, expected=entry.sha256)
        artifact_id = self.store.put(tree_bytes(files))
        # 2. The provenance, signed by the proxy. A crash after it leaves a signature that no row names; the next one is over the
        #    same bytes, since the statement's times are the run's own.
        statement = Provenance(
            artifact_id=artifact_id,
            run_id=row["id"],
            run_key=row["run_key"],
            job=job.to_json(),
            inputs=inputs,
            builder=self.site.builder,
            started_on=row["started_at"] // 1000,
            finished_on=max(found.finished_at, row["started_at"]) // 1000,
        ).to_statement()
        envelope = self.store.put(self.signing.sign_statement(BUILDER_KEY, statement, {}, row["started_by"]))
        # 3. Artifact, run and their events in one transaction: from here the run is completed.
        with begin(self.engine) as connection:
            meta = {"job": job.name, "runKey": row["run_key"]}
            self.artifacts.record(connection, files, row["started_by"], run_id=row["id"], meta=meta)
            values = {
                "state": COMPLETED,
                "artifact_id": artifact_id,
                "provenance": envelope,
                "metrics": progress,
                "finished_at": max(found.finished_at, row["started_at"]),
            }
            if self._move(connection, row["id"], RUNNING, values):
                payload = {
                    "runKey": row["run_key"],
                    "artifactId": artifact_id,
                    "provenance": envelope,
                    "attempt": row["attempt"],
                    "rerunOf": row["rerun_of"],
                    "metrics": progress[-1]["metrics"] if progress else {},
                    "usage": usage,
                }
                subject = Subject("run", row["id"], row["run_key"])
                self.events.emit(
                    connection, EventDraft("train.completed", row["started_by"], subject, payload, signature_ref=envelope)
                )
        # 4. The working folder. A crash before it leaves files that nobody reads, and in a cluster a job that `step` removes.
        self.compute.forget(row["id"])

    def _outputs(self, run_id: str, job: Job) -> list[FileEntry]:
        try:
            files = scan_tree(self.compute.output(run_id))
        except PermissionError as error:
            raise BadJob(f"{Path(error.filename).name} may not be read: the run took the right from its own output") from error
        found, wanted = {entry.path for entry in files}, set(job.outputs)
        if found != wanted:
            missing, extra = sorted(wanted - found), sorted(found - wanted)
            raise BadJob(f"the run wrote other files than its job says: missing {missing[:5]}, not listed {extra[:5]}")
        return files

    def _fail(self, run_id: str, state: str, error: str, actor: str) -> bool:
        """Ends a running run without an artifact; False if it is not running."""
        text = domain.tail_of(error)
        try:
            progress = _progress(self.compute.events(run_id, 0))
        except AiInfraError:
            progress = []
        usage = self._usage(run_id)
        with begin(self.engine) as connection:
            values = {"state": state, "error": text, "metrics": progress, "finished_at": self.clock()}
            if not self._move(connection, run_id, RUNNING, values):
                return False
            row = connection.execute(select(tables.runs).where(tables.runs.c.id == run_id)).mappings().one()
            payload = {"state": state, "reason": text, "attempt": row["attempt"], "epochs": len(progress), "usage": usage}
            self.events.emit(connection, EventDraft("train.failed", actor, Subject("run", run_id, row["run_key"]), payload))
        return True

    def _usage(self, run_id: str) -> dict[str, Any] | None:
        """What the attempt took, for its last event; a cluster that does not say so now does not hold up the run's end."""
        try:
            found = self.compute.usage(run_id)
        except AiInfraError as error:
            log.warning("the usage of run %s is not known: %s", run_id, error)
            return None
        return None if found is None else found.to_json()

    def _decide(self, job: Job, inputs: RunInputs, run_id: str, actor: str) -> str:
        """Id of the decision that lets the run happen."""
        ancestors = self.datasets.ancestors(list(inputs.datasets))
        records = [self.datasets.get(dataset) for dataset in ancestors]
        facts = {
            "action": "train",
            "now": self.clock() // 1000,
            "job": {"name": job.name, "purpose": job.purpose, "codeRef": inputs.code_ref.to_json()},
            "datasets": [{key: record[key] for key in ("id", "licence", "pii", "approvedBy")} for record in records],
            "flags": self.flags(ancestors),
        }
        decision = self.policy.decide("train", facts, Subject("run", run_id, run_key(inputs.to_json())), actor)
        if decision.verdict != "pass":
            raise TrainingRefused(f"training {job.name} is refused (decision {decision.id})", decision.refusals)
        return decision.id

    def _inputs(self, job: Job, code: CodeRef, directory: str) -> RunInputs:
        environment = self.site.environment()
        return domain.inputs_of(
            job,
            code,
            directory=directory,
            # The description is an object, so that a later difference can be named.
            image=self.store.put(environment.description),
            lock=self.site.lock(),
            datasets=[self.datasets.get(reference)["id"] for reference in job.datasets],
            settings=environment.settings,
        )

    def _why(self, recorded: str, now: str) -> str | None:
        """The first difference between two described environments; None if they are the same or the old one is gone."""
        if recorded == now or not self.store.has(recorded):
            return None
        return domain.first_difference(parse(self.store.get(recorded)), parse(self.store.get(now)), "image")

    def _order(self, run_id: str, job: Job, inputs: RunInputs) -> Order:
        now = self.site.environment()
        if now.image != inputs.image:
            raise InputsDiffer(f"run {run_id} cannot go on here: {self._why(inputs.image, self.store.put(now.description))}")
        datasets = {}
        for reference in job.datasets:
            record = self.datasets.get(reference)
            if record["id"] not in inputs.datasets:
                raise InputsDiffer(f"{reference} is {record['id']}, the run recorded another data set")
            datasets[reference] = {item["path"]: item["sha256"] for item in record["manifest"]["files"]}
        return Order(
            run_id=run_id,
            source=inputs.code_ref.tree,
            directory=inputs.environment["directory"],
            entrypoint=job.entrypoint,
            workers=job.workers,
            seed=inputs.seed,
            hyperparameters=inputs.hyperparameters,
            datasets=datasets,
            outputs=job.outputs,
            compute=job.compute,
        )

    def _require_entrypoint(self, job: Job, directory: str, archive: bytes) -> None:
        module = job.entrypoint.partition(":")[0].replace(".", "/")
        base = f"{directory}/{module}" if directory else module
        paths = {file.path for file in source.read_tar(archive)}
        if not paths & {f"{base}.py", f"{base}/__init__.py"}:
            raise BadJob(f"entrypoint: the source archive has no {base}.py: is it committed?")

    def _started(
        self, connection: Connection, run_id: str, job: Job, inputs: RunInputs, actor: str, decision: str, attempt: int
    ) -> None:
        payload = {
            "job": job.name,
            "purpose": job.purpose,
            "decision": decision,
            "attempt": attempt,
            "codeRef": inputs.code_ref.to_json(),
            "image": inputs.image,
            "dependencyLock": inputs.dependency_lock,
            "datasets": list(inputs.datasets),
            "seed": inputs.seed,
        }
        subject = Subject("run", run_id, run_key(inputs.to_json()))
        self.events.emit(connection, EventDraft("train.started", actor, subject, payload))

    def _move(self, connection: Connection, run_id: str, state: str, values: dict[str, Any]) -> bool:
        """Changes a run that is still in `state`; False if it is not."""
        table = tables.runs
        done = connection.execute(update(table).where((table.c.id == run_id) & (table.c.state == state)).values(**values))
        return done.rowcount == 1

    def _row(self, run_id: str, query: Select[Any] = _RUN) -> RowMapping:
        with self.engine.connect() as connection:
            row = connection.execute(query, {"run": run_id}).mappings().first()
        if row is None:
            raise UnknownRun(f"no run {run_id[:100]!r}: `ai-infra run list` shows those there are")
        return row

    def _record(self, row: RowMapping) -> dict[str, Any]:
        reproduced = None
        if row["rerun_of"] is not None and row["state"] == COMPLETED:
            reproduced = row["artifact_id"] == self._row(row["rerun_of"])["artifact_id"]
        return {
            "id": row["id"],
            "state": row["state"],
            "job": row["job"],
            "runKey": row["run_key"],
            "inputs": row["inputs"],
            "attempt": row["attempt"],
            "rerunOf": row["rerun_of"],
            "reproduced": reproduced,
            "decision": row["decision_id"],
            "artifactId": row["artifact_id"],
            "provenance": row["provenance"],
            "error": row["error"],
            "startedBy": row["started_by"],
            "startedAt": row["started_at"],
            "finishedAt": row["finished_at"],
        }


def _progress(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Raises BadJob for a metric that is no finite number."""
    found = [{"epoch": event["epoch"], "metrics": domain.metrics_of(event)} for event in events[:MAX_PROGRESS]]
    canonical(found)
    return found


def _epochs(row: RowMapping) -> int | None:
    """How many epochs the job asks for, if it says so the usual way."""
    epochs = row["job"]["hyperparameters"].get("epochs")
    return epochs if isinstance(epochs, int) else None


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise BadJob("commitObject is not base64") from error
