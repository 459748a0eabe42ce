"""Whoever tampers with a log is found, and the report says by which name. `signed` tampering has the log's own key."""

import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from services.core import logcheck, tlog
from services.core.logentry import parse_leaf
from services.core.logevents import TIME_BACK_MS
from services.core.logfindings import Kind, Report
from tests.audit import API, PROXY, START, Home, append, chained, event, events, kinds_of

UNCHECKABLE = (
    "truncation: no checkpoint from elsewhere was given",
    "forks: no checkpoint from elsewhere was given",
)
SIZES = [20, 600]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def edited(leaf: bytes) -> bytes:
    assert b'"payload":{"n":' in leaf
    return leaf.replace(b'"payload":{"n":', b'"payload":{"n":9')


@pytest.mark.parametrize("size", [0, 1, 2, 255, 256, 257, 512, 600])
def test_an_honest_log_has_no_problem(home: Home, size: int) -> None:
    home.filled(size)
    if size == 0:
        home.sign([])
    report = home.check()
    assert (report.problems, report.size, report.not_checkable) == ((), size, UNCHECKABLE)


@pytest.mark.parametrize("old", [1, 256, 300, 600])
def test_an_honest_log_extends_every_checkpoint_kept_of_it(home: Home, old: int) -> None:
    home.filled(old)
    kept = home.note()
    append(home.open(), 600 - old, old + 1)
    home.open().publish()
    report = home.check(kept)
    assert (report.problems, report.not_checkable) == ((), ())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("at", [0, 7, 18, -1])
def test_an_edited_entry_is_named(home: Home, size: int, at: int) -> None:
    home.filled(size)
    leaves, at = home.leaves(), at % size
    leaves[at] = edited(leaves[at])
    home.write_bundles(leaves)
    assert (Kind.EDITED, at) in {(problem.kind, problem.index) for problem in home.check().problems}
    assert kinds_of(home.check()) == {"edited", "wrong root"}


