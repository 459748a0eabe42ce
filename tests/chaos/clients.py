"""People who work without a pause while processes die. Each keeps what the platform acknowledged: that must never be lost."""

import itertools
import json
import math
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from services.client import Client
from services.core.errors import Conflict, NotFound, Refused, Unavailable
from services.core.tls import person_id
from services.serving.domain import ACTIVE, COMPLETED, ROLLED_BACK
from tests.chaos.home import DATASET, RISK, Warm
from tests.sentinelnet import blocking
from tests.serving import WIDTH

APPROVERS = ("ana", "ben", "chen")
PAUSE_S, LOOK_S = 0.03, 0.3
CARRY_ON_S = 300.0
"""How long after the last kill a flow that was interrupted may take to its end: Ray starts in 20 s on a busy machine."""
PREDICTIONS = 20
"""Of each deployment, and of a rollout between two looks at it."""
PUBLICATION_S = 5.0
"""Between two publications: a request names the policies that it is for, so that each sends promotions back to their start."""
OTHER_POLICIES = [
    {"rule": "promotion.request", "verdict": "deny", "reasons": ["the request was made under another policy revision"]}
]
ROLLOUT: dict[str, Any] = {
    "steps": [20, 50, 100], "compares": ["errors"], "margins": {"errors": 0.9}, "minRequestsPerStep": 10, "warmUp": 0,
    "calibrationRequests": 0, "calibrationS": 0,
}  # fmt: skip
"""Goes through within some 20 requests, unless the canary fails them."""
ENDS = {COMPLETED: "rollout.completed", ROLLED_BACK: "rollback"}
Fact = tuple[str, str]
"""Type of an event, and what tells it from others of its type."""


def fact(event: Mapping[str, Any]) -> Fact:
    """What an event acknowledges."""
    kind, payload = event["type"], event["payload"]
    if kind.startswith("promotion."):
        return kind, payload["promotion"] + (event["actor"] if kind == "promotion.approved" else "")
    if kind.startswith("quarantine."):
        return kind, payload["flag"]
    if kind == "evaluation.recorded":
        return kind, payload["evaluation"]
    if kind.startswith("train."):
        return kind, attempt(event["subject"]["id"], payload["attempt"])
    return kind, event["subject"]["id"]


def attempt(run: str, number: int) -> str:
    return f"{run} attempt {number}"


@dataclass
class Journal:
    """What was acknowledged, and what a kill made the clients repeat. Safe in threads.

    stop: from then on nobody is killed any more, and nobody begins anew; give_up_at: monotonic seconds, after that moment.
    """

    acknowledged: list[Fact] = field(default_factory=list)
    predictions: list[str] = field(default_factory=list)
    interrupted: Counter[str] = field(default_factory=Counter)
    unexpected: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)
    give_up_at: float = math.inf

    def finish(self, within_s: float) -> None:
        self.give_up_at = time.monotonic() + within_s
        self.stop.set()

    def note(self, kind: str, name: str) -> None:
        self.acknowledged.append((kind, name))

    def await_next(self, kind: str, seconds: float) -> None:
        """Returns when another event of this type is acknowledged, or after some time."""
        seen, deadline = len(self.acknowledged), time.monotonic() + seconds
        while all(found != kind for found, _ in self.acknowledged[seen:]) and time.monotonic() < deadline:
            time.sleep(PAUSE_S)

    def note_run(self, kind: str, run: Mapping[str, Any]) -> None:
        self.note(kind, attempt(run["id"], run["attempt"]))


class GivenUp(Exception):
    """Nobody was killed for long, and yet a call does not succeed."""


@dataclass
class Worker:
    """One thread that repeats `act`, a step of the flow, until the journal says stop. What it began then it carries to its end."""

    journal: Journal
    name: str
    act: Callable[["Worker"], None]

    def start(self) -> threading.Thread:
        thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        thread.start()
        return thread

    def insist(self, call: Callable[[], Any], kind: str) -> Any:
        """Repeats a call until the platform answers it: what every error that says `retryable` asks of its caller."""
        while True:
            try:
                return call()
            except Unavailable as error:
                self.journal.interrupted[kind] += 1
                self.pause(f"{kind}: {error}")

    def pause(self, why: str, seconds: float = PAUSE_S) -> None:
        """Between two attempts. Raises GivenUp."""
        if time.monotonic() > self.journal.give_up_at:
            raise GivenUp(f"not carried on in {CARRY_ON_S:.0f} s after the last kill: {why}")
        time.sleep(seconds)

    def _run(self) -> None:
        while not self.journal.stop.is_set():
            try:
                self.act(self)
            except Exception as error:
                # Nothing but Unavailable may come of a killed process; an error of this program is no success either.
                self.journal.unexpected.append(f"{self.name}: {type(error).__name__}: {error}")
                time.sleep(PAUSE_S)


