"""Whoever signs checkpoints keeps to one history: the fake of our tests, and the signing service itself."""

from pathlib import Path

import pytest

from services.audit.ports import CheckpointSigner
from services.core import merkle, tlog
from services.core.errors import Refused
from services.signing.ports import CheckpointState
from tests import databases, signing
from tests.audit import Home, append
from tests.fakes.checkpoint_signer import FakeCheckpointSigner

HASHES = [merkle.leaf_hash(str(number).encode()) for number in range(9)]
NODES = merkle.nodes_of(HASHES)
ROOTS = [merkle.root(HASHES[:size]) for size in range(10)]


@pytest.fixture(params=["fake", "signing service"])
def signer(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[CheckpointSigner, tlog.VerifierKey]:
    if request.param == "fake":
        fake = FakeCheckpointSigner()
        return fake, fake.vkey
    return signing.Rig(databases.url(tmp_path, "signing")).service, tlog.parse_vkey(signing.VKEY)


def test_it_signs_growing_trees_and_remembers_the_last(signer: tuple[CheckpointSigner, tlog.VerifierKey]) -> None:
    port, vkey = signer
    assert port.last_checkpoint(vkey.name) is None
    for old, new in ((0, 3), (3, 8), (8, 9), (9, 9)):
        proof = merkle.consistency_proof(NODES, old, new)
        note = port.sign_checkpoint(origin=vkey.name, size=new, root=ROOTS[new], proof=proof)
        assert tlog.open_checkpoint(note.encode(), vkey) == tlog.Checkpoint(vkey.name, new, ROOTS[new])
        assert port.last_checkpoint(vkey.name) == CheckpointState(new, ROOTS[new])


@pytest.mark.parametrize(
    ("size", "root", "proof"),
    [
        (3, ROOTS[3], []),
        (5, ROOTS[4], []),
        (8, ROOTS[8], []),
        (8, ROOTS[8], merkle.consistency_proof(NODES, 4, 8)),
        (8, ROOTS[7], merkle.consistency_proof(NODES, 5, 8)),
    ],
    ids=["shrink", "fork", "no proof", "proof from elsewhere", "another root"],
)
def test_it_refuses_to_shrink_or_fork_and_stays_where_it_was(
    signer: tuple[CheckpointSigner, tlog.VerifierKey], size: int, root: bytes, proof: list[bytes]
) -> None:
    port, vkey = signer
    port.sign_checkpoint(origin=vkey.name, size=5, root=ROOTS[5], proof=[])
    with pytest.raises(Refused):
        port.sign_checkpoint(origin=vkey.name, size=size, root=root, proof=proof)
    assert port.last_checkpoint(vkey.name) == CheckpointState(5, ROOTS[5])


def test_a_log_is_published_with_it(signer: tuple[CheckpointSigner, tlog.VerifierKey], tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.signer, home.vkey = signer  # type: ignore[assignment]
    audit = home.open()
    for size in (1, 3, 300):
        append(audit, size - audit.size(), audit.size() + 1)
        audit.publish()
    assert (home.check().size, home.check().problems) == (300, ())
