"""What the tests of the registry share: a whole platform but for training and serving, in one process, over real databases,
a real log, real policies and the real signing service. Only the evaluator, the runs and the keys are in memory."""

import dataclasses
import functools
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.api.adapters import DecisionRecords, LogHistory, LogSnapshot, OutboxEvents, SentinelPolicy
from services.api.reconcile import Reconciler
from services.api.tables import metadata as platform_tables
from services.api.tables import outbox as outbox_table
from services.audit.folder import FolderStore as LogFolder
from services.audit.service import AuditLog
from services.audit.tables import metadata as audit_tables
from services.core import dsse, keys, oms, tlog
from services.core.archive import WEIGHTS_UP_TO
from services.core.bundle import Bundle, to_tar
from services.core.database import begin, open_engine
from services.core.digests import FileEntry, sha256, tree_bytes
from services.core.facts import run_key
from services.core.keys import PrivateKey, Signature
from services.core.object_backends.folder import open_store
from services.core.objects import ObjectStore
from services.core.outbox import Outbox, Relay
from services.core.statements import Clearance, CodeRef, DatasetApproval, PromotionRequest, Provenance, RunInputs
from services.core.tls import person_id, service_id
from services.core.trust import Person, Trust
from services.registry.artifacts import Artifacts
from services.registry.datasets import DatasetManifest, DatasetRegistration, Datasets
from services.registry.evidence import Evidences
from services.registry.flags import FlagOrder, Flags
from services.registry.http import Registry
from services.registry.lineage import build
from services.registry.models import EvaluationOrder, Models, Registration, parse_reference
from services.registry.ports import Events, Measured, Policy, Run, Signing
from services.registry.promotion import Promotions
from services.sentinelnet.backends.regopy import RegopyEngine
from services.sentinelnet.ports import PolicyEngine
from services.sentinelnet.service import SentinelNet
from services.signing.ports import CheckpointState, StatementRequest
from services.signing.service import SigningService
from services.signing.tables import metadata as signing_tables
from services.signing.tables import outbox as signing_outbox
from tests import databases
from tests import signing as world
from tests.fakes.registry import FaultyEvents, FaultyObjects, FaultyPolicy, FaultySigning, SaysEvaluator, Steps, StoredRuns
from tests.fakes.writes import Writes
from tests.sentinelnet import BUNDLE, signed

API = service_id("api")
COMPONENTS = {"platform": "api", "audit": "appender", "signing": "proxy"}
"""Whose writes those to a database are."""
NOW = world.NOW
RITA, TOM, STELLA, EVA = (person_id(name) for name in ("rita", "tom", "stella", "eva"))
EXTRA_KEYS: dict[str, PrivateKey] = {"stella": keys.generate_p256(), "eva": keys.generate_p256()}
WEIGHTS = {"model.safetensors": b"weights " * 100, "config.json": b'{"layers":[64,10]}', "cards/README.md": b"# digits\n"}
RECALLS = {str(label): {"precision": 0.97, "recall": 0.96, "count": 36} for label in range(10)}
GOOD = Measured(360, {"accuracy": 0.9722222222222222, "perClass": RECALLS})


def trust(**changes: Any) -> Trust:
    """The tests' trust, with a steward and an evaluator beside the promoter, the trainer and the approvers."""
    roles = {"stella": "steward", "eva": "evaluator"}
    extra = tuple(Person(person_id(name), frozenset({roles[name]}), (world.pem(key),)) for name, key in EXTRA_KEYS.items())
    known = world.trust(world.VKEY)
    return dataclasses.replace(known, people=known.people + extra, **changes)


def key_of(name: str, which: int = 0) -> PrivateKey:
    return EXTRA_KEYS[name] if name in EXTRA_KEYS else world.PEOPLE_KEYS[name][which]


class InProcessSigning:
    """The signing service behind the registry's port Signing and the log's port CheckpointSigner, without HTTP between."""

    service: SigningService

    def sign_statement(self, key: str, payload: bytes, evidence: dict[str, bytes], actor: str) -> bytes:
        made = self.service.sign_statement(StatementRequest(key, payload, actor, evidence), actor=API)
        return dsse.Envelope(dsse.PAYLOAD_TYPE, payload, (Signature(made.keyid, made.signature),)).to_bytes()

    def sign_model(self, key: str, payload: bytes, actor: str) -> bytes:
        made = self.service.sign_model(key=key, payload=payload, on_behalf_of=actor, actor=API)
        return oms.bundle(payload, made.signature, keys.load_public_pem(made.public_key))

    def sign_checkpoint(self, *, origin: str, size: int, root: bytes, proof: Sequence[bytes]) -> str:
        return self.service.sign_checkpoint(origin=origin, size=size, root=root, proof=proof)

    def last_checkpoint(self, origin: str) -> CheckpointState | None:
        return self.service.last_checkpoint(origin)


