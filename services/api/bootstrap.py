"""Puts the API process together: the only file of it that names concrete classes and meets the environment."""

import contextlib
import logging
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import uvloop
from fastapi import FastAPI
from sqlalchemy import Engine

from services.api import tables
from services.api.adapters import (
    DecisionRecords,
    LogHistory,
    LogSnapshot,
    OutboxEvents,
    SentinelPolicy,
    ServedPredictions,
    ServedVersions,
)
from services.api.app import Loop, build_app, common_routes
from services.api.metrics import gauges
from services.api.quarantine import Quarantine
from services.api.reconcile import Reconciler
from services.api.review import Review
from services.api.settings import Settings
from services.audit.folder import FolderStore
from services.audit.http import create_router as audit_routes
from services.audit.service import AuditLog
from services.audit.witnesses import Witness
from services.core import backends, logs, object_backends, tlog, tracing
from services.core.clock import system_clock
from services.core.database import open_engine
from services.core.errors import AiInfraError, BadSetting, NotFound
from services.core.http import serve
from services.core.migrations import upgrade
from services.core.objects import ObjectStore
from services.core.outbox import Outbox, Relay
from services.core.processes import die_with_supervisor
from services.core.tls import service_id
from services.core.trustfile import TrustFile, TrustNow
from services.registry.artifacts import Artifacts
from services.registry.datasets import Datasets
from services.registry.evidence import Evidences
from services.registry.flags import Flags, active_flags
from services.registry.http import Registry, evidence_routes
from services.registry.http import routes as registry_routes
from services.registry.lineage import Graph, build
from services.registry.models import Models, parse_reference
from services.registry.ports import Evaluator
from services.registry.promotion import Promotions
from services.sentinelnet import backends as policy_backends
from services.sentinelnet.errors import PolicyUnavailable
from services.sentinelnet.http import router as policy_routes
from services.sentinelnet.oversight import Oversight
from services.sentinelnet.service import SentinelNet
from services.serving import backends as serving_backends
from services.serving.controller import Controller
from services.serving.golden import CsvProbes
from services.serving.http import create_router as serving_routes
from services.serving.kept import KeptRecords
from services.serving.ports import ServingBackend
from services.serving.rollouts import Rollouts
from services.serving.service import Serving
from services.signing.client import SigningClient, open_client
from services.training.bootstrap import open_compute, open_evaluator, open_site
from services.training.http import routes as training_routes
from services.training.ports import ComputeBackend
from services.training.service import Training

log = logging.getLogger(__name__)

ACTOR = service_id("api")
RELAY_S, PUBLISH_S, ENFORCE_S, REVIEW_S, TRAIN_S, REFUSALS_S, FOLLOW_S = 0.2, 0.5, 0.3, 1.0, 0.2, 5.0, 0.5


@dataclass(frozen=True)
class Ground:
    """What every service of the process stands on."""

    settings: Settings
    engine: Engine
    store: ObjectStore
    trust: TrustNow
    outbox: Outbox
    relay: Relay
    audit: AuditLog
    sentinelnet: SentinelNet
    signing: SigningClient

    @property
    def events(self) -> OutboxEvents:
        return OutboxEvents(self.outbox, self.relay)

    @property
    def log(self) -> LogHistory:
        return LogHistory(self.audit, self.relay)

    def logged(self, event_id: str) -> dict[str, Any]:
        """An event as the log has it; what the relay has not carried there yet is carried now. Raises NotFound."""
        try:
            return self.audit.by_id(event_id).event
        except NotFound:
            self.relay.flush()
            return self.audit.by_id(event_id).event

    @property
    def policy(self) -> SentinelPolicy:
        return SentinelPolicy(self.sentinelnet, self.audit.require_cosigned)


