"""Merkle trees as of RFC 6962: roots, inclusion and consistency proofs, over any place that hashes come from.

Index and sizes count leaves; hashes are 32 bytes. Use in the log: docs/spec/checkpoint.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

__all__ = [
    "EMPTY_ROOT",
    "Subtree",
    "consistency_proof",
    "inclusion_proof",
    "is_consistent",
    "is_included",
    "leaf_hash",
    "node_hash",
    "root_of",
    "tree_over",
]

EMPTY_ROOT = hashlib.sha256(b"").digest()
Subtree = Callable[[int, int], bytes]
"""(level, index) -> hash of the complete subtree over the leaves from index * 2**level on."""


def leaf_hash(data: bytes) -> bytes:
    """Return the hash of a leaf; its prefix keeps it apart from a node's."""
    return hashlib.sha256(b"\0" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of a node with two children."""
    return hashlib.sha256(b"\1" + left + right).digest()


def root_of(size: int, subtree: Subtree) -> bytes:
    """Return the root over the first ``size`` leaves; asks for at most one subtree a level."""
    return _hash(0, size, subtree) if size else EMPTY_ROOT


def tree_over(leaves: Sequence[bytes]) -> Subtree:
    """Return the subtrees over leaf hashes that are at hand."""
    levels = [list(leaves)]
    while len(levels[-1]) > 1:
        below = levels[-1]
        levels.append([node_hash(below[place], below[place + 1]) for place in range(0, len(below) - 1, 2)])
    return lambda level, index: levels[level][index]


def inclusion_proof(index: int, size: int, subtree: Subtree) -> list[bytes]:
    """Return the hashes that lead from leaf ``index`` to the root over ``size`` leaves, lowest first."""
    if not 0 <= index < size:
        raise ValueError(f"there is no leaf {index} among {size}")
    proof: list[bytes] = []
    begin, end = 0, size
    while end - begin > 1:
        middle = begin + _split(end - begin)
        if index < middle:
            proof.append(_hash(middle, end, subtree))
            end = middle
        else:
            proof.append(_hash(begin, middle, subtree))
            begin = middle
    return proof[::-1]


def consistency_proof(old: int, size: int, subtree: Subtree) -> list[bytes]:
    """Return the hashes that show that the tree over ``old`` leaves begins that over ``size``; none for an empty one."""
    if not 0 <= old <= size:
        raise ValueError(f"{old} leaves are not the beginning of {size}")
    proof: list[bytes] = []
    begin, end, whole = 0, size, True
    if old in (0, size):
        return proof
    while old != end:
        middle = begin + _split(end - begin)
        if old <= middle:
            proof.append(_hash(middle, end, subtree))
            end = middle
        else:
            proof.append(_hash(begin, middle, subtree))
            begin, whole = middle, False
    if not whole:
        proof.append(_hash(begin, end, subtree))
    return proof[::-1]


def is_included(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Return whether ``proof`` leads from the leaf hash to the root (RFC 9162, section 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    at, last, found = index, size - 1, leaf
    for each in proof:
        if last == 0:
            return False
        if at & 1 or at == last:
            found = node_hash(each, found)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            found = node_hash(found, each)
        at, last = at >> 1, last >> 1
    return last == 0 and found == root


def is_consistent(old: int, old_root: bytes, size: int, root: bytes, proof: Sequence[bytes]) -> bool:
    """Return whether ``proof`` shows that the old tree is the beginning of the new (RFC 9162, section 2.1.4.2)."""
    if old == size:
        return not proof and old_root == root
    if not 0 < old < size:
        return old == 0 and not proof and old_root == EMPTY_ROOT
    hashes = list(proof) if old & (old - 1) else [old_root, *proof]
    if not hashes:
        return False
    at, last = old - 1, size - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    before = after = hashes[0]
    for each in hashes[1:]:
        if last == 0:
            return False
        if at & 1 or at == last:
            before, after = node_hash(each, before), node_hash(each, after)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            after = node_hash(after, each)
        at, last = at >> 1, last >> 1
    return last == 0 and before == old_root and after == root


def _split(count: int) -> int:
    """Return the largest power of two below ``count``: how many leaves go to the left."""
    return 1 << ((count - 1).bit_length() - 1)


def _hash(begin: int, end: int, subtree: Subtree) -> bytes:
    """Return the hash over leaves ``begin`` to ``end``; ``begin`` is where a subtree of that size may stand."""
    count = end - begin
    if count & (count - 1) == 0:
        return subtree(count.bit_length() - 1, begin // count)
    middle = begin + _split(count)
    return node_hash(_hash(begin, middle, subtree), _hash(middle, end, subtree))