@dataclass(frozen=True)
class Ports:
    """What the use cases stand on; a test puts faults around them."""

    store: ObjectStore
    events: Events
    policy: Policy
    signing: Signing


class Rig:
    """A platform in a folder. Opened on a copy of the folder of another rig, it goes on from there, as after a restart."""

    def __init__(
        self, folder: Path, runs: StoredRuns | None = None, engine: PolicyEngine | None = None, writes: Writes | None = None
    ) -> None:
        self.folder, self.now, self.trust, self.writes = folder, NOW, trust(), writes or Writes()
        folder.mkdir(exist_ok=True)
        tables = {"platform": platform_tables, "audit": audit_tables, "signing": signing_tables}
        self.engines = {name: open_engine(databases.url(folder, name)) for name in tables}
        for name, metadata in tables.items():
            metadata.create_all(self.engines[name])
            self.writes.database(COMPONENTS[name], self.engines[name])
        self.engine, self.store = self.engines["platform"], self.writes.objects(open_store(str(folder / "objects")))
        self.runs, self.evaluator = runs or StoredRuns(), SaysEvaluator(GOOD)
        self.proxy, self.signers = InProcessSigning(), {r: world.FaultySigner(k) for r, k in world.ALL_KEYS.items()}
        log = self.writes.log(LogFolder(folder / "log"))
        self.audit = AuditLog(self.engines["audit"], log, self.proxy, tlog.parse_vkey(world.VKEY))
        self.proxy.service = self._signing_service()
        self.outbox = Outbox(outbox_table, API, self.clock)
        self.relay = Relay(self.engine, self.outbox, self.audit)
        self.sentinelnet = SentinelNet(
            engine=engine or RegopyEngine(), database=self.engine, store=self.store, outbox=self.outbox, relay=self.relay,
            trust=self.trust_now, clock=self.clock,
        )  # fmt: skip
        self.ports = Ports(self.store, OutboxEvents(self.outbox, self.relay), SentinelPolicy(self.sentinelnet), self.proxy)
        self.log = LogHistory(self.audit, self.relay)
        self.reconciler = Reconciler(self.engine, self.audit, self.outbox, self.relay)
        self.use(self.ports)

    def trust_now(self) -> Trust:
        return self.trust

    def clock(self) -> int:
        return self.now * 1000

    def use(self, ports: Ports) -> None:
        """The use cases over these ports."""
        base = (self.engine, ports.store, ports.events, self.clock)
        self.datasets, self.artifacts = Datasets(*base, self.trust_now), Artifacts(*base)
        held_out = SentinelPolicy(self.sentinelnet).held_out
        made = self.datasets, self.artifacts, self.runs
        self.models = Models(*base, *made, ports.signing, self.evaluator, self.trust_now, held_out)
        self.flags = Flags(*base, self.trust_now, ports.policy, self._resolve)
        self.promotions = Promotions(
            *base, self.trust_now, self.datasets, self.artifacts, self.models, self.flags, ports.policy, ports.signing, self.log,
            API,
        )  # fmt: skip
        records, snapshot = DecisionRecords(self.sentinelnet, self.store), LogSnapshot(self.audit, self.relay)
        self.evidences = Evidences(
            self.engine, ports.store, self.datasets, self.artifacts, self.models, self.promotions, self.flags, records, snapshot
        )

    def use_faulty(self, steps: Steps) -> None:
        """As use, with one fault at the step that `steps` names."""
        p = self.ports
        faulty = FaultyPolicy(p.policy, steps), FaultySigning(p.signing, steps)
        self.use(Ports(FaultyObjects(p.store, steps), FaultyEvents(p.events, steps), *faulty))

    def close(self) -> None:
        for engine in self.engines.values():
            engine.dispose()

    # -- the flow, step by step

    def publish(self, bundle: Bundle = BUNDLE, version: int = 1) -> str:
        return self.sentinelnet.publish(to_tar(bundle), signed(bundle, version), person_id("eve")).revision

    def dataset(self, name: str = "digits", *, pii: str = "none", parents: Sequence[str] = (), licence: str = "CC-BY-4.0") -> str:
        """Registers a data set of two splits, and answers its id."""
        contents = {"train.csv": f"{name} 1,2,3\n".encode(), "test.csv": f"{name} 4,5,6\n".encode()}
        manifest = DatasetManifest.from_json(
            {
                "files": self.files(contents),
                "schema": {"pixel": "uint8", "label": "uint8"},
                "licence": licence,
                "source": "https://data.example/digits",
                "pii": pii,
                "parents": list(parents),
                "splits": {"train": ["train.csv"], "test": ["test.csv"]},
            }
        )
        return str(self.datasets.register(DatasetRegistration(name=name, version="1", manifest=manifest), TOM)["id"])

    def files(self, contents: dict[str, bytes]) -> list[dict[str, Any]]:
        """Stores the contents; their entries as JSON."""
        return [FileEntry(path, len(data), self.store.put(data)).to_json() for path, data in contents.items()]

    def approve_dataset(self, dataset: str, name: str = "stella") -> dict[str, Any]:
        approval = DatasetApproval(dataset=dataset, reason="pseudonymised", issued_at=self.now)
        envelope = world.envelope(approval.to_statement(), key_of(name)).to_bytes()
        return self.datasets.approve(envelope, person_id(name))

    def train(self, run_id: str, datasets: Sequence[str], contents: dict[str, bytes] = WEIGHTS, *, dirty: bool = False) -> Run:
        """Leaves what a completed run leaves: the artifact, its provenance, the run's record."""
        files = [FileEntry.from_json(item) for item in self.files(contents)]
        self.store.put(tree_bytes(files))
        with begin(self.engine) as connection:
            artifact = self.artifacts.record(connection, files, TOM, run_id=run_id, meta={})
        inputs = _inputs(run_id, datasets, dirty)
        provenance = Provenance(
            artifact_id=artifact,
            run_id=run_id,
            run_key=run_key(inputs.to_json()),
            job={"name": "digits", "purpose": "commercial"},
            inputs=inputs,
            builder=API,
            started_on=self.now - 500,
            finished_on=self.now - 400,
        )
        stored = self.store.put(self.proxy.sign_statement("builder", provenance.to_statement(), {}, TOM))
        run = Run(
            id=run_id, run_key=provenance.run_key, artifact_id=artifact, code_ref=inputs.code_ref.to_json(),
            datasets=list(datasets), metrics={"loss": 0.1}, provenance=stored,
        )  # fmt: skip
        self.runs.found[run_id] = run
        return run

    def register(self, run: Run, risk: str = "high", *, sign: bool = True) -> dict[str, Any]:
        registration = Registration.from_json({"run": run.id, "riskClass": risk, "sign": sign})
        return self.models.register("digits", registration, TOM)

    def evaluate(self, number: int = 1, dataset: str = "digits@1") -> str:
        """The payload digest of a new evaluation."""
        record = self.models.evaluate("digits", number, EvaluationOrder(dataset=dataset), EVA)
        return str(record["evaluations"][-1]["payload"])

    def request_for(self, number: int = 1, to: str = "staging", **changes: Any) -> PromotionRequest:
        """What the promoter asks for, with everything as it is recorded."""
        version = self.models.get("digits", number)
        evaluations = version["evaluations"]
        values = {
            "number": number,
            "artifact_id": version["artifact_id"],
            "run_key": version["run_key"],
            "evaluation": evaluations[-1]["payload"] if evaluations else None,
            "from_stage": version["stage"],
            "to_stage": to,
            "risk_class": version["risk_class"],
            "policy_revision": self.sentinelnet.active().revision,
            "issued_at": self.now,
            "expires_at": self.now + 3600,
            "nonce": sha256(f"{number}{to}".encode())[-32:],
        }
        return world.request(**(values | changes))

    def request(self, number: int = 1, to: str = "staging", **changes: Any) -> str:
        """Id of a promotion that the promoter signed."""
        payload = self.request_for(number, to, **changes).to_statement()
        return str(self.promotions.request(world.envelope(payload, key_of("rita")).to_bytes(), RITA)["id"])

    def approve(self, promotion: str, *names: str, which: int = 0) -> None:
        payload = dsse.parse(self.promotions.envelope(promotion)).payload
        for name in names:
            self.promotions.approve(promotion, world.envelope(payload, key_of(name, which)).to_bytes(), person_id(name))

    def promoted(self, number: int = 1, to: str = "staging") -> str:
        """Id of a completed promotion."""
        promotion = self.request(number, to)
        self.approve(promotion, "ada", "ben", "cyd")
        self.promotions.carry_out(promotion, RITA)
        return promotion

    def promoted_toy(self) -> None:
        """A second model, toy@1, in staging: of low risk, so nobody has to approve."""
        run = self.train("run-toy", [self.datasets.get("digits@1")["id"]], {"w": b"toy"})
        self.models.register("toy", Registration(run=run.id, risk_class="low"), TOM)
        version = self.models.evaluate("toy", 1, EvaluationOrder(dataset="digits@1"), EVA)
        facts = {key: version[key] for key in ("model", "artifact_id", "run_key", "risk_class")}
        asked = self.request(**facts, from_stage="dev", evaluation=version["evaluations"][-1]["payload"])
        self.promotions.carry_out(asked, RITA)

    def flag(self, kind: str = "model", target: str = "digits@1") -> str:
        order = FlagOrder.from_json({"kind": kind, "target": target, "reason": "biased"})
        return str(self.flags.set(order, person_id("eve"))["id"])

    def clearance(self, flag: str, name: str = "eve", /, **changes: Any) -> bytes:
        found = self.flags.get(flag)
        values = {"flag": flag, "kind": found["kind"], "target": found["target"], "reason": "tested", "issued_at": self.now}
        return world.envelope(Clearance(**(values | changes)).to_statement(), key_of(name)).to_bytes()

    # -- what is left behind

    def stage(self, number: int = 1) -> str:
        return str(self.models.get("digits", number)["stage"])

    def events(self, kind: str) -> list[dict[str, Any]]:
        """Events of the log of one type."""
        self.relay.flush()
        return [entry.event for entry in self.audit.search(type=kind, limit=1000)]

    def problems(self) -> list[str]:
        """What the reconciler and the log's own check find."""
        found = list(self.reconciler.run()["problems"])
        self.audit.publish()
        return found + [str(problem) for problem in self.audit.verify().problems]

    def archive(self, path: Path, *, weights: bool = True, number: int = 1) -> Path:
        up_to = WEIGHTS_UP_TO if weights else 0
        with self.evidences.build("digits", number, None, up_to) as source, path.open("wb") as target:
            shutil.copyfileobj(source, target)
        return path

    def registry(self) -> Registry:
        def graph() -> Any:
            return build(self.datasets.all(), self.models.all(), [])

        return Registry(
            self.store, self.datasets, self.artifacts, self.models, self.promotions, self.flags, self.evidences, graph
        )

    def _resolve(self, kind: str, target: str) -> str:
        if kind == "dataset":
            return str(self.datasets.get(target)["id"])
        if kind == "artifact":
            return str(self.artifacts.get(target)["id"])
        version = self.models.get(*parse_reference(target))
        return f"{version['model']}@{version['number']}"

    def _signing_service(self) -> SigningService:
        outbox = Outbox(signing_outbox, service_id("signing-proxy"), self.clock)
        return SigningService(
            engine=self.engines["signing"], outbox=outbox, relay=Relay(self.engines["signing"], outbox, self.audit),
            signers={name: self.writes.signer(name, signer) for name, signer in self.signers.items()},
            trust=self.trust_now, origin=world.ORIGIN, clock=self.clock,
        )  # fmt: skip


