"""The log and its witnesses: who cosigned is in the checkpoint; who did not is named; a fork and a cut log are found."""

from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from services.audit.errors import NotCosigned
from services.audit.service import AuditLog
from services.audit.witnesses import Witness
from services.core import cosignature, keys, tlog
from services.core.cosignature import NotWitnessed, open_cosigned
from services.core.logfindings import Kind
from services.witness.folder import FolderState, open_key
from services.witness.http import create_witness_app
from services.witness.service import Witness as WitnessService
from tests import signing as world
from tests.audit import Home, append, chained, events

NOW_S = 1_800_000_000


class Away(httpx.Client):
    """The way to a witness that can be cut."""

    def __init__(self, inner: httpx.Client) -> None:
        super().__init__()
        self.inner, self.cut, self.asked = inner, False, 0

    def post(self, url: Any, **options: Any) -> httpx.Response:
        self.asked += 1
        if self.cut:
            raise httpx.ConnectError("connection refused")
        return self.inner.post("/add-checkpoint", content=options["content"])


class Rig:
    """A log with two witnesses, each in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.home = Home(folder / "home")
        self.ways, self.services = [], []
        for name in ("witness.example/w1", "witness.example/w2"):
            state = folder / name.replace("/", "-")
            service = WitnessService(name, open_key(state), [self.home.vkey], FolderState(state), lambda: NOW_S * 1000)
            self.services.append(service)
            self.ways.append(Away(TestClient(create_witness_app(service))))
        self.vkeys = [tlog.parse_witness_vkey(service.vkey) for service in self.services]

    def open(self, threshold: int = 0, pause_s: float = 60.0) -> AuditLog:
        witnesses = [Witness("http://witness", vkey, way, pause_s) for vkey, way in zip(self.vkeys, self.ways, strict=True)]
        return AuditLog(self.home.engine, self.home.store, self.home.signer, self.home.vkey, witnesses, threshold)

    def cosigners(self) -> set[str]:
        return set(cosignature.cosigners(self.home.note().encode(), self.vkeys))


W1, W2 = "witness.example/w1", "witness.example/w2"


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def test_each_published_checkpoint_is_cosigned_by_all(rig: Rig) -> None:
    audit = rig.open(threshold=2)
    for size in (3, 300, 700):
        append(audit, size - audit.size(), audit.size() + 1)
        audit.publish()
        assert rig.cosigners() == {W1, W2}
    report = audit.verify()
    assert (report.problems, report.witnesses) == ((), {W1: NOW_S, W2: NOW_S})


def test_a_witness_away_is_named_and_asked_again_later(rig: Rig) -> None:
    audit = rig.open(threshold=1, pause_s=0.0)
    rig.ways[1].cut = True
    append(audit, 5)
    audit.publish()
    assert rig.cosigners() == {W1}
    assert (audit.verify().problems, audit.verify().witnesses) == ((), {W1: NOW_S, W2: None})
    rig.ways[1].cut = False
    audit.publish()
    assert rig.cosigners() == {W1, W2}
    assert tlog.open_checkpoint(rig.home.note().encode(), rig.home.vkey).size == 5


def test_a_witness_that_failed_is_left_alone_for_a_while(rig: Rig) -> None:
    audit = rig.open()
    rig.ways[1].cut = True
    append(audit, 1)
    for _ in range(5):
        audit.publish()
    assert rig.ways[1].asked == 1


def test_too_few_witnesses_are_a_problem_and_refuse_what_needs_them(rig: Rig) -> None:
    audit = rig.open(threshold=2)
    rig.ways[1].cut = True
    append(audit, 5)
    with pytest.raises(NotCosigned, match=f"{W2} \\(ConnectError"):
        audit.require_cosigned()
    (problem,) = audit.verify().problems
    assert (problem.kind, W2 in problem.detail) == (Kind.NOT_WITNESSED, True)
    trust = world.trust(
        rig.home.vkey.text, log_origin=rig.home.vkey.name, log_witnesses=tuple(v.text for v in rig.vkeys), witness_threshold=2
    )
    with pytest.raises(NotWitnessed, match=W2):
        open_cosigned(rig.home.note().encode(), trust)


def test_what_happened_before_the_call_must_be_cosigned(rig: Rig) -> None:
    audit = rig.open(threshold=2)
    append(audit, 5)
    audit.require_cosigned()
    assert rig.cosigners() == {W1, W2}
    rig.ways[0].cut = True
    append(audit, 1, 6)
    with pytest.raises(NotCosigned, match=W1):
        audit.require_cosigned()
    rig.open(threshold=0).require_cosigned()


def test_a_witness_that_lags_or_a_log_that_forgot_catches_up(rig: Rig) -> None:
    audit = rig.open(threshold=2)
    rig.ways[1].cut = True
    append(audit, 300)
    audit.publish()
    rig.ways[1].cut = False
    restarted = rig.open(threshold=2)
    append(restarted, 300, 301)
    restarted.publish()
    assert rig.cosigners() == {W1, W2}


def test_a_fork_gets_no_cosignature_and_the_witnesss_checkpoint_shows_it(rig: Rig) -> None:
    audit = rig.open(threshold=1)
    append(audit, 10)
    audit.publish()
    kept = rig.home.note()
    # A thief of the log's key signs another history of 12 entries.
    leaves = chained([*events(5), *events(7, 6, source="spiffe://ai-infra.local/service/router")])
    rig.home.write_tree(leaves)
    rig.home.sign(leaves)
    assert {problem.kind for problem in rig.home.check().problems} == {Kind.GAP}
    assert Kind.FORKED in {problem.kind for problem in rig.home.check(against=kept).problems}
    line = Witness("http://witness", rig.vkeys[0], rig.ways[0]).cosign(rig.home.note().encode(), 12, lambda old: [])
    assert line == ""


def test_a_log_cut_back_is_truncated_by_the_witnesss_checkpoint(rig: Rig) -> None:
    audit = rig.open(threshold=1)
    append(audit, 10)
    audit.publish()
    kept, leaves = rig.home.note(), rig.home.leaves()
    rig.home.write_tree(leaves[:6])
    rig.home.sign(leaves[:6])
    assert rig.home.check().problems == ()
    assert {problem.kind for problem in rig.home.check(against=kept).problems} == {Kind.TRUNCATED}


class Lying(httpx.Client):
    """A witness that answers what it should not."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__()
        self.answer = (status, text)

    def post(self, url: Any, **options: Any) -> httpx.Response:
        return httpx.Response(self.answer[0], text=self.answer[1])


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (409, "7\n"),
        (409, "junk"),
        (409, "3\n"),
        (200, ""),
        (200, "junk\n"),
        (500, "sorry"),
        (200, "the line of another checkpoint"),
    ],
)
def test_an_answer_that_is_no_cosignature_of_this_checkpoint_is_not_taken(rig: Rig, status: int, text: str) -> None:
    append(rig.open(), 5)
    rig.home.open().publish()
    note = rig.home.note().encode()
    if text.startswith("the line"):
        text = cosignature.cosign("another\n1\n" + tlog.hash_text(bytes(32)) + "\n", W1, keys.generate_ed25519(), NOW_S)
    witness = Witness("http://witness", rig.vkeys[0], Lying(status, text))
    assert witness.cosign(note, 5, lambda old: []) == ""
    assert witness.problem != ""
