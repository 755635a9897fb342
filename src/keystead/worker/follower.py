"""Follows the event log: every change anywhere makes what this process has cached of it old (P3).

Each turn places committed events in order, reads what is new, touches what it changed, and renews the lease, dated when
the reading was sent and only when nothing was left unread. Events that nobody has placed yet are read as well, so a
stuck sequencer delays the order of the log but never a revocation.
"""

from __future__ import annotations

import structlog

from keystead.events.errors import CursorLostError
from keystead.events.model import Cursor
from keystead.events.ports import EventLog, LogPage
from keystead.kernel.clock import Clock
from keystead.kernel.errors import UnavailableError
from keystead.verification.freshness import Lease, Touches

PAGE_EVENTS = 1_000
_PAGES_PER_TURN = 100

_log = structlog.get_logger(__name__)


class LogFollower:
    """This process's reader of the log for invalidation, and one of the candidates to sequence it."""

    def __init__(self, *, log: EventLog, touches: Touches, lease: Lease, clock: Clock) -> None:
        """Follow ``log`` from wherever it stands at the first turn: nothing older can be cached yet."""
        self._log = log
        self._touches = touches
        self._lease = lease
        self._clock = clock
        self._cursor: Cursor | None = None
        self.events_read = 0
        """Events that were read in their places since the start."""
        self.unplaced = 0
        """Events that waited for their place in the log when it was last read."""

    @property
    def applied_seq(self) -> int:
        """The place in the log up to which it was read; 0 before the first turn."""
        return 0 if self._cursor is None else self._cursor.seq

    async def turn(self) -> None:
        """Read everything that is new; raise ``UnavailableError`` when the database does not answer."""
        await self._place()
        for _ in range(_PAGES_PER_TURN):
            sent_at_ms = self._clock.monotonic_ms()
            page = await self._read()
            if not page.more:
                self._lease.renew(sent_at_ms)
                return
        _log.warning("log is growing faster than it is read")

    async def _place(self) -> None:
        """Sequence what is waiting; reading goes on when that fails, since reading is what revocation hangs on."""
        try:
            while await self._log.place(limit=PAGE_EVENTS) == PAGE_EVENTS:
                continue
        except UnavailableError as error:
            _log.warning("sequencing failed", reason=error.internal)

    async def _read(self) -> LogPage:
        if self._cursor is None:
            self._cursor = await self._log.head()
            # After the head, not before: what was read while it was being found may miss an event that it has passed.
            self._touches.reset()
        try:
            page = await self._log.poll(self._cursor, limit=PAGE_EVENTS)
        except CursorLostError:
            _log.warning("the log was replaced; reading everything anew", seq=self._cursor.seq)
            self._cursor = None
            return LogPage((), (), more=True)
        for event in (*page.placed, *page.unplaced):
            self._touches.touch(event.touches)
        self.events_read += len(page.placed)
        self.unplaced = len(page.unplaced)
        if page.placed:
            last = page.placed[-1]
            self._cursor = Cursor(last.seq or 0, last.leaf_hash)
        return page