def evaluated(folder: Path) -> Rig:
    """A high-risk version in dev, made from a set with personal data and its parent, evaluated; policies are published."""
    rig = Rig(folder)
    rig.publish()
    parent = rig.dataset("raw")
    dataset = rig.dataset("digits", pii="present", parents=[parent])
    rig.approve_dataset(dataset)
    rig.register(rig.train("run-1", [dataset]))
    rig.evaluate()
    return rig


def copied(rig: Rig, folder: Path, engine: PolicyEngine | None = None, writes: Writes | None = None) -> Rig:
    """A rig of its own over a copy of a closed rig's folder."""
    shutil.copytree(rig.folder, folder, dirs_exist_ok=True)
    return Rig(folder, StoredRuns(dict(rig.runs.found)), engine, writes)


def _inputs(run_id: str, datasets: Sequence[str], dirty: bool) -> RunInputs:
    return RunInputs(
        code_ref=CodeRef(repository="https://git.example/digits", commit="0" * 40, tree=world.digest("tree"), dirty=dirty),
        image=world.digest("image"),
        dependency_lock=world.digest("lock"),
        datasets=list(datasets),
        hyperparameters={"epochs": 8, "run": run_id},
        seed=7,
        environment={"python": "3.11"},
    )


@functools.cache
def _template() -> tuple[tempfile.TemporaryDirectory[str], Rig]:
    folder = tempfile.TemporaryDirectory(prefix="ai-infra-rig-")
    rig = evaluated(Path(folder.name) / "home")
    rig.close()
    return folder, rig


@contextmanager
def opened(folder: Path) -> Iterator[Rig]:
    """A copy of `evaluated`, which is made once."""
    rig = copied(_template()[1], folder / "home")
    try:
        yield rig
    finally:
        rig.close()
