"""As-of queries: the replay of a log equals a fold written independently, is shown under the checkpoint, and is not fooled."""

import dataclasses
import random
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from services.core import asof, tlog
from services.core.asof import Until, as_of, check_proof
from services.core.cosignature import NotWitnessed
from services.core.digests import sha256
from services.core.errors import AiInfraError, BadInput, NotFound
from services.core.logfile import FolderReader
from services.core.merkle import BadProof
from services.core.trust import Trust
from tests import signing as world
from tests.audit import API, START, Home
from tests.audit import event as plain

MODELS, STAGES = ("digits", "digits@2x", "faces"), ("dev", "staging", "prod")
COUNT = 10_000


class World:
    """Random events of models that are registered, promoted, flagged and cleared. `states`: what each model's stages held after
    each event, kept by hand and not by replay."""

    def __init__(self, seed: int, count: int) -> None:
        self.random = random.Random(seed)
        self.events: list[dict[str, Any]] = []
        self.stage: dict[str, str] = {}
        self.made: dict[str, dict[str, Any]] = {}
        self.order: list[tuple[str, str]] = []
        self.flags: dict[str, tuple[str, str]] = {}
        self.ts = START
        self.picked: dict[int, list[Any]] = {}
        wanted = {*self.random.sample(range(count), 60), 0, count - 1}
        for index in range(count):
            self.step(index)
            if index in wanted:
                self.picked[index] = [(model, stage, self.held(model, stage)) for model in MODELS for stage in ("staging", "prod")]

    def step(self, index: int) -> None:
        self.ts += self.random.randrange(0, 3)
        kind = self.random.choice(["register", "promote", "promote", "promote", "flag", "lift", *["other"] * 6])
        if kind == "register" and len(self.made) < 400:
            self.register(index)
        elif kind == "promote" and (movable := [name for name, stage in self.stage.items() if stage != "prod"]):
            name = self.random.choice(movable)
            to = STAGES[self.random.randrange(STAGES.index(self.stage[name]) + 1, 3)]
            self.stage[name] = to
            self.order.append((name, to))
            self.tell("promotion.completed", name, {"to": to}, manifestRef=sha256(str(index).encode()))
        elif kind == "flag" and self.made:
            name = self.random.choice(sorted(self.made))
            kind, target = self.random.choice(
                [("model", name), ("artifact", self.made[name]["artifactId"]), ("dataset", "sha256:d1")]
            )
            self.flags[f"flag-{index}"] = (kind, target)
            self.tell("quarantine.set", target, {"flag": f"flag-{index}", "kind": kind, "target": target})
        elif kind == "lift" and self.flags:
            flag = self.random.choice(sorted(self.flags))
            del self.flags[flag]
            self.tell("quarantine.lifted", flag, {"flag": flag})
        else:
            self.tell("policyCheck", "x", {})

    def register(self, index: int) -> None:
        model = self.random.choice(MODELS)
        number = 1 + sum(1 for made in self.made.values() if made["model"] == model)
        parents = self.random.sample(sorted(self.made), min(len(self.made), self.random.choice([0, 0, 1])))
        payload = {
            "model": model,
            "number": number,
            "artifactId": sha256(str(self.random.randrange(50)).encode()),
            "runKey": sha256(f"run {index}".encode()),
            "riskClass": "high",
            "signature": None,
            "ancestors": ["sha256:d1"] if self.random.random() < 0.2 else [],
            "parents": parents,
        }
        self.made[f"{model}@{number}"], self.stage[f"{model}@{number}"] = payload, "dev"
        self.tell("model.registered", f"{model}@{number}", payload)

    def tell(self, kind: str, subject: str, payload: dict[str, Any], **more: Any) -> None:
        seq = len(self.events) + 1
        about = {"kind": "model", "id": subject, "digest": None}
        self.events.append(plain(seq, API, type=kind, ts=self.ts, subject=about, payload=payload, **more))

    def held(self, model: str, stage: str) -> tuple[str, str | None, tuple[str, ...]] | None:
        """By brute force: the version of the last promotion into the stage, the stage it moved on to, and the flags on it."""
        for name, to in reversed(self.order):
            if name.rpartition("@")[0] == model and to == stage:
                family = {name}
                while more := {parent for each in family for parent in self.made[each]["parents"]} - family:
                    family |= more
                bad = [
                    flag
                    for flag, (kind, target) in self.flags.items()
                    if (kind == "dataset" and target in self.made[name]["ancestors"])
                    or (kind == "model" and target in family)
                    or (kind == "artifact" and target in {self.made[each]["artifactId"] for each in family})
                ]
                return name, None if self.stage[name] == stage else self.stage[name], tuple(sorted(bad))
        return None


def answer(found: dict[str, Any]) -> Any:
    version = found["version"]
    return version and (f"{version['model']}@{version['number']}", version["promotedOn"], tuple(version["flags"]))


@dataclasses.dataclass(frozen=True)
class Played:
    """A log in a folder of what a world told."""

    world: World
    home: Home
    trust: Trust

    @property
    def reader(self) -> FolderReader:
        return FolderReader(self.home.folder)


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    told, home = World(7, COUNT), Home(tmp_path_factory.mktemp("asof"))
    audit = home.open()
    for first in range(0, COUNT, 500):
        audit.append(told.events[first : first + 500])
    audit.publish()
    return Played(told, home, world.trust(home.vkey.text, log_origin=home.vkey.name))


