"""The flow as steps that can each break off and be repeated, on a platform in one process with all its databases and its log."""

import itertools
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient
from sqlalchemy import func, select

from services.api import tables as api_tables
from services.api.adapters import ServedVersions
from services.api.app import build_app
from services.api.quarantine import Quarantine
from services.core import dsse
from services.core.calls import call
from services.core.database import open_engine
from services.core.digests import FileEntry, sha256, tree_digest
from services.core.ids import new_id
from services.core.outbox import Outbox, Relay
from services.core.statements import DatasetApproval
from services.core.tls import person_id, service_id
from services.registry.artifacts import ArtifactUpload
from services.registry.datasets import DatasetManifest, DatasetRegistration
from services.registry.flags import FlagOrder, active_flags
from services.registry.http import routes
from services.registry.models import EvaluationOrder, Registration
from services.serving.canary import Counts
from services.serving.domain import DeploymentSpec, Golden, RolloutSpec
from services.serving.kept import KeptRecords, RecordBatch
from services.serving.rollouts import Rollouts
from services.serving.router import tables as router_tables
from services.serving.router.records import RecordLog
from services.serving.service import Serving
from services.signing import tables as signing_tables
from services.training.domain import StartRun
from services.training.service import Site, Training
from tests import databases
from tests import signing as people
from tests.fakes.serving import ListedProbes, ScriptedBackend
from tests.fakes.training import FakeCompute
from tests.registry import API, EVA, RITA, STELLA, TOM, WEIGHTS, Rig, evaluated, key_of
from tests.training import ENVIRONMENT, LOCK, Stage, repository
from tests.unit.test_platform_http import AsCaller, as_
from tests.unit.test_serving_service import PROBES, phase, reference

APPROVERS = ("ada", "ben", "cyd")
DARIO, EVE = person_id("dario"), person_id("eve")
ROUTER, PREDICTOR = service_id("router"), service_id("predictor")
RUNS = ("run-1", "run-2")
"""Completed runs of a platform that is made ready: of different weights."""
STEP_S = 60
"""Seconds that a step of a rollout may take."""
AT_ONCE = Golden(dataset="raw@1").at_once


