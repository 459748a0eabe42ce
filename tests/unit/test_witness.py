"""The witness: what it cosigns, how it answers what it does not, and what a crash after each of its steps leaves."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from services.core import cosignature, keys, merkle, tlog
from services.core.errors import BadSetting, Unavailable
from services.core.tlog import Checkpoint
from services.witness.folder import KEY, FolderState, open_key
from services.witness.http import create_witness_app
from services.witness.service import Request, Witness

ORIGIN, NAME = "log.example/ai-infra", "witness.example/w1"
LOG, OTHER_LOG = keys.generate_ed25519(), keys.generate_ed25519()
KEY_PAIR = keys.generate_ed25519()
HASHES = [merkle.leaf_hash(bytes([number])) for number in range(40)]
NODES = merkle.nodes_of(HASHES)
NOW_S = 1_800_000_000
LOG_KEY = tlog.parse_vkey(tlog.vkey_text(ORIGIN, LOG.public_key()))


def note(size: int, *, root: bytes | None = None, key: keys.PrivateKey = LOG, origin: str = ORIGIN) -> bytes:
    checkpoint = Checkpoint(origin, size, merkle.root(HASHES[:size]) if root is None else root)
    return tlog.sign_note(checkpoint.text(), origin, key.public_key(), lambda text: keys.sign(key, text).sig).encode()


def asking(old: int, size: int, **changes: bytes) -> bytes:
    proof = merkle.consistency_proof(NODES, old, size) if old <= size else []
    return Request(old, tuple(proof), changes.get("note", note(size))).to_bytes()


class Rig:
    """A witness in a folder, behind its HTTP app; `restart` gives a new one on the same folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = FolderState(folder)
        self.restart()

    def restart(self) -> None:
        self.state.close()
        self.state = FolderState(self.folder)
        self.witness = Witness(NAME, KEY_PAIR, [LOG_KEY], self.state, lambda: NOW_S * 1000)
        self.http = TestClient(create_witness_app(self.witness))

    def ask(self, body: bytes) -> tuple[int, str]:
        answer = self.http.post("/add-checkpoint", content=body)
        return answer.status_code, answer.text

    def size(self) -> int:
        last = self.witness.last(ORIGIN)
        return last.size if last else 0


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path / "witness")


def test_a_growing_log_is_cosigned(rig: Rig) -> None:
    vkey = tlog.parse_witness_vkey(rig.witness.vkey)
    for old, size in ((0, 3), (3, 8), (8, 8), (8, 40)):
        status, lines = rig.ask(asking(old, size))
        assert (status, rig.size()) == (200, size)
        assert cosignature.cosigners(note(size) + lines.encode(), [vkey]) == {NAME: NOW_S}


def test_its_memory_outlives_a_restart(rig: Rig) -> None:
    rig.ask(asking(0, 8))
    rig.restart()
    assert rig.ask(asking(0, 12)) == (409, "8\n")
    assert rig.ask(asking(8, 12))[0] == 200


