"""Units of work in memory."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from keystead.adapters.memory.allowances import MemoryAllowances
from keystead.adapters.memory.event_changes import MemoryEvents
from keystead.adapters.memory.journals import MemoryJournals
from keystead.adapters.memory.keys import MemoryKeys
from keystead.adapters.memory.plans import MemoryPlans
from keystead.adapters.memory.replies import MemoryReplies
from keystead.adapters.memory.rotations import MemoryRotations
from keystead.adapters.memory.sinks import MemorySinks
from keystead.adapters.memory.store import MemoryStore, Staging
from keystead.adapters.memory.tenants import MemoryOwners, MemoryWorkspaces
from keystead.adapters.walls import Walls
from keystead.events.model import RandomBytes, make_event
from keystead.kernel.change import Change, Origin
from keystead.kernel.clock import Clock
from keystead.kernel.ids import IdSource
from keystead.tenants.model import TenantScope

OnCommit = Callable[[Sequence[Change]], None]


class MemoryUnit:
    """The ``Unit`` inside one block."""

    def __init__(self, staging: Staging, walls: Walls, clock: Clock) -> None:
        """Work in ``staging``, inside ``walls``, by the store's ``clock``."""
        self._staging = staging
        self.workspaces = MemoryWorkspaces(staging, walls)
        self.owners = MemoryOwners(staging, walls)
        self.keys = MemoryKeys(staging, walls)
        self.plans = MemoryPlans(staging, walls)
        self.allowances = MemoryAllowances(staging, walls)
        self.rotations = MemoryRotations(staging)
        self.replies = MemoryReplies(staging, walls)
        self.events = MemoryEvents(staging, walls)
        self.sinks = MemorySinks(staging, walls, clock)
        self.journals = MemoryJournals(staging, clock)
        self.changes: list[Change] = []

    def record(self, change: Change) -> None:
        """Note a change; it is stored as an event when the unit commits."""
        self._staging.demand_writable()
        self.changes.append(change)


class MemoryUnits:
    """The ``Units`` of one memory store."""

    def __init__(
        self,
        store: MemoryStore,
        *,
        clock: Clock,
        ids: IdSource,
        random_bytes: RandomBytes = secrets.token_bytes,
        on_commit: OnCommit | None = None,
    ) -> None:
        """Date and name events by ``clock`` and ``ids``; tell ``on_commit`` what was committed."""
        self._store = store
        self._clock = clock
        self._ids = ids
        self._random_bytes = random_bytes
        self._on_commit = on_commit

    @asynccontextmanager
    async def begin(self, scope: TenantScope | None, origin: Origin) -> AsyncIterator[MemoryUnit]:
        """Open a unit that commits when its block ends and rolls back when it raises."""
        staging = Staging(self._store, read_only=False)
        unit = MemoryUnit(staging, Walls.around(scope), self._clock)
        try:
            yield unit
            await self._store_events(staging, unit.changes, origin)
            staging.commit()
        finally:
            staging.rollback()
        if self._on_commit is not None and unit.changes:
            self._on_commit(tuple(unit.changes))

    @asynccontextmanager
    async def read(self, scope: TenantScope | None) -> AsyncIterator[MemoryUnit]:
        """Open a unit that sees one moment of the store; ``record`` and every write raise."""
        yield MemoryUnit(Staging(self._store, read_only=True), Walls.around(scope), self._clock)

    async def _store_events(self, staging: Staging, changes: Sequence[Change], origin: Origin) -> None:
        if not changes:
            return
        now_ms = self._clock.now_ms()
        names = sorted(self._ids.new("evt") for _ in changes)
        (await staging.begin()).unplaced += [
            make_event(change, origin, event_id=name, occurred_at_ms=now_ms, random_bytes=self._random_bytes)
            for change, name in zip(changes, names, strict=True)
        ]
