"""Prediction records: sealed in batches, found with their proof, recovered after a kill."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from services.core import merkle
from services.core.canonical import canonical
from services.core.database import open_engine
from services.core.ids import made_at, new_id
from services.core.outbox import Outbox, Relay
from services.core.tls import service_id
from services.serving.errors import UnknownPrediction
from services.serving.records import BATCH_MS, BATCH_RECORDS
from services.serving.router import records, tables
from services.serving.router.records import CLOCKS_MS, RecordLog

ROUTER = service_id("router")


class Home:
    """A router's folder. now: epoch milliseconds."""

    def __init__(self, root: Path) -> None:
        self.root, self.now = root, 1_000_000
        self.engine: Engine = open_engine(f"sqlite:///{root / 'router.db'}")
        tables.metadata.create_all(self.engine)
        self.outbox = Outbox(tables.outbox, ROUTER, lambda: self.now)

    def open(self, segment_bytes: int = records.SEGMENT_BYTES) -> RecordLog:
        return RecordLog(self.root / "predictions", self.engine, self.outbox, lambda: self.now, ROUTER, segment_bytes)

    def sealed(self) -> list[dict[str, Any]]:
        """Payloads of the events that go to the log."""
        bus = Bus()
        Relay(self.engine, self.outbox, bus).flush()
        return [event["payload"] for event in bus.events]


class Bus:
    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def append(self, events: list[dict[str, Any]]) -> list[int]:
        self.events += events
        return list(range(len(events)))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def record(number: int, rollout: str | None = None) -> dict[str, Any]:
    place = None if rollout is None else {"id": rollout, "weight": 0.5, "arm": "canary", "bin": 1, "counted": True}
    return {"id": f"prd-{number}", "ts": number, "outcome": "ok", "latencyUs": 10, "rollout": place}


def write(log: RecordLog, *numbers: int) -> None:
    for number in numbers:
        log.expect()
        log.append(record(number))


def test_the_root_in_the_log_covers_each_record(home: Home) -> None:
    log = home.open()
    write(log, *range(7))
    assert log.seal() == 7
    (payload,) = home.sealed()
    for number in range(7):
        found = log.find(f"prd-{number}")
        place, leaf = found["sealed"], merkle.leaf_hash(canonical(found["record"]))
        proof = [bytes.fromhex(node) for node in place["proof"]]
        merkle.verify_inclusion(leaf, place["index"], place["size"], proof, bytes.fromhex(payload["root"].removeprefix("sha256:")))
        assert found["record"] == record(number)
    assert {key: payload[key] for key in ("batch", "records", "first", "last", "recovered", "lost")} == {
        "batch": 1, "records": 7, "first": "prd-0", "last": "prd-6", "recovered": False, "lost": 0,
    }


def test_a_record_is_found_before_its_batch_is_sealed(home: Home) -> None:
    log = home.open()
    write(log, 1, 2)
    assert log.find("prd-2") == {"record": record(2), "sealed": None}


def test_an_unknown_record_is_named(home: Home) -> None:
    with pytest.raises(UnknownPrediction, match="prd-9"):
        home.open().find("prd-9")


def test_a_batch_is_due_by_age_or_by_number(home: Home) -> None:
    log = home.open()
    assert not log.due()
    write(log, 1)
    assert not log.due()
    home.now += BATCH_MS
    assert log.due()
    log.seal()
    write(log, *range(10, 10 + BATCH_RECORDS))
    assert log.due()


def test_a_clean_stop_owes_nothing(home: Home) -> None:
    log = home.open()
    write(log, 1, 2)
    log.close()
    again = home.open()
    assert (again.lost, again.due()) == (0, False)
    assert [payload["records"] for payload in home.sealed()] == [2]


def test_a_torn_tail_is_cut_and_the_rest_is_sealed(home: Home) -> None:
    log = home.open()
    write(log, 1)
    log.seal()
    write(log, 2, 3)
    log.expect()
    path = home.root / "predictions" / "00000001.jsonl"
    with path.open("ab") as file:
        file.write(canonical(record(4))[:20])
    again = home.open()
    assert again.lost == 1
    write(again, 5)
    again.seal()
    assert [(p["records"], p["recovered"], p["lost"]) for p in home.sealed()] == [(1, False, 0), (2, True, 1), (1, False, 0)]
    assert [again.find(f"prd-{number}")["record"]["ts"] for number in (1, 2, 3, 5)] == [1, 2, 3, 5]


def test_loss_is_told_even_when_no_record_is_left_to_seal(home: Home) -> None:
    log = home.open()
    log.expect()
    again = home.open()
    again.seal()
    assert [(p["records"], p["lost"]) for p in home.sealed()] == [(0, 1)]


def test_records_of_a_rollout_are_read_back_over_segments(home: Home) -> None:
    log = home.open(segment_bytes=200)
    for number in range(12):
        log.expect()
        log.append(record(number, "rol-1" if number % 2 else "rol-2"))
        log.seal()
    assert [item["ts"] for item in log.of_rollout("rol-1")] == [1, 3, 5, 7, 9, 11]
    assert len(list((home.root / "predictions").glob("*.jsonl"))) > 1
    assert log.find("prd-0")["record"] == record(0, "rol-2")


def test_what_was_written_long_before_a_rollout_was_made_is_not_read_for_it(home: Home) -> None:
    log, rollout = home.open(segment_bytes=200), new_id("rol")
    for number in range(4):
        log.expect()
        log.append(record(number, rollout))
        log.seal()
    first, *later = sorted((home.root / "predictions").glob("*.jsonl"))
    read = [item["ts"] for item in log.of_rollout(rollout)]
    assert read == [0, 1, 2, 3]
    made = made_at(rollout) * 1_000_000
    for path in later:  # clocks that differ lose nothing
        os.utime(path, ns=(made - 1_000_000 * CLOCKS_MS // 2,) * 2)
    os.utime(first, ns=(made - 1_000_000 * 2 * CLOCKS_MS,) * 2)
    skipped = len(first.read_bytes().splitlines())
    assert [item["ts"] for item in log.of_rollout(rollout)] == read[skipped:] != []


CHILD = """
import sys
from pathlib import Path
from tests.unit.test_serving_records import Home, record
log = Home(Path(sys.argv[1])).open()
for number in range(10**6):
    log.expect()
    if number == 500:
        log.seal()
    log.append(record(number))
    print(number, flush=True)
"""


def test_sigkill_loses_at_most_what_was_not_written(home: Home) -> None:
    """Every record that the child had told of is there; what it owed is counted."""
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(home.root)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    told = -1
    for line in child.stdout:
        told = int(line)
        if told >= 1500:
            os.kill(child.pid, signal.SIGKILL)
            break
    rest = child.stdout.read().splitlines()
    told = int(rest[-1]) if rest and rest[-1].isdigit() else told
    child.wait()
    again = home.open()
    again.seal()
    lines = (home.root / "predictions" / "00000001.jsonl").read_bytes().splitlines()
    assert [json.loads(line)["ts"] for line in lines] == list(range(len(lines)))
    assert len(lines) > told
    assert again.lost <= 1
    assert sum(payload["records"] for payload in home.sealed()) == len(lines)
