"""Remembered replies in memory, and how they are forgotten."""

from __future__ import annotations

from dataclasses import replace

from keystead.adapters.memory.store import MemoryStore, Staging
from keystead.adapters.walls import Walls
from keystead.idempotency.errors import SlotTakenError
from keystead.idempotency.model import ReplySlot, StoredReply
from keystead.tenants.errors import NotFoundError

FORGOTTEN_AT_ONCE = 1_000


class MemoryReplies:
    """The ``ReplyRepository`` of one unit."""

    def __init__(self, staging: Staging, walls: Walls) -> None:
        """See what ``walls`` admit."""
        self._staging = staging
        self._walls = walls

    async def get(self, slot: ReplySlot) -> StoredReply | None:
        """Return what is kept in ``slot``, or None."""
        return self._staging.state.replies.get(slot) if self._walls.admit(slot.workspace_id) else None

    async def add(self, reply: StoredReply) -> None:
        """Keep a reply."""
        self._walls.demand(reply.slot.workspace_id)
        state = await self._staging.begin()
        if reply.slot.workspace_id not in state.workspaces:
            raise NotFoundError("workspace", reply.slot.workspace_id)
        if reply.slot in state.replies:
            raise SlotTakenError
        state.replies[reply.slot] = reply


class MemoryReplyKeeper:
    """Housekeeping, in bounded batches."""

    def __init__(self, store: MemoryStore) -> None:
        """Work on ``store``."""
        self._store = store

    async def forget(self, *, before_ms: int, secrets_before_ms: int) -> int:
        """Delete old replies and drop old sealed secrets, at most 1,000 of each; return how many were touched."""
        staging = Staging(self._store, read_only=False)
        replies = (await staging.begin()).replies
        oldest = sorted(replies.values(), key=lambda reply: reply.created_at_ms)
        forgotten = [reply.slot for reply in oldest if reply.created_at_ms < before_ms][:FORGOTTEN_AT_ONCE]
        for slot in forgotten:
            del replies[slot]
        sealed = [
            reply.slot
            for reply in oldest
            if reply.slot in replies and reply.sealed is not None and reply.created_at_ms < secrets_before_ms
        ][:FORGOTTEN_AT_ONCE]
        for slot in sealed:
            replies[slot] = replace(replies[slot], sealed=None)
        staging.commit()
        return len(forgotten) + len(sealed)
