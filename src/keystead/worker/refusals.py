"""Carries refusals to where they are summed, and tells what is over: few events, with exact counts."""

from __future__ import annotations

import structlog

from keystead.events.refusal_ports import RefusalPages, RefusalStore
from keystead.events.refusals import MINUTE_MS, alerts_since_ms
from keystead.kernel.clock import Clock

# What was sealed before, and what was counted since.
_PAGES_PER_TURN = 2
# So long after a minute's end its groups are told: every process has staged what it counted, or comes late.
_LATE_MS = 15_000
_GROUPS_AT_ONCE = 500
_STEPS_PER_TURN = 100

_log = structlog.get_logger(__name__)


class RefusalStager:
    """Runs every few seconds; what a turn could not carry waits, sealed, for the next."""

    def __init__(self, pages: RefusalPages, store: RefusalStore) -> None:
        """Carry from ``pages`` to ``store``."""
        self._pages = pages
        self._store = store
        self.staged = 0

    async def turn(self) -> None:
        """Carry what there is, this process's own first."""
        for journal_id in self._pages.journals():
            for _ in range(_PAGES_PER_TURN):
                page = self._pages.next(journal_id)
                if page is None:
                    break
                if await self._store.stage(page):
                    self.staged += sum(group.count for group in page.groups)
                else:
                    _log.info("a page of refusals was staged before", journal=journal_id, number=page.number)
                self._pages.release(page)


class RefusalTeller:
    """Runs every few seconds on every node. ``told`` is how many groups this process has turned into events."""

    def __init__(self, store: RefusalStore, clock: Clock) -> None:
        """Tell what waits in ``store``."""
        self._store = store
        self._clock = clock
        self.told = 0

    async def turn(self) -> None:
        """Tell the groups of minutes that are over, and forget what no alert is raised for any more."""
        now_ms = self._clock.now_ms()
        before_ms = now_ms - _LATE_MS - MINUTE_MS + 1
        for _ in range(_STEPS_PER_TURN):
            told = await self._store.tell(before_ms=before_ms, limit=_GROUPS_AT_ONCE)
            self.told += told
            if told < _GROUPS_AT_ONCE:
                break
        await self._store.forget(before_ms=alerts_since_ms(now_ms))