@pytest.mark.parametrize("size", SIZES)
def test_an_entry_edited_together_with_its_tiles_is_named(home: Home, size: int) -> None:
    home.filled(size)
    leaves = home.leaves()
    leaves[7] = edited(leaves[7])
    home.write_tree(leaves)
    assert (Kind.EDITED, 7) in {(problem.kind, problem.index) for problem in home.check().problems}
    home.sign(leaves)
    assert [(problem.kind, problem.index) for problem in home.check().problems] == [(Kind.EDITED, 7)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("at", [0, 7, 18])
def test_a_removed_entry_is_named(home: Home, size: int, at: int) -> None:
    home.filled(size)
    leaves = home.leaves()
    del leaves[at]
    home.write_bundles(leaves)
    assert "removed" in kinds_of(home.check())
    home.write_tree(leaves)
    assert "removed" in kinds_of(home.check())
    home.sign(leaves)
    assert {"removed", "gap"} <= kinds_of(home.check())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("pair", [(3, 4), (0, 1), (2, 17)])
def test_reordered_entries_are_named(home: Home, size: int, pair: tuple[int, int]) -> None:
    home.filled(size)
    leaves = home.leaves()
    leaves[pair[0]], leaves[pair[1]] = leaves[pair[1]], leaves[pair[0]]
    home.write_bundles(leaves)
    assert kinds_of(home.check()) == {"reordered", "wrong root"}
    home.write_tree(leaves)
    assert kinds_of(home.check()) == {"reordered", "wrong root"}
    home.sign(leaves)
    assert kinds_of(home.check()) == {"reordered"}


@pytest.mark.parametrize(("size", "rest"), [(20, 19), (20, 1), (600, 599), (600, 512), (600, 3)])
def test_a_truncated_log_is_named(home: Home, size: int, rest: int) -> None:
    home.filled(size)
    leaves = home.leaves()
    home.write_bundles(leaves[:rest])
    assert kinds_of(home.check()) == {"truncated"}
    home.write_tree(leaves[:rest])
    assert "truncated" in kinds_of(home.check())
    assert "removed" not in kinds_of(home.check())


def test_a_log_cut_back_with_its_checkpoint_is_found_by_a_kept_checkpoint_only(home: Home) -> None:
    home.filled(300)
    kept, leaves = home.note(), home.leaves()[:200]
    home.write_tree(leaves)
    home.sign(leaves)
    blind = home.check()
    assert (blind.problems, blind.not_checkable) == ((), UNCHECKABLE)
    report = home.check(kept)
    assert kinds_of(report) == {"truncated"}
    assert report.not_checkable == ("forks: the log ends before the checkpoint from elsewhere",)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("write", ["write_bundles", "write_tree"])
def test_a_rechained_log_is_named(home: Home, size: int, write: str) -> None:
    home.filled(size)
    items = [parse_leaf(leaf)[0] for leaf in home.leaves()]
    items[7]["payload"] = {"n": "other"}
    getattr(home, write)(chained(items))
    assert kinds_of(home.check()) - {"wrong root"} == {"re-chained"}


def test_a_fork_is_found_by_a_kept_checkpoint_only(home: Home) -> None:
    home.filled(300)
    kept, items = home.note(), [parse_leaf(leaf)[0] for leaf in home.leaves()]
    items[7]["payload"] = {"n": "other"}
    leaves = chained([*items, event(301)])
    home.write_tree(leaves)
    home.sign(leaves)
    blind = home.check()
    assert (blind.problems, blind.not_checkable) == ((), UNCHECKABLE)
    assert kinds_of(home.check(kept)) == {"forked"}


SIGNED: dict[str, tuple[Callable[[list[dict[str, Any]]], Any], set[str]]] = {
    "gap": (lambda items: items.pop(5), {"gap"}),
    "gap at the start": (lambda items: items.pop(0), {"gap"}),
    "late": (lambda items: items.insert(9, items.pop(5)), {"reordered"}),
    "reused id": (lambda items: items[5].update(id=items[2]["id"]), {"reused id"}),
    "reused seq": (lambda items: items.append({**items[-1], "id": "evt-other"}), {"reused seq"}),
    "time back": (lambda items: items[5].update(ts=START - TIME_BACK_MS), {"time back"}),
    "clock set back a little": (lambda items: items[5].update(ts=START - TIME_BACK_MS + 1000), set()),
    "two sources, each in order": (lambda items: items.extend(events(3, source=PROXY)), set()),
    "two sources, times apart": (lambda items: items.append(event(1, PROXY, ts=START - 10 * TIME_BACK_MS)), set()),
    "unknown type": (lambda items: items[5].update(type="nothing.happened"), {"bad event"}),
    "unknown field": (lambda items: items[5].update(extra=1), {"bad event"}),
    "type that is no text": (lambda items: items[5].update(type=["model.registered"]), {"bad event"}),
    "version that only equals 1": (lambda items: items[5].update(version=True), {"bad event"}),
    "empty actor": (lambda items: items[5].update(actor=""), {"bad event"}),
    "trace id too long": (lambda items: items[5].update(traceId="t" * 513), {"bad event"}),
    "seq below 1": (lambda items: items.append({**event(1, PROXY), "seq": 0}), {"bad event"}),
}


@pytest.mark.parametrize("case", SIGNED)
def test_what_even_a_signed_history_may_not_hold_is_named(home: Home, case: str) -> None:
    change, kinds = SIGNED[case]
    items = events(20)
    change(items)
    home.filled(1)
    leaves = chained(items)
    home.write_tree(leaves)
    home.sign(leaves)
    # An event that nobody understands is not counted among its source's.
    assert kinds_of(home.check()) - ({"gap"} if "bad event" in kinds else set()) == kinds


def test_an_entry_in_other_than_canonical_bytes_is_named(home: Home) -> None:
    home.filled(3)
    leaves = home.leaves()
    leaves[2] = leaves[2].replace(b'{"actor"', b'{ "actor"')
    home.write_tree(leaves)
    home.sign(leaves)
    assert [(problem.kind, problem.index) for problem in home.check().problems if problem.kind != Kind.GAP] == [(Kind.BAD_EVENT, 2)]


@pytest.mark.parametrize("path", ["tile/0/000", "tile/0/001", "tile/0/002.p/88", "tile/1/000.p/2"])
@pytest.mark.parametrize("how", ["missing", "changed", "cut"])
def test_a_damaged_tile_is_named_by_its_path(home: Home, path: str, how: str) -> None:
    home.filled(600)
    file = home.folder / path
    data = file.read_bytes()
    if how == "missing":
        file.unlink()
    else:
        file.write_bytes(data[:-1] if how == "cut" else b"\0" * 32 + data[32:])
    report = home.check()
    assert not report.ok
    if how != "changed":
        assert path in report.problems[0].detail


@pytest.mark.parametrize("path", ["tile/entries/000", "tile/entries/001"])
def test_a_missing_bundle_is_a_removal(home: Home, path: str) -> None:
    home.filled(600)
    (home.folder / path).unlink()
    assert "removed" in kinds_of(home.check())


def test_a_damaged_bundle_is_named(home: Home) -> None:
    home.filled(20)
    path = home.folder / "tile/entries/000.p/20"
    path.write_bytes(path.read_bytes()[:-1])
    assert "bad tile" in kinds_of(home.check())


def test_a_checkpoint_of_another_key_is_named_and_the_rest_is_checked_still(home: Home) -> None:
    home.filled(20)
    other = Home(home.folder.parent / "other")
    other.filled(1)
    leaves = home.leaves()
    leaves[7] = edited(leaves[7])
    home.write_bundles(leaves)
    report = logcheck.check_log(home.store, other.vkey)
    assert kinds_of(report) == {"bad signature", "edited", "wrong root"}


@pytest.mark.parametrize(("note", "kind"), [(None, "bad checkpoint"), (b"nonsense", "bad checkpoint")])
def test_a_missing_or_garbled_checkpoint_is_named(home: Home, note: bytes | None, kind: str) -> None:
    home.filled(20)
    home.store.write("checkpoint", note) if note else (home.folder / "checkpoint").unlink()
    report = home.check()
    assert (kinds_of(report), report.size, report.root) == ({kind}, 0, None)
    assert report.not_checkable[-1].startswith("entries:")


def test_a_checkpoint_that_claims_an_endless_log_ends_the_check_soon(home: Home) -> None:
    home.filled(20)
    home.store.write("checkpoint", home.signer.sign_anything(2**62, b"\0" * 32).encode())
    assert "truncated" in kinds_of(home.check())


def test_a_kept_checkpoint_of_another_log_proves_nothing(home: Home) -> None:
    home.filled(20)
    other = Home(home.folder.parent / "other")
    other.filled(1)
    report = home.check(other.note())
    assert kinds_of(report) == {"bad signature"}
    assert report.not_checkable[0] == "truncation: the checkpoint from elsewhere is not this log's"


def test_a_report_says_everything_in_json(home: Home) -> None:
    home.filled(3)
    leaves = home.leaves()
    home.write_bundles([edited(leaves[0]), *leaves[1:]])
    told = home.check().to_json()
    assert (told["ok"], told["size"], told["notCheckable"]) == (False, 3, list(UNCHECKABLE))
    assert told["problems"][0] == {"kind": "edited", "index": 0, "detail": "entry 1's prevHash is of other bytes"}


def test_the_first_thousand_problems_are_kept_and_the_rest_counted(home: Home) -> None:
    home.filled(1)
    leaves = chained([event(1, f"{API}{number}", id="same") for number in range(1202)])
    home.write_tree(leaves)
    home.sign(leaves)
    report = home.check()
    assert (len(report.problems), report.more) == (1000, 201)


def peak(check: Callable[[], Report], size: int) -> int:
    """The most bytes that a check of an honest log held at once."""
    tracemalloc.start()
    report = check()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (report.ok, report.size) == (True, size)
    return most


@pytest.mark.parametrize("by", ["the offline check", "audit verify"])
def test_memory_does_not_grow_with_the_log(tmp_path: Path, by: str) -> None:
    """With a kept checkpoint, so that nothing is left out; `audit verify` compares the table too."""
    peaks, sizes = [], (1_500, 6_000)
    for size in sizes:
        home = Home(tmp_path / str(size))
        home.filled(256)
        kept = home.note()
        append(home.open(), size - 256, 257)
        home.open().publish()
        check = partial(home.check, kept) if by == "the offline check" else partial(home.open().verify, kept.encode())
        peaks.append(peak(check, size))
    # Less than a hash in Python takes, for each entry that the longer log has more: nothing is kept of them.
    assert peaks[1] - peaks[0] < 64 * (sizes[1] - sizes[0])


def test_the_tree_of_a_log_is_bound_to_its_origin(home: Home) -> None:
    home.filled(3)
    renamed = tlog.parse_vkey(tlog.vkey_text("ai-infra.test/other", home.vkey.key))
    assert kinds_of(logcheck.check_log(home.store, renamed)) == {"bad signature"}