def test_a_replay_of_ten_thousand_random_events_equals_an_independent_fold_at_random_indexes(played: Played) -> None:
    fold_of = {(model, stage): asof.StageFold(model, stage) for model in MODELS for stage in ("staging", "prod")}
    seen = set()
    for index, event in enumerate(played.world.events):
        for fold in fold_of.values():
            fold.apply(event)
        for model, stage, expected in played.world.picked.get(index, []):
            holder = fold_of[model, stage].holder()
            found = None if holder is None else answer({"version": holder.version})
            assert found == expected, (index, model, stage)
            seen.add(found)
    assert len(seen) > 20


def test_the_log_answers_as_the_fold_does_with_proofs_that_hold(played: Played) -> None:
    for index in sorted(played.world.picked)[::25]:
        for model, stage, expected in played.world.picked[index]:
            found = as_of(played.reader, played.trust, model, stage, Until(index=index))
            assert (answer(found), found["entries"]) == (expected, index + 1)
            for item in found["restsOn"]:
                assert item["index"] <= index
                assert check_proof(item["proof"], item["event"], played.trust)["index"] == item["index"]


def test_a_time_stands_for_all_entries_before_the_first_later_one(played: Played) -> None:
    index = 4321
    ts = played.world.events[index]["ts"]
    last = max(at for at, event in enumerate(played.world.events) if event["ts"] <= ts)
    by_time = as_of(played.reader, played.trust, "digits", "prod", Until(ts=ts))
    assert by_time == as_of(played.reader, played.trust, "digits", "prod", Until(index=last))
    before_all = as_of(played.reader, played.trust, "digits", "prod", Until(ts=START - 1))
    assert (before_all["version"], before_all["entries"]) == (None, 0)


def test_a_version_that_was_promoted_on_is_still_what_its_stage_held() -> None:
    told = World(0, 60)
    folds = {stage: asof.StageFold("digits", stage) for stage in ("staging", "prod")}
    registered = {"model": "digits", "artifactId": "sha256:a", "runKey": "sha256:r", "riskClass": "high", "parents": []}
    for number in (1, 2):
        told.tell("model.registered", f"digits@{number}", registered | {"number": number, "ancestors": []})
        told.tell("promotion.completed", f"digits@{number}", {"to": "staging"}, manifestRef="sha256:m")
    told.tell("promotion.completed", "digits@2", {"to": "prod"}, manifestRef="sha256:n")
    for fold in folds.values():
        for event in told.events[60:]:
            fold.apply(event)
    holders = [fold.holder() for fold in folds.values()]
    assert [at and (at.version["number"], at.version["promotedOn"], at.rests_on) for at in holders] == [
        (2, "prod", (2, 3, 4)),
        (2, None, (2, 4)),
    ]


def test_an_index_beyond_the_checkpoint_is_refused(played: Played) -> None:
    with pytest.raises(NotFound, match=f"of {COUNT} entries"):
        as_of(played.reader, played.trust, "digits", "prod", Until(index=COUNT))


def test_an_edited_entry_is_not_replayed_as_the_logs(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.open().append(World(3, 300).events)
    home.open().publish()
    trust = world.trust(home.vkey.text, log_origin=home.vkey.name)
    as_of(FolderReader(home.folder), trust, "digits", "prod", Until())
    leaves = home.leaves()
    at = next(index for index, leaf in enumerate(leaves) if b'"to":"staging"' in leaf)
    leaves[at] = leaves[at].replace(b'"to":"staging"', b'"to":"prod"')
    home.write_bundles(leaves)
    with pytest.raises(BadProof):
        as_of(FolderReader(home.folder), trust, "digits", "prod", Until())
    with pytest.raises(BadProof):
        as_of(FolderReader(home.folder), trust, "digits", "prod", Until(index=at))


def test_memory_does_not_grow_with_the_log(tmp_path: Path) -> None:
    peaks = []
    for count in (2_000, 8_000):
        home = Home(tmp_path / str(count))
        told = [plain(seq, type="policyCheck") for seq in range(1, count + 1)]
        for first in range(0, count, 500):
            home.open().append(told[first : first + 500])
        home.open().publish()
        trust = world.trust(home.vkey.text, log_origin=home.vkey.name)
        tracemalloc.start()
        assert as_of(FolderReader(home.folder), trust, "digits", "prod", Until())["entries"] == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]


@pytest.mark.parametrize("what", ["entry", "index", "hash", "checkpoint", "witness"])
def test_a_proof_that_does_not_hold_is_refused(played: Played, what: str) -> None:
    entry = played.home.open().get(77).event
    proof, trust = played.home.open().prove(77), played.trust
    assert check_proof(proof, entry, trust)["size"] == COUNT
    if what == "entry":
        entry = {**entry, "actor": "spiffe://ai-infra.local/person/eve"}
    elif what == "index":
        proof = proof.replace("index 77", "index 78")
    elif what == "hash":
        lines = proof.split("\n")
        lines[2] = tlog.hash_text(bytes(32))
        proof = "\n".join(lines)
    elif what == "checkpoint":
        proof = proof.replace(f"\n{COUNT}\n", f"\n{COUNT + 1}\n")
    else:
        key = tlog.witness_vkey_text("witness.example/w1", world.keys.generate_ed25519().public_key())
        trust = dataclasses.replace(trust, log_witnesses=(key,), witness_threshold=1)
    with pytest.raises(NotWitnessed if what == "witness" else AiInfraError):
        check_proof(proof, entry, trust)


def test_events_that_lack_a_field_are_named() -> None:
    fold = asof.StageFold("digits", "prod")
    with pytest.raises(BadInput, match=r"entry 5 of type promotion\.completed lacks 'to'"):
        asof._apply(fold, 5, {**plain(1), "type": "promotion.completed", "payload": {}})
