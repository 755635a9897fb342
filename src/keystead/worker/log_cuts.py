"""Forgets old events of workspaces that want it, and thins out old checkpoints, once an hour on one node."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import structlog

from keystead.events.ports import LogShelf
from keystead.events.retention import LogCutter
from keystead.kernel.clock import Clock
from keystead.kernel.errors import KeysteadError
from keystead.worker.walks import Walk

TURN_EVERY_MS = 3_600_000
BATCH_WORKSPACES = 500
FAILURES_MAX = 10
"""So many workspaces may fail before a walk ends; fewer keep nobody else waiting, and the loop is told at its end."""

_log = structlog.get_logger(__name__)


class LogKeeper:
    """Runs every few seconds."""

    def __init__(self, cutter: LogCutter, shelf: LogShelf, clock: Clock, *, batch: int = BATCH_WORKSPACES) -> None:
        """Let ``cutter`` see to every workspace on ``shelf``, ``batch`` at once."""
        self._cutter = cutter
        self._shelf = shelf
        self._clock = clock
        self._batch = batch
        self._walk = Walk(self._begin, self._see_to_all, clock)
        self.events_forgotten = 0

    async def turn(self) -> None:
        """Go on with the walk under way, or begin one if it is this node's."""
        await self._walk.turn()

    async def _begin(self) -> bool:
        return await self._shelf.begin_turn(now_ms=self._clock.now_ms(), every_ms=TURN_EVERY_MS)

    async def _see_to_all(self) -> AsyncGenerator[None, None]:
        after, before, failed = "", self.events_forgotten, list[KeysteadError]()
        while True:
            found = await self._shelf.workspaces(after=after, limit=self._batch)
            for retained in found:
                try:
                    async for swept in self._cutter.see_to(retained):
                        self.events_forgotten += swept
                        yield
                except KeysteadError as error:
                    failed.append(error)
                    _log.warning(
                        "old events not forgotten",
                        workspace_id=retained.workspace_id,
                        reason=error.internal or error.public,
                    )
                    if len(failed) == FAILURES_MAX:
                        raise
            if len(found) < self._batch:
                break
            after = found[-1].workspace_id
        if forgotten := self.events_forgotten - before:
            _log.info("old events forgotten", events=forgotten)
        if failed:
            raise failed[-1]
