"""Carries verdicts from the journal to where they are counted, in bounded steps, exactly once (P5).

A stretch is fixed before it is first sent and released after it was counted, so a step that is repeated, by this
process after a failure or by the next one, changes nothing. Journals of dead processes are carried to their end.
"""

from __future__ import annotations

import structlog

from keystead.kernel.clock import Clock
from keystead.kernel.measures import SLOW_BOUNDS_NS, Histogram
from keystead.usage.model import Stretch
from keystead.usage.ports import Stretches, UsageStore

STRETCH_CALLS = 5_000
LARGE_STRETCH_CALLS = 50_000
"""For a store that likes few large steps better, as ClickHouse does."""
_STRETCHES_PER_TURN = 50

_log = structlog.get_logger(__name__)


class UsageFlusher:
    """Runs every second; what a turn could not carry waits in the journal for the next."""

    def __init__(
        self,
        stretches: Stretches,
        store: UsageStore,
        clock: Clock,
        *,
        stretch_calls: int = STRETCH_CALLS,
        node: str = "",
    ) -> None:
        """Carry from ``stretches`` to ``store``, at most ``stretch_calls`` in one step, as the host ``node``."""
        self._stretch_calls = stretch_calls
        self._node = node
        self._stretches = stretches
        self._store = store
        self._clock = clock
        self._known: set[str] = set()
        self._seen_at_ms: dict[str, int] = {}
        self.calls_counted = 0
        self.took = Histogram(SLOW_BOUNDS_NS)
        """How long it took to count a stretch."""

    @property
    def complete_until_ms(self) -> int | None:
        """Up to when everything is counted of the journals that lie here; None before the first turn.

        One of a dead process holds it back from when it was found until it is counted to its end.
        """
        return min(self._seen_at_ms.values(), default=None)

    @property
    def journals(self) -> int:
        """How many journals lie here, this process's own among them."""
        return len(self._known)

    async def turn(self) -> None:
        """Carry what there is, this process's own journal first."""
        for journal_id in self._stretches.journals():
            if journal_id not in self._known:
                await self._begin(journal_id)
            await self._carry(journal_id)
            if self._stretches.finished(journal_id):
                await self._store.close(journal_id)
                self._stretches.remove(journal_id)
                self._known.discard(journal_id)
                self._seen_at_ms.pop(journal_id, None)
                _log.info("usage of an earlier process is counted", journal=journal_id)

    async def _begin(self, journal_id: str) -> None:
        found_at_ms = self._clock.now_ms()
        self._seen_at_ms.setdefault(journal_id, found_at_ms)
        await self._store.register(journal_id, at_ms=found_at_ms, node=self._node)
        self._stretches.resume(journal_id, place=await self._store.counted_to(journal_id))
        self._known.add(journal_id)

    async def _carry(self, journal_id: str) -> None:
        for _ in range(_STRETCHES_PER_TURN):
            stretch = self._stretches.next(journal_id, at_most=self._stretch_calls)
            if stretch is None:
                break
            await self._count(stretch)
        if (idle := self._stretches.idle(journal_id)) is not None:
            await self._count(idle)

    async def _count(self, stretch: Stretch) -> None:
        began_ns = self._clock.monotonic_ns()
        if await self._store.count(stretch):
            self._note(stretch, self._clock.monotonic_ns() - began_ns)
            self._stretches.release(stretch)
            return
        # It was counted before, by a try whose success nobody saw or from a copy of the disk: the store knows how far.
        place = await self._store.counted_to(stretch.journal_id)
        _log.info("a stretch of usage was counted before", journal=stretch.journal_id, begin=stretch.begin, place=place)
        self._stretches.resume(stretch.journal_id, place=place)

    def _note(self, stretch: Stretch, took_ns: int) -> None:
        if stretch.calls:
            self.took.observe(took_ns)
            self.calls_counted += len(stretch.calls)
        if stretch.seen_at_ms is not None:
            self._seen_at_ms[stretch.journal_id] = stretch.seen_at_ms
