"""Merkle trees: the roots and proofs that RFC 6962's implementations share, and every proof of every tree up to 32 leaves against
the definition, word for word, with every way in which a proof can be wrong."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from services.core import merkle
from services.core.merkle import BadProof

VECTORS: dict[str, Any] = json.loads((Path(__file__).parent / "rfc6962.json").read_text("utf-8"))
SIZES = range(33)
DATA = [bytes([n]) * (n % 5) for n in range(32)]
LEAVES = [merkle.leaf_hash(item) for item in DATA]
NODES = merkle.nodes_of(LEAVES)


def node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def split(count: int) -> int:
    """The largest power of two smaller than the count."""
    return max(1 << bit for bit in range(count.bit_length()) if 1 << bit < count)


def mth(data: list[bytes]) -> bytes:
    """MTH of RFC 6962, section 2.1."""
    if not data:
        return hashlib.sha256(b"").digest()
    if len(data) == 1:
        return hashlib.sha256(b"\x00" + data[0]).digest()
    k = split(len(data))
    return node(mth(data[:k]), mth(data[k:]))


def path(m: int, data: list[bytes]) -> list[bytes]:
    """PATH of section 2.1.1."""
    if len(data) == 1:
        return []
    k = split(len(data))
    return [*path(m, data[:k]), mth(data[k:])] if m < k else [*path(m - k, data[k:]), mth(data[:k])]


def subproof(m: int, data: list[bytes], whole: bool) -> list[bytes]:
    """SUBPROOF of section 2.1.2."""
    if m == len(data):
        return [] if whole else [mth(data)]
    k = split(len(data))
    if m <= k:
        return [*subproof(m, data[:k], whole), mth(data[k:])]
    return [*subproof(m - k, data[k:], False), mth(data[:k])]


ROOTS = [mth(DATA[:size]) for size in SIZES]


def wrong(proof: list[bytes]) -> list[list[bytes]]:
    """Each node left out, changed, repeated or exchanged with the next; one more at either end; none at all."""
    found = [[*proof, LEAVES[0]], [LEAVES[0], *proof]]
    for at in range(len(proof)):
        found.append(proof[:at] + proof[at + 1 :])
        found.append([*proof[:at], bytes(32), *proof[at + 1 :]])
        found.append([*proof[:at], proof[at], *proof[at:]])
        if at + 1 < len(proof):
            found.append([*proof[:at], proof[at + 1], proof[at], *proof[at + 2 :]])
    return [*found, [], [*proof[:-1], proof[-1][:31]]] if proof else found


@pytest.mark.parametrize("size", range(9))
def test_the_known_roots(size: int) -> None:
    leaves = [bytes.fromhex(text) for text in VECTORS["leaves"][:size]]
    assert merkle.root(map(merkle.leaf_hash, leaves)).hex() == mth(leaves).hex() == VECTORS["roots"][size]


@pytest.mark.parametrize(("kind", "first", "size", "proof"), VECTORS["proofs"])
def test_the_known_proofs(kind: str, first: int, size: int, proof: list[str]) -> None:
    leaves = [bytes.fromhex(text) for text in VECTORS["leaves"][:size]]
    nodes = merkle.nodes_of([merkle.leaf_hash(leaf) for leaf in leaves])
    make = merkle.inclusion_proof if kind == "inclusion" else merkle.consistency_proof
    assert [item.hex() for item in make(nodes, first, size)] == proof


@pytest.mark.parametrize("size", SIZES)
def test_every_root_is_the_definitions(size: int) -> None:
    assert merkle.root(LEAVES[:size]) == merkle.range_root(NODES, 0, size) == ROOTS[size]


@pytest.mark.parametrize("size", SIZES[1:])
def test_every_inclusion_proof_is_the_definitions_and_no_other_is_taken(size: int) -> None:
    for index in range(size):
        proof = path(index, DATA[:size])
        assert merkle.inclusion_proof(NODES, index, size) == proof
        merkle.verify_inclusion(LEAVES[index], index, size, proof, ROOTS[size])
        cases = [(LEAVES[index], index, size, other, ROOTS[size]) for other in wrong(proof)]
        cases += [(LEAVES[index], at, size, proof, ROOTS[size]) for at in range(-1, size + 1) if at != index]
        cases += [(LEAVES[index], index, at, proof, ROOTS[at]) for at in SIZES if at != size]
        cases += [(LEAVES[(index + 1) % 32], index, size, proof, ROOTS[size])]
        for case in cases:
            with pytest.raises(BadProof):
                merkle.verify_inclusion(*case)


@pytest.mark.parametrize("new", SIZES[1:])
def test_every_consistency_proof_is_the_definitions_and_no_other_is_taken(new: int) -> None:
    for old in range(1, new + 1):
        proof = subproof(old, DATA[:new], True)
        assert merkle.consistency_proof(NODES, old, new) == proof
        merkle.verify_consistency(old, ROOTS[old], new, ROOTS[new], proof)
        cases = [(old, ROOTS[old], new, ROOTS[new], other) for other in wrong(proof)]
        cases += [(at, ROOTS[at], new, ROOTS[new], proof) for at in range(1, new + 1) if at != old and (proof or at != new)]
        cases += [(old, ROOTS[old], at, ROOTS[at], proof) for at in SIZES if at != new and (proof or at != old)]
        cases += [(old, bytes(32), new, ROOTS[new], proof), (old, ROOTS[old], new, bytes(32), proof)]
        for case in cases:
            with pytest.raises(BadProof):
                merkle.verify_consistency(*case)
