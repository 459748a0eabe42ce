"""The whole report of a log that somebody changed: each finding, its entry and its words, and nothing besides."""

from collections.abc import Callable
from typing import Any

import pytest

from services.core import keys, merkle, tlog
from services.core.logcheck import check_log
from services.core.logentry import leaf_bytes, parse_leaf
from services.core.logevents import TIME_BACK_MS
from services.core.logfindings import MAX_PROBLEMS, Kind, Problem, Report
from tests.audit import API, PROXY, SIGNER, START, WRONG_ROOT, chained, edited, event, events, kinds_of, rebundled, stored, swapped
from tests.fakes.log_store import MemoryLogStore

FAR = "sha256:" + "0" * 63 + "1"
"""A hash of nothing."""

ALL = chained(events(600))


def check(store: MemoryLogStore, kept: bytes | None = None) -> Report:
    return check_log(store, SIGNER.vkey, kept)


def found(leaves: list[bytes], *, over: list[bytes] | None = None) -> list[Problem]:
    """What is found in a log whose tiles are of these leaves. over: what its checkpoint is of, if not of them."""
    return list(check(stored(leaves, over=over)).problems)


def of_events(change: Callable[[list[dict[str, Any]]], Any], count: int = 20) -> list[Problem]:
    """What is found in a log that is whole, chained and signed, of changed events."""
    items = events(count)
    change(items)
    return found(chained(items))


# --- the report itself


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 512, 600])
def test_an_honest_log_is_reported_with_its_size_and_root(size: int) -> None:
    root = merkle.root(map(merkle.leaf_hash, ALL[:size])).hex()
    why = "no checkpoint from elsewhere was given"
    assert check(stored(ALL[:size])) == Report(size, root, (), (f"truncation: {why}", f"forks: {why}"), 0, {})


@pytest.mark.parametrize("size", [1, 256, 600])
def test_each_entry_is_shown_once_in_order_with_its_bytes(size: int) -> None:
    seen: list[tuple[int, dict[str, Any], bytes]] = []
    assert check_log(stored(ALL[:size]), SIGNER.vkey, each=lambda *entry: seen.append(entry)).ok
    assert seen == [(index, event(index + 1), ALL[index]) for index in range(size)]


def test_an_entry_that_is_no_event_is_shown_to_nobody() -> None:
    seen: list[int] = []
    leaves = [*ALL[:3], b"{}", *ALL[4:6]]
    check_log(stored(leaves), SIGNER.vkey, each=lambda index, event, leaf: seen.append(index))
    assert seen == [0, 1, 2, 4, 5]


def test_a_report_in_json_has_every_field() -> None:
    problems = (Problem(Kind.GAP, "a gap"), Problem(Kind.EDITED, "an edit", 3))
    report = Report(7, "ab", problems, ("forks: unknown",), 2, {"w1": 5, "w2": None})
    assert report.to_json() == {
        "ok": False,
        "size": 7,
        "root": "ab",
        "problems": [{"kind": "gap", "index": None, "detail": "a gap"}, {"kind": "edited", "index": 3, "detail": "an edit"}],
        "more": 2,
        "notCheckable": ["forks: unknown"],
        "witnesses": {"w1": 5, "w2": None},
    }
    assert (report.ok, Report(7, "ab", (), ()).ok) == (False, True)


def test_without_a_checkpoint_the_report_says_what_nobody_can_tell() -> None:
    store = stored(ALL[:3])
    del store.files["checkpoint"]
    why = "no checkpoint from elsewhere was given"
    unknown = (f"truncation: {why}", f"forks: {why}", "entries: there is no checkpoint that says which")
    witness = tlog.parse_witness_vkey(tlog.witness_vkey_text("witness.example/w1", keys.generate_ed25519().public_key()))
    expected = Report(0, None, (Problem(Kind.BAD_CHECKPOINT, "checkpoint"),), unknown, 0, {"witness.example/w1": None})
    assert check_log(store, SIGNER.vkey, witnesses=[witness]) == expected


def test_findings_stand_in_the_order_of_the_entries_and_those_about_none_come_last() -> None:
    items = events(20)
    items[0].update(type="nothing.happened")
    items[1].update(ts=START - 10 * TIME_BACK_MS)
    items[2].update(ts=START - 20 * TIME_BACK_MS)
    items[9].update(type="nothing.happened")
    items[19].update(id=items[4]["id"])
    leaves = chained(items, FAR)
    leaves[5] = edited(leaves[5])
    assert [(problem.kind, problem.index) for problem in found(leaves, over=ALL[:20])] == [
        (Kind.BAD_EVENT, 0),
        (Kind.TIME_BACK, 2),
        (Kind.REMOVED, 6),
        (Kind.BAD_EVENT, 9),
        (Kind.REUSED_ID, 19),
        (Kind.GAP, None),
        (Kind.GAP, None),
        (Kind.WRONG_ROOT, None),
    ]


