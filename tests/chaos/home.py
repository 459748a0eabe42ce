"""A home in which a run completed and an evaluation passed, and a job that trains in seconds. The processes add the rest."""

import json
import random
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path

from services.core import dsse, keys, oms
from services.core.clock import system_clock
from services.core.database import open_engine
from services.core.migrations import upgrade
from services.core.tls import person_id
from services.home import Home, create
from services.registry.models import EvaluationOrder, Models, Registration
from tests import databases
from tests.fakes.registry import SaysEvaluator
from tests.registry import GOOD
from tests.serving import WIDTH, config, row, weights
from tests.training import TARA, Stage, commit_all, job_json, repository

RISK = "high"
EVALUATOR = person_id("eva")
DATASET = "optical-digits@1.0"
SAMPLES = 180
"""In the held-out split: the policies take no fewer than 100."""
JOB = job_json(workers=1, outputs=["model.txt"], hyperparameters={"epochs": 3})
TRAIN = """\
import tempfile
from pathlib import Path

from ray import train


def train_loop(config):
    first, checkpoint = 1, train.get_checkpoint()
    if checkpoint is not None:
        with checkpoint.as_directory() as folder:
            first = int(Path(folder, "epoch").read_text()) + 1
    for epoch in range(first, config["hyperparameters"]["epochs"] + 1):
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "epoch").write_text(str(epoch))
            train.report({"epoch": epoch}, checkpoint=train.Checkpoint.from_directory(folder))
    Path(config["output"], "model.txt").write_text("the model of a campaign")
"""
"""Takes no time of its own: what costs is Ray, whose processes are to be killed."""


@dataclass
class HomeSigning:
    """Implements registry's port Signing with the keys of a home whose proxy does not run yet."""

    home: Home

    def sign_statement(self, key: str, payload: bytes, evidence: dict[str, bytes], actor: str) -> bytes:
        return dsse.Envelope(dsse.PAYLOAD_TYPE, payload, (dsse.sign(payload, self._key(key)),)).to_bytes()

    def sign_model(self, key: str, payload: bytes, actor: str) -> bytes:
        private = self._key(key)
        return oms.bundle(payload, dsse.sign(payload, private), private.public_key())

    def _key(self, name: str) -> keys.PrivateKey:
        return keys.read_private_pem(self.home.root / "signing" / "keys" / f"{name}.pem")


@dataclass
class _Workshop(Stage):
    """Training over the home's own database and store, in real time."""

    home: Home = field(kw_only=True)

    def __post_init__(self) -> None:
        engine = open_engine(databases.url(self.home.root, "platform", self.database))
        upgrade(engine, "platform")
        engine.dispose()
        super().__post_init__()
        self.signing = HomeSigning(self.home)  # type: ignore[assignment]

    def clock(self) -> int:
        return system_clock()


@dataclass(frozen=True)
class Warm:
    """database: sqlite or postgresql; run, other_run: completed runs, of which warm@1 and warm@2 were made and evaluated; job: of
    `TRAIN`."""

    home: Home
    database: str
    run: str
    other_run: str
    job: Path

    def copy(self, folder: Path) -> "Warm":
        """A home of its own with the same content; nothing may run in this one."""
        home = Home.at(folder / "home")
        shutil.copytree(self.home.root, home.root)
        shutil.copytree(self.home.people, home.people)
        return replace(self, home=home)

    @property
    def databases(self) -> dict[str, str]:
        """URLs of platform, log and signing proxy."""
        root = self.home.root
        return {
            "platform": databases.url(root, "platform", self.database),
            "audit": databases.url(root, "audit", self.database),
            "signing": databases.url(root / "signing", "signing", self.database),
        }


def make(folder: Path, database: str) -> Warm:
    """A new home in a folder."""
    home = Home.at(folder / "home")
    create(home)
    shop = _Workshop(home.root, home=home, database=database)
    shop.add_dataset({"train.csv": b"label,p0\n1,2\n", "test.csv": _held_out()})
    code = repository(folder / "repository")
    runs = []
    for epochs in (1, 2):
        run = shop.service.start(shop.order(code, hyperparameters={"epochs": epochs}), TARA)["id"]
        files = {"model.safetensors": weights(), "config.json": config(), "README.md": f"# corner, {epochs}\n".encode()}
        shop.compute.finish(run, files, finished_at=system_clock())
        runs.append(run)
    shop.service.step()
    models = Models(
        shop.engine, shop.store, shop.events, shop.clock, shop.datasets, shop.artifacts, shop.service,
        HomeSigning(home), SaysEvaluator(GOOD), lambda: home.trust, lambda: ["test"],
    )  # fmt: skip
    for number, run in enumerate(runs, 1):
        models.register("warm", Registration.from_json({"run": run, "riskClass": RISK}), TARA)
        models.evaluate("warm", number, EvaluationOrder(dataset=DATASET), EVALUATOR)
    shop.engine.dispose()
    shop.compute.close()
    return Warm(home, database, runs[0], runs[1], _job(folder / "job"))


def _held_out() -> bytes:
    """Labelled rows as the evaluator reads them."""
    rng = random.Random(SAMPLES)
    rows = [row(rng) for _ in range(SAMPLES)]
    lines = [",".join([label, *map(str, values)]) for values, label in rows]
    return "\n".join(["label," + ",".join(f"p{index}" for index in range(WIDTH)), *lines, ""]).encode()


def _job(folder: Path) -> Path:
    folder.mkdir()
    (folder / "train.py").write_text(TRAIN)
    (folder / "job.yaml").write_text(json.dumps(JOB))
    commit_all(folder)
    return folder / "job.yaml"
