"""Signing survives a fault at each of its steps: nothing is handed out before the log knows, and a retry completes it once."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event
from sqlalchemy.exc import OperationalError

from services.core import dsse, keys
from services.core.digests import sha256
from services.core.errors import Unavailable
from services.core.merkle import consistency_proof, leaf_hash, nodes_of, root
from services.signing.errors import CheckpointRefused, SignerUnavailable
from services.signing.ports import CheckpointState
from tests import databases
from tests import signing as world
from tests.signing import ORIGIN, Rig

PAYLOAD = world.evaluation().to_statement()
BOTH = ["signature.requested", "signature.made"]
LEAVES = [leaf_hash(str(n).encode()) for n in range(9)]


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(databases.url(tmp_path, "signing"))


def fail_commit(engine: Engine, which: int, fault: str) -> None:
    """The database fails at its commit number `which` (from 0), before it or after it."""
    seen = iter(range(1_000))

    def break_off(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if statement == "COMMIT" and next(seen) == which:
            raise OperationalError("COMMIT", {}, Exception("disk I/O error"))

    moment = {"fails": "before_cursor_execute", "persists_then_fails": "after_cursor_execute"}[fault]
    event.listen(engine, moment, break_off)


def commit(which: int) -> Callable[[Rig, str], None]:
    return lambda rig, fault: fail_commit(rig.engine, which, fault)


def append(which: int) -> Callable[[Rig, str], None]:
    return lambda rig, fault: rig.bus.faults.update({which: fault})


def sign(rig: Rig, fault: str) -> None:
    rig.signers["evaluator"].faults[0] = fault


STEPS = {
    "store the request": commit(0),
    "log the request": append(0),
    "sign": sign,
    "store the signature": commit(1),
    "log the signature": append(1),
}


@pytest.mark.parametrize("restart", [False, True], ids=["same process", "restarted"])
@pytest.mark.parametrize("fault", ["fails", "persists_then_fails"])
@pytest.mark.parametrize("step", STEPS)
def test_signing_survives(step: str, fault: str, restart: bool, rig: Rig) -> None:
    STEPS[step](rig, fault)
    with pytest.raises(Unavailable) as failed:
        rig.sign("evaluator", PAYLOAD)
    assert failed.value.retryable
    if restart:
        rig.service = rig.restarted()
    signed = rig.sign("evaluator", PAYLOAD)
    assert rig.sign("evaluator", PAYLOAD) == signed
    keys.verify(world.SERVICE_KEYS["evaluator"].public_key(), dsse.pae(dsse.PAYLOAD_TYPE, PAYLOAD), signed.signature)
    assert [entry["type"] for entry in rig.bus.events] == BOTH
    assert rig.bus.events[1]["signatureRef"] == sha256(signed.signature)


@pytest.mark.parametrize("fault", ["fails", "persists_then_fails"])
def test_without_the_log_no_key_is_used(fault: str, rig: Rig) -> None:
    rig.bus.faults[0] = fault
    with pytest.raises(Unavailable):
        rig.sign("evaluator", PAYLOAD)
    assert rig.signers["evaluator"].calls == 0


def test_a_signature_that_does_not_verify_is_not_kept(rig: Rig) -> None:
    rig.signers["evaluator"].faults[0] = "lies"
    with pytest.raises(SignerUnavailable, match="does not verify"):
        rig.sign("evaluator", PAYLOAD)
    assert [entry["type"] for entry in rig.bus.events] == BOTH[:1]
    rig.sign("evaluator", PAYLOAD)
    assert [entry["type"] for entry in rig.bus.events] == BOTH


def sign_note(rig: Rig, fault: str) -> None:
    rig.signers["audit"].faults[1] = fault


CHECKPOINT_STEPS = {"store the state": commit(1), "sign": sign_note}


@pytest.mark.parametrize("fault", ["fails", "persists_then_fails"])
@pytest.mark.parametrize("step", CHECKPOINT_STEPS)
def test_a_checkpoint_survives_and_never_forks(step: str, fault: str, rig: Rig) -> None:
    CHECKPOINT_STEPS[step](rig, fault)
    rig.service.sign_checkpoint(origin=ORIGIN, size=4, root=root(LEAVES[:4]), proof=[])
    proof = consistency_proof(nodes_of(LEAVES), 4, 9)
    with pytest.raises(Unavailable):
        rig.service.sign_checkpoint(origin=ORIGIN, size=9, root=root(LEAVES), proof=proof)
    rig.service = rig.restarted()
    moved = rig.service.last_checkpoint(ORIGIN) == CheckpointState(9, root(LEAVES))
    assert moved == (step == "sign" or fault == "persists_then_fails")
    if moved:
        # A note of size 9 may be out there already: no other tree of that size is signed from here on.
        with pytest.raises(CheckpointRefused):
            rig.service.sign_checkpoint(origin=ORIGIN, size=9, root=root(LEAVES[::-1]), proof=proof)
    note = rig.service.sign_checkpoint(origin=ORIGIN, size=9, root=root(LEAVES), proof=proof)
    assert note.startswith(f"{ORIGIN}\n9\n")


@pytest.fixture(params=["sqlite", "postgresql"])
def either(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    """A service over each database: SQLite has one writer at a time, PostgreSQL many."""
    made = Rig(databases.url(tmp_path, "signing", request.param))
    yield made
    made.engine.dispose()


def test_equal_requests_at_once_get_one_signature(either: Rig) -> None:
    with ThreadPoolExecutor(8) as pool:
        signed = list(pool.map(lambda _: either.sign("evaluator", PAYLOAD), range(8)))
    assert len(set(signed)) == 1
    assert [entry["type"] for entry in either.bus.events] == BOTH


def test_of_two_forks_at_once_one_is_signed(either: Rig) -> None:
    def ask(leaves: list[bytes]) -> str | None:
        try:
            return either.service.sign_checkpoint(origin=ORIGIN, size=9, root=root(leaves), proof=[])
        except CheckpointRefused:
            return None

    with ThreadPoolExecutor(8) as pool:
        notes = list(pool.map(ask, [LEAVES, LEAVES[::-1]] * 4))
    assert len({note for note in notes if note is not None}) == 1
    assert notes.count(None) == 4