# --- entries


def test_an_edited_entry_is_told_by_the_one_after_it() -> None:
    leaves = list(ALL[:20])
    leaves[7] = edited(leaves[7])
    told = Problem(Kind.EDITED, "entry 8's prevHash is of other bytes", 7)
    assert found(leaves) == [told]
    assert found(leaves, over=ALL[:20]) == [told, WRONG_ROOT]
    assert list(check(rebundled(leaves, ALL[:20])).problems) == [told, WRONG_ROOT]


def test_the_last_entry_edited_is_told_by_its_tile() -> None:
    leaves = [*ALL[:19], edited(ALL[19])]
    told = Problem(Kind.EDITED, "entries 19 to 19 are not those of the tiles", 19)
    assert list(check(rebundled(leaves, ALL[:20])).problems) == [told, WRONG_ROOT]
    rewritten = Problem(Kind.RECHAINED, "the entries make another root than the checkpoint's")
    assert found(leaves, over=ALL[:20]) == [rewritten]


def test_neighbours_edited_together_are_each_told() -> None:
    leaves = list(ALL[:20])
    leaves[5], leaves[6] = edited(leaves[5]), edited(leaves[6])
    told = [
        Problem(Kind.EDITED, "entry 6's prevHash is of other bytes", 5),
        Problem(Kind.EDITED, "entry 7's prevHash is of other bytes", 6),
    ]
    assert list(check(rebundled(leaves, ALL[:20])).problems) == [*told, WRONG_ROOT]


@pytest.mark.parametrize("at", [0, 5, 19])
def test_an_edited_prev_hash_is_told_of_the_entry_that_has_it(at: int) -> None:
    leaves = list(ALL[:20])
    leaves[at] = leaf_bytes(parse_leaf(leaves[at])[0], FAR)
    told = Problem(Kind.EDITED, f"entry {at}'s prevHash is of other bytes", at)
    assert list(check(rebundled(leaves, ALL[:20])).problems) == [told, WRONG_ROOT]


def test_prev_hashes_edited_side_by_side_are_each_told() -> None:
    leaves = list(ALL[:20])
    leaves[5], leaves[6] = (leaf_bytes(parse_leaf(leaves[at])[0], FAR) for at in (5, 6))
    told = [
        Problem(Kind.EDITED, "entry 5's prevHash is of other bytes", 5),
        Problem(Kind.EDITED, "entry 7's prevHash is of other bytes", 6),
    ]
    assert list(check(rebundled(leaves, ALL[:20])).problems) == [*told, WRONG_ROOT]


def test_a_first_entry_that_names_a_predecessor_is_told_of_itself() -> None:
    assert found(chained(events(3), FAR)) == [Problem(Kind.EDITED, "entry 0's prevHash is of other bytes", 0)]


def test_a_second_first_entry_is_told() -> None:
    leaves = [*ALL[:3], *chained(events(2, source=PROXY))]
    assert found(leaves) == [Problem(Kind.REORDERED, "it is the first entry by its prevHash", 3)]


def test_an_entry_moved_far_is_told_with_the_one_that_it_follows() -> None:
    leaves = chained([*events(290), event(1, PROXY), *events(9, 291)])
    leaves.insert(10, leaves.pop(290))
    assert found(leaves) == [
        Problem(Kind.REORDERED, "it follows entry 290 by its prevHash", 10),
        Problem(Kind.REORDERED, "it follows entry 9 by its prevHash", 11),
        Problem(Kind.REORDERED, "it follows entry 10 by its prevHash", 291),
    ]


def test_a_removed_entry_is_told_by_the_one_after_it_and_by_its_seq() -> None:
    told = [
        Problem(Kind.REMOVED, "the entry before it by its prevHash is nowhere in the log", 5),
        Problem(Kind.GAP, f"{API}: seq 6 to 6 is nowhere in the log"),
    ]
    leaves = [*ALL[:5], *ALL[6:21]]
    assert found(leaves) == told
    assert found(leaves, over=ALL[:20]) == [*told, WRONG_ROOT]


def test_what_is_no_event_is_told_with_the_reason() -> None:
    leaf = ALL[3].replace(b'"seq":4', b'"seq":0')
    told = Problem(Kind.BAD_EVENT, "an event's seq is an integer of 1 or more, its ts of 0 or more", 3)
    assert found([*ALL[:3], leaf]) == [told]


