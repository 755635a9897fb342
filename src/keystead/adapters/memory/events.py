"""The event log in memory."""

from __future__ import annotations

from dataclasses import replace

from keystead.adapters.memory.store import MemoryStore, Staging, sort_events
from keystead.events.errors import CursorLostError
from keystead.events.model import Cursor
from keystead.events.ports import UNPLACED_MAX, LogPage


class MemoryEventLog:
    """The ``EventLog`` of one memory store."""

    def __init__(self, store: MemoryStore) -> None:
        """Read and number the events in ``store``."""
        self._store = store

    async def head(self) -> Cursor:
        """Return the cursor of the last placed event."""
        placed = self._store.committed.placed
        return Cursor(len(placed), placed[-1].leaf_hash) if placed else Cursor()

    async def poll(self, cursor: Cursor, *, limit: int) -> LogPage:
        """Read what came after ``cursor``; raise ``CursorLostError`` when its event is not there with its hash."""
        state = self._store.committed
        if cursor.seq > len(state.placed):
            raise CursorLostError
        if cursor.seq and state.placed[cursor.seq - 1].leaf_hash != cursor.event_hash:
            raise CursorLostError
        placed = state.placed[cursor.seq :]
        touching = [event for event in state.unplaced if event.touches]
        others = [event for event in state.unplaced if not event.touches][:1]
        seen = sort_events([*touching[:UNPLACED_MAX], *others])
        return LogPage(placed[:limit], seen, len(placed) > limit, len(touching) > UNPLACED_MAX)

    async def place(self, *, limit: int) -> int:
        """Give at most ``limit`` committed events their ``seq`` and leaf index; 0 when another is at it."""
        if self._store.lock.locked():
            return 0
        staging = Staging(self._store, read_only=False)
        state = await staging.begin()
        ready = sort_events(state.unplaced)[:limit]
        for event in ready:
            leaf = state.leaves.get(event.workspace_id, 0)
            state.leaves[event.workspace_id] = leaf + 1
            state.placed.append(replace(event, seq=len(state.placed) + 1, leaf_index=leaf))
            state.unplaced.remove(event)
        staging.commit()
        return len(ready)
