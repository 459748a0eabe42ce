"""The whole report of a log whose tiles, bundles and checkpoint do not fit each other, are cut, or are gone."""

import pytest

from services.core import cosignature, keys, merkle, tlog
from services.core.logcheck import check_log
from services.core.logentry import parse_leaf
from services.core.logfindings import MAX_PROBLEMS, Kind, Problem
from services.core.logtree import MAX_MISSING
from tests.audit import API, SIGNER, WRONG_ROOT, chained, edited, event, events, kinds_of, note, rebundled, stored, swapped
from tests.fakes.log_store import MemoryLogStore

ALL = chained(events(600))
LARGE = chained(events(256 * 258 + 1))
"""Entries enough that tiles of level 1 are full, and there is one of level 2."""


def found(store: MemoryLogStore) -> list[Problem]:
    return list(check_log(store, SIGNER.vkey).problems)


# --- bundles against tiles


@pytest.mark.parametrize(("one", "two"), [(0, 1), (3, 200), (254, 255), (256, 257), (300, 511), (512, 599)])
def test_a_bundle_in_another_order_than_its_tile_is_told_once(one: int, two: int) -> None:
    told = Problem(Kind.REORDERED, "the tile has the same entries in another order", one)
    late = [problem for problem in found(rebundled(swapped(ALL, one, two), ALL)) if "stands after" not in problem.detail]
    assert late == [told, WRONG_ROOT]


@pytest.mark.parametrize("at", [256, 257, 300, 599])
def test_an_edit_behind_a_reordered_bundle_is_told_as_well(at: int) -> None:
    leaves = swapped(ALL, 3, 200)
    leaves[at] = edited(leaves[at])
    why = f"entry {at + 1}'s prevHash is of other bytes" if at < 599 else "entries 599 to 599 are not those of the tiles"
    told = [problem for problem in found(rebundled(leaves, ALL)) if "stands after" not in problem.detail]
    assert told == [
        Problem(Kind.REORDERED, "the tile has the same entries in another order", 3),
        Problem(Kind.EDITED, why, at),
        WRONG_ROOT,
    ]


def test_entries_chained_anew_are_told_from_the_first_to_the_last_that_differs() -> None:
    items = [parse_leaf(leaf)[0] for leaf in ALL[:20]]
    items[7]["payload"] = {"n": "other"}
    told = Problem(Kind.RECHAINED, "entries 7 to 19 are not those of the tiles", 7)
    assert found(rebundled(chained(items), ALL[:20])) == [told, WRONG_ROOT]


def test_a_changed_tile_is_told_by_its_entries_and_hides_no_edit() -> None:
    leaves = [*ALL[:5], edited(ALL[5]), *ALL[6:]]
    store = rebundled(leaves, ALL)
    store.files["tile/0/001"] = store.files["tile/0/001"][:-64] + b"\0" * 32 + store.files["tile/0/001"][-32:]
    assert found(store) == [
        Problem(Kind.EDITED, "entry 6's prevHash is of other bytes", 5),
        Problem(Kind.RECHAINED, "entries 510 to 510 are not those of the tiles", 510),
        Problem(Kind.BAD_TILE, "tile/1/000.p/2 is not made of the tiles below it"),
        WRONG_ROOT,
    ]


def test_an_entry_that_a_bundle_has_twice_instead_of_another_is_told_as_another() -> None:
    leaves = [*ALL[:19], ALL[18]]
    told = found(rebundled(leaves, ALL[:20]))
    assert told[0] == Problem(Kind.REORDERED, "it follows entry 17 by its prevHash", 19)
    assert Kind.REMOVED not in {problem.kind for problem in told}


