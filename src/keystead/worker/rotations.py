"""Looks for secrets that are older than their plans allow; what is done about each is decided in ``keys``.

Of all nodes the one that asks first does the turn of an hour. Should two ever do one at once, each key is decided under
its own lock, so it is still warned of once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator

import structlog

from keystead.kernel.clock import Clock
from keystead.kernel.walls import BOTH_ENVIRONMENTS, TenantScope
from keystead.keys.overdue import Due, OverdueKey, Place
from keystead.keys.ports import OverdueKeys, Units
from keystead.keys.reminding import ORIGIN, RotationReminder
from keystead.worker.walks import Walk

TURN_EVERY_MS = 3_600_000
BATCH_SECRETS = 1_000

_log = structlog.get_logger(__name__)


class RotationKeeper:
    """Runs every few seconds, begins a walk over all secrets once an hour, and goes on with it for two seconds a time.

    So it never keeps a process from stopping; what one that stops leaves over waits for the next hour.
    """

    def __init__(self, keys: OverdueKeys, units: Units, clock: Clock, *, batch: int = BATCH_SECRETS) -> None:
        """Walk over the secrets of ``keys``, ``batch`` at once, and see to those keys that are due in ``units``."""
        self._keys = keys
        self._units = units
        self._clock = clock
        self._batch = batch
        self._reminder = RotationReminder(clock)
        self._walk = Walk(self._begin, self._see_to_all, clock)

    async def turn(self) -> None:
        """Go on with the walk under way, or begin one if it is this node's turn."""
        await self._walk.turn()

    async def _begin(self) -> bool:
        return await self._keys.begin_turn(now_ms=self._clock.now_ms(), every_ms=TURN_EVERY_MS)

    async def _see_to_all(self) -> AsyncGenerator[None, None]:
        """See to all keys about which something is due, pausing after each and after each batch of secrets."""
        done: Counter[Due] = Counter()
        place: Place | None = None
        while True:
            walked = await self._keys.walk(now_ms=self._clock.now_ms(), after=place, at_most=self._batch)
            yield
            for key in walked.found:
                done[await self._see_to(key)] += 1
                yield
            place = walked.next_place
            if place is None:
                break
        if done:
            _log.info("secrets too old", warned=done[Due.WARNING], suspended=done[Due.SUSPENSION])

    async def _see_to(self, key: OverdueKey) -> Due:
        walls = TenantScope(key.workspace_id, BOTH_ENVIRONMENTS)
        async with self._units.begin(walls, ORIGIN) as unit:
            return await self._reminder.remind(unit, key.key_id)