class Flow:
    """A rig with training, serving and a router's records. order: of a run whose source is uploaded.

    Each step takes a tag, so that a step can be done any number of times on one platform.
    """

    def __init__(self, rig: Rig, order: StartRun) -> None:
        self.rig, self.writes, self.order, self.compute = rig, rig.writes, order, FakeCompute()
        self._numbers = itertools.count()
        ports = rig.ports
        self.training = Training(
            engine=rig.engine, store=ports.store, events=ports.events, clock=rig.clock, datasets=rig.datasets,
            artifacts=rig.artifacts, flags=lambda found: active_flags(rig.engine, {("dataset", dataset) for dataset in found}),
            policy=ports.policy, signing=ports.signing, compute=self.compute,
            site=Site(builder=API, environment=lambda: ENVIRONMENT, lock=lambda: LOCK),
        )  # fmt: skip
        self.backend = ScriptedBackend(known=reference())
        versions = ServedVersions(rig.registry(), rig.evidences, ports.store, lambda: rig.trust, rig.clock, rig.log)
        self.serving = Serving(rig.engine, ports.events, rig.clock, versions, ports.policy, self.backend)
        self.rollouts = Rollouts(self.serving, ListedProbes(PROBES))
        self.kept = KeptRecords(rig.engine, ports.store, ports.events, rig.clock)
        self.quarantine = Quarantine(rig.models, rig.evidences, self.serving)
        self.router_engine = open_engine(databases.url(rig.folder, "router", "sqlite"))
        router_tables.metadata.create_all(self.router_engine)
        self.writes.database("router", self.router_engine)
        outbox = Outbox(router_tables.outbox, ROUTER, rig.clock)
        self.router_relay = Relay(self.router_engine, outbox, rig.audit)
        self.records = RecordLog(rig.folder / "router", self.router_engine, outbox, rig.clock, ROUTER)
        self._outboxes = (
            (rig.engine, api_tables.outbox), (rig.engines["signing"], signing_tables.outbox), (self.router_engine, outbox.table)
        )  # fmt: skip

    @cached_property
    def http(self) -> TestClient:
        """The API's routes of the registry, called in this process."""
        registry, rig = routes(self.rig.registry(), self.rig.sentinelnet.authorise), self.rig
        app = build_app([registry], [], rig.engine, rig.clock, at_start=lambda: None, at_end=lambda: None)
        return TestClient(AsCaller(app))

    def close(self) -> None:
        self.compute.close()
        self.router_engine.dispose()
        self.rig.close()

    def problems(self) -> list[str]:
        """What reconciliation and verification find, once every relay has delivered."""
        self.writes.begin()
        self.router_relay.flush()
        return self.rig.problems()

    def newest(self) -> list[int]:
        """The number of the last event of each process."""
        found = []
        for engine, outbox in self._outboxes:
            with engine.connect() as connection:
                found.append(connection.execute(select(func.coalesce(func.max(outbox.c.seq), 0))).scalar_one())
        return found

    def emitted(self, newest: list[int]) -> Counter[str]:
        """How many events of each type there are since."""
        found = Counter[str]()
        for (engine, outbox), last in zip(self._outboxes, newest, strict=True):
            with engine.connect() as connection:
                events = connection.execute(select(outbox.c.event).where(outbox.c.seq > last)).scalars()
                found.update(json.loads(event)["type"] for event in events)
        return found

    def tag(self) -> str:
        return f"t{next(self._numbers)}"

    # -- what a step finds

    def dataset(self, tag: str) -> DatasetRegistration:
        contents = {"train.csv": f"{tag} 1,2\n".encode(), "test.csv": f"{tag} 3,4\n".encode()}
        manifest = DatasetManifest.from_json(
            {
                "files": self.rig.files(contents), "schema": {"pixel": "uint8"}, "licence": "CC-BY-4.0", "source": "a test",
                "pii": "present", "parents": [], "splits": {"train": ["train.csv"], "test": ["test.csv"]},
            }
        )  # fmt: skip
        return DatasetRegistration(name=tag, version="1", manifest=manifest)

    def registered(self, tag: str) -> str:
        """Id of a data set."""
        return str(self.rig.datasets.register(self.dataset(tag), TOM)["id"])

    def started(self, tag: str) -> str:
        """A run that compute has finished and the service has not looked at."""
        run = str(self.training.start(self.order, TOM)["id"])
        files = {"model.safetensors": tag.encode(), "config.json": b"{}", "README.md": b"a card"}
        self.compute.finish(run, files, finished_at=self.rig.clock())
        return run

    def broken(self, tag: str) -> str:
        """A run that compute gave up and the service has not looked at."""
        run = str(self.training.start(self.order, TOM)["id"])
        self.compute.fail(run, "killed by SIGKILL")
        return run

    def failed(self, tag: str) -> str:
        run = self.broken(tag)
        self.training.step()
        return run

    def version(self, tag: str, number: int = 1) -> str:
        """A version of a model of its own, registered and evaluated: the runs' artifacts have their evaluations."""
        registration = Registration.from_json({"run": RUNS[number - 1], "riskClass": "high"})
        self.rig.models.register(tag, registration, TOM)
        return tag

    def envelope(self, tag: str, number: int = 1) -> bytes:
        """A signed request to promote a version to staging."""
        version = self.rig.models.get(tag, number)
        request = self.rig.request_for(
            number, "staging", model=tag, nonce=sha256(f"{tag}{number}".encode())[-32:], artifact_id=version["artifact_id"],
            run_key=version["run_key"], evaluation=version["evaluations"][-1]["payload"], from_stage=version["stage"],
            risk_class=version["risk_class"],
        )  # fmt: skip
        return people.envelope(request.to_statement(), key_of("rita")).to_bytes()

    def requested(self, tag: str, number: int = 1) -> str:
        self.version(tag, number)
        return str(self.rig.promotions.request(self.envelope(tag, number), RITA)["id"])

    def approval(self, promotion: str, name: str) -> bytes:
        return people.envelope(dsse.parse(self.rig.promotions.envelope(promotion)).payload, key_of(name)).to_bytes()

    def approved(self, tag: str, number: int = 1) -> str:
        promotion = self.requested(tag, number)
        for name in APPROVERS:
            self.rig.promotions.approve(promotion, self.approval(promotion, name), person_id(name))
        return promotion

    def promoted(self, tag: str, number: int = 1) -> str:
        self.rig.promotions.carry_out(self.approved(tag, number), RITA)
        return tag

    def deploy(self, tag: str) -> str:
        return str(self.serving.deploy(DeploymentSpec(model=tag, number=1, environment="staging"), DARIO)["id"])

    def deployed(self, tag: str) -> str:
        return self.deploy(self.promoted(tag))

    def rollout(self, tag: str) -> RolloutSpec:
        """Of the second version, where the first one serves."""
        self.deployed(tag)
        self.promoted(tag, 2)
        spec = {"model": tag, "number": 2, "environment": "staging", "golden": {"dataset": "raw@1"}, "maxStepS": STEP_S}
        return RolloutSpec.from_json(spec)

    def rolling(self, tag: str, looks: int = 2) -> str:
        """A rollout that was looked at so often: calibrated after two."""
        self.backend.seen = Counts()
        found = str(self.rollouts.start(self.rollout(tag), DARIO)["id"])
        for _ in range(looks):
            self.rollouts.advance(found)
        return found

    def seen(self, rollout: str, *, errors: int = 0) -> str:
        """The router has counted enough for a verdict."""
        weight = self.rollouts.get(rollout)["weight"]
        self.backend.seen = Counts((phase(weight, 400, (errors, 0)),))
        return rollout

    def cleared(self, tag: str) -> str:
        """A rollout in its last step: nothing speaks against the canary, as the next look finds."""
        rollout = self.seen(self.rolling(tag))
        # The last look asks what is left of the golden probes.
        for _ in range(len(PROBES) // AT_ONCE):
            self.rollouts.advance(rollout)
        self.backend.seen = Counts((phase(0.1, 400), phase(0.5, 1500)))
        return rollout

    def slow(self, tag: str) -> str:
        """A rollout whose time is over after a few requests."""
        rollout = self.rolling(tag)
        self.backend.seen = Counts((phase(0.1, 12),))
        self.rig.now += STEP_S
        return rollout

    def undecided(self, tag: str) -> str:
        rollout = self.slow(tag)
        self.rollouts.advance(rollout)
        return rollout

    def flagged(self, tag: str) -> str:
        """A flag on the model of a deployment."""
        self.deployed(tag)
        order = FlagOrder.from_json({"kind": "model", "target": f"{tag}@1", "reason": "biased"})
        return str(self.rig.flags.set(order, EVE)["id"])

    def record(self, tag: str) -> dict[str, Any]:
        return {"id": f"prd-{tag}", "ts": self.rig.clock(), "deployment": "dep-1", "outcome": "ok", "rollout": None}

    def recorded(self, tag: str) -> str:
        record = self.record(tag)
        self.records.expect()
        self.records.append(record)
        return str(record["id"])


Prepare = Callable[[Flow, str], Any]
Act = Callable[[Flow, Any], Any]


@dataclass(frozen=True)
class Step:
    """prepare: what it finds, from a tag; act: what is done to it, once or again.

    not_told: the write after which the caller is told of success, whatever becomes of it; twice: events that a repeat may tell of
    once more, beside those of AGAIN.
    """

    name: str
    prepare: Prepare
    act: Act
    not_told: str = ""
    twice: frozenset[str] = frozenset()


AGAIN = frozenset({"policyCheck", "signature.requested", "signature.made"})
"""Events of what had no effect when it broke off: a repeat decides anew, and what is signed names the decision."""


def _approval(flow: Flow, tag: str) -> bytes:
    approval = DatasetApproval(dataset=flow.registered(tag), reason="consented", issued_at=flow.rig.now)
    return people.envelope(approval.to_statement(), key_of("stella")).to_bytes()


def _evaluate(flow: Flow, tag: str) -> None:
    flow.rig.models.evaluate(tag, 1, EvaluationOrder(dataset="digits@1"), EVA)


def _version_later(flow: Flow, tag: str) -> str:
    flow.rig.now += 1  # an evaluation at another time is another one
    return flow.version(tag)


def _requested(flow: Flow, tag: str) -> bytes:
    return flow.envelope(flow.version(tag))


def _with_approval(flow: Flow, tag: str) -> tuple[str, bytes]:
    promotion = flow.requested(tag)
    return promotion, flow.approval(promotion, "ada")


def _with_clearance(flow: Flow, tag: str) -> tuple[str, bytes]:
    flag = flow.flagged(tag)
    return flag, flow.rig.clearance(flag)


def _tree(flow: Flow, tag: str) -> ArtifactUpload:
    """Uploaded files that are no artifact yet."""
    files = flow.rig.files({"model.safetensors": f"{tag}'s".encode()})
    return ArtifactUpload(id=tree_digest([FileEntry.from_json(file) for file in files]), files=files)


def _rolling_flagged(flow: Flow, tag: str) -> str:
    """A flag was set on the canary of a rollout, which runs still."""
    rollout = flow.rolling(tag)
    flow.rig.flag("model", f"{tag}@2")
    return rollout


def _stopped(flow: Flow, tag: str) -> str:
    """A flag was set; its deployment serves still."""
    flow.flagged(tag)
    return tag


def _resumed(flow: Flow, tag: str) -> str:
    """A flag was lifted; its deployment is still stopped."""
    flag = flow.flagged(tag)
    flow.quarantine.enforce()
    flow.rig.flags.lift(flag, flow.rig.clearance(flag), EVE)
    return tag


def _unpublished(flow: Flow, tag: str) -> None:
    """Entries that no checkpoint covers."""
    flow.registered(tag)
    flow.rig.relay.flush()


def _sealed(flow: Flow, tag: str) -> None:
    flow.recorded(tag)
    flow.records.seal()


def _batch(flow: Flow, tag: str) -> RecordBatch:
    """What a predictor in a cluster hands on."""
    deployment = flow.serving.get(flow.deployed(tag))
    now, digest = flow.rig.clock(), deployment["artifact_id"]
    record = {
        "id": f"prd-{now:012x}{0:020x}", "ts": now, "deployment": deployment["id"], "artifactId": digest, "inputDigest": digest,
        "outputDigest": digest, "latencyUs": 1, "outcome": "ok", "status": 200, "rollout": None,
    }  # fmt: skip
    batch = {"id": new_id("bat"), "deployment": deployment["id"], "records": [record], "recovered": False, "lost": 0}
    return RecordBatch.from_json(batch)


def _flag_over_http(flow: Flow, tag: str) -> None:
    order = {"kind": "model", "target": f"{tag}@1", "reason": "biased"}
    call(flow.http, "POST", "/v1/flags", json=order, headers=as_("eve", **{"idempotency-key": tag}))


def _append(flow: Flow, record: dict[str, Any]) -> None:
    flow.records.expect()
    flow.writes.take("router", "append a record", lambda: flow.records.append(record))


SECOND_RUN = frozenset({"train.started"})
"""An order whose answer was lost is another order when it is given again."""

STEPS = (
    Step("register a data set", Flow.dataset, lambda flow, it: flow.rig.datasets.register(it, TOM)),
    Step("approve a data set", _approval, lambda flow, it: flow.rig.datasets.approve(it, STELLA)),
    Step("order a training", lambda flow, tag: flow.order, lambda flow, it: flow.training.start(it, TOM), twice=SECOND_RUN),
    Step("finish a training", Flow.started, lambda flow, it: flow.training.step()),
    Step("a training fails", Flow.broken, lambda flow, it: flow.training.step()),
    Step("retry a training", Flow.failed, lambda flow, it: flow.training.retry(it, TOM)),
    Step("cancel a training", Flow.started, lambda flow, it: flow.training.cancel(it, TOM)),
    Step("repeat a training", Flow.started, lambda flow, it: flow.training.rerun(it, TOM), twice=SECOND_RUN),
    Step("upload an artifact", _tree, lambda flow, it: flow.rig.artifacts.upload(it, TOM)),
    Step("register a version", lambda flow, tag: tag, lambda flow, it: flow.version(it)),
    Step("evaluate", _version_later, _evaluate),
    Step("request a promotion", _requested, lambda flow, it: flow.rig.promotions.request(it, RITA)),
    Step("approve a promotion", _with_approval, lambda flow, it: flow.rig.promotions.approve(*it, person_id("ada"))),
    Step("promote", Flow.approved, lambda flow, it: flow.rig.promotions.carry_out(it, RITA)),
    Step("deploy", Flow.promoted, lambda flow, it: flow.deploy(it)),
    Step("start a rollout", Flow.rollout, lambda flow, it: flow.rollouts.start(it, DARIO)),
    Step("rollout: the canary is ready", lambda flow, tag: flow.rolling(tag, 0), lambda flow, it: flow.rollouts.advance(it)),
    Step("rollout: traffic begins", lambda flow, tag: flow.rolling(tag, 1), lambda flow, it: flow.rollouts.advance(it)),
    Step("rollout: a step", lambda flow, tag: flow.seen(flow.rolling(tag)), lambda flow, it: flow.rollouts.advance(it)),
    Step("rollout: full traffic", Flow.cleared, lambda flow, it: flow.rollouts.advance(it)),
    Step("rollout: back", lambda flow, tag: flow.seen(flow.rolling(tag), errors=60), lambda flow, it: flow.rollouts.advance(it)),
    Step("rollout: undecided", Flow.slow, lambda flow, it: flow.rollouts.advance(it)),
    Step("extend a rollout", Flow.undecided, lambda flow, it: flow.rollouts.extend(it, 500, 3600.0, "a quiet day", DARIO)),
    Step("complete a rollout", Flow.undecided, lambda flow, it: flow.rollouts.complete(it, "seen by hand", person_id("ada"))),
    Step("abort a rollout", Flow.rolling, lambda flow, it: flow.rollouts.abort(it, "not now", DARIO)),
    Step("set a flag", Flow.version, lambda flow, it: flow.rig.flag("model", f"{it}@1")),
    Step("set a flag over HTTP, with an Idempotency-Key", Flow.version, _flag_over_http, not_told="commit idempotency"),
    Step("quarantine", _stopped, lambda flow, it: flow.quarantine.enforce()),
    Step("quarantine within a rollout", _rolling_flagged, lambda flow, it: flow.quarantine.enforce()),
    Step("lift a flag", _with_clearance, lambda flow, it: flow.rig.flags.lift(*it, EVE)),
    Step("resume", _resumed, lambda flow, it: flow.quarantine.enforce()),
    Step("undeploy", Flow.deployed, lambda flow, it: flow.serving.undeploy(it, DARIO)),
    Step(
        "publish policies",
        lambda flow, tag: flow.rig.sentinelnet.active().version + 1,
        lambda flow, it: flow.rig.publish(version=it),
    ),
    Step("record a prediction", Flow.record, _append),
    Step("seal predictions", Flow.recorded, lambda flow, it: flow.records.seal()),
    Step("keep a predictor's records", _batch, lambda flow, it: flow.kept.keep(it, PREDICTOR)),
    Step("deliver the router's events", _sealed, lambda flow, it: flow.router_relay.flush()),
    Step("deliver the platform's events", Flow.registered, lambda flow, it: flow.rig.relay.flush()),
    Step("publish a checkpoint", _unpublished, lambda flow, it: flow.rig.audit.publish()),
)


def ready(folder: Path) -> tuple[Rig, StartRun]:
    """A closed rig with two completed runs that are evaluated, and an order to train."""
    rig = evaluated(folder / "home")
    dataset = rig.datasets.get("digits@1")["id"]
    second = rig.train(RUNS[1], [dataset], WEIGHTS | {"config.json": b'{"layers":[64,12]}'})
    rig.register(second)
    rig.evaluate(2)
    stage = Stage(folder)
    stage.store = rig.store
    order = stage.order(repository(folder / "repository"), datasets=["digits@1"])
    stage.engine.dispose()
    stage.compute.close()
    rig.close()
    return rig, order
