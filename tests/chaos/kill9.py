"""SIGKILL at random moments, with clients at work: nothing acknowledged is lost, no state is without its event.

    python -m tests.chaos.kill9 --database postgresql --trials 300 --seed 1 --out kill9.json

One trial: wait a random moment, kill one of a flow's processes (now and then two), start what died, and compare state and log
while the clients go on. A batch of trials has a home of its own. After its last kill whatever was interrupted has to come to its
end; then the platform is stopped, and its databases and log are read from outside. The database server itself is not killed.
"""

import argparse
import contextlib
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from services.client import Client
from services.core import tlog
from services.core.database import open_engine
from services.core.errors import AiInfraError
from services.core.logcheck import check_log
from services.core.logentry import parse_leaf
from services.core.logfile import FolderReader, read_checkpoint, read_entries
from services.supervisor import free_ports
from services.training.processes import marked
from tests.chaos.clients import CARRY_ON_S, LOOK_S, Fact, Journal, People, Worker, attempt, fact
from tests.chaos.home import Warm, make
from tests.chaos.processes import ForkedPlatform


@dataclass(frozen=True)
class Flow:
    """acts: what people do at the same time, methods of `People`; victims: see ForkedPlatform.alive; max_wait_s: before a kill.

    awaits: an event that has to be acknowledged before every other wait, since what takes long would else never come to its end.
    """

    acts: tuple[str, ...]
    victims: tuple[str, ...]
    max_wait_s: float
    awaits: str = ""


FLOWS = {
    "registry": Flow(("register_data", "flag", "promote", "register"), ("api", "signing-proxy", "router"), 0.5),
    "serving": Flow(("promote", "serve", "serve"), ("api", "signing-proxy", "router", "forkserver", "predictor"), 3.0),
    "training": Flow(("train", "train", "train"), ("api", "signing-proxy", "trainer", "ray"), 8.0, "train.completed"),
    "rollout": Flow(
        ("evaluate", "roll_out", "roll_out", "publish"),
        ("api", "signing-proxy", "router", "forkserver", "predictor", "evaluator"),
        3.0,
        "rollout.completed",
    ),
}
TURNS = ("registry", "serving", "training", "rollout", "registry", "serving", "rollout")
"""Flows of the batches, again and again."""
VARIABLES = {"platform": "AI_INFRA_DATABASE", "audit": "AI_INFRA_AUDIT_DATABASE", "signing": "AI_INFRA_SIGNING_DATABASE"}
BATCH = 20
SECOND_VICTIM = 0.15
"""Share of the trials in which another process dies in the same moment."""
AWAIT_S = 120.0
PAGE = 1000


