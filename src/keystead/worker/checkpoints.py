"""Signs checkpoints of the event log: of each workspace within about a minute of its news, and once an hour anyway.

Of all nodes the one that asks first does the turn of a minute. Should two ever do one at once, each checkpoint still
extends one before it that nobody else extended, so there is one chain.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

import structlog

from keystead.events.checkpointing import CONFIRM_EVERY_MS, Checkpointer
from keystead.events.errors import LogRewrittenError
from keystead.events.ports import CheckpointStore
from keystead.kernel.clock import Clock
from keystead.kernel.errors import UnavailableError
from keystead.worker.walks import Walk

TURN_EVERY_MS = 60_000
BATCH_WORKSPACES = 500
FAILURES_MAX = 10
"""So many workspaces may fail before a walk ends; fewer keep nobody else waiting, and the loop is told at its end."""

_log = structlog.get_logger(__name__)


class CheckpointKeeper:
    """Runs every few seconds, begins a turn over all workspaces once a minute, and goes on for two seconds a time."""

    def __init__(
        self, checkpointer: Checkpointer, store: CheckpointStore, clock: Clock, *, batch: int = BATCH_WORKSPACES
    ) -> None:
        """Let ``checkpointer`` see to the workspaces that are due in ``store``, ``batch`` at once."""
        self._checkpointer = checkpointer
        self._store = store
        self._clock = clock
        self._batch = batch
        self._walk = Walk(self._begin, self._see_to_all, clock)
        self._found: set[str] = set()
        self._failures: list[UnavailableError] = []
        self.rewritten = 0
        """Workspaces whose log was not the one that was signed, when they were last walked over."""

    async def turn(self) -> None:
        """Go on with the turn under way, or begin one if it is this node's."""
        await self._walk.turn()

    async def _begin(self) -> bool:
        return await self._store.begin_turn(now_ms=self._clock.now_ms(), every_ms=TURN_EVERY_MS)

    async def _see_to_all(self) -> AsyncGenerator[None, None]:
        """See to all workspaces that are due, pausing after each."""
        after, self._found, self._failures = "", set(), []
        while True:
            confirmed_to_ms = self._clock.now_ms() - CONFIRM_EVERY_MS
            found = await self._store.due(confirmed_to_ms=confirmed_to_ms, after=after, limit=self._batch)
            for workspace_id in found:
                await self._see_to(workspace_id)
                yield
            if len(found) < self._batch:
                self.rewritten = len(self._found)
                if self._failures:
                    raise self._failures[-1]
                return
            after = found[-1]

    async def _see_to(self, workspace_id: str) -> None:
        """Make a checkpoint; a log that was rewritten is told of at every turn and keeps nobody else waiting."""
        try:
            await self._checkpointer.make(workspace_id)
        except LogRewrittenError as error:
            self._found.add(workspace_id)
            self.rewritten = max(self.rewritten, len(self._found))
            _log.error("no checkpoint signed", workspace_id=workspace_id, reason=error.public)
        except UnavailableError as error:
            self._failures.append(error)
            _log.warning("no checkpoint signed", workspace_id=workspace_id, reason=error.internal or error.public)
            if len(self._failures) == FAILURES_MAX:
                raise
