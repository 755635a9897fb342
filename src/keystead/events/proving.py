"""Proves that an event is in the log, or that an older tree is the beginning of a newer one, without holding the tree.

The ranges of leaves that a proof needs are hashed as they are read. A chunk of 1,024 leaves that is full never changes,
so its hash is remembered: a second proof from a log of a million events reads two chunks rather than a thousand. Every
proof is checked before it is given away; one that does not lead to the checkpoint means that the log was touched.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from keystead.events.checkpoints import KeptCheckpoint, grown
from keystead.events.errors import LogRewrittenError
from keystead.events.merkle import (
    append,
    consistency_ranges,
    consistent,
    inclusion_ranges,
    root,
    root_from_inclusion,
)
from keystead.events.ports import Leaves

CHUNK_LEAVES = 1_024
CHUNKS_REMEMBERED = 16_384


class Prover:
    """Makes proofs from the leaves of one deployment; remembers 16,384 chunks, the least recently used forgotten."""

    def __init__(self, leaves: Leaves, *, remembered: int = CHUNKS_REMEMBERED) -> None:
        """Read ``leaves``."""
        self._leaves = leaves
        self._remembered = remembered
        self._chunks: OrderedDict[tuple[str, int], bytes] = OrderedDict()

    async def inclusion(self, checkpoint: KeptCheckpoint, index: int, leaf: bytes) -> list[bytes]:
        """Prove that ``leaf`` (a hash) stands at ``index`` of the tree; ``index`` must be less than its size.

        Raises ``LogRewrittenError`` when it does not.
        """
        hashes = await self._hashes(checkpoint.workspace_id, inclusion_ranges(index, checkpoint.size))
        if root_from_inclusion(leaf, index, checkpoint.size, hashes) != checkpoint.root_hash:
            raise LogRewrittenError(checkpoint.workspace_id, f"event {index} is not in the tree that was signed")
        return hashes

    async def consistency(self, size: int, checkpoint: KeptCheckpoint) -> list[bytes]:
        """Prove that the tree of ``size`` leaves, at most the checkpoint's, is the beginning of the checkpoint's.

        Raises ``LogRewrittenError`` when the leaves are not those that were signed.
        """
        workspace_id = checkpoint.workspace_id
        hashes = await self._hashes(workspace_id, consistency_ranges(size, checkpoint.size))
        before = await self._hash(workspace_id, range(size))
        if not consistent(size, before, checkpoint.size, checkpoint.root_hash, hashes):
            raise LogRewrittenError(workspace_id, f"its first {size} events do not lead to the tree that was signed")
        return hashes

    async def _hashes(self, workspace_id: str, ranges: Sequence[range]) -> list[bytes]:
        return [await self._hash(workspace_id, leaves) for leaves in ranges]

    async def _hash(self, workspace_id: str, leaves: range) -> bytes:
        """Hash a range that begins where a subtree of its largest full size does: whole chunks first, then a rest."""
        frontier, start = b"", leaves.start
        for number in range(len(leaves) // CHUNK_LEAVES):
            frontier = append(frontier, number, await self._chunk(workspace_id, start))
            start += CHUNK_LEAVES
        rest = await self._read(workspace_id, start, leaves.stop - start)
        return root(frontier + grown(b"", 0, rest))

    async def _chunk(self, workspace_id: str, start: int) -> bytes:
        known = self._chunks.pop((workspace_id, start), None)
        if known is None:
            known = root(grown(b"", 0, await self._read(workspace_id, start, CHUNK_LEAVES)))
        self._chunks[workspace_id, start] = known
        if len(self._chunks) > self._remembered:
            self._chunks.popitem(last=False)
        return known

    async def _read(self, workspace_id: str, start: int, count: int) -> Sequence[bytes]:
        leaves = await self._leaves.leaf_hashes(workspace_id, start, count) if count else ()
        if len(leaves) != count:
            raise LogRewrittenError(workspace_id, f"event {start + len(leaves)} is missing")
        return leaves
