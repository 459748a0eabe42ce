"""A rollout's counts from sealed prediction records alone, by nothing of the router: arms by the coin, bins by the rule's edges.

What is trusted: the rollout's seed and rule (event `rollout.started`), the roots of the `predictions.sealed` events, the golden
data set. What is read: segments and their batches. A verdict looked at the records up to some moment: the counts must be those of
exactly one prefix of the records in the order written.
"""

import hashlib
import hmac
import json
import sqlite3
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.core import merkle
from services.serving.canary import Counts, Rule, judge
from services.serving.domain import Probe


@dataclass(frozen=True)
class Recount:
    """complete: the sealed records reach as far as the verdict looked; agrees: counts and verdict are those recorded."""

    complete: bool
    agrees: bool


def recount(
    folder: Path, events: Mapping[str, Any], rollout: Mapping[str, Any], golden: Sequence[Probe], after: int = 0
) -> Recount:
    """folder: the router's; events: `predictions.sealed` events by id; rollout: the record with its verdict; after: a batch that
    was sealed before the rollout began: it and those before hold nothing of it."""
    target, verdict = rollout["counts"], rollout["verdict"]
    rule = Rule.from_json(rollout["rule"])
    tally = _Tally(rule, rollout["seed"], rollout["spec"]["warmUp"], {probe.id: probe.label for probe in golden})
    wanted = sum(phase["requests"] for phase in target["phases"])
    for record in sealed_records(folder, events, after):
        if record["rollout"] is None or record["rollout"]["id"] != rollout["id"]:
            continue
        tally.add(record)
        if tally.requests == wanted and tally.matches(target):
            return Recount(True, _close(judge(rule, Counts.from_json(target)).to_json(), verdict))
        if tally.requests > wanted:
            return Recount(True, False)
    return Recount(False, False)


def last_batch(folder: Path) -> int:
    """Number of the latest sealed batch; 0 before the first."""
    with closing(_open(folder)) as database:
        return int(database.execute("select coalesce(max(id), 0) from batches").fetchone()[0])


def _open(folder: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{folder / 'router.db'}?mode=ro", uri=True)


def sealed_records(folder: Path, events: Mapping[str, Any], after: int = 0) -> Iterator[dict[str, Any]]:
    """Records of the batches after that one whose Merkle root is that of their event, in the order written."""
    query = "select id, segment, start, length, event from batches where id > ? order by id"
    with closing(_open(folder)) as database:
        batches = database.execute(query, (after,)).fetchall()
    for _, segment, start, length, event in batches:
        if event not in events:
            return
        with (folder / "predictions" / f"{segment:08d}.jsonl").open("rb") as file:
            file.seek(start)
            lines = file.read(length).split(b"\n")[:-1]
        root = "sha256:" + merkle.root([merkle.leaf_hash(line) for line in lines]).hex()
        if root != events[event]["payload"]["root"]:
            raise AssertionError(f"the records of event {event} are not those that it sealed")
        yield from (json.loads(line) for line in lines)


class _Tally:
    """Counts as a third party makes them."""

    def __init__(self, rule: Rule, seed: str, warm_up: int, golden: Mapping[str, str]) -> None:
        self._rule, self._seed, self._warm_up, self._golden = rule, bytes.fromhex(seed), warm_up, golden
        self._seen = self._mirrors_seen = self.requests = 0
        self._phases: dict[float, dict[str, Any]] = {}
        self._answers: dict[str, dict[str, str]] = {"stable": {}, "canary": {}}
        self._asked: dict[str, Mapping[str, Any]] = {}
        self._failed: dict[str, bool] = {}
        self._mirrored, self._mirrored_errors = [0, 0], [0, 0]

    def add(self, record: Mapping[str, Any]) -> None:
        place = record["rollout"]
        if place["arm"] == "probe":
            self._probe(place)
        elif place["arm"] == "mirror":
            self._mirror(record)
        else:
            self._request(record, place["weight"])

    def matches(self, target: Mapping[str, Any]) -> bool:
        """Pairs: of as many probes as the verdict had, in the data set's order; each once."""
        phases = [self._phases[weight] for weight in sorted(self._phases)]
        judged = sum(row[0] for row in target["pairs"].values())
        mirrored = target["mirroredErrors"] == self._mirrored_errors
        return phases == target["phases"] and self._pairs(judged) == target["pairs"] and mirrored

    def _request(self, record: Mapping[str, Any], weight: float) -> None:
        digest = hmac.digest(self._seed, record["id"].encode(), hashlib.sha256)
        canary = int.from_bytes(digest[:8], "big") / 2**64 < weight
        failed = record["outcome"] != "ok"
        self._failed[record["id"]] = failed
        counted = self._seen >= self._warm_up
        self._seen += canary
        if not counted:
            return
        edges = self._rule.edges
        blank = {"weight": weight, "requests": 0, "canaryRequests": 0, "errors": [0, 0], "latency": [[0, 0] for _ in [*edges, 0]]}
        phase, side = self._phases.setdefault(weight, blank), 0 if canary else 1
        self.requests += 1
        phase["requests"] += 1
        phase["canaryRequests"] += canary
        phase["errors"][side] += failed
        if record["outcome"] == "timeout" and edges:
            phase["latency"][len(edges)][side] += 1
        elif not failed and edges:
            latency = record["latencyUs"] / (self._rule.tolerance if canary else 1)
            phase["latency"][bisect_left(edges, latency)][side] += 1

    def _probe(self, place: Mapping[str, Any]) -> None:
        """Probes count once both versions have answered them; each time, both leave a record, one after the other."""
        self._asked[place["version"]] = place
        if len(self._asked) < 2:
            return
        if all(asked["labels"] is not None for asked in self._asked.values()):
            for version, asked in self._asked.items():
                self._answers[version].update(zip(asked["probes"], asked["labels"], strict=True))
        self._asked.clear()

    def _mirror(self, record: Mapping[str, Any]) -> None:
        self._mirrors_seen += 1
        if self._mirrors_seen <= self._warm_up:
            return
        stable, canary = self._failed[record["id"].removesuffix("-mirror")], record["outcome"] != "ok"
        if stable != canary:
            self._mirrored_errors[stable] += 1

    def _pairs(self, judged: int) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for probe, label in list(self._golden.items())[:judged]:
            right = [self._answers[version].get(probe) == label for version in ("stable", "canary")]
            row = found.setdefault(label, [0, 0, 0])
            row[0] += 1
            row[1] += right[0] and not right[1]
            row[2] += right[1] and not right[0]
        return found


def _close(left: Any, right: Any) -> bool:
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(_close(left[key], right[key]) for key in left)
    return left == right or (isinstance(left, float) and abs(left - right) <= 1e-9 * max(1.0, abs(left)))
