"""What the tests about training share: the service on a new database, with the real registry, and the digits example in git."""

import base64
import itertools
import os
import shutil
import subprocess
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from sqlalchemy import Connection, Engine, MetaData, select

from services.core import dsse
from services.core.canonical import parse
from services.core.database import open_engine
from services.core.digests import sha256
from services.core.events import EventDraft
from services.core.keys import generate_p256, signer_id
from services.core.object_backends.folder import open_store
from services.core.objects import ObjectStore
from services.core.outbox import Outbox, outbox_table
from services.core.tls import person_id, service_id
from services.registry import tables as registry_tables
from services.registry.artifacts import Artifacts
from services.registry.datasets import DatasetRegistration, Datasets
from services.training import source
from services.training.domain import Job, StartRun
from services.training.environment import Environment
from services.training.service import Site, Training
from services.training.tables import runs
from tests import databases
from tests import signing as world
from tests.fakes.training import FakeCompute, FakePolicy

EXAMPLE = Path(__file__).parent.parent / "examples" / "digits"
TARA, BUILDER = person_id("tara"), service_id("api")
LOCK = sha256(b"the lock file")
ENVIRONMENT = Environment({"python": "CPython 3.11.9", "platform": "linux-x86_64"}, {"torch": "2.9.0", "ray": "2.60.0"})
AUTHOR = {
    "GIT_AUTHOR_NAME": "test", "GIT_AUTHOR_EMAIL": "test@example.org", "GIT_AUTHOR_DATE": "2026-01-01T00:00:00Z",
    "GIT_COMMITTER_NAME": "test", "GIT_COMMITTER_EMAIL": "test@example.org", "GIT_COMMITTER_DATE": "2026-01-01T00:00:00Z",
    "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull,
}  # fmt: skip


def git(folder: Path, *arguments: str) -> str:
    """What git prints."""
    done = subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True, env=os.environ | AUTHOR)
    return done.stdout.strip()


def commit_all(folder: Path) -> None:
    """Everything of a folder, in one new repository or one more commit."""
    if not (folder / ".git").exists():
        git(folder, "init", "-q", "-b", "main")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "a commit")


def repository(folder: Path) -> Path:
    """The digits example, committed."""
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("__pycache__", "data"))
    commit_all(folder)
    return folder


def job_json(name: str = "job.yaml", **changes: Any) -> dict[str, Any]:
    """A job of the example, with some fields changed."""
    value: dict[str, Any] = yaml.safe_load((EXAMPLE / name).read_text())
    return value | changes


class LocalSigning:
    """The port Signing, with one key in this process. fault: called before each signature."""

    def __init__(self) -> None:
        self.key = generate_p256()
        self.fault: Any = lambda: None

    def sign_model(self, key: str, payload: bytes, actor: str) -> bytes:
        raise AssertionError("training signs no models")

    def sign_statement(self, key: str, payload: bytes, evidence: dict[str, bytes], actor: str) -> bytes:
        self.fault()
        assert key == "builder"
        signature = dsse.sign(payload, self.key)
        return dsse.from_json(dsse.envelope(dsse.PAYLOAD_TYPE, payload, [(signature.keyid, signature.sig)])).to_bytes()


@dataclass(frozen=True)
class LocalEvents:
    """The port Events: an outbox whose log never answers. fault: called before each event is written."""

    outbox: Outbox
    fault: list[Any] = field(default_factory=list)

    def emit(self, connection: Connection, draft: EventDraft) -> str:
        for found in self.fault:
            found(draft.type)
        return self.outbox.emit(connection, draft)

    def wait_for(self, event_ids: list[str]) -> dict[str, int]:
        raise AssertionError("training waits for no event")


@dataclass
class Stage:
    """A service, its neighbours, and one registered data set. Times: seconds from 1,000 on, one more at each look.

    database: sqlite or postgresql; None follows TEST_DATABASE.
    """

    folder: Path
    compute: Any = field(default_factory=FakeCompute)
    policy: FakePolicy = field(default_factory=FakePolicy)
    signing: LocalSigning = field(default_factory=LocalSigning)
    environment: Environment = ENVIRONMENT
    lock: str = LOCK
    database: str | None = None

    def __post_init__(self) -> None:
        self._ticks = itertools.count(1_000_000, 1000)
        self.store: ObjectStore = open_store(str(self.folder / "objects"))
        self.engine: Engine = open_engine(databases.url(self.folder, "platform", self.database))
        metadata = MetaData()
        self.outbox_table = outbox_table(metadata)
        metadata.create_all(self.engine)
        registry_tables.metadata.create_all(self.engine)
        self.events = LocalEvents(Outbox(self.outbox_table, BUILDER, self.clock))
        self.datasets = Datasets(self.engine, self.store, self.events, self.clock, world.trust)
        self.artifacts = Artifacts(self.engine, self.store, self.events, self.clock)

    def clock(self) -> int:
        return next(self._ticks)

    @cached_property
    def service(self) -> Training:
        return Training(
            engine=self.engine,
            store=self.store,
            events=self.events,
            clock=self.clock,
            datasets=self.datasets,
            artifacts=self.artifacts,
            flags=lambda datasets: [],
            policy=self.policy,
            signing=self.signing,
            compute=self.compute,
            site=Site(builder=BUILDER, environment=lambda: self.environment, lock=lambda: self.lock),
        )

    def restarted(self) -> Training:
        """The service after a restart of its process; compute is as it is."""
        return replace(self.service)

    def add_dataset(self, files: dict[str, bytes] | None = None, version: str = "1.0", **changes: Any) -> str:
        """Id of optical-digits at a version."""
        content = files or {"train.csv": b"label,p0\n1,2\n", "test.csv": b"label,p0\n1,3\n"}
        entries = [{"path": path, "size": len(data), "sha256": self.store.put(data)} for path, data in content.items()]
        manifest = {
            "files": entries, "schema": {"label": "integer"}, "licence": "CC-BY-4.0", "source": "a test", "pii": "none",
            "parents": [], "splits": {"train": ["train.csv"], "test": ["test.csv"]},
        }  # fmt: skip
        value = {"name": "optical-digits", "version": version, "manifest": manifest | changes}
        return str(self.datasets.register(DatasetRegistration.from_json(value), TARA)["id"])

    def order(self, repo: Path, **changes: Any) -> StartRun:
        """A start of the example's job with the source of a repository, uploaded."""
        packed = source.pack(repo)
        self.store.put(packed.archive)
        return StartRun(
            job=Job.from_json(job_json(**changes)),
            code=packed.code,
            directory=packed.directory,
            commit_object=base64.b64encode(packed.commit_object).decode(),
        )

    def emitted(self) -> list[dict[str, Any]]:
        """Every event, oldest first."""
        with self.engine.connect() as connection:
            query = select(self.outbox_table.c.event).order_by(self.outbox_table.c.seq)
            return [parse(event) for event in connection.execute(query).scalars()]

    def types(self) -> list[str]:
        """Types of the events after the data set's registration."""
        return [event["type"] for event in self.emitted() if event["type"] != "dataset.registered"]

    def states(self) -> list[str]:
        with self.engine.connect() as connection:
            return list(connection.execute(select(runs.c.state).order_by(runs.c.started_at)).scalars())

    @property
    def builder(self) -> dict[str, Any]:
        """Trusted builder keys, as dsse.verified_signers wants them."""
        return {signer_id(self.signing.key.public_key()): self.signing.key.public_key()}