def test_two_findings_of_one_kind_about_one_entry_are_told_once() -> None:
    by_chain_and_seq = [problem.index for problem in found(swapped(ALL[:20], 7, 8))]
    assert by_chain_and_seq == [7, 8, 9]


# --- sources


def test_each_range_of_seq_that_is_nowhere_is_told_with_its_source() -> None:
    def change(items: list[dict[str, Any]]) -> None:
        items[:] = [event(seq) for seq in (3, 4, 8)] + [event(2, PROXY)]

    assert of_events(change) == [
        Problem(Kind.GAP, f"{API}: seq 1 to 2 is nowhere in the log"),
        Problem(Kind.GAP, f"{API}: seq 5 to 7 is nowhere in the log"),
        Problem(Kind.GAP, f"{PROXY}: seq 1 to 1 is nowhere in the log"),
    ]


@pytest.mark.parametrize(
    ("seqs", "late", "missing"),
    [
        ((1, 5, 2), (2,), ["3 to 4"]),
        ((1, 5, 4), (4,), ["2 to 3"]),
        ((1, 5, 3), (3,), ["2 to 2", "4 to 4"]),
        ((1, 3, 5, 7, 2), (2,), ["4 to 4", "6 to 6"]),
        ((1, 3, 5, 7, 4), (4,), ["2 to 2", "6 to 6"]),
        ((1, 3, 5, 7, 6, 2, 4), (6, 2, 4), []),
        ((3, 1, 2), (1, 2), []),
    ],
)
def test_seqs_that_come_late_are_told_and_fill_their_gap(seqs: tuple[int, ...], late: tuple[int, ...], missing: list[str]) -> None:
    first = len(seqs) - len(late)
    assert found(chained([event(seq) for seq in seqs])) == [
        *(Problem(Kind.REORDERED, f"{API}: seq {seq} stands after a later one", at) for at, seq in enumerate(late, first)),
        *(Problem(Kind.GAP, f"{API}: seq {part} is nowhere in the log") for part in missing),
    ]


@pytest.mark.parametrize(
    ("seqs", "twice"), [((1, 1), 1), ((1, 2, 3, 2), 2), ((1, 2, 3, 1), 1), ((1, 2, 3, 3), 3), ((4, 1, 1, 2, 3), 1)]
)
def test_a_seq_that_stands_twice_is_told(seqs: tuple[int, ...], twice: int) -> None:
    leaves = chained([event(seq, id=f"evt-{at}") for at, seq in enumerate(seqs)])
    at = max(index for index, seq in enumerate(seqs) if seq == twice)
    told = [problem for problem in found(leaves) if problem.kind != Kind.REORDERED]
    assert told == [Problem(Kind.REUSED_SEQ, f"{API}: seq {twice} stands in the log twice", at)]


def test_a_time_may_go_back_by_the_bound_and_no_further() -> None:
    latest = START + 5  # of the event before
    assert of_events(lambda items: items[5].update(ts=latest - TIME_BACK_MS)) == []
    assert of_events(lambda items: items[5].update(ts=latest - TIME_BACK_MS - 1)) == [
        Problem(Kind.TIME_BACK, f"{API}: 60001 ms before an earlier event of its", 5)
    ]


def test_a_time_is_held_against_the_latest_before_it_not_the_one_before() -> None:
    def change(items: list[dict[str, Any]]) -> None:
        items[3].update(ts=START)
        items[4].update(ts=START - 50_000)
        items[5].update(ts=START - 100_000)

    assert of_events(change, 6) == [Problem(Kind.TIME_BACK, f"{API}: 100003 ms before an earlier event of its", 5)]


@pytest.mark.parametrize(("first", "second"), [(2, 5), (0, 19), (0, 256), (255, 511), (254, 255), (256, 599)])
def test_an_id_that_is_used_again_is_told_with_both_entries(first: int, second: int) -> None:
    reused = event(first + 1)["id"]
    told = of_events(lambda items: items[second].update(id=reused), second + 1)
    assert told == [Problem(Kind.REUSED_ID, f"{reused} is the id of entry {first} too", second)]


# --- bounds


def test_broken_links_over_the_bound_are_counted() -> None:
    leaves = [*ALL[:1], *(leaf_bytes(event(seq), FAR) for seq in range(2, MAX_PROBLEMS + 5))]
    report = check(stored(leaves))
    assert (kinds_of(report), len(report.problems), report.more) == ({"edited"}, MAX_PROBLEMS, 3)


def test_gaps_over_the_bound_are_counted() -> None:
    report = check(stored(chained([event(2 * number) for number in range(1, MAX_PROBLEMS + 4)])))
    assert (kinds_of(report), len(report.problems), report.more) == ({"gap"}, MAX_PROBLEMS, 3)
