"""Makes checkpoints: each extends the one before by construction, or it is not signed.

The tree of a new checkpoint is computed from the frontier of the last by appending the leaves that came since, and must
be the one that the sequencer keeps. So whatever was rewritten, no two checkpoints of a workspace ever contradict each
other.
"""

from __future__ import annotations

from keystead.events.checkpoints import Checkpoint, KeptCheckpoint, grown, origin_of, sign_checkpoint
from keystead.events.errors import LogRewrittenError
from keystead.events.merkle import root
from keystead.events.ports import CheckpointStore, EventLog, Leaves
from keystead.events.signing_key import CheckpointKey
from keystead.kernel.clock import Clock
from keystead.kernel.errors import UnavailableError

CONFIRM_EVERY_MS = 3_600_000
LEAVES_AT_ONCE = 1_000
_PLACED_AT_ONCE = 1_000
_PLACINGS_MAX = 100
_ATTEMPTS = 5


class Checkpointer:
    """Makes and finds the checkpoints of all workspaces."""

    def __init__(
        self, *, log: EventLog, leaves: Leaves, store: CheckpointStore, key: CheckpointKey, clock: Clock
    ) -> None:
        """Sign what ``log`` and ``leaves`` hold with ``key``, and keep it in ``store``."""
        self._log = log
        self._leaves = leaves
        self._store = store
        self._key = key
        self._clock = clock

    async def place(self) -> None:
        """Give the events that wait for it their place, so that what was just done is seen; another may be at it."""
        for _ in range(_PLACINGS_MAX):
            if await self._log.place(limit=_PLACED_AT_ONCE) < _PLACED_AT_ONCE:
                return

    async def make(self, workspace_id: str) -> KeptCheckpoint:
        """Return a checkpoint of the placed log as it is now: the last one when there is no news since.

        Raises ``LogRewrittenError`` when the log does not extend the last one, and ``UnavailableError`` when others
        kept being faster.
        """
        for _ in range(_ATTEMPTS):
            last = await self._store.latest(workspace_id)
            made = await self._next(workspace_id, last)
            if last is not None and made.size == last.size:
                await self._confirm(last)
                return last
            if await self._store.keep(made, after=last):
                return made
        raise UnavailableError("Others are making checkpoints of this workspace; try again.")

    async def covering(self, workspace_id: str, size: int) -> KeptCheckpoint:
        """Return the last checkpoint, or make one when it is none of at least ``size`` events."""
        last = await self._store.latest(workspace_id)
        return last if last is not None and last.size >= size else await self.make(workspace_id)

    async def _next(self, workspace_id: str, last: KeptCheckpoint | None) -> KeptCheckpoint:
        """Sign the tree as it is, after computing it from the last checkpoint."""
        size, frontier = await self._leaves.head(workspace_id)
        start, edge = (0, b"") if last is None else (last.size, last.frontier)
        if size < start:
            raise LogRewrittenError(workspace_id, f"it has {size} events, and {start} were signed")
        while start < size:
            leaves = await self._leaves.leaf_hashes(workspace_id, start, min(LEAVES_AT_ONCE, size - start))
            if not leaves:
                raise LogRewrittenError(workspace_id, f"event {start} of {size} is missing")
            edge = grown(edge, start, leaves)
            start += len(leaves)
        if edge != frontier:
            raise LogRewrittenError(workspace_id, f"its {size} events are not those of the tree")
        checkpoint = Checkpoint(origin_of(workspace_id), size, root(edge))
        note = sign_checkpoint(checkpoint, await self._key.signer())
        return KeptCheckpoint(workspace_id, size, edge, note, self._clock.now_ms())

    async def _confirm(self, last: KeptCheckpoint) -> None:
        now_ms = self._clock.now_ms()
        if last.made_at_ms <= now_ms - CONFIRM_EVERY_MS:
            await self._store.confirm(last, at_ms=now_ms)