def open_ground(settings: Settings) -> Ground:
    """Databases (migrated), object store, log, policies and the way to the signing proxy.

    Raises:
        BadSetting, Unavailable: the message names the variable or the thing; the process does not start.
    """
    home = settings.home.require()
    engine, audit_engine = open_engine(settings.database), open_engine(settings.audit_database)
    upgrade(engine, "platform")
    upgrade(audit_engine, "audit")
    opened = backends.load(object_backends, settings.object_backend, env=settings.env)
    store = tracing.traced_store(opened.open_store(settings.objects))
    signing = open_client(settings.signing_url, home.service("api"))
    trust = TrustFile(settings.trust)
    audit = AuditLog(
        audit_engine,
        FolderStore(home.root / "log"),
        signing,
        tlog.parse_vkey(trust().log_vkey),
        [Witness(url, key) for key, url in home.witnesses(trust())],
        trust().witness_threshold,
    )
    outbox = Outbox(tables.outbox, ACTOR, system_clock)
    relay = Relay(engine, outbox, audit)
    policy_engine = backends.load(policy_backends, settings.policy_engine, env=settings.env).open_engine(settings.policy_url)
    sentinelnet = SentinelNet(
        engine=policy_engine, database=engine, store=store, outbox=outbox, relay=relay, trust=trust, clock=system_clock
    )
    return Ground(settings, engine, store, trust, outbox, relay, audit, sentinelnet, signing)


def build_platform(settings: Settings) -> FastAPI:
    """The app, with its threads, ready to be served."""
    ground = open_ground(settings)
    # Before the port opens: without policies every call would be refused.
    first_start(ground)
    datasets = Datasets(ground.engine, ground.store, ground.events, system_clock, ground.trust)
    artifacts = Artifacts(ground.engine, ground.store, ground.events, system_clock)
    training = open_training(ground, datasets, artifacts)
    models = Models(
        ground.engine, ground.store, ground.events, system_clock, datasets, artifacts, training.service, ground.signing,
        training.evaluator, ground.trust, ground.policy.held_out,
    )  # fmt: skip
    flags = Flags(
        ground.engine,
        ground.store,
        ground.events,
        system_clock,
        ground.trust,
        ground.policy,
        _resolver(datasets, artifacts, models),
    )
    promotions = Promotions(
        ground.engine, ground.store, ground.events, system_clock, ground.trust, datasets, artifacts, models, flags,
        ground.policy, ground.signing, ground.log, ACTOR,
    )  # fmt: skip
    evidences = Evidences(
        ground.engine, ground.store, datasets, artifacts, models, promotions, flags,
        DecisionRecords(ground.sentinelnet, ground.store), LogSnapshot(ground.audit, ground.relay),
    )  # fmt: skip

    def graph() -> Graph:
        return build(datasets.all(), models.all(), serving.all())

    registry = Registry(ground.store, datasets, artifacts, models, promotions, flags, evidences, graph)
    serving, rollouts = open_serving(ground, registry)
    kept = KeptRecords(ground.engine, ground.store, ground.events, system_clock)
    quarantine = Quarantine(models, evidences, serving)
    review = Review(ground.sentinelnet, serving, serving.versions, flags)
    oversight = Oversight(ground.sentinelnet, ground.engine, ground.store, ground.logged)
    reconciler = Reconciler(ground.engine, ground.audit, ground.outbox, ground.relay)
    authorise = ground.sentinelnet.authorise
    # What is called most comes first: a path is compared with each route before its own.
    routers = [
        audit_routes(ground.audit, authorise),
        common_routes(ground.trust, ground.audit, ground.relay, reconciler, authorise),
        registry_routes(registry, authorise),
        evidence_routes(evidences, ServedPredictions(serving, kept), authorise),
        training_routes(training.service, authorise),
        policy_routes(ground.sentinelnet, oversight, review.run),
        serving_routes(serving, rollouts, kept, authorise),
    ]
    loops = [
        Loop("relay", RELAY_S, ground.relay.flush),
        Loop("publish", PUBLISH_S, ground.audit.publish),
        Loop("quarantine", ENFORCE_S, quarantine.enforce),
        Loop("review", REVIEW_S, review.run),
        Loop("refusals", REFUSALS_S, ground.sentinelnet.tell_refusals),
        Loop("cluster", FOLLOW_S, lambda: serving.backend.follow(serving.desired)),
        Controller(rollouts),
        training.loop,
    ]

    def recover() -> None:
        """What a start carries on with. Each step may be repeated."""
        for promotion in promotions.unfinished():
            try:
                promotions.carry_out(promotion, ACTOR)
            except AiInfraError as error:
                log.warning("promotion %s was not carried out: %s", promotion, error)

    def finish() -> None:
        """What an orderly end leaves nothing of: refusals that were counted and not told, and workers."""
        with contextlib.suppress(AiInfraError):  # an engine or database that is away now takes them with it, as a crash does
            ground.sentinelnet.tell_refusals(all_of_them=True)
        training.compute.close()
        serving.backend.close()

    return build_app(routers, loops, ground.engine, system_clock, recover, finish, gauges(ground.audit, ground.relay))


