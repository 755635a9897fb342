"""Forgetting old events so that the log stays provable: it is cut at a checkpoint, and says so in itself.

The records go, their hashes stay: so every proof that could be made before can be made afterwards, of consistency from
any earlier checkpoint too. That it was a cut, where, and what was signed there is an event of the log like any other.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

from keystead.events.checkpoints import KeptCheckpoint
from keystead.events.model import Retained
from keystead.events.ports import EventUnits, LogShelf
from keystead.kernel.change import Action, Actor, ActorType, Change, Origin
from keystead.kernel.clock import Clock
from keystead.kernel.walls import BOTH_ENVIRONMENTS, TenantScope

ORIGIN = Origin(Actor(ActorType.SYSTEM, "retention"))
"""Who cuts logs."""

DAY_MS = 86_400_000
CHECKPOINTS_WHOLE_MS = 7 * DAY_MS
"""Every checkpoint is kept for so long, and of older ones the last of each day."""

SWEPT_AT_ONCE = 1_000


class LogCutter:
    """Cuts the logs of workspaces that want it."""

    def __init__(self, shelf: LogShelf, units: EventUnits, clock: Clock) -> None:
        """Look at what is old on ``shelf`` and record each cut in a unit of ``units``."""
        self._shelf = shelf
        self._units = units
        self._clock = clock

    async def see_to(self, retained: Retained) -> AsyncGenerator[int, None]:
        """Forget what is old of one workspace; yield how much after each bounded step."""
        now_ms = self._clock.now_ms()
        workspace_id = retained.workspace_id
        await self._shelf.thin_checkpoints(workspace_id, before_ms=now_ms - CHECKPOINTS_WHOLE_MS)
        if retained.days:
            point = await self._shelf.cut_point(workspace_id, before_ms=now_ms - retained.days * DAY_MS)
            if point is not None:
                await self._cut(point, now_ms)
        while True:
            swept = await self._shelf.sweep(workspace_id, limit=SWEPT_AT_ONCE)
            yield swept
            if not swept:
                return

    async def _cut(self, point: KeptCheckpoint, now_ms: int) -> None:
        """Declare what ``point`` covers gone; nothing when another node was faster."""
        walls = TenantScope(point.workspace_id, BOTH_ENVIRONMENTS)
        async with self._units.begin(walls, ORIGIN) as unit:
            before = await unit.events.cut(point, now_ms=now_ms)
            if before is None:
                return
            changes = {"first_index": (before, point.size), "checkpoint": (None, point.note)}
            change = Change(point.workspace_id, Action.AUDIT_LOG_CUT, point.workspace_id, touches=(), changes=changes)
            unit.record(change)