def test_entries_that_differ_over_the_bound_are_counted() -> None:
    leaves = LARGE[: 2 * MAX_PROBLEMS + 6]
    store = stored(leaves)
    for number in range(-(-len(leaves) // 256)):
        path = tlog.tile_path(0, number, tlog.width_at(0, number, len(leaves)))
        hashes = tlog.decode_tile(store.files[path])
        store.files[path] = tlog.encode_tile([hash if at % 2 else b"\0" * 32 for at, hash in enumerate(hashes)])
    report = check_log(store, SIGNER.vkey)
    # The tile above is one more.
    assert (kinds_of(report), len(report.problems), report.more) == ({"re-chained", "bad tile"}, MAX_PROBLEMS, 3 + 1)


# --- entries that are not there


@pytest.mark.parametrize("at", [0, 7, 255, 256, 300, 598])
def test_an_entry_taken_out_of_its_bundle_is_told(at: int) -> None:
    store, number = stored(ALL), at // 256
    width = tlog.width_at(0, number, 600)
    left = [leaf for index, leaf in enumerate(ALL[number * 256 : number * 256 + width], number * 256) if index != at]
    store.files[tlog.entries_path(number, width)] = tlog.encode_bundle(left)
    why = "entries before it are missing" if at == 255 else "the tile has it, the entry bundle has not"
    assert found(store) == [
        Problem(Kind.REMOVED, why, 256 if at == 255 else at),
        Problem(Kind.GAP, f"{API}: seq {at + 1} to {at + 1} is nowhere in the log"),
    ]


def test_each_entry_taken_out_of_one_bundle_is_told() -> None:
    store = stored(ALL)
    left = [leaf for index, leaf in enumerate(ALL[:256]) if index not in (7, 100)]
    store.files["tile/entries/000"] = tlog.encode_bundle(left)
    assert found(store) == [
        Problem(Kind.REMOVED, "the tile has it, the entry bundle has not", 7),
        Problem(Kind.REMOVED, "the entry before it by its prevHash is nowhere in the log", 99),
        Problem(Kind.GAP, f"{API}: seq 8 to 8 is nowhere in the log"),
        Problem(Kind.GAP, f"{API}: seq 101 to 101 is nowhere in the log"),
    ]


@pytest.mark.parametrize("there", [599, 513, 512, 511, 256, 3, 0])
def test_a_log_that_ends_early_is_told_with_both_sizes(there: int) -> None:
    store = rebundled(ALL[:there], ALL)
    assert found(store) == [Problem(Kind.TRUNCATED, f"the checkpoint is of 600 entries, {there} are there")]
    assert check_log(store, SIGNER.vkey).root is None


def test_the_first_hole_is_told_and_each_gap_in_seq() -> None:
    leaves = LARGE[: 4 * 256 + 7]
    store = stored(leaves)
    del store.files["tile/entries/000"], store.files["tile/entries/002"]
    assert found(store) == [
        Problem(Kind.REMOVED, "entries before it are missing", 256),
        Problem(Kind.GAP, f"{API}: seq 1 to 256 is nowhere in the log"),
        Problem(Kind.GAP, f"{API}: seq 513 to 768 is nowhere in the log"),
    ]


def test_without_entries_and_tile_the_tiles_above_are_not_judged() -> None:
    store = stored(ALL)
    del store.files["tile/entries/001"], store.files["tile/0/001"]
    assert found(store) == [
        Problem(Kind.REMOVED, "entries before it are missing", 512),
        Problem(Kind.BAD_TILE, "tile/0/001: tile/0/001"),
        Problem(Kind.GAP, f"{API}: seq 257 to 512 is nowhere in the log"),
    ]


def holed(numbers: list[int]) -> MemoryLogStore:
    """A log that has the bundles of these numbers only, with all its tiles."""
    leaves = LARGE[: (max(numbers) + 1) * 256 + 1]
    store = stored(leaves)
    for number in range(max(numbers) + 2):
        if number not in numbers:
            del store.files[tlog.entries_path(number, tlog.width_at(0, number, len(leaves)))]
    return store


@pytest.mark.parametrize(
    "numbers", [[MAX_MISSING], [0, MAX_MISSING + 1], [10, 21]], ids=["at the start", "after the first", "in two parts"]
)
def test_the_check_goes_on_behind_a_hole_of_up_to_the_bound(numbers: list[int]) -> None:
    seen: list[int] = []
    report = check_log(holed(numbers), SIGNER.vkey, each=lambda index, event, leaf: seen.append(index))
    assert seen == [index for number in numbers for index in range(number * 256, number * 256 + 256)]
    first = 0 if numbers[0] else 1
    assert report.problems[0] == Problem(Kind.REMOVED, "entries before it are missing", numbers[first] * 256)


def test_a_longer_hole_ends_the_check() -> None:
    assert found(holed([0, MAX_MISSING + 2])) == [
        Problem(Kind.TRUNCATED, f"the checkpoint is of {(MAX_MISSING + 3) * 256 + 1} entries, 256 are there")
    ]


def test_damaged_files_are_each_told_by_path_and_reason() -> None:
    store = stored(ALL)
    for path in ("tile/entries/002.p/88", "tile/0/000", "tile/0/001"):
        store.files[path] = store.files[path][:-1]
    assert found(store) == [
        Problem(Kind.BAD_TILE, "tile/0/000: a tile of 8191 bytes: want 1 to 256 hashes"),
        Problem(Kind.BAD_TILE, "tile/0/001: a tile of 8191 bytes: want 1 to 256 hashes"),
        Problem(Kind.BAD_TILE, "tile/entries/002.p/88: an entry bundle is cut inside an entry, or holds more than 256"),
        Problem(Kind.TRUNCATED, "the checkpoint is of 600 entries, 512 are there"),
    ]


# --- upper tiles


@pytest.fixture(scope="module")
def large() -> dict[str, bytes]:
    """The files of a log with three levels of tiles; a test changes a copy."""
    return stored(LARGE).files


def test_a_log_with_three_levels_of_tiles_has_no_problem(large: dict[str, bytes]) -> None:
    assert found(MemoryLogStore(large)) == []


@pytest.mark.parametrize("path", ["tile/1/000", "tile/1/001.p/2", "tile/2/000.p/1"])
def test_an_upper_tile_that_is_not_of_those_below_is_told_by_its_path(path: str, large: dict[str, bytes]) -> None:
    store = MemoryLogStore(large)
    store.files[path] = store.files[path][:-32] + b"\0" * 32
    assert found(store) == [Problem(Kind.BAD_TILE, f"{path} is not made of the tiles below it")]


@pytest.mark.parametrize("path", ["tile/1/000", "tile/1/001.p/2", "tile/2/000.p/1"])
def test_an_upper_tile_that_is_gone_is_told_by_its_path(path: str, large: dict[str, bytes]) -> None:
    store = MemoryLogStore(large)
    del store.files[path]
    assert [problem.detail.partition(":")[0] for problem in found(store)] == [path]


# --- checkpoints from elsewhere, and witnesses


@pytest.mark.parametrize("size", [1, 255, 256, 257, 512, 600])
def test_a_kept_checkpoint_of_other_entries_is_a_fork(size: int) -> None:
    other = [edited(ALL[0]), *ALL[1:]]
    report = check_log(stored(ALL), SIGNER.vkey, note(other[:size]))
    told = Problem(Kind.FORKED, f"the first {size} entries are not those that a checkpoint from elsewhere is of")
    assert (report.problems, report.not_checkable) == ((told,), ())


def test_a_kept_checkpoint_of_more_entries_is_a_truncation() -> None:
    report = check_log(stored(ALL[:599]), SIGNER.vkey, note(ALL))
    told = Problem(Kind.TRUNCATED, "the log ends at 599 entries, a checkpoint from elsewhere is of 600")
    assert (report.problems, report.not_checkable) == ((told,), ("forks: the log ends before the checkpoint from elsewhere",))


def test_with_entries_missing_below_a_kept_checkpoint_a_fork_cannot_be_told() -> None:
    store = rebundled(ALL[:300], ALL)
    told = (Problem(Kind.TRUNCATED, "the checkpoint is of 600 entries, 300 are there"),)
    unknown = check_log(store, SIGNER.vkey, note(ALL[:301]))
    assert (unknown.problems, unknown.not_checkable) == (told, ("forks: entries below 301 are missing",))
    known = check_log(store, SIGNER.vkey, note(ALL[:300]))
    assert (known.problems, known.not_checkable) == (told, ())


@pytest.mark.parametrize(
    ("kept", "why", "told"),
    [
        (note([]), "the checkpoint from elsewhere is of an empty log", ()),
        (
            b"nonsense",
            "the checkpoint from elsewhere is not this log's",
            (Problem(Kind.BAD_CHECKPOINT, "the checkpoint from elsewhere: a note is a text, an empty line, and signature lines"),),
        ),
    ],
)
def test_a_kept_checkpoint_that_says_nothing_leaves_both_questions_open(kept: bytes, why: str, told: tuple[Problem, ...]) -> None:
    report = check_log(stored(ALL[:3]), SIGNER.vkey, kept)
    assert (report.problems, report.not_checkable) == (told, (f"truncation: {why}", f"forks: {why}"))


KEYS = {f"witness.example/w{number}": keys.generate_ed25519() for number in (1, 2, 3)}
WITNESSES = [tlog.parse_witness_vkey(tlog.witness_vkey_text(name, key.public_key())) for name, key in KEYS.items()]


def cosigned(over: list[bytes], by: dict[str, int]) -> MemoryLogStore:
    """A log of three entries, with cosignatures over a checkpoint of these. by: name → epoch seconds."""
    store = stored(ALL[:3])
    text = tlog.split_note(note(over))[0]
    lines = "".join(cosignature.cosign(text, name, KEYS[name], at) for name, at in by.items())
    store.files["checkpoint"] += lines.encode()
    return store


def test_who_cosigned_and_when_is_reported() -> None:
    report = check_log(cosigned(ALL[:3], {"witness.example/w2": 7}), SIGNER.vkey, witnesses=WITNESSES, threshold=1)
    assert (report.problems, report.witnesses) == (
        (),
        {"witness.example/w1": None, "witness.example/w2": 7, "witness.example/w3": None},
    )


def test_too_few_cosignatures_are_told_with_who_is_absent() -> None:
    store = cosigned(ALL[:3], {"witness.example/w2": 7})
    why = "1 cosignatures, trust asks for 2: none of witness.example/w1, witness.example/w3"
    assert check_log(store, SIGNER.vkey, witnesses=WITNESSES, threshold=2).problems == (Problem(Kind.NOT_WITNESSED, why),)


def test_a_cosignature_of_another_checkpoint_is_told() -> None:
    report = check_log(cosigned(ALL[:2], {"witness.example/w2": 7}), SIGNER.vkey, witnesses=WITNESSES)
    why = "witness witness.example/w2's cosignature is not of this checkpoint"
    assert (report.problems, set(report.witnesses.values())) == ((Problem(Kind.BAD_SIGNATURE, why),), {None})


def test_a_checkpoint_of_another_root_is_told_once_the_entries_are_right() -> None:
    store = stored(ALL[:3])
    store.write("checkpoint", SIGNER.sign_anything(3, merkle.EMPTY_ROOT).encode())
    told = Problem(Kind.RECHAINED, "the entries make another root than the checkpoint's")
    assert found(store) == [told]


def test_an_empty_log_under_another_root_than_that_of_nothing_is_told() -> None:
    store = MemoryLogStore()
    store.write("checkpoint", SIGNER.sign_anything(0, b"\0" * 32).encode())
    assert found(store) == [Problem(Kind.RECHAINED, "the entries make another root than the checkpoint's")]


def test_a_log_of_one_entry_is_told_from_another() -> None:
    assert found(stored(ALL[:1])) == []
    assert found(stored(chained([event(1, actor="spiffe://ai-infra.local/person/eve")]), over=ALL[:1])) == [
        Problem(Kind.RECHAINED, "the entries make another root than the checkpoint's")
    ]