FORK = merkle.leaf_hash(b"another history")
REFUSED: dict[str, tuple[bytes, int, str]] = {
    "an old size that is not its own": (asking(3, 12), 409, "8\n"),
    "a size that it is past": (asking(2, 5), 409, "8\n"),
    "another root of the same size": (asking(8, 8, note=note(8, root=FORK)), 409, "8\n"),
    "another history": (asking(8, 12, note=note(12, root=FORK)), 422, "extend"),
    "no proof": (Request(8, (), note(12)).to_bytes(), 422, "empty"),
    "a proof that is too long": (Request(8, (FORK,) * 63, note(12)).to_bytes(), 422, ""),
    "an unknown log": (asking(0, 3, note=note(3, origin="log.example/other")), 404, "does not follow"),
    "another key": (asking(8, 12, note=note(12, key=OTHER_LOG)), 403, "no signature"),
    "no signature": (asking(8, 12, note=note(12).split(b"\n\n")[0] + b"\n\n"), 400, ""),
    "an old size above the checkpoint's": (asking(13, 12), 400, "above"),
    "no request": (b"hello", 400, "want the line"),
    "64 hashes": (Request(8, (FORK,) * 64, note(12)).to_bytes(), 400, "at most 63"),
    "a hash that is none": (b"old 8\nAAAA\n\n" + note(12), 400, "hash"),
    "an old size with a leading zero": (b"old 08\n\n" + note(12), 400, "leading"),
    "no checkpoint": (b"old 8\n\nhello\n", 400, ""),
    "a body over the limit": (b"old 8\n\n" + b"x" * 200_000, 413, "at most"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_shown_to_be_one_growing_history_is_refused(rig: Rig, case: str) -> None:
    rig.ask(asking(0, 8))
    body, status, text = REFUSED[case]
    found, answer = rig.ask(body)
    assert (found, rig.size()) == (status, 8)
    assert text in answer


def test_a_conflict_has_the_media_type_of_the_specification(rig: Rig) -> None:
    rig.ask(asking(0, 8))
    answer = rig.http.post("/add-checkpoint", content=asking(0, 12))
    assert answer.headers["content-type"] == "text/x.tlog.size"


class Dying:
    """A state that fails at a step, once."""

    def __init__(self, state: FolderState, fault: str) -> None:
        self._state, self._fault = state, fault

    def read(self, name: str) -> bytes | None:
        return self._state.read(name)

    def write(self, name: str, data: bytes) -> None:
        fault, self._fault = self._fault, ""
        if fault == "fails":
            raise Unavailable("the disk is full")
        self._state.write(name, data)
        if fault == "persists then fails":
            raise Unavailable("killed")


@pytest.mark.parametrize(("fault", "kept"), [("fails", 8), ("persists then fails", 12)])
def test_a_crash_around_keeping_never_cosigns_what_was_not_kept(rig: Rig, fault: str, kept: int) -> None:
    rig.ask(asking(0, 8))
    dying = Witness(NAME, KEY_PAIR, [LOG_KEY], Dying(rig.state, fault), lambda: NOW_S * 1000)
    with pytest.raises(Unavailable):
        dying.add_checkpoint(asking(8, 12))
    rig.restart()
    assert rig.size() == kept
    # The log finds its way from either state, and a fork of what was kept finds none.
    status, answer = rig.ask(asking(8, 12))
    assert (status, answer) == (409, "12\n") if kept == 12 else status == 200
    assert rig.ask(asking(12, 12))[0] == 200
    assert rig.ask(asking(12, 12, note=note(12, root=FORK)))[0] == 409


def test_of_many_at_once_no_answer_rolls_the_state_back(rig: Rig) -> None:
    start = threading.Barrier(8)

    def run(number: int) -> int:
        start.wait()
        best = 0
        for size in range(number + 1, 40, 3):
            status, answer = rig.ask(asking(best, size))
            if status == 409:
                best = int(answer)
                if best <= size:
                    status, _ = rig.ask(asking(best, size))
            best = size if status == 200 else best
            assert rig.size() >= best
        return best

    with ThreadPoolExecutor(8) as pool:
        highest = max(pool.map(run, range(8)))
    assert rig.size() == highest


@pytest.mark.parametrize("damage", [lambda data: data[:-20], lambda data: data.replace(b"8\n", b"9\n", 1), lambda data: b""])
def test_a_damaged_state_is_never_taken_for_a_fresh_one(rig: Rig, damage: Callable[[bytes], bytes]) -> None:
    rig.ask(asking(0, 8))
    (path,) = rig.folder.glob("*.checkpoint")
    path.write_bytes(damage(path.read_bytes()))
    status, answer = rig.ask(asking(0, 12))
    assert status == 503
    assert "backup" in answer


def test_two_witnesses_never_share_a_folder(rig: Rig) -> None:
    with pytest.raises(BadSetting, match="another witness"):
        FolderState(rig.folder)


def test_the_key_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    first = open_key(tmp_path / "w")
    assert (tmp_path / "w" / KEY).stat().st_mode & 0o777 == 0o600
    assert keys.signer_id(open_key(tmp_path / "w").public_key()) == keys.signer_id(first.public_key())
    (tmp_path / "w" / KEY).chmod(0o644)
    with pytest.raises(BadSetting, match="chmod 600"):
        open_key(tmp_path / "w")


def test_two_logs_of_one_origin_are_refused(tmp_path: Path) -> None:
    """One of them would be followed, and nobody told which."""
    other = tlog.parse_vkey(tlog.vkey_text(ORIGIN, OTHER_LOG.public_key()))
    with pytest.raises(BadSetting, match="one origin"):
        Witness(NAME, KEY_PAIR, [LOG_KEY, other], FolderState(tmp_path), lambda: NOW_S * 1000)
