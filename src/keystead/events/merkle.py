"""The Merkle tree of RFC 6962: how it grows, what proves a leaf or an older tree, and how a proof is checked.

A tree of ``size`` leaves is the row of full subtrees that the bits of ``size`` name, the largest first: its frontier.
Appending a leaf is adding one to a binary number, where each carry joins two subtrees of one height. A proof is the
hashes of some ranges of leaves, and which ranges those are follows from the sizes alone, so whoever proves and whoever
checks walk down the same way (RFC 6962 §2.1.1 and §2.1.2).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

HASH_BYTES = 32


def leaf_hash(data: bytes) -> bytes:
    """Return the hash of a leaf: SHA-256 over 0x00 and its bytes."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of an inner node: SHA-256 over 0x01 and both sides."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def append(frontier: bytes, size: int, leaf: bytes) -> bytes:
    """Return the frontier of ``size + 1`` leaves; ``frontier`` is that of ``size``, 32 bytes for each bit set.

    ``leaf`` is the hash of the new leaf.
    """
    joined = leaf
    while size & 1:
        joined = node_hash(frontier[-HASH_BYTES:], joined)
        frontier = frontier[:-HASH_BYTES]
        size >>= 1
    return frontier + joined


def root(frontier: bytes) -> bytes:
    """Return the tree hash; that of an empty tree is SHA-256 of nothing."""
    if not frontier:
        return hashlib.sha256().digest()
    joined = frontier[-HASH_BYTES:]
    for end in range(len(frontier) - HASH_BYTES, 0, -HASH_BYTES):
        joined = node_hash(frontier[end - HASH_BYTES : end], joined)
    return joined


def inclusion_ranges(index: int, size: int) -> list[range]:
    """Return the ranges of leaves whose hashes prove the leaf ``index`` of ``size``, the nearest first.

    Raises ``ValueError`` unless there is such a leaf.
    """
    if not 0 <= index < size:
        message = f"a tree of {size} leaves has no leaf {index}"
        raise ValueError(message)
    start, end = 0, size
    ranges: list[range] = []
    while end - start > 1:
        middle = _middle(start, end)
        if index < middle:
            ranges.append(range(middle, end))
            end = middle
        else:
            ranges.append(range(start, middle))
            start = middle
    return ranges[::-1]


def consistency_ranges(old: int, new: int) -> list[range]:
    """Return the ranges of leaves whose hashes prove that ``old`` leaves are the beginning of ``new``.

    There are none when that needs no proof: of an empty tree, and of the same. Raises ``ValueError`` when it cannot be.
    """
    if not 0 <= old <= new:
        message = f"a tree of {old} leaves is not the beginning of one of {new}"
        raise ValueError(message)
    if old == 0:
        return []
    start, end = 0, new
    ranges: list[range] = []
    while end != old:
        middle = _middle(start, end)
        if old <= middle:
            ranges.append(range(middle, end))
            end = middle
        else:
            ranges.append(range(start, middle))
            start = middle
    if start:  # what is left of the old tree; when it is the whole of it, its root is known
        ranges.append(range(start, end))
    return ranges[::-1]


class Tree:
    """A whole tree in memory, about 64 bytes of hashes a leaf; every proof from it takes a few look-ups."""

    def __init__(self, leaves: Sequence[bytes]) -> None:
        """Hash up from the hashes of all ``leaves``."""
        self.size = len(leaves)
        self._levels = [list(leaves)]
        while len(below := self._levels[-1]) > 1:
            pairs = zip(below[::2], below[1::2], strict=False)  # the odd one at the end is no full subtree
            self._levels.append([node_hash(left, right) for left, right in pairs])

    def root(self, size: int) -> bytes:
        """Return the hash of the tree as it was with ``size`` leaves."""
        self._demand(size)
        return self._hash(range(size))

    def inclusion(self, index: int, size: int) -> list[bytes]:
        """Return what proves the leaf ``index`` in the tree of ``size``."""
        self._demand(size)
        return [self._hash(leaves) for leaves in inclusion_ranges(index, size)]

    def consistency(self, old: int, new: int) -> list[bytes]:
        """Return what proves that the tree of ``old`` leaves is the beginning of that of ``new``."""
        self._demand(new)
        return [self._hash(leaves) for leaves in consistency_ranges(old, new)]

    def _demand(self, size: int) -> None:
        if not 0 <= size <= self.size:
            message = f"there are {self.size} leaves, not {size}"
            raise ValueError(message)

    def _hash(self, leaves: range) -> bytes:
        """Hash a range that begins where a subtree of its largest full size does."""
        start, length = leaves.start, len(leaves)
        if length and length & (length - 1) == 0:  # a full subtree, as nearly all are: it is there
            height = length.bit_length() - 1
            return self._levels[height][start >> height]
        frontier = b""
        for height in range(len(leaves).bit_length() - 1, -1, -1):
            if len(leaves) >> height & 1:
                frontier += self._levels[height][start >> height]
                start += 1 << height
        return root(frontier)


def root_from_inclusion(leaf: bytes, index: int, size: int, hashes: Sequence[bytes]) -> bytes:
    """Return the root that a proof leads to from the hash ``leaf``; compare it with one that is trusted.

    Raises ``ValueError`` when no tree of ``size`` has such a proof for ``index``.
    """
    ranges = inclusion_ranges(index, size)
    _demand_hashes(hashes, len(ranges))
    joined = leaf
    for beside, other in zip(ranges, hashes, strict=True):
        joined = node_hash(joined, other) if beside.start > index else node_hash(other, joined)
    return joined


def consistent(old_size: int, old_root: bytes, new_size: int, new_root: bytes, hashes: Sequence[bytes]) -> bool:
    """Say whether a proof shows that the tree of ``old_size`` is the beginning of that of ``new_size``."""
    try:
        ranges = consistency_ranges(old_size, new_size)
        _demand_hashes(hashes, len(ranges))
    except ValueError:
        return False
    if old_size == 0:
        return old_root == root(b"")
    proof = list(zip(ranges, hashes, strict=True))
    begins = proof and proof[0][0].stop == old_size  # the old tree is not one full subtree, so its last one comes first
    old = new = proof.pop(0)[1] if begins else old_root
    for beside, other in proof:
        if beside.start >= old_size:
            new = node_hash(new, other)
        else:
            old, new = node_hash(other, old), node_hash(other, new)
    return old == old_root and new == new_root


def _middle(start: int, end: int) -> int:
    """Split a range where the RFC does: behind the largest power of two that is smaller than its length."""
    return start + (1 << (end - start - 1).bit_length() - 1)


def _demand_hashes(hashes: Sequence[bytes], count: int) -> None:
    if len(hashes) != count or any(len(it) != HASH_BYTES for it in hashes):
        message = f"the proof must be {count} hashes of {HASH_BYTES} bytes"
        raise ValueError(message)
