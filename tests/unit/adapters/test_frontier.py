"""The frontier of a Merkle tree, against RFC 6962 read literally."""

from __future__ import annotations

import hashlib

from keystead.adapters.sql.frontier import HASH_BYTES, append, node_hash, root


def tree_hash(leaves: list[bytes]) -> bytes:
    """Hash a tree as RFC 6962 §2.1 defines it: split at the largest power of two that is smaller."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return leaves[0]
    middle = 1 << (len(leaves) - 1).bit_length() - 1
    return node_hash(tree_hash(leaves[:middle]), tree_hash(leaves[middle:]))


def test_every_size_has_the_root_of_the_rfc() -> None:
    """Appending leaf by leaf gives at each size the root that the RFC's recursion gives, from one hash per set bit."""
    leaves = [hashlib.sha256(b"\x00" + bytes([number])).digest() for number in range(130)]
    frontier = b""
    for size, leaf in enumerate(leaves):
        assert root(frontier) == tree_hash(leaves[:size])
        assert len(frontier) == HASH_BYTES * size.bit_count()
        frontier = append(frontier, size, leaf)
    assert root(frontier) == tree_hash(leaves)


def test_known_roots() -> None:
    """The roots of the empty tree and of the test vectors that certificate transparency publishes."""
    texts = [b"", b"\x00", b"\x10", b"\x20\x21", b"\x30\x31", b"\x40\x41\x42\x43", b"\x50\x51\x52\x53\x54\x55\x56\x57"]
    frontier = b""
    for size, data in enumerate([*texts, b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f"]):
        frontier = append(frontier, size, hashlib.sha256(b"\x00" + data).digest())
        if size == 0:
            assert root(frontier).hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    assert root(b"").hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert root(frontier).hex() == "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"
