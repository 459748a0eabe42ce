"""SIGKILL at random moments, with clients at work: nothing acknowledged is lost, no state is without its event.

    python -m tests.chaos.kill9 --trials 300 --seed 1 --out kill9.json

One trial: wait a random moment, kill API, signing proxy or router (now and then two of them), start what died, and compare state
and log while the clients go on. A batch of trials has a home of its own; at its end the platform is stopped, and its databases and
log are read from outside.
"""

import argparse
import contextlib
import json
import os
import random
import sqlite3
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from services.client import Client
from services.core import tlog
from services.core.errors import AiInfraError, NotFound
from services.core.logcheck import check_log
from services.core.logentry import parse_leaf
from services.core.logfile import FolderReader, read_checkpoint, read_entries
from services.supervisor import free_ports
from tests.chaos.clients import Fact, Journal, People, Worker, fact
from tests.chaos.home import Warm, make
from tests.chaos.processes import ForkedPlatform

VICTIMS = ("api", "signing-proxy", "router")
BATCH = 20
SECOND_VICTIM = 0.15
"""Share of the trials in which another process dies in the same moment."""
MAX_WAIT_S = 0.5
PAGE = 1000


@dataclass
class Result:
    """What a campaign found. problems: of reconciliation and verification; lost: acknowledged facts without an event."""

    trials: int = 0
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
        return {name: dict(value) if isinstance(value, Counter) else value for name, value in vars(self).items()} | {"ok": self.ok}

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

    def __init__(self, warm: Warm, folder: Path, rng: random.Random, result: Result, *, predict: bool) -> None:
        self._warm, self._rng, self._result = warm, rng, result
        self._platform = ForkedPlatform(warm.home, free_ports())
        self._journal, self._folder, self._predict = Journal(), folder, predict
        self._seen: set[Fact] = set()
        self._after, self._checked, self._note = -1, 0, None

    def run(self, trials: int) -> None:
        with self._platform:
            people = People(self._warm, self._folder / "files", self._rng)
            workers = people.workers(self._journal)
            if self._predict:
                people.deploy()
                workers.append(Worker(self._journal, "prediction", people.predict))
            with _working(self._journal, workers):
                for _ in range(trials):
                    self._trial()
            people.last_words()
            self._check()
            people.close()
        self._result.acknowledged.update(kind for kind, _ in self._journal.acknowledged)
        self._result.acknowledged["prediction"] += len(self._journal.predictions)
        self._result.interrupted.update(self._journal.interrupted)
        self._result.unexpected += self._journal.unexpected
        self._from_outside()

    def _trial(self) -> None:
        victims = {self._rng.choice(VICTIMS)}
        if self._rng.random() < SECOND_VICTIM:
            victims.add(self._rng.choice(VICTIMS))
        time.sleep(self._rng.uniform(0, MAX_WAIT_S))
        for victim in sorted(victims):
            self._platform.kill(victim)
        self._platform.mend()
        self._result.trials += 1
        self._result.kills.update(victims)
        self._check()

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
        made = _rows(root / "signing" / "signing.db", "select made_event from signatures where signature is not null")
        self._result.signatures += len(made)
        known = {event["id"] for event in told.values()}
        self._result.unaccounted += [f"signature of event {event}" for (event,) in made if event not in known]
        if len(told) != len(made):
            self._result.unaccounted.append(f"the log tells of {len(told)} signatures, the proxy made {len(made)}")
        recorded = self._recorded()
        self._result.predictions_lost += [name for name in self._journal.predictions if name not in recorded]

    def _recorded(self) -> set[str]:
        """Ids of the prediction records on the disk, sealed or not."""
        segments = (self._warm.home.root / "router" / "predictions").glob("*.jsonl")
        return {json.loads(line)["id"] for path in segments for line in path.read_bytes().split(b"\n")[:-1]}


@contextlib.contextmanager
def _working(journal: Journal, workers: list[Worker]) -> Iterator[None]:
    threads: list[threading.Thread] = [worker.start() for worker in workers]
    try:
        yield
    finally:
        journal.stop.set()
        for thread in threads:
            thread.join()


def _rows(database: Path, query: str) -> list[tuple[Any, ...]]:
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return connection.execute(query).fetchall()


def campaign(trials: int, seed: int, folder: Path, *, predict_every: int = 4, tell: Any = lambda result: None) -> Result:
    """predict_every: one batch of so many serves predictions too; 0 for none; tell: called after each batch."""
    rng, result, begun = random.Random(seed), Result(), time.monotonic()
    warm = make(folder)
    for number, first in enumerate(range(0, trials, BATCH)):
        own = folder / f"batch-{number}"
        own.mkdir()
        predict = bool(predict_every) and number % predict_every == 0
        Batch(warm.copy(own), own, rng, result, predict=predict).run(min(BATCH, trials - first))
        result.seconds = round(time.monotonic() - begun, 1)
        tell(result)
    return result


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.kill9", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, help="the report as JSON; a Markdown table goes beside it")
    options = parser.parse_args()

    def tell(result: Result) -> None:
        print(f"{result.trials} trials, {result.seconds:.0f} s, {'nothing lost' if result.ok else 'PROBLEMS'}", file=sys.stderr)
        if options.out:
            report = result.to_json() | {"seed": options.seed, "cpus": os.cpu_count()}
            options.out.write_text(json.dumps(report, indent=2) + "\n")
            options.out.with_suffix(".md").write_text(result.markdown())

    with tempfile.TemporaryDirectory(prefix="ai-infra-kill9-") as name:
        try:
            result = campaign(options.trials, options.seed, Path(name), tell=tell)
        except (AiInfraError, NotFound) as error:
            print(f"the campaign broke off: {error}", file=sys.stderr)
            return 2
    print(result.markdown())
    return 0 if result.ok else 1


if __name__ == "__main__":
    raise SystemExit(main())
