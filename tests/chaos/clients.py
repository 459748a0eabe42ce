"""People who work without a pause while processes die. Each keeps what the platform acknowledged: that must never be lost."""

import itertools
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from services.client import Client
from services.core.errors import AiInfraError, Conflict, NotFound, Unavailable
from services.core.tls import person_id
from tests.chaos.home import RISK, Warm
from tests.serving import MODEL as CORNER
from tests.serving import WIDTH

APPROVERS = ("ana", "ben", "chen")
PAUSE_S = 0.03
Fact = tuple[str, str]
"""Type of an event, and what tells it from others of its type."""


def fact(event: Mapping[str, Any]) -> Fact:
    """What an event acknowledges."""
    kind, payload = event["type"], event["payload"]
    if kind.startswith("promotion."):
        return kind, payload["promotion"] + (event["actor"] if kind == "promotion.approved" else "")
    if kind.startswith("quarantine."):
        return kind, payload["flag"]
    return kind, event["subject"]["id"]


@dataclass
class Journal:
    """What was acknowledged, and what a kill made the clients repeat. Safe in threads."""

    acknowledged: list[Fact] = field(default_factory=list)
    predictions: list[str] = field(default_factory=list)
    interrupted: Counter[str] = field(default_factory=Counter)
    unexpected: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def note(self, kind: str, name: str) -> None:
        self.acknowledged.append((kind, name))


class Stopped(Exception):
    """The campaign wants no more."""


@dataclass
class Worker:
    """One thread that repeats `act`, a step of the flow, until the journal says stop."""

    journal: Journal
    name: str
    act: Callable[["Worker"], None]

    def start(self) -> threading.Thread:
        thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        thread.start()
        return thread

    def insist(self, call: Callable[[], Any], kind: str) -> Any:
        """Repeats a call until the platform answers it: what every error that says `retryable` asks of its caller."""
        while not self.journal.stop.is_set():
            try:
                return call()
            except Unavailable:
                self.journal.interrupted[kind] += 1
                time.sleep(PAUSE_S)
        raise Stopped

    def _run(self) -> None:
        while not self.journal.stop.is_set():
            try:
                self.act(self)
            except Stopped:
                return
            except AiInfraError as error:
                # Nothing but Unavailable may come of a killed process.
                self.journal.unexpected.append(f"{self.name}: {type(error).__name__}: {error}")
                time.sleep(PAUSE_S)


class People:
    """Clients of one home. folder: for the files of data sets."""

    def __init__(self, warm: Warm, folder: Path, rng: random.Random) -> None:
        self._warm, self._folder = warm, folder
        names = ("tara", "stella", "petra", "sam", "dario", *APPROVERS)
        self._clients = {name: Client.connect(warm.home, name) for name in names}
        self._tag, self._numbers = f"{rng.randrange(1 << 30):x}", itertools.count()
        folder.mkdir()

    def close(self) -> None:
        for client in self._clients.values():
            client.close()

    def workers(self, journal: Journal) -> list[Worker]:
        acts = {"data": self.register_data, "flags": self.flag, "promotion": self.promote, "registration": self.register}
        return [Worker(journal, name, act) for name, act in acts.items()]

    def register_data(self, worker: Worker) -> None:
        """A data set and a steward's approval of it."""
        name = self._next("set")
        description = self._describe(name)
        found = worker.insist(lambda: self._clients["stella"].register_dataset(description), "dataset.registered")
        worker.journal.note("dataset.registered", found["id"])
        found = worker.insist(lambda: self._clients["stella"].approve_dataset(f"{name}@1", "consented"), "dataset.approved")
        worker.journal.note("dataset.approved", found["id"])

    def flag(self, worker: Worker) -> None:
        """A flag and its clearance."""
        model = self._next("flagged")
        self._registered(worker, model)
        sam = self._clients["sam"]
        found = worker.insist(lambda: sam.flag("model", f"{model}@1", "a drill"), "quarantine.set")
        worker.journal.note("quarantine.set", found["id"])
        worker.insist(lambda: _lift(sam, found["id"]), "quarantine.lifted")
        worker.journal.note("quarantine.lifted", found["id"])

    def register(self, worker: Worker) -> None:
        """Another model of the same run."""
        self._registered(worker, self._next("model"))

    def promote(self, worker: Worker) -> None:
        """From dev to staging, with three approvals."""
        model = self._next("promoted")
        self._registered(worker, model)
        petra = self._clients["petra"]
        asked = worker.insist(lambda: petra.request_promotion(f"{model}@1", "staging"), "promotion.requested")["id"]
        worker.journal.note("promotion.requested", asked)
        for name in APPROVERS:
            worker.insist(lambda name=name: self._clients[name].approve(asked), "promotion.approved")  # type: ignore[misc]
            worker.journal.note("promotion.approved", asked + person_id(name))
        worker.insist(lambda: _promote(petra, asked), "promotion.completed")
        worker.journal.note("promotion.completed", asked)

    def deploy(self) -> None:
        """A small model in staging, for `predict`."""
        worker = Worker(Journal(), "deploy", lambda _: None)
        self._registered(worker, CORNER)
        petra = self._clients["petra"]
        asked = petra.request_promotion(f"{CORNER}@1", "staging")["id"]
        for name in APPROVERS:
            self._clients[name].approve(asked)
        petra.promote(asked)
        self._clients["dario"].deploy(f"{CORNER}@1", "staging")

    def predict(self, worker: Worker) -> None:
        """One prediction. An answer acknowledges its record."""
        row = [0.0] * WIDTH
        try:
            found = self._clients["tara"].predict(CORNER, "staging", [row])
        except (Unavailable, NotFound):
            # A router that has just started knows no route until the API tells it.
            worker.journal.interrupted["prediction"] += 1
            time.sleep(PAUSE_S)
            return
        worker.journal.predictions.append(found["id"])

    def last_words(self) -> None:
        """One more signature: what a killed proxy left in its outbox goes to the log with it."""
        self._clients["tara"].register_model(self._next("last"), self._warm.run, RISK)

    def _registered(self, worker: Worker, model: str) -> None:
        tara = self._clients["tara"]
        worker.insist(lambda: tara.register_model(model, self._warm.run, RISK), "model.registered")
        worker.journal.note("model.registered", f"{model}@1")

    def _describe(self, name: str) -> Path:
        for file in ("train.csv", "test.csv"):
            (self._folder / f"{name}-{file}").write_text(f"label,p0\n{name},{file}\n")
        (self._folder / "schema.json").write_text(json.dumps({"label": "integer"}))
        description = self._folder / f"{name}.yaml"
        value = {
            "name": name, "version": "1", "licence": "CC-BY-4.0", "source": "a campaign", "pii": "present", "parents": [],
            "directory": ".", "schema": "schema.json", "files": [f"{name}-train.csv", f"{name}-test.csv"],
            "splits": {"train": [f"{name}-train.csv"], "test": [f"{name}-test.csv"]},
        }  # fmt: skip
        description.write_text(json.dumps(value))
        return description

    def _next(self, kind: str) -> str:
        return f"{kind}-{self._tag}-{next(self._numbers)}"


def _lift(client: Client, flag: str) -> None:
    if any(item["id"] == flag for item in client.flags()):
        client.lift(flag, "a drill")


def _promote(client: Client, promotion: str) -> None:
    """A restart carries on with what was allowed, so a repeat may meet it half-way."""
    try:
        client.promote(promotion)
    except Conflict as error:
        if client.promotion(promotion)["state"] != "completed":
            raise Unavailable(str(error)) from error
