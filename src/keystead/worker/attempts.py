"""Carries verdicts about no key from the counters to the store, page by page, exactly once (P5)."""

from __future__ import annotations

import structlog

from keystead.usage.ports import AttemptPages, AttemptStore

# What was sealed before, and what was counted since.
_PAGES_PER_TURN = 2

_log = structlog.get_logger(__name__)


class AttemptFlusher:
    """Runs before each turn of the ``UsageFlusher``; what a turn could not carry waits, sealed, for the next."""

    def __init__(self, pages: AttemptPages, store: AttemptStore) -> None:
        """Carry from ``pages`` to ``store``."""
        self._pages = pages
        self._store = store
        self.attempts_counted = 0

    async def turn(self) -> None:
        """Carry what there is, this process's own first."""
        for journal_id in self._pages.journals():
            for _ in range(_PAGES_PER_TURN):
                page = self._pages.next(journal_id)
                if page is None:
                    break
                if await self._store.count_attempts(page):
                    self.attempts_counted += sum(attempt.count for attempt in page.attempts)
                else:
                    _log.info("a page of attempts was counted before", journal=journal_id, number=page.number)
                self._pages.release(page)
