"""The growing edge of a Merkle tree (RFC 6962): enough to append to it and to know its root, in a few hashes.

A tree of ``size`` leaves is the row of full subtrees that the bits of ``size`` name, the largest first. Appending a
leaf is adding one to a binary number: each carry joins two subtrees of one height.
"""

from __future__ import annotations

import hashlib

HASH_BYTES = 32


def append(frontier: bytes, size: int, leaf_hash: bytes) -> bytes:
    """Return the frontier of ``size + 1`` leaves; ``frontier`` is that of ``size``, 32 bytes for each bit set."""
    joined = leaf_hash
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


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of an inner node: SHA-256 over 0x01 and both sides."""
    return hashlib.sha256(b"\x01" + left + right).digest()
