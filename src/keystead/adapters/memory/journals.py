"""Journals in memory: the rows that ``MemoryUsage`` keeps, as a unit of work sees and changes them."""

from __future__ import annotations

from dataclasses import replace

from keystead.adapters.memory.store import Staging
from keystead.kernel.clock import Clock
from keystead.usage.journals import JournalState, KnownJournal


def opened(journal_id: str, at_ms: int) -> KnownJournal:
    """Make the row of a journal of which nothing is counted yet."""
    return KnownJournal(journal_id, "", at_ms, 0, at_ms, 0, JournalState.OPEN, 0)


class MemoryJournals:
    """The ``JournalRegister`` of one unit."""

    def __init__(self, staging: Staging, clock: Clock) -> None:
        """Work in ``staging``, by the store's ``clock``."""
        self._staging = staging
        self._clock = clock

    async def find(self, journal_id: str) -> KnownJournal | None:
        """Return a journal, which nobody else changes until the unit ends; None when it is not known."""
        journal = (await self._staging.begin()).journals.get(journal_id)
        return journal and replace(journal, now_ms=self._clock.now_ms())

    async def lose(self, journal: KnownJournal) -> None:
        """Wait for a journal no more, until it is here again and counted; make it known when it is not."""
        journals = (await self._staging.begin()).journals
        journals[journal.id] = replace(journals.get(journal.id, journal), state=JournalState.LOST)
