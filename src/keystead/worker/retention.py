"""Forgets usage that has had its time, in bounded steps, and makes room for the days that come."""

from __future__ import annotations

from typing import Protocol

import structlog

from keystead.kernel.clock import Clock
from keystead.kernel.errors import UnavailableError
from keystead.usage.retention import Kept, Retention

_STEPS_PER_TURN = 200
ALLOWANCE_KEPT_MS = 35 * 86_400_000
"""What was taken of a quota is kept for so long after its period is over, so that a month can be looked into."""

_log = structlog.get_logger(__name__)


class UsageShelf(Protocol):
    """Where usage is kept."""

    async def prepare(self, *, now_ms: int) -> None:
        """Make room for today and the next days, where that has to be made; made again, it changes nothing."""
        ...

    async def forget(self, kept: Kept) -> int:
        """Delete a bounded part of what is older than ``kept``; return how much, and 0 when nothing is left."""
        ...


class UsageKeeper:
    """Runs every few minutes; what a turn could not delete waits for the next."""

    def __init__(self, shelf: UsageShelf, retention: Retention, clock: Clock) -> None:
        """Keep usage on ``shelf`` for as long as ``retention`` says."""
        self._shelf = shelf
        self._retention = retention
        self._clock = clock

    async def begin(self) -> None:
        """Make room before anything is counted; what finds none is kept all the same, so a failure is none of ours."""
        try:
            await self._shelf.prepare(now_ms=self._clock.now_ms())
        except UnavailableError as error:
            _log.warning("no room was made for usage", reason=error.internal)

    async def turn(self) -> None:
        """Make room, then forget."""
        await self._shelf.prepare(now_ms=self._clock.now_ms())
        forgotten = 0
        kept = self._retention.kept(self._clock.now_ms())
        for _ in range(_STEPS_PER_TURN):
            step = await self._shelf.forget(kept)
            forgotten += step
            if not step:
                break
        if forgotten:
            _log.info("old usage forgotten", rows_or_days=forgotten)


class AllowanceShelf(Protocol):
    """Where is kept what was taken of quotas."""

    async def forget(self, *, before_ms: int) -> int:
        """Delete a bounded number of periods that ended before ``before_ms``; return how many. Credits never end."""
        ...


class AllowanceKeeper:
    """Forgets the periods of quotas that are long over."""

    def __init__(self, shelf: AllowanceShelf, clock: Clock) -> None:
        """Work on ``shelf``."""
        self._shelf = shelf
        self._clock = clock

    async def turn(self) -> None:
        """Forget what has had its time; what a turn could not delete waits for the next."""
        before_ms = self._clock.now_ms() - ALLOWANCE_KEPT_MS
        for _ in range(_STEPS_PER_TURN):
            if not await self._shelf.forget(before_ms=before_ms):
                return
