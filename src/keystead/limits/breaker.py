"""A breaker before a store of rates: when the store is away, calls learn it at once and wait for nothing.

Closed, every call asks the store. After a few failures in a row it opens, and no call asks. Some time after, one call
at a time may try; the first answer closes it again. What becomes of calls that got no answer is the plan's choice.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum
from typing import TypeVar

from keystead.kernel.clock import Clock
from keystead.limits.errors import LimiterAwayError
from keystead.limits.model import Decision, Metered
from keystead.limits.ports import RateStore

_T = TypeVar("_T")


class BreakerState(StrEnum):
    """Whether calls ask the store: all do, none does, or one at a time."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class BreakingRates:
    """A ``RateStore`` that asks another one, unless that failed ``failures_max`` times in a row.

    It stays open for ``open_ms`` from its opening, or from the latest try that failed. ``openings`` counts outages,
    ``failures`` and ``refused`` what the store did not answer and what it was not asked.
    """

    def __init__(
        self,
        store: RateStore,
        clock: Clock,
        *,
        failures_max: int = 3,
        open_ms: int = 1_000,
    ) -> None:
        """Begin closed."""
        self._store = store
        self._clock = clock
        self._failures_max = failures_max
        self._open_ms = open_ms
        self._in_a_row = 0
        self._open_until_ms: int | None = None
        self._trying = False
        self.openings = 0
        self.failures = 0
        self.refused = 0

    @property
    def state(self) -> BreakerState:
        """Whether the next call would ask the store."""
        if self._open_until_ms is None:
            return BreakerState.CLOSED
        if self._clock.monotonic_ms() < self._open_until_ms:
            return BreakerState.OPEN
        return BreakerState.HALF_OPEN

    def decide_now(self, metered: Metered, *, cost: int, peek: bool) -> Decision | None:
        """Decide as the store does; one that answers without awaiting is never away."""
        return self._store.decide_now(metered, cost=cost, peek=peek)

    async def decide(self, metered: Metered, *, cost: int, peek: bool) -> Decision:
        """Decide as the store does; raise ``LimiterAwayError`` when it does not answer or is not asked."""
        return await self._guarded(lambda: self._store.decide(metered, cost=cost, peek=peek))

    async def reset(self, counters: Sequence[str]) -> None:
        """Reset as the store does; raise ``LimiterAwayError`` when it does not answer or is not asked."""
        await self._guarded(lambda: self._store.reset(counters))

    async def _guarded(self, ask: Callable[[], Awaitable[_T]]) -> _T:
        """Ask the store if it may be asked, and learn from what becomes of it; a cancelled call teaches nothing."""
        trying = self._enter()
        try:
            answer = await ask()
        except LimiterAwayError:
            self._failed(trying=trying)
            raise
        finally:
            if trying:
                self._trying = False
        self._in_a_row = 0
        if trying:
            self._open_until_ms = None
        return answer

    def _enter(self) -> bool:
        """Return whether this call is the one that tries an open breaker; raise when it may not ask at all."""
        state = self.state
        if state is BreakerState.CLOSED:
            return False
        if state is BreakerState.OPEN or self._trying:
            self.refused += 1
            raise LimiterAwayError("the store of rates did not answer a moment ago")
        self._trying = True
        return True

    def _failed(self, *, trying: bool) -> None:
        self.failures += 1
        self._in_a_row += 1
        if trying:
            self._open_until_ms = self._clock.monotonic_ms() + self._open_ms
        elif self._open_until_ms is None and self._in_a_row >= self._failures_max:
            # Calls that were under way when it opened fail as well; they neither open it again nor keep it open.
            self._open_until_ms = self._clock.monotonic_ms() + self._open_ms
            self.openings += 1