class People:
    """Clients of one home. folder: for the files of data sets."""

    def __init__(self, warm: Warm, folder: Path, rng: random.Random) -> None:
        self._warm, self._folder = warm, folder
        names = ("tara", "stella", "petra", "sam", "dario", "eva", *APPROVERS)
        self._clients = {name: Client.connect(warm.home, name) for name in names}
        self._tag, self._numbers = f"{rng.randrange(1 << 30):x}", itertools.count()
        folder.mkdir()

    def close(self) -> None:
        for client in self._clients.values():
            client.close()

    def workers(self, journal: Journal, acts: Sequence[str]) -> list[Worker]:
        """acts: names of methods; one that is there twice is done by two at once."""
        return [Worker(journal, act, getattr(self, act)) for act in acts]

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

    def promote(self, worker: Worker) -> str:
        """A new version from dev to staging, with three approvals. Its name."""
        model = self._next("promoted")
        self._promoted(worker, self._registered(worker, model))
        return model

    def serve(self, worker: Worker) -> None:
        """A version is promoted, deployed, asked for predictions through the router, and taken out again."""
        model = self.promote(worker)
        deployed = self._deployed(worker, f"{model}@1")
        for _ in range(PREDICTIONS):
            self._predict(worker, model)
        self._undeployed(worker, deployed)

    def evaluate(self, worker: Worker) -> None:
        """Another version, measured by a process that the API starts for it."""
        reference = self._registered(worker, self._next("evaluated"))
        found = worker.insist(lambda: self._clients["eva"].evaluate(reference, DATASET), "evaluation.recorded")
        worker.journal.note("evaluation.recorded", found["evaluations"][-1]["payload"])

    def roll_out(self, worker: Worker) -> None:
        """Of two versions that are promoted one is deployed, and traffic moves from it to the other. The winner is taken out."""
        model = self._next("rolled")
        stable, canary = (self._registered(worker, model, run) for run in (self._warm.run, self._warm.other_run))
        for reference in (stable, canary):
            self._promoted(worker, reference)
        self._deployed(worker, stable)
        found = worker.insist(lambda: _start_rollout(self._clients["dario"], canary), "rollout.started")
        worker.journal.note("deploy.started", found["canary"])
        found = self._ended(worker, model, found["id"])
        if found["rule"] is not None:
            worker.journal.note("rollout.started", found["id"])
        worker.journal.note(ENDS[found["state"]], found["id"])
        stays, goes = ("canary", "stable") if found["state"] == COMPLETED else ("stable", "canary")
        worker.journal.note("deploy.stopped", found[goes])
        self._undeployed(worker, found[stays])

    def publish(self, worker: Worker) -> None:
        """Other policies become active: they block one more data set, which nobody has."""
        bundle = blocking(self._next("blocked"))
        found = worker.insist(lambda: self._clients["sam"].publish_policies(bundle), "policy.published")
        worker.journal.note("policy.published", f"policies@{found['version']}")
        worker.journal.stop.wait(PUBLICATION_S)

    def train(self, worker: Worker) -> None:
        """A run to its good end, however often it has to be retried, and a model of it."""
        tara = self._clients["tara"]
        run = worker.insist(lambda: tara.train(self._warm.job), "train.started")
        worker.journal.note_run("train.started", run)
        while (run := self._over(worker, run["id"]))["state"] != "completed":
            worker.journal.note_run("train.failed", run)
            run = worker.insist(lambda run=run: _retry(tara, run["id"]), "train.started")  # type: ignore[misc]
            worker.journal.note_run("train.started", run)
        worker.journal.note_run("train.completed", run)
        self._registered(worker, self._next("trained"), run["id"])

    def runs(self) -> list[dict[str, Any]]:
        return self._clients["tara"].runs()

    def last_words(self) -> None:
        """One more signature: what a killed proxy left in its outbox goes to the log with it."""
        self._clients["tara"].register_model(self._next("last"), self._warm.run, RISK)

    def _predict(self, worker: Worker, model: str) -> None:
        """One prediction. An answer acknowledges its record."""
        while True:
            try:
                found = self._clients["tara"].predict(model, "staging", [[0.0] * WIDTH])
                break
            except (Unavailable, NotFound) as error:
                # A router that has just started knows no route until the API tells it.
                worker.journal.interrupted["prediction"] += 1
                worker.pause(f"prediction: {error}")
        worker.journal.predictions.append(found["id"])

    def _promoted(self, worker: Worker, reference: str) -> None:
        while not self._promoted_now(worker, reference):
            pass  # other policies became active meanwhile

    def _promoted_now(self, worker: Worker, reference: str) -> bool:
        """Requested, approved by three and promoted; whether that was under the policies that the request is for."""
        petra = self._clients["petra"]
        asked = worker.insist(lambda: petra.request_promotion(reference, "staging"), "promotion.requested")["id"]
        worker.journal.note("promotion.requested", asked)
        for name in APPROVERS:
            worker.insist(lambda name=name: self._clients[name].approve(asked), "promotion.approved")  # type: ignore[misc]
            worker.journal.note("promotion.approved", asked + person_id(name))
        done: bool = worker.insist(lambda: _promote(petra, asked), "promotion.completed")
        if done:
            worker.journal.note("promotion.completed", asked)
        return done

    def _deployed(self, worker: Worker, reference: str) -> str:
        """Id of the deployment."""
        found = worker.insist(lambda: self._clients["dario"].deploy(reference, "staging"), "deploy.started")["id"]
        worker.journal.note("deploy.started", found)
        return str(found)

    def _undeployed(self, worker: Worker, deployment: str) -> None:
        worker.insist(lambda: self._clients["dario"].undeploy(deployment), "deploy.stopped")
        worker.journal.note("deploy.stopped", deployment)

    def _ended(self, worker: Worker, model: str, rollout: str) -> dict[str, Any]:
        """The rollout's record once it went through or back; until then it has traffic."""
        dario = self._clients["dario"]
        while (found := worker.insist(lambda: dario.rollout(rollout), "a look at a rollout"))["state"] in ACTIVE:
            worker.pause(f"rollout {rollout} is still {found['state']}")
            for _ in range(PREDICTIONS):
                self._predict(worker, model)
        return dict(found)

    def _over(self, worker: Worker, run: str) -> dict[str, Any]:
        """The run's record once it is no longer running."""
        while (found := worker.insist(lambda: self._clients["tara"].run(run), "a look at a run"))["state"] == "running":
            worker.pause(f"run {run} is still running", LOOK_S)
        return dict(found)

    def _registered(self, worker: Worker, model: str, run: str = "") -> str:
        """name@number"""
        tara = self._clients["tara"]
        found = worker.insist(lambda: tara.register_model(model, run or self._warm.run, RISK), "model.registered")
        reference = f"{model}@{found['number']}"
        worker.journal.note("model.registered", reference)
        return reference

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


