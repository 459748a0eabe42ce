"""What a check says of checkpoints: the log's own, one kept elsewhere, and who cosigned. Whole reports of a small log."""

import pytest

from services.core import cosignature, keys, merkle, tlog
from services.core.logcheck import check_log
from services.core.logfindings import Kind, Problem, Report
from tests.audit import SIGNER, chained, events, note, stored
from tests.fakes.checkpoint_signer import FakeCheckpointSigner
from tests.fakes.log_store import MemoryLogStore

LEAVES = chained(events(3))
ROOT = merkle.root(map(merkle.leaf_hash, LEAVES))
NOT_GIVEN = "no checkpoint from elsewhere was given"
UNKEPT = (f"truncation: {NOT_GIVEN}", f"forks: {NOT_GIVEN}")
STRANGER = FakeCheckpointSigner()
"""Another key under the same log's name."""

AT = 1_800_000_000
W1, W2 = "witness.example/w1", "witness.example/w2"
KEYS = {name: keys.generate_ed25519() for name in (W1, W2)}
WITNESSES = [tlog.parse_witness_vkey(tlog.witness_vkey_text(name, key.public_key())) for name, key in KEYS.items()]
UNSIGNED = f"the note carries no signature of {SIGNER.vkey.name}+{SIGNER.vkey.key_id.hex()}"


def with_note(data: bytes | None) -> MemoryLogStore:
    """The log under another checkpoint, or none."""
    store = stored(LEAVES)
    del store.files["checkpoint"]
    if data is not None:
        store.write("checkpoint", data)
    return store


def cosigned(*names: str, of: bytes | None = None) -> bytes:
    text = tlog.split_note(of or note(LEAVES))[0]
    return note(LEAVES) + "".join(cosignature.cosign(text, name, KEYS[name], AT) for name in names).encode()


def test_a_checkpoint_of_another_key_is_told_and_what_it_claims_is_checked() -> None:
    theirs = STRANGER.sign_anything(3, ROOT).encode()
    problems = (Problem(Kind.BAD_SIGNATURE, UNSIGNED),)
    assert check_log(with_note(theirs), SIGNER.vkey) == Report(3, ROOT.hex(), problems, UNKEPT)


def test_a_checkpoint_of_another_log_is_told_and_what_it_claims_is_checked() -> None:
    theirs = SIGNER.sign_text(tlog.Checkpoint("other.example/log", 3, ROOT).text()).encode()
    detail = f"the checkpoint's origin is 'other.example/log', the log's is {SIGNER.vkey.name!r}"
    assert check_log(with_note(theirs), SIGNER.vkey) == Report(3, ROOT.hex(), (Problem(Kind.BAD_CHECKPOINT, detail),), UNKEPT)


@pytest.mark.parametrize(
    ("data", "detail"),
    [
        (None, "checkpoint"),
        (b"nonsense", "a note is a text, an empty line, and signature lines"),
        (SIGNER.sign_text("one line\n").encode(), "a checkpoint has three lines or more, none of them empty"),
    ],
    ids=["none", "no note", "no checkpoint"],
)
def test_without_a_checkpoint_nothing_is_checked(data: bytes | None, detail: str) -> None:
    unknown = (*UNKEPT, "entries: there is no checkpoint that says which")
    assert check_log(with_note(data), SIGNER.vkey) == Report(0, None, (Problem(Kind.BAD_CHECKPOINT, detail),), unknown)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_with_a_checkpoint_kept_elsewhere_nothing_is_left_unknown(size: int) -> None:
    assert check_log(stored(LEAVES), SIGNER.vkey, note(LEAVES[:size])) == Report(3, ROOT.hex(), (), ())


def test_what_a_checkpoint_kept_elsewhere_cannot_tell_is_said_beside_what_it_does() -> None:
    detail = "the log ends at 2 entries, a checkpoint from elsewhere is of 3"
    unknown = ("forks: the log ends before the checkpoint from elsewhere",)
    root = merkle.root(map(merkle.leaf_hash, LEAVES[:2])).hex()
    expected = Report(2, root, (Problem(Kind.TRUNCATED, detail),), unknown)
    assert check_log(stored(LEAVES[:2]), SIGNER.vkey, note(LEAVES)) == expected


def test_a_checkpoint_of_an_empty_log_tells_neither_truncation_nor_forks() -> None:
    why = "the checkpoint from elsewhere is of an empty log"
    assert check_log(stored(LEAVES), SIGNER.vkey, note([])) == Report(3, ROOT.hex(), (), (f"truncation: {why}", f"forks: {why}"))


@pytest.mark.parametrize(
    ("kept", "kind", "detail"),
    [
        (STRANGER.sign_anything(3, ROOT).encode(), Kind.BAD_SIGNATURE, UNSIGNED),
        (b"nonsense", Kind.BAD_CHECKPOINT, "a note is a text, an empty line, and signature lines"),
    ],
    ids=["another key", "no note"],
)
def test_a_checkpoint_that_is_not_this_logs_is_told_and_proves_nothing(kept: bytes, kind: Kind, detail: str) -> None:
    why = "the checkpoint from elsewhere is not this log's"
    problems = (Problem(kind, f"the checkpoint from elsewhere: {detail}"),)
    expected = Report(3, ROOT.hex(), problems, (f"truncation: {why}", f"forks: {why}"))
    assert check_log(stored(LEAVES), SIGNER.vkey, kept) == expected


@pytest.mark.parametrize(("by", "threshold"), [((), 0), ((W1,), 1), ((W2,), 1), ((W1, W2), 2)])
def test_who_cosigned_is_told_and_when(by: tuple[str, ...], threshold: int) -> None:
    expected = Report(3, ROOT.hex(), (), UNKEPT, witnesses={name: AT if name in by else None for name in KEYS})
    assert check_log(with_note(cosigned(*by)), SIGNER.vkey, witnesses=WITNESSES, threshold=threshold) == expected


@pytest.mark.parametrize(
    ("by", "threshold", "absent"), [((), 1, f"{W1}, {W2}"), ((), 2, f"{W1}, {W2}"), ((W1,), 2, W2), ((W2,), 2, W1)]
)
def test_too_few_cosignatures_are_a_problem_that_names_who_is_missing(by: tuple[str, ...], threshold: int, absent: str) -> None:
    detail = f"{len(by)} cosignatures, trust asks for {threshold}: none of {absent}"
    report = check_log(with_note(cosigned(*by)), SIGNER.vkey, witnesses=WITNESSES, threshold=threshold)
    assert report.problems == (Problem(Kind.NOT_WITNESSED, detail),)


def test_a_cosignature_of_another_checkpoint_is_a_bad_signature() -> None:
    report = check_log(with_note(cosigned(W1, of=note(LEAVES[:2]))), SIGNER.vkey, witnesses=WITNESSES)
    assert report.problems == (Problem(Kind.BAD_SIGNATURE, f"witness {W1}'s cosignature is not of this checkpoint"),)
    assert report.witnesses == dict.fromkeys(KEYS)