@dataclass(frozen=True)
class TrainingParts:
    """service: what the registry asks for completed runs."""

    service: Training
    evaluator: Evaluator
    loop: Loop
    compute: ComputeBackend


def open_training(ground: Ground, datasets: Datasets, artifacts: Artifacts) -> TrainingParts:
    """Runs, on the compute backend of the settings."""
    settings = ground.settings
    compute = open_compute(settings.compute, settings.home.root / "training", ground.store, env=settings.env)
    training = Training(
        engine=ground.engine,
        store=ground.store,
        events=ground.events,
        clock=system_clock,
        datasets=datasets,
        artifacts=artifacts,
        flags=lambda found: active_flags(ground.engine, {("dataset", dataset) for dataset in found}),
        policy=ground.policy,
        signing=ground.signing,
        compute=compute,
        site=open_site(ACTOR, settings.lock, compute.environment),
    )
    return TrainingParts(training, open_evaluator(ground.store), Loop("training", TRAIN_S, training.step), compute)


def open_serving(ground: Ground, registry: Registry) -> tuple[Serving, Rollouts]:
    """Deployments and rollouts, on the serving backend of the settings."""
    settings = ground.settings
    versions = ServedVersions(registry, registry.evidences, ground.store, ground.trust, system_clock, ground.log)
    opened = backends.load(serving_backends, settings.serving, env=settings.env)
    backend: ServingBackend = opened.open_backend(os.environ, settings.home.service("api"))
    serving = Serving(ground.engine, ground.events, system_clock, versions, ground.policy, backend)
    return serving, Rollouts(serving, CsvProbes(ground.store, registry.datasets.get))


def first_start(ground: Ground) -> None:
    """Publishes the policies that came with the home, signed by its security person, unless some were published already."""
    try:
        ground.sentinelnet.active()
    except PolicyUnavailable:
        folder = ground.settings.home.root / "bootstrap"
        ground.sentinelnet.publish((folder / "policies.tar").read_bytes(), (folder / "policies.dsse.json").read_bytes(), ACTOR)


def _resolver(datasets: Datasets, artifacts: Artifacts, models: Models) -> Callable[[str, str], str]:
    def resolve(kind: str, target: str) -> str:
        if kind == "dataset":
            return str(datasets.get(target)["id"])
        if kind == "artifact":
            return str(artifacts.get(target)["id"])
        version = models.get(*parse_reference(target))
        return f"{version['model']}@{version['number']}"

    return resolve


def main() -> int:
    """Serves until SIGTERM. Exit status 2 for a setting that is wrong, 1 for anything else."""
    die_with_supervisor(os.environ)
    logs.configure("api", logging.INFO)
    try:
        settings = Settings.from_env(os.environ)
        tracing.start("api", settings.env, settings.collector)
        app = build_platform(settings)
        uvloop.run(serve(app, host=settings.host, port=settings.port, identity=settings.home.service("api")))
    except AiInfraError as error:
        sys.stderr.write(f"api: {error}\n")
        return 2 if isinstance(error, BadSetting) else 1
    return 0