def _retry(client: Client, run: str) -> dict[str, Any]:
    """A repeat, after an answer that was lost, meets the run at work already."""
    try:
        return client.retry(run)
    except Conflict:
        found = client.run(run)
        if found["state"] == "failed":
            raise
        return found


def _lift(client: Client, flag: str) -> None:
    if any(item["id"] == flag for item in client.flags()):
        client.lift(flag, "a drill")


def _promote(client: Client, promotion: str) -> bool:
    """Whether it is promoted; not if the request is for other policies than those that are active now.

    A restart carries on with what was allowed, so a repeat may meet it half-way.
    """
    try:
        client.promote(promotion)
    except Conflict as error:
        if client.promotion(promotion)["state"] != "completed":
            raise Unavailable(str(error)) from error
    except Refused as error:
        if error.rules != OTHER_POLICIES:
            raise
        return False
    return True


def _start_rollout(client: Client, reference: str) -> dict[str, Any]:
    """A repeat, after an answer that was lost, meets the version with all traffic if the rollout was quick."""
    try:
        return client.start_rollout(reference, "staging", **ROLLOUT)
    except Conflict:
        model = reference.partition("@")[0]
        found = [item for item in client.rollouts() if (item["model"], item["state"]) == (model, COMPLETED)]
        if not found:
            raise
        return found[-1]
