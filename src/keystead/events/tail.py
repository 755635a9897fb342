"""Events as they get their places: each once, in the order of the tree.

Places have no gaps and are given in one transaction each time, so everything below the size of the tree can be read. A
reading asks for the size first and ends there, which also carries it past events that are not meant.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from keystead.events.model import Event, EventFilter
from keystead.events.ports import AuditReader
from keystead.kernel.walls import TenantScope

PART_EVENTS_MAX = 200
"""So many are told at once; written as JSON, a few milliseconds of a process that also verifies."""


class EventTail:
    """One reader's place."""

    def __init__(
        self, reader: AuditReader, scope: TenantScope, wanted: EventFilter, *, part_size: int = PART_EVENTS_MAX
    ) -> None:
        """Begin at the end of the log as the first reading finds it."""
        self._reader = reader
        self._scope = scope
        self._wanted = wanted
        self._part_size = part_size
        self._next: int | None = None

    async def read(self) -> AsyncGenerator[Sequence[Event], None]:
        """Yield what was placed since the last reading, in at least one part; the first reading yields nothing yet."""
        size, _ = await self._reader.head(self._scope.workspace_id)
        if self._next is None or self._next >= size:  # beyond the end: an older copy of the log took its place
            self._next = size
            yield ()
            return
        while self._next < size:
            part = await self._reader.since(self._scope, self._wanted, self._next - 1, self._part_size)
            last = part[-1].leaf_index if part else None
            reached = self._next if last is None else last + 1
            self._next = reached if len(part) == self._part_size else max(reached, size)
            yield part
