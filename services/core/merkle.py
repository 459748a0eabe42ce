"""Merkle trees as RFC 6962 section 2.1 and RFC 9162 section 2.1 define them, over SHA-256. It stores nothing and reads no file."""

import hashlib
from collections.abc import Callable, Iterable, Sequence

from services.core.errors import BadInput, Refused

HASH_BYTES = 32
MAX_PROOF = 64
"""Hashes in one proof: a tree of 2^63 leaves needs no more."""

EMPTY_ROOT = hashlib.sha256(b"").digest()

Nodes = Callable[[int, int], bytes]
"""(level, index) to the hash of the full subtree over leaves [index * 2^level, (index + 1) * 2^level)."""


class BadProof(Refused):
    """The proof does not connect what it claims to connect."""


def leaf_hash(data: bytes) -> bytes:
    """Hash of one leaf; the 0x00 keeps a leaf from being taken for a node."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of an inner node."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class CompactRange:
    """The right edge of a growing tree: one hash for each set bit of the size, so memory is O(log n)."""

    def __init__(self) -> None:
        self.size = 0
        self._peaks: list[bytes] = []

    def append(self, subtree: bytes, height: int = 0) -> None:
        """subtree: a leaf *hash*, or the root over the next 2^height leaves, where the size is a multiple of that."""
        carry, bit = subtree, 1 << height
        while self.size & bit:
            carry = node_hash(self._peaks.pop(), carry)
            bit <<= 1
        self._peaks.append(carry)
        self.size += 1 << height

    def root_with(self, leaves: Iterable[bytes]) -> bytes:
        """Root of the tree with these leaf hashes behind it, which are not added."""
        longer = CompactRange()
        longer.size, longer._peaks = self.size, list(self._peaks)
        for leaf in leaves:
            longer.append(leaf)
        return longer.root()

    def root(self) -> bytes:
        """Root of the tree so far."""
        return _fold(self._peaks)


def root(leaves: Iterable[bytes]) -> bytes:
    """Root over leaf hashes, all in memory; CompactRange is for more of them."""
    level = list(leaves)
    while len(level) > 1:
        # A last one without a sibling moves up as it is: the same tree as RFC 6962's splitting makes.
        lone = level[len(level) & ~1 :]
        level = [hashlib.sha256(b"\x01" + level[at] + level[at + 1]).digest() for at in range(0, len(level) - 1, 2)] + lone
    return level[0] if level else EMPTY_ROOT


def nodes_of(leaves: Sequence[bytes]) -> Nodes:
    """The nodes of a tree held in memory. leaves: leaf hashes."""
    levels = [list(leaves)]
    while len(levels[-1]) > 1:
        below = levels[-1]
        levels.append([node_hash(below[i], below[i + 1]) for i in range(0, len(below) - 1, 2)])
    return lambda level, index: levels[level][index]


def range_root(nodes: Nodes, begin: int, end: int) -> bytes:
    """MTH(D[begin:end]) of RFC 6962, for the ranges that its splitting reaches (begin is a multiple of the largest subtree)."""
    peaks, at = [], begin
    while at < end:
        level = (end - at).bit_length() - 1
        peaks.append(nodes(level, at >> level))
        at += 1 << level
    return _fold(peaks)


def inclusion_proof(nodes: Nodes, index: int, size: int) -> list[bytes]:
    """PATH(index, D[size]) of RFC 6962 section 2.1.1, from the leaf's sibling up.

    Raises:
        BadInput: the tree of that size has no such leaf.
    """
    if not 0 <= index < size:
        raise BadInput(f"no leaf {index} in a tree of {size}")
    begin, end, path = 0, size, []
    while end - begin > 1:
        middle = begin + _split(end - begin)
        if index < middle:
            path.append(range_root(nodes, middle, end))
            end = middle
        else:
            path.append(range_root(nodes, begin, middle))
            begin = middle
    return path[::-1]


def consistency_proof(nodes: Nodes, old: int, new: int) -> list[bytes]:
    """PROOF(old, D[new]) of RFC 6962 section 2.1.2; empty from the empty tree, which every tree extends.

    Raises:
        BadInput: old is not within 0 and new.
    """
    if not 0 <= old <= new:
        raise BadInput(f"no consistency proof from size {old} to size {new}: a log only grows")
    if old in (0, new):
        return []
    begin, end, path, whole = 0, new, [], True
    while old != end:
        middle = begin + _split(end - begin)
        if old <= middle:
            path.append(range_root(nodes, middle, end))
            end = middle
        else:
            path.append(range_root(nodes, begin, middle))
            begin, whole = middle, False
    if not whole:
        path.append(range_root(nodes, begin, end))
    return path[::-1]


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """RFC 9162 section 2.1.3.2. leaf: leaf hash.

    Raises:
        BadProof: the leaf is not shown to be at that index under that root.
    """
    if not 0 <= index < size:
        raise BadProof(f"no leaf {index} in a tree of {size}")
    _check_hashes([leaf, *proof, root])
    at, last, found = index, size - 1, leaf
    for step in proof:
        if last == 0:
            raise BadProof("the inclusion proof is too long")
        if at & 1 or at == last:
            found = node_hash(step, found)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            found = node_hash(found, step)
        at, last = at >> 1, last >> 1
    if last != 0 or found != root:
        raise BadProof(f"leaf {index} is not shown to be in the tree of {size}")


def verify_consistency(old: int, old_root: bytes, new: int, new_root: bytes, proof: Sequence[bytes]) -> None:
    """RFC 9162 section 2.1.4.2: the tree of size new begins with the tree of size old.

    Raises:
        BadProof: it is not shown; a smaller new size is a shrink, another root at the same size a fork.
    """
    if not 0 <= old <= new:
        raise BadProof(f"the tree of size {new} is smaller than the one of size {old}")
    _check_hashes([old_root, new_root, *proof])
    if old in (0, new):
        if proof or (old == 0 and old_root != EMPTY_ROOT) or (old == new and old_root != new_root):
            raise BadProof(f"two different trees of size {old}")
        return
    if not proof:
        raise BadProof("the consistency proof is empty")
    path = list(proof) if old & (old - 1) else [old_root, *proof]
    at, last = old - 1, new - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    found_old = found_new = path[0]
    for step in path[1:]:
        if last == 0:
            raise BadProof("the consistency proof is too long")
        if at & 1 or at == last:
            found_old, found_new = node_hash(step, found_old), node_hash(step, found_new)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            found_new = node_hash(found_new, step)
        at, last = at >> 1, last >> 1
    if last != 0 or found_old != old_root or found_new != new_root:
        raise BadProof(f"the tree of size {new} is not shown to extend the one of size {old}")


def _fold(peaks: Sequence[bytes]) -> bytes:
    if not peaks:
        return EMPTY_ROOT
    found = peaks[-1]
    for peak in reversed(peaks[:-1]):
        found = node_hash(peak, found)
    return found


def _split(length: int) -> int:
    """The largest power of two smaller than the length (RFC 6962's k)."""
    return 1 << ((length - 1).bit_length() - 1)


def _check_hashes(hashes: Sequence[bytes]) -> None:
    if len(hashes) > MAX_PROOF + 2 or any(len(item) != HASH_BYTES for item in hashes):
        raise BadProof(f"a proof is at most {MAX_PROOF} hashes of {HASH_BYTES} bytes")
