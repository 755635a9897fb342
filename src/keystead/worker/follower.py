"""Follows the event log: every change anywhere makes what this process has cached of it old (P3).

Each turn reads what is new, touches what it changed, places committed events in order, and renews the lease, dated when
the reading was sent and only when nothing was left unread; where processes wait for each other, it is also dated by the
last heartbeat (see ``worker/nodes.py``). Events that nobody has placed yet are read as well, so a
stuck sequencer delays the order of the log but never a revocation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from keystead.events.errors import CursorLostError
from keystead.events.model import Cursor
from keystead.events.ports import EventLog, LogPage
from keystead.kernel.clock import Clock
from keystead.kernel.errors import UnavailableError
from keystead.kernel.measures import SLOW_BOUNDS_NS, Histogram
from keystead.verification.freshness import Lease, Touches

PAGE_EVENTS = 1_000
_PAGES_PER_TURN = 100
_NS_PER_MS = 1_000_000
_PLACING_S = 0.05

_log = structlog.get_logger(__name__)


class LogFollower:
    """This process's reader of the log for invalidation, and one of the candidates to sequence it."""

    def __init__(
        self,
        *,
        log: EventLog,
        touches: Touches,
        lease: Lease,
        clock: Clock,
        dated_until_ms: Callable[[], int] | None = None,
        on_applied: Callable[[int], None] | None = None,
        on_placed: Callable[[], None] | None = None,
    ) -> None:
        """Follow ``log`` from wherever it stands at the first turn: nothing older can be cached yet.

        ``dated_until_ms`` says, before a reading, when its lease may be dated at the latest (monotonic).
        ``on_applied`` is told after a complete turn up to which place everything is applied, and ``on_placed`` that
        this process has given events their places.
        """
        self._log = log
        self._touches = touches
        self._lease = lease
        self._clock = clock
        self._dated_until_ms = dated_until_ms
        self._on_applied = on_applied
        self._on_placed = on_placed
        self._cursor: Cursor | None = None
        self._waiting: frozenset[str] = frozenset()
        self._sequencer: asyncio.Task[int] | None = None
        self.propagation = Histogram(SLOW_BOUNDS_NS)
        """From an event's own time to its first reading, by this machine's clock."""
        self.events_read = 0
        """Events that were read in their places since the start."""
        self.unplaced = 0
        """Events that waited for their place in the log when it was last read."""

    @property
    def applied_seq(self) -> int:
        """The place in the log up to which it was read; 0 before the first turn."""
        return 0 if self._cursor is None else self._cursor.seq

    async def turn(self) -> None:
        """Read everything that is new; raise ``UnavailableError`` when the database does not answer.

        What has no place yet is heard of first and given its place afterwards: a revocation does not wait for order.
        """
        may_place = True
        for _ in range(_PAGES_PER_TURN):
            until_ms = None if self._dated_until_ms is None else self._dated_until_ms()
            sent_at_ms = self._clock.monotonic_ms()
            page = await self._read()
            if not page.more and not page.hidden:
                self._lease.renew(sent_at_ms if until_ms is None else min(sent_at_ms, until_ms))
                if self._on_applied is not None:
                    self._on_applied(self.applied_seq)
            placed = await self._placing() if may_place and page.unplaced else 0
            may_place = may_place and not page.unplaced
            if not page.more and not placed:
                return
        _log.warning("log is growing faster than it is read")

    async def _placing(self) -> int:
        """Let the sequencer work, and return how many got their places in a moment; what takes longer goes on beside.

        Reading never waits for it: a revocation hangs on reading, and a sequencer may wait for somebody's lock.
        """
        if self._sequencer is None or self._sequencer.done():
            self._sequencer = asyncio.create_task(self._place(), name="sequencer")
        done, _ = await asyncio.wait({self._sequencer}, timeout=_PLACING_S)
        return self._sequencer.result() if done else 0

    async def close(self) -> None:
        """End the sequencing under way; what it had not placed is placed by others."""
        if self._sequencer is not None:
            self._sequencer.cancel()
            await asyncio.wait({self._sequencer})

    async def _place(self) -> int:
        """Sequence what is waiting, and return how many."""
        placed = 0
        try:
            while (count := await self._log.place(limit=PAGE_EVENTS)) == PAGE_EVENTS:
                placed += count
            placed += count
        except UnavailableError as error:
            _log.warning("sequencing failed", reason=error.internal)
        if placed and self._on_placed is not None:
            self._on_placed()
        return placed

    async def _read(self) -> LogPage:
        if self._cursor is None:
            self._cursor = await self._log.head()
            # After the head, not before: what was read while it was being found may miss an event that it has passed.
            self._touches.reset()
        try:
            page = await self._log.poll(self._cursor, limit=PAGE_EVENTS)
        except CursorLostError:
            _log.warning("the log was replaced; reading everything anew", seq=self._cursor.seq)
            self._cursor, self._waiting = None, frozenset()
            return LogPage((), (), more=True)
        self._apply(page)
        self.events_read += len(page.placed)
        self.unplaced = len(page.unplaced)
        if page.placed:
            last = page.placed[-1]
            self._cursor = Cursor(last.seq or 0, last.leaf_hash)
        return page

    def _apply(self, page: LogPage) -> None:
        """Make old what each event touched, and note how long it took to get here.

        An event that had no place when it was read comes twice. Whatever was read since it came first was read after
        its commit, so the second time it makes nothing old.
        """
        now_ms = self._clock.now_ms()
        for event in (*page.placed, *page.unplaced):
            if event.id not in self._waiting:
                self._touches.touch(event.touches)
                self.propagation.observe(max(0, now_ms - event.occurred_at_ms) * _NS_PER_MS)
        self._waiting = frozenset(event.id for event in page.unplaced)