@dataclass
class Result:
    """What a campaign found. problems: of reconciliation and verification; lost: acknowledged facts without an event."""

    database: str
    seed: int
    trials: int = 0
    flows: Counter[str] = field(default_factory=Counter)
    kills: Counter[str] = field(default_factory=Counter)
    acknowledged: Counter[str] = field(default_factory=Counter)
    interrupted: Counter[str] = field(default_factory=Counter)
    events: int = 0
    signatures: int = 0
    lost: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    unaccounted: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    predictions_lost: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        return not (self.lost or self.problems or self.unaccounted or self.unexpected or self.predictions_lost)

    def to_json(self) -> dict[str, Any]:
        found = {name: dict(value) if isinstance(value, Counter) else value for name, value in vars(self).items()}
        return found | {"ok": self.ok, "cpus": os.cpu_count()}

    def markdown(self) -> str:
        """The report as a table."""
        kills = ", ".join(f"{name} {count}" for name, count in sorted(self.kills.items()))
        rows = [
            ("trials", str(self.trials)),
            ("processes killed", f"{sum(self.kills.values())} ({kills})"),
            ("writes acknowledged", str(sum(self.acknowledged.values()))),
            ("calls repeated because of a kill", str(sum(self.interrupted.values()))),
            ("events in the logs at the end", str(self.events)),
            ("acknowledged events lost", str(len(self.lost))),
            ("differences between state and log, or within the log", str(len(self.problems))),
            ("signatures made", str(self.signatures)),
            ("signatures that the log does not tell of", str(len(self.unaccounted))),
            ("acknowledged predictions without a record", str(len(self.predictions_lost))),
            ("answers other than success or a retryable refusal", str(len(self.unexpected))),
            ("duration", f"{self.seconds:.0f} s"),
        ]
        return "\n".join(["| what | how many |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)]) + "\n"


class Batch:
    """Trials on one home. seen: facts of the log so far."""

    def __init__(self, warm: Warm, folder: Path, rng: random.Random, result: Result, flow: Flow) -> None:
        self._warm, self._rng, self._result, self._flow = warm, rng, result, flow
        self._urls = warm.databases
        environ = {VARIABLES[name]: url for name, url in self._urls.items()}
        self._platform = ForkedPlatform(warm.home, free_ports(), environ)
        self._journal, self._folder = Journal(), folder
        self._seen: set[Fact] = set()
        self._after, self._checked, self._note = -1, 0, None

    def run(self, trials: int) -> None:
        with self._platform:
            people = People(self._warm, self._folder / "files", self._rng)
            with _working(self._journal, people.workers(self._journal, self._flow.acts)):
                for _ in range(trials):
                    self._trial()
            ends = self._ends(people)
            people.last_words()
            self._check()
            self._result.lost += [f"{kind} {name}" for kind, name in ends if (kind, name) not in self._seen]
            people.close()
        self._result.acknowledged.update(kind for kind, _ in self._journal.acknowledged)
        self._result.acknowledged["prediction"] += len(self._journal.predictions)
        self._result.interrupted.update(self._journal.interrupted)
        self._result.unexpected += self._journal.unexpected
        self._from_outside()

    def _trial(self) -> None:
        if self._flow.awaits and self._result.trials % 2:
            self._journal.await_next(self._flow.awaits, AWAIT_S)
        time.sleep(self._rng.uniform(0, self._flow.max_wait_s))
        killed = sum(self._result.kills.values())
        while sum(self._result.kills.values()) == killed:
            self._strike()
        self._platform.mend()
        self._result.trials += 1
        self._check()

    def _strike(self) -> None:
        # A trainer or predictor that is not there at this moment is no victim.
        alive = {name: pids for name in self._flow.victims if (pids := self._platform.alive(name))}
        victims = {self._rng.choice(list(alive))}
        if self._rng.random() < SECOND_VICTIM:
            victims.add(self._rng.choice(list(alive)))
        for victim in sorted(victims):
            self._kill(victim, self._rng.choice(alive[victim]))

    def _kill(self, victim: str, pid: int) -> None:
        if victim in self._platform.processes:
            self._platform.kill(victim)
            if (status := self._platform.processes[victim].returncode) != -signal.SIGKILL:
                self._result.problems.append(f"{victim} ended by itself, with status {status}")
        else:
            try:
                if victim == "ray":
                    victim += f": {Path(f'/proc/{pid}/comm').read_text().strip()}"
                os.kill(pid, signal.SIGKILL)
            except OSError:
                return  # it ended meanwhile
        self._result.kills[victim] += 1

    def _ends(self, people: People) -> list[Fact]:
        """How each run ended, also one that was ordered twice because its answer was lost: nobody is killed any more."""
        deadline = time.monotonic() + CARRY_ON_S
        while (running := [run["id"] for run in people.runs() if run["state"] == "running"]) and time.monotonic() < deadline:
            time.sleep(LOOK_S)
        self._result.problems += [f"run {run} is running for ever" for run in running]
        return [(f"train.{run['state']}", attempt(run["id"], run["attempt"])) for run in people.runs() if run["id"] not in running]

    def _check(self) -> None:
        """What was acknowledged until now is in the log, and state and log agree."""
        until = len(self._journal.acknowledged)
        with Client.connect(self._warm.home, "aude") as auditor:
            self._result.problems += auditor.reconcile()["problems"]
            # With the checkpoint of the last look, so that nothing that was published then may be missing now.
            found = auditor.audit_verify(self._note)
            self._result.problems += [json.dumps(problem) for problem in found["problems"]]
            self._read_log(auditor)
        self._note = read_checkpoint(FolderReader(self._warm.home.root / "log")).decode()
        facts = self._journal.acknowledged[self._checked : until]
        self._result.lost += [f"{kind} {name}" for kind, name in facts if (kind, name) not in self._seen]
        self._checked = until

    def _read_log(self, auditor: Client) -> None:
        while page := auditor.events(after=self._after, limit=PAGE):
            self._seen.update(fact(entry["event"]) for entry in page)
            self._after = page[-1]["index"]

    def _from_outside(self) -> None:
        """The platform is stopped: its files are read as an auditor who trusts none of its processes would."""
        root = self._warm.home.root
        reader, vkey = FolderReader(root / "log"), tlog.parse_vkey(self._warm.home.trust.log_vkey)
        report = check_log(reader, vkey, self._note.encode() if self._note else None)
        self._result.problems += [f"offline: {problem}" for problem in report.problems]
        events = [parse_leaf(leaf)[0] for leaf in read_entries(reader, report.size)]
        self._result.events += len(events)
        told = {event["signatureRef"]: event for event in events if event["type"] == "signature.made"}
        made = _rows(self._urls["signing"], "select made_event from signatures where signature is not null")
        self._result.signatures += len(made)
        known = {event["id"] for event in told.values()}
        self._result.unaccounted += [f"signature of event {event}" for (event,) in made if event not in known]
        if len(told) != len(made):
            self._result.unaccounted.append(f"the log tells of {len(told)} signatures, the proxy made {len(made)}")
        left = marked(str(root / "training"))
        self._result.problems += [f"process {pid} of the trainer outlives the platform" for pid in left]
        recorded = self._recorded()
        self._result.predictions_lost += [name for name in self._journal.predictions if name not in recorded]

    def _recorded(self) -> set[str]:
        """Ids of the prediction records on the disk, sealed or not."""
        segments = (self._warm.home.root / "router" / "predictions").glob("*.jsonl")
        return {json.loads(line)["id"] for path in segments for line in path.read_bytes().split(b"\n")[:-1]}


@contextlib.contextmanager
def _working(journal: Journal, workers: list[Worker]) -> Iterator[None]:
    threads: list[threading.Thread] = [worker.start() for worker in workers]
    carry_on_s = 0.0
    try:
        yield
        carry_on_s = CARRY_ON_S
    finally:
        journal.finish(carry_on_s)
        for thread in threads:
            thread.join()


def _rows(url: str, query: str) -> list[Any]:
    engine = open_engine(url)
    with engine.connect() as connection:
        found = list(connection.exec_driver_sql(query))
    engine.dispose()
    return found


def plan_of(trials: int, turns: Sequence[str] = TURNS) -> list[tuple[str, int]]:
    """Flow and number of trials of each batch."""
    return [(turns[number % len(turns)], min(BATCH, trials - first)) for number, first in enumerate(range(0, trials, BATCH))]


def campaign(
    plan: Sequence[tuple[str, int]], database: str, seed: int, folder: Path, tell: Callable[[Result], None] = lambda result: None
) -> Result:
    """plan: see plan_of; database: sqlite or postgresql; tell: called after each batch."""
    rng, result, begun = random.Random(seed), Result(database=database, seed=seed), time.monotonic()
    warm = make(folder, database)
    for number, (flow, trials) in enumerate(plan):
        own = folder / f"batch-{number}"
        own.mkdir()
        Batch(warm.copy(own), own, rng, result, FLOWS[flow]).run(trials)
        result.flows[flow] += trials
        result.seconds = round(time.monotonic() - begun, 1)
        tell(result)
    return result


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.kill9", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=300)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--flow", choices=FLOWS, help="only this one; all of them take turns else")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, help="the report as JSON")
    options = parser.parse_args()
    # A campaign that is stopped stops its platform: what is forked keeps the process alive that it was forked from.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))

    def tell(result: Result) -> None:
        print(f"{result.trials} trials, {result.seconds:.0f} s, {'nothing lost' if result.ok else 'PROBLEMS'}", file=sys.stderr)
        if options.out:
            options.out.write_text(json.dumps(result.to_json(), indent=2) + "\n")

    with tempfile.TemporaryDirectory(prefix="ai-infra-kill9-") as name:
        try:
            plan = plan_of(options.trials, [options.flow] if options.flow else TURNS)
            result = campaign(plan, options.database, options.seed, Path(name), tell)
        except AiInfraError as error:
            print(f"the campaign broke off: {error}", file=sys.stderr)
            return 2
    print(result.markdown())
    return 0 if result.ok else 1


if __name__ == "__main__":
    raise SystemExit(main())
