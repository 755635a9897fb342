"""Proofs without the whole tree: those that the whole tree gives, and none of a log that was touched (P6)."""

from __future__ import annotations

import pytest

from keystead.events.checkpoints import KeptCheckpoint
from keystead.events.errors import LogRewrittenError
from keystead.events.merkle import Tree, leaf_hash
from keystead.events.proving import CHUNK_LEAVES, Prover
from tests.unit.events.trees import WORKSPACE, Log

SIZES = (1, 2, 7, CHUNK_LEAVES - 1, CHUNK_LEAVES, CHUNK_LEAVES + 1, 3 * CHUNK_LEAVES, 5 * CHUNK_LEAVES + 77)


async def signed(count: int) -> tuple[Log, KeptCheckpoint, Tree]:
    """Return a log of so many leaves, its checkpoint and its tree."""
    log = Log()
    log.leaves.add(count)
    return log, await log.make(), Tree(log.leaves.leaves[WORKSPACE])


def some(size: int) -> set[int]:
    """Choose places at the edges of chunks and of the tree."""
    near = {number * CHUNK_LEAVES + by for number in range(7) for by in (-1, 0, 1)}
    return {place for place in near | {0, size // 2, size - 1} if 0 <= place < size}


@pytest.mark.parametrize("size", SIZES)
async def test_an_event_is_proven_as_by_the_whole_tree(size: int) -> None:
    """Whatever the size, around every edge of what is hashed at once, also the second time."""
    log, checkpoint, tree = await signed(size)
    prover = Prover(log.leaves)
    for _ in range(2):
        for index in some(size):
            leaf = log.leaves.leaves[WORKSPACE][index]
            assert await prover.inclusion(checkpoint, index, leaf) == tree.inclusion(index, size)


@pytest.mark.parametrize("size", SIZES)
async def test_an_older_log_is_proven_as_by_the_whole_tree(size: int) -> None:
    """Whatever the sizes, also of nothing and of the same."""
    log, checkpoint, tree = await signed(size)
    prover = Prover(log.leaves)
    for old in some(size) | {size}:
        assert await prover.consistency(old, checkpoint) == tree.consistency(old, size)


async def test_full_chunks_are_read_once() -> None:
    """A second proof reads only what lies beside its own leaf; what is remembered is bounded."""
    log, checkpoint, tree = await signed(64 * CHUNK_LEAVES)
    leaves = log.leaves.leaves[WORKSPACE]
    for remembered, reads_max in ((64, 12), (8, 75)):
        prover = Prover(log.leaves, remembered=remembered)
        await prover.inclusion(checkpoint, 0, leaves[0])
        await prover.inclusion(checkpoint, len(leaves) - 1, leaves[-1])
        log.leaves.reads = 0
        assert await prover.inclusion(checkpoint, 5, leaves[5]) == tree.inclusion(5, len(leaves))
        assert log.leaves.reads <= reads_max
        assert (log.leaves.reads > 12) == (remembered == 8)


async def test_nothing_is_proven_of_a_log_that_was_touched() -> None:
    """A leaf that is not the event's, a changed neighbour and a missing leaf end in an error, never in a proof."""
    log, checkpoint, _ = await signed(20)
    leaves = log.leaves.leaves[WORKSPACE]
    with pytest.raises(LogRewrittenError, match="event 3 is not in the tree"):
        await Prover(log.leaves).inclusion(checkpoint, 3, leaf_hash(b"another record"))
    kept = leaves[7]
    leaves[7] = leaf_hash(b"another")
    with pytest.raises(LogRewrittenError, match="event 3 is not in the tree"):
        await Prover(log.leaves).inclusion(checkpoint, 3, leaves[3])
    with pytest.raises(LogRewrittenError, match="first 10 events"):
        await Prover(log.leaves).consistency(10, checkpoint)
    leaves[7] = kept
    await Prover(log.leaves).consistency(10, checkpoint)
    del leaves[15:]
    with pytest.raises(LogRewrittenError, match="event 15 is missing"):
        await Prover(log.leaves).inclusion(checkpoint, 3, leaves[3])
