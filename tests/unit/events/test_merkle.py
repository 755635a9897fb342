"""The Merkle tree and its proofs, against RFC 6962 read literally (P6)."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keystead.events.merkle import (
    HASH_BYTES,
    Tree,
    append,
    consistency_ranges,
    consistent,
    inclusion_ranges,
    leaf_hash,
    node_hash,
    root,
    root_from_inclusion,
)

# The leaves that certificate transparency publishes, and the roots of the trees of the first 0 to 8 of them.
PUBLISHED = [bytes.fromhex(it) for it in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657")]
PUBLISHED.append(bytes.fromhex("606162636465666768696a6b6c6d6e6f"))
ROOTS = (
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)
LEAVES = [leaf_hash(bytes([number])) for number in range(70)]
TREE = Tree(LEAVES)


def split(count: int) -> int:
    """Return the largest power of two that is smaller than ``count``."""
    power = 1
    while power * 2 < count:
        power *= 2
    return power


def tree_hash(leaves: list[bytes]) -> bytes:
    """Hash a tree as RFC 6962 §2.1 defines it."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return leaves[0]
    middle = split(len(leaves))
    return node_hash(tree_hash(leaves[:middle]), tree_hash(leaves[middle:]))


def audit_path(index: int, leaves: list[bytes]) -> list[bytes]:
    """Prove a leaf as §2.1.1 defines it."""
    if len(leaves) == 1:
        return []
    middle = split(len(leaves))
    if index < middle:
        return [*audit_path(index, leaves[:middle]), tree_hash(leaves[middle:])]
    return [*audit_path(index - middle, leaves[middle:]), tree_hash(leaves[:middle])]


def subproof(old: int, leaves: list[bytes], *, whole: bool = True) -> list[bytes]:
    """Prove an older tree as §2.1.2 defines it."""
    if old == len(leaves):
        return [] if whole else [tree_hash(leaves)]
    middle = split(len(leaves))
    if old <= middle:
        return [*subproof(old, leaves[:middle], whole=whole), tree_hash(leaves[middle:])]
    return [*subproof(old - middle, leaves[middle:], whole=False), tree_hash(leaves[:middle])]


def test_published_roots() -> None:
    """The frontier and the whole tree have the roots of the published vectors, at every size."""
    leaves = [leaf_hash(data) for data in PUBLISHED]
    frontier, tree = b"", Tree(leaves)
    for size, expected in enumerate(ROOTS):
        assert root(frontier).hex() == expected
        assert tree.root(size).hex() == expected
        assert len(frontier) == HASH_BYTES * size.bit_count()
        if size < len(leaves):
            frontier = append(frontier, size, leaves[size])


def test_every_root_is_that_of_the_rfc() -> None:
    """Appending leaf by leaf gives at each size the root that the RFC's recursion gives."""
    frontier = b""
    for size, leaf in enumerate(LEAVES):
        assert root(frontier) == tree_hash(LEAVES[:size]) == TREE.root(size)
        frontier = append(frontier, size, leaf)
    assert root(frontier) == tree_hash(LEAVES) == TREE.root(TREE.size)


@given(st.integers(1, 70).flatmap(lambda size: st.tuples(st.integers(0, size - 1), st.just(size))))
def test_a_leaf_is_proven_as_the_rfc_says(place: tuple[int, int]) -> None:
    """The proof is the RFC's own, leads to the root, and with another hash, place or size it does not."""
    index, size = place
    hashes = TREE.inclusion(index, size)
    expected = tree_hash(LEAVES[:size])
    assert hashes == audit_path(index, LEAVES[:size])
    assert root_from_inclusion(LEAVES[index], index, size, hashes) == expected
    for number in range(len(hashes)):
        wrong = [*hashes]
        wrong[number] = bytes(HASH_BYTES)
        assert root_from_inclusion(LEAVES[index], index, size, wrong) != expected
    if size > 1:
        assert root_from_inclusion(LEAVES[index - 1], index, size, hashes) != expected
    for other in {index ^ 1, index ^ 2} & set(range(size)):
        assert len(audit_path(other, LEAVES[:size])) != len(hashes) or (
            root_from_inclusion(LEAVES[index], other, size, hashes) != expected
        )


@given(st.integers(0, 70).flatmap(lambda new: st.tuples(st.integers(0, new), st.just(new))))
def test_an_older_tree_is_proven_as_the_rfc_says(sizes: tuple[int, int]) -> None:
    """The proof is the RFC's own and convinces; with another hash, root or size it does not."""
    old, new = sizes
    hashes = TREE.consistency(old, new)
    before, after = tree_hash(LEAVES[:old]), tree_hash(LEAVES[:new])
    assert hashes == (subproof(old, LEAVES[:new]) if old else [])
    assert consistent(old, before, new, after, hashes)
    assert not consistent(old, bytes(HASH_BYTES), new, after, hashes)
    assert not consistent(old, before, new, after, [*hashes, bytes(HASH_BYTES)])
    if old:
        assert not consistent(old, before, new, bytes(HASH_BYTES), hashes)
    for number in range(len(hashes)):
        wrong = [*hashes]
        wrong[number] = bytes(HASH_BYTES)
        assert not consistent(old, before, new, after, wrong)


@given(st.binary(max_size=100), st.integers(1, 70), st.data())
def test_no_other_history_is_proven(changed: bytes, new: int, data: st.DataObject) -> None:
    """A tree in which one of the old leaves was changed has no proof that the old root is its beginning."""
    old = data.draw(st.integers(1, new))
    place = data.draw(st.integers(0, old - 1))
    forged = Tree([*LEAVES[:place], leaf_hash(b"other" + changed), *LEAVES[place + 1 : new]])
    assert not consistent(old, TREE.root(old), new, forged.root(new), forged.consistency(old, new))
    assert not consistent(old, TREE.root(old), new, forged.root(new), TREE.consistency(old, new))


def test_what_cannot_be_is_refused() -> None:
    """Leaves beyond the tree, trees larger than what they begin, and hashes of another number or length raise."""
    for index, size in ((-1, 3), (3, 3), (0, 0)):
        with pytest.raises(ValueError, match="no leaf"):
            inclusion_ranges(index, size)
    for old, new in ((-1, 3), (4, 3)):
        with pytest.raises(ValueError, match="beginning"):
            consistency_ranges(old, new)
        assert not consistent(old, b"", new, b"", [])
    for size in (-1, 71):
        with pytest.raises(ValueError, match="70 leaves"):
            TREE.root(size)
    for hashes in ([], [LEAVES[1], b"short"]):
        with pytest.raises(ValueError, match="2 hashes"):
            root_from_inclusion(LEAVES[0], 0, 3, hashes)


def test_a_proof_of_the_largest_log_is_short() -> None:
    """Sizes alone decide the way of a proof: it is checked in 63 steps, whatever size is claimed."""
    assert len(inclusion_ranges(0, (1 << 63) - 1)) == 63
    assert len(consistency_ranges(1 << 62, (1 << 63) - 1)) == 1
