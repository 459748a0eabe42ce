"""Serving without processes, over the registry's rig: real deployments, real decisions, and the router's own record log."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from services.api.adapters import LogHistory, ServedPredictions, ServedVersions
from services.core.database import open_engine
from services.core.digests import sha256
from services.core.outbox import Outbox, Relay
from services.core.tls import person_id, service_id
from services.serving.domain import DeploymentSpec
from services.serving.kept import KeptRecords
from services.serving.router import tables
from services.serving.router.records import RecordLog
from services.serving.service import Serving
from tests.fakes.serving import ScriptedBackend
from tests.registry import WEIGHTS, Rig, opened

SALT = bytes(range(16))
ROUTER = service_id("router")
DARIO = person_id("dario")


@dataclass
class RouterBackend(ScriptedBackend):
    """Answers about predictions from a record log, as the router does."""

    log: RecordLog | None = None

    def prediction(self, prediction: str) -> dict[str, Any]:
        assert self.log is not None
        return self.log.find(prediction)


@dataclass
class Served:
    """A rig whose promoted version is deployed to staging, and a router's records. rig: the platform below; number: the version."""

    rig: Rig
    number: int = 1
    name: str = "router"
    count: int = 0
    deployment: str = field(init=False)

    def __post_init__(self) -> None:
        self.engine = open_engine(f"sqlite:///{self.rig.folder / self.name}.db")
        tables.metadata.create_all(self.engine)
        self.outbox = Outbox(tables.outbox, ROUTER, self.rig.clock)
        self.relay = Relay(self.engine, self.outbox, self.rig.audit)
        self.records = RecordLog(self.rig.folder / self.name, self.engine, self.outbox, self.rig.clock, ROUTER)
        self.serving = Serving(
            self.rig.engine, self.rig.ports.events, self.rig.clock, self._versions(), self.rig.ports.policy,
            RouterBackend(log=self.records),
        )  # fmt: skip
        self.kept = KeptRecords(self.rig.engine, self.rig.store, self.rig.ports.events, self.rig.clock)
        self.deployment = self.deploy(self.number)

    def deploy(self, number: int = 1, environment: str = "staging") -> str:
        spec = DeploymentSpec(model="digits", number=number, environment=environment)  # type: ignore[arg-type]
        return str(self.serving.deploy(spec, DARIO)["id"])

    def predict(self, *, seal: bool = True, **changes: Any) -> str:
        """Id of a prediction, as the router records one."""
        self.count += 1
        record = {
            "id": f"prd-{self.name}-{self.count}",
            "ts": self.rig.clock(),
            "deployment": self.deployment,
            "artifactId": self.serving.get(self.deployment)["artifact_id"],
            "inputDigest": sha256(SALT + self.input),
            "outputDigest": sha256(self.output),
            "latencyUs": 1234,
            "outcome": "ok",
            "status": 200,
            "rollout": None,
        }
        self.records.expect()
        self.records.append(record | changes)
        if seal:
            self.seal()
        return str((record | changes)["id"])

    def seal(self) -> None:
        """The batch, and its event in the log."""
        self.records.seal()
        self.rig.relay.flush()
        self.relay.flush()

    @property
    def input(self) -> bytes:
        return f'{{"inputs":[{self.count}]}}'.encode()

    @property
    def output(self) -> bytes:
        return f'{{"outputs":[{self.count}]}}'.encode()

    def archive(self, prediction: str, path: Path, weights_up_to: int = sum(map(len, WEIGHTS.values()))) -> Path:
        served = ServedPredictions(self.serving, self.kept)
        with self.rig.evidences.build_for(prediction, served, weights_up_to) as source, path.open("wb") as target:
            shutil.copyfileobj(source, target)
        return path

    def close(self) -> None:
        self.engine.dispose()

    def _versions(self) -> ServedVersions:
        rig = self.rig
        log = LogHistory(rig.audit, rig.relay)
        return ServedVersions(rig.registry(), rig.evidences, rig.store, lambda: rig.trust, rig.clock, log)


@contextmanager
def served(folder: Path) -> Iterator[Served]:
    """A deployed version, promoted to staging."""
    folder.mkdir(exist_ok=True)
    with opened(folder) as rig:
        rig.promoted()
        found = Served(rig)
        try:
            yield found
        finally:
            found.close()
