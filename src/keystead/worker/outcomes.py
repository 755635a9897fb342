"""Joins outcomes that were reported to their calls, in bounded steps, every second.

A step is one transaction of the store, so a turn that is cut off in the middle is gone on with by the next one, of this
process or another. Several processes join side by side.
"""

from __future__ import annotations

import structlog

from keystead.kernel.clock import Clock
from keystead.usage.ports import WaitingOutcomes

STEP_OUTCOMES = 1_000
_STEPS_PER_TURN = 50

_log = structlog.get_logger(__name__)


class OutcomeJoiner:
    """Runs every second; what a turn could not join waits for the next. The counts are since the process began."""

    def __init__(self, store: WaitingOutcomes, clock: Clock) -> None:
        """Join what waits in ``store``."""
        self._store = store
        self._clock = clock
        self.joined = 0
        self.repeated = 0
        self.dropped = 0

    async def turn(self) -> None:
        """Join what there is, until nothing more is settled or the turn is over."""
        dropped = 0
        for _ in range(_STEPS_PER_TURN):
            step = await self._store.join(at_most=STEP_OUTCOMES, now_ms=self._clock.now_ms())
            self.joined += step.joined
            self.repeated += step.repeated
            dropped += step.dropped
            if not step.settled:
                break
        self.dropped += dropped
        if dropped:
            _log.warning("outcomes were dropped: their calls did not come within an hour", dropped=dropped)
