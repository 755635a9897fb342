"""The log as its tenants see it, in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from keystead.adapters.memory.store import MemoryStore
from keystead.events import merkle
from keystead.events.model import Event, EventFilter
from keystead.kernel.paging import Page, PageRequest, cut
from keystead.kernel.walls import TenantScope


class MemoryAuditReader:
    """The ``AuditReader`` of one memory store."""

    def __init__(self, store: MemoryStore) -> None:
        """Read the events in ``store``."""
        self._store = store

    async def page(self, scope: TenantScope, wanted: EventFilter, request: PageRequest) -> Page[Event]:
        """Return events by (``occurred_at_ms``, id), also those that have no place yet."""
        found = [event for event in self._kept() if wanted.admits(event, scope)]
        found.sort(key=_sort_key, reverse=not request.ascending)
        if request.position:
            last = (int(request.position[0]), request.position[1])
            found = [it for it in found if (_sort_key(it) > last if request.ascending else _sort_key(it) < last)]
        return cut(found[: request.size + 1], request.size, position_of)

    async def since(self, scope: TenantScope, wanted: EventFilter, after_index: int, limit: int) -> Sequence[Event]:
        """Return at most ``limit`` placed events after ``after_index``, by leaf index."""
        first = await self.first_index(scope.workspace_id)
        own = self._leaves(scope.workspace_id)[max(first, after_index + 1) :]
        return [event for event in own if wanted.admits(event, scope)][:limit]

    async def leaf_hashes(self, workspace_id: str, start: int, limit: int) -> Sequence[bytes]:
        """Return the hashes of at most ``limit`` leaves from ``start`` on."""
        return [event.leaf_hash for event in self._leaves(workspace_id)[start : start + limit]]

    async def head(self, workspace_id: str) -> tuple[int, bytes]:
        """Return how many events have their place, and the frontier of their tree."""
        leaves = self._leaves(workspace_id)
        edge = b""
        for size, event in enumerate(leaves):
            edge = merkle.append(edge, size, event.leaf_hash)
        return len(leaves), edge

    async def find(self, scope: TenantScope, event_id: str) -> Event | None:
        """Return an event inside the walls; None when there is none."""
        own = (event for event in self._kept() if event.id == event_id)
        return next((event for event in own if EventFilter().admits(event, scope)), None)

    async def first_index(self, workspace_id: str) -> int:
        """Return the index of the first event that is kept."""
        return self._store.committed.log_cuts.get(workspace_id, 0)

    def _kept(self) -> Iterator[Event]:
        """Yield events, those aside that are gone: of them the store still holds the hashes."""
        state = self._store.committed
        for event in (*state.placed, *state.unplaced):
            if event.leaf_index is None or event.leaf_index >= state.log_cuts.get(event.workspace_id, 0):
                yield event

    def _leaves(self, workspace_id: str) -> list[Event]:
        return [event for event in self._store.committed.placed if event.workspace_id == workspace_id]


def position_of(event: Event) -> tuple[str, str]:
    """Name an event's place in a list."""
    return str(event.occurred_at_ms), event.id


def _sort_key(event: Event) -> tuple[int, str]:
    return event.occurred_at_ms, event.id
