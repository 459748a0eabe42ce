"""Merkle trees: the known vectors of RFC 6962's implementations, and every proof of every tree up to 300 leaves."""

import hashlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core import merkle
from services.core.errors import BadInput
from services.core.merkle import BadProof

LEAVES = [
    bytes.fromhex(text)
    for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
HASHES = [merkle.leaf_hash(str(i).encode()) for i in range(300)]
NODES = merkle.nodes_of(HASHES)
ROOT = [merkle.root(HASHES[:size]) for size in range(301)]

sizes = st.integers(1, 300)


def reference_root(leaves: list[bytes]) -> bytes:
    """RFC 6962 section 2.1, word for word."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return hashlib.sha256(b"\x01" + reference_root(leaves[:k]) + reference_root(leaves[k:])).digest()


@pytest.mark.parametrize("size", range(9))
def test_roots_are_those_of_the_known_vectors(size: int) -> None:
    assert merkle.root(map(merkle.leaf_hash, LEAVES[:size])).hex() == ROOTS[size]


@pytest.mark.parametrize(
    ("index", "size", "proof"),
    [
        (0, 1, []),
        (
            0,
            8,
            [
                "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
            ],
        ),
        (
            5,
            8,
            [
                "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
                "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            ],
        ),
        (2, 3, ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"]),
    ],
)
def test_inclusion_proofs_are_those_of_the_known_vectors(index: int, size: int, proof: list[str]) -> None:
    nodes = merkle.nodes_of([merkle.leaf_hash(leaf) for leaf in LEAVES[:size]])
    assert [item.hex() for item in merkle.inclusion_proof(nodes, index, size)] == proof


@pytest.mark.parametrize(
    ("old", "new", "proof"),
    [
        (1, 1, []),
        (
            6,
            8,
            [
                "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
                "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            ],
        ),
        (
            2,
            5,
            [
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            ],
        ),
    ],
)
def test_consistency_proofs_are_those_of_the_known_vectors(old: int, new: int, proof: list[str]) -> None:
    nodes = merkle.nodes_of([merkle.leaf_hash(leaf) for leaf in LEAVES[:new]])
    assert [item.hex() for item in merkle.consistency_proof(nodes, old, new)] == proof


def test_every_root_follows_the_definition() -> None:
    assert [reference_root(HASHES[:size]) for size in range(301)] == ROOT


def test_every_node_range_that_a_tree_has_gives_its_root() -> None:
    assert [merkle.range_root(NODES, 0, size) for size in range(301)] == ROOT


def test_every_leaf_of_every_tree_proves_its_place() -> None:
    for size in range(1, 301):
        for index in {0, size // 3, size // 2, size - 2, size - 1} & set(range(size)):
            proof = merkle.inclusion_proof(NODES, index, size)
            merkle.verify_inclusion(HASHES[index], index, size, proof, ROOT[size])


def test_every_tree_proves_that_it_extends_every_smaller_one() -> None:
    for new in range(301):
        for old in {0, 1, new // 3, new // 2, 1 << max(0, new.bit_length() - 2), new - 1, new} & set(range(new + 1)):
            merkle.verify_consistency(old, ROOT[old], new, ROOT[new], merkle.consistency_proof(NODES, old, new))


@given(sizes, st.data())
def test_an_inclusion_proof_shows_nothing_else(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    proof = merkle.inclusion_proof(NODES, index, size)
    other = data.draw(st.integers(0, size - 1).filter(lambda i: i != index)) if size > 1 else 1
    wrong: list[tuple[bytes, int, int, list[bytes], bytes]] = [
        (merkle.leaf_hash(b"other"), index, size, proof, ROOT[size]),
        (HASHES[index], other, size, proof, ROOT[size]),
        (HASHES[index], index, size, [*proof, HASHES[0]], ROOT[size]),
        (HASHES[index], index, size, proof, merkle.leaf_hash(b"other")),
        (HASHES[index], size, size, proof, ROOT[size]),
        (HASHES[index], -1, size, proof, ROOT[size]),
        *[(HASHES[index], index, size, proof[:at] + proof[at + 1 :], ROOT[size]) for at in range(len(proof))],
        *[(HASHES[index], index, size, [*proof[:at], b"\0" * 32, *proof[at + 1 :]], ROOT[size]) for at in range(len(proof))],
    ]
    for case in wrong:
        with pytest.raises(BadProof):
            merkle.verify_inclusion(*case)


@given(st.integers(1, 299), st.data())
def test_a_consistency_proof_shows_nothing_else(old: int, data: st.DataObject) -> None:
    new = data.draw(st.integers(old + 1, 300))
    proof = merkle.consistency_proof(NODES, old, new)
    fork = merkle.root([*HASHES[: old - 1], merkle.leaf_hash(b"other")])
    wrong: list[tuple[int, bytes, int, bytes, list[bytes]]] = [
        (old, fork, new, ROOT[new], proof),
        (old, ROOT[old], new, fork, proof),
        (new, ROOT[new], old, ROOT[old], proof),
        (old, ROOT[old], new, ROOT[new], [*proof, HASHES[0]]),
        (old, ROOT[old], new, ROOT[new], []),
        (old, ROOT[old], old, fork, []),
        (0, ROOT[old], new, ROOT[new], []),
        (old, ROOT[old], new, ROOT[new], [b"\0" * 31, *proof[1:]]),
        *[(old, ROOT[old], new, ROOT[new], proof[:at] + proof[at + 1 :]) for at in range(len(proof))],
    ]
    for case in wrong:
        with pytest.raises(BadProof):
            merkle.verify_consistency(*case)


def test_two_empty_trees_have_the_empty_root() -> None:
    with pytest.raises(BadProof):
        merkle.verify_consistency(0, merkle.EMPTY_ROOT, 0, HASHES[0], [])


@pytest.mark.parametrize("index", [-1, 3])
def test_there_is_no_proof_for_a_leaf_that_is_not_there(index: int) -> None:
    with pytest.raises(BadInput):
        merkle.inclusion_proof(NODES, index, 3)


@pytest.mark.parametrize("old", [-1, 4])
def test_there_is_no_proof_that_a_log_shrank(old: int) -> None:
    with pytest.raises(BadInput):
        merkle.consistency_proof(NODES, old, 3)


def refusal_of(check: Callable[[], None], error: type[Exception] = BadProof) -> str:
    with pytest.raises(error) as refused:
        check()
    return str(refused.value)


def included(index: int, size: int, proof: list[bytes], root: bytes = ROOT[8], leaf: bytes = HASHES[0]) -> str:
    return refusal_of(lambda: merkle.verify_inclusion(leaf, index, size, proof, root))


def extended(old: int, new: int, proof: list[bytes], old_root: bytes, new_root: bytes) -> str:
    return refusal_of(lambda: merkle.verify_consistency(old, old_root, new, new_root, proof))


LIMIT = "a proof is at most 64 hashes of 32 bytes"


def test_what_an_inclusion_proof_does_not_show_is_said() -> None:
    good, some = merkle.inclusion_proof(NODES, 0, 8), HASHES[9]
    assert included(-1, 8, good) == "no leaf -1 in a tree of 8"
    assert included(8, 8, good) == "no leaf 8 in a tree of 8"
    assert included(0, 0, []) == "no leaf 0 in a tree of 0"
    assert included(0, 8, [*good, some]) == "the inclusion proof is too long"
    assert included(0, 1, [some]) == "the inclusion proof is too long"
    for proof in (good[:-1], [], [*good[:-1], some]):
        assert included(0, 8, proof) == "leaf 0 is not shown to be in the tree of 8"
    assert included(0, 8, [some] * 64) == "the inclusion proof is too long"
    for leaf, proof, root in ((b"x" * 31, good, ROOT[8]), (HASHES[0], [*good[:-1], b""], ROOT[8]), (HASHES[0], good, b"x" * 33)):
        assert included(0, 8, proof, root, leaf) == LIMIT
    assert included(0, 8, [some] * 65) == LIMIT


def test_what_a_consistency_proof_does_not_show_is_said() -> None:
    good, some = merkle.consistency_proof(NODES, 3, 8), HASHES[9]
    assert extended(9, 8, good, ROOT[9], ROOT[8]) == "the tree of size 8 is smaller than the one of size 9"
    assert extended(-1, 8, good, ROOT[1], ROOT[8]) == "the tree of size 8 is smaller than the one of size -1"
    assert extended(8, 8, [], ROOT[8], ROOT[7]) == "two different trees of size 8"
    assert extended(8, 8, [some], ROOT[8], ROOT[8]) == "two different trees of size 8"
    assert extended(0, 8, [], ROOT[1], ROOT[8]) == "two different trees of size 0"
    assert extended(0, 8, [some], ROOT[0], ROOT[8]) == "two different trees of size 0"
    assert extended(3, 8, [], ROOT[3], ROOT[8]) == "the consistency proof is empty"
    assert extended(3, 8, [*good, some], ROOT[3], ROOT[8]) == "the consistency proof is too long"
    for proof, old_root, new_root in ((good[:-1], ROOT[3], ROOT[8]), (good, ROOT[4], ROOT[8]), (good, ROOT[3], ROOT[7])):
        assert extended(3, 8, proof, old_root, new_root) == "the tree of size 8 is not shown to extend the one of size 3"
    for proof, old_root, new_root in (
        ([b""], ROOT[3], ROOT[8]), (good, b"x" * 31, ROOT[8]), (good, ROOT[3], b"x" * 33), ([some] * 65, ROOT[3], ROOT[8])
    ):  # fmt: skip
        assert extended(3, 8, proof, old_root, new_root) == LIMIT


def test_what_has_no_proof_is_said() -> None:
    assert refusal_of(lambda: merkle.inclusion_proof(NODES, 8, 8) and None, BadInput) == "no leaf 8 in a tree of 8"
    told = refusal_of(lambda: merkle.consistency_proof(NODES, 9, 8) and None, BadInput)
    assert told == "no consistency proof from size 9 to size 8: a log only grows"
    assert merkle.inclusion_proof(NODES, 0, 1) == []
    assert merkle.nodes_of([HASHES[0]])(0, 0) == HASHES[0]
    with pytest.raises(IndexError):
        merkle.nodes_of(HASHES[:3])(1, 1)


def test_a_growing_tree_has_each_root_on_its_way() -> None:
    edge = merkle.CompactRange()
    for size, leaf in enumerate(HASHES[:70]):
        assert (edge.size, edge.root(), merkle.root(HASHES[:size])) == (size, reference_root(HASHES[:size]), ROOT[size])
        edge.append(leaf)
    assert merkle.leaf_hash(b"x") == hashlib.sha256(b"\x00x").digest()
    assert merkle.node_hash(b"l", b"r") == hashlib.sha256(b"\x01lr").digest()
    assert merkle.nodes_of(HASHES[:4])(2, 0) == reference_root(HASHES[:4])


@pytest.mark.parametrize("size", [0, 1, 5, 8, 255, 256, 257])
@pytest.mark.parametrize("more", [0, 1, 7, 43])
def test_leaves_tried_behind_an_edge_make_the_longer_root_and_are_not_added(size: int, more: int) -> None:
    edge = merkle.CompactRange()
    for item in HASHES[:size]:
        edge.append(item)
    assert edge.root_with(HASHES[size : size + more]) == merkle.root(HASHES[: size + more])
    assert (edge.size, edge.root()) == (size, merkle.root(HASHES[:size]))
