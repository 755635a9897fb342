"""Watches the journals of the whole deployment, so that one which stands still is seen before somebody misses it."""

from __future__ import annotations

from keystead.usage.journals import JournalSummary, summary_of
from keystead.usage.ports import Journals

JOURNALS_MAX = 10_000
"""So many open and lost journals are looked at, those opened last."""


class JournalWatch:
    """Runs a few times a minute, on every node. ``summary`` is what the last turn saw; None before the first."""

    def __init__(self, store: Journals) -> None:
        """Look at the journals in ``store``."""
        self._store = store
        self.summary: JournalSummary | None = None

    async def turn(self) -> None:
        """Look once."""
        self.summary = summary_of(await self._store.journals(closed=False, limit=JOURNALS_MAX))
