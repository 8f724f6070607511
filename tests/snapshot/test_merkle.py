"""Laws of RFC 6962 and its published example trees."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillrun_snapshot.merkle import (
    EMPTY_ROOT,
    consistency_proof,
    inclusion_proof,
    is_consistent,
    is_included,
    leaf_hash,
    root_of,
    tree_over,
)

# the test vectors of the Certificate Transparency project: inputs, and the roots over the first 1 to 8 of them
INPUTS = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def plain_root(leaves: Sequence[bytes]) -> bytes:
    """The definition of RFC 6962, section 2.1, word for word."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\0" + leaves[0]).digest()
    split = max(1 << power for power in range(40) if 1 << power < len(leaves))
    return hashlib.sha256(b"\1" + plain_root(leaves[:split]) + plain_root(leaves[split:])).digest()


def leaves(count: int) -> list[bytes]:
    return [leaf_hash(b"%d" % number) for number in range(count)]


def test_the_published_roots_are_met() -> None:
    subtree = tree_over([leaf_hash(each) for each in INPUTS])
    assert [root_of(size, subtree).hex() for size in range(1, 9)] == ROOTS
    assert root_of(0, subtree) == EMPTY_ROOT


@settings(deadline=None)
@given(st.integers(0, 70), st.data())
def test_root_and_proofs_agree_with_the_definition(size: int, data: st.DataObject) -> None:
    subtree = tree_over(leaves(size))
    root = root_of(size, subtree)
    assert root == plain_root([b"%d" % number for number in range(size)])
    old = data.draw(st.integers(0, size))
    proof = consistency_proof(old, size, subtree)
    assert is_consistent(old, root_of(old, subtree), size, root, proof)
    if size:
        index = data.draw(st.integers(0, size - 1))
        path = inclusion_proof(index, size, subtree)
        assert is_included(leaves(size)[index], index, size, path, root)


@settings(deadline=None)
@given(st.integers(2, 40), st.data())
def test_no_proof_shows_another_leaf_place_or_history(size: int, data: st.DataObject) -> None:
    subtree = tree_over(leaves(size))
    root = root_of(size, subtree)
    index = data.draw(st.integers(0, size - 1))
    path = inclusion_proof(index, size, subtree)
    assert not is_included(leaf_hash(b"other"), index, size, path, root)
    other = data.draw(st.integers(0, size - 1).filter(lambda each: each != index))
    assert not is_included(leaves(size)[index], other, size, path, root)
    assert not is_included(leaves(size)[index], index, size, path[:-1], root)
    assert not is_included(leaves(size)[index], index, size, [*path, path[0]], root)
    old = data.draw(st.integers(1, size - 1))
    rewritten = tree_over([*leaves(old)[:-1], leaf_hash(b"rewritten")])
    proof = consistency_proof(old, size, subtree)
    assert not is_consistent(old, root_of(old, rewritten), size, root, proof)
    assert not is_consistent(old, root_of(old, subtree), size, leaf_hash(b"root"), proof)


def test_what_does_not_exist_has_no_proof() -> None:
    subtree = tree_over(leaves(3))
    for index in (-1, 3):
        with pytest.raises(ValueError, match="no leaf"):
            inclusion_proof(index, 3, subtree)
    with pytest.raises(ValueError, match="beginning"):
        consistency_proof(4, 3, subtree)
    assert not is_consistent(4, b"", 3, b"", [])
    assert not is_included(b"", 3, 3, [], b"")


def test_a_proof_asks_for_few_hashes_of_a_wide_tree() -> None:
    asked: list[tuple[int, int]] = []

    def subtree(level: int, index: int) -> bytes:
        asked.append((level, index))
        return leaf_hash(b"%d %d" % (level, index))

    inclusion_proof(654_321, 1_000_003, subtree)
    assert len(asked) < 60
