"""Attempts in SQL: a page becomes rows by group and minute, and calls of no key in the sums of usage, exactly once.

As with stretches, the journal's row is locked first and says which page was counted last.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from sqlalchemy import select

from keystead.adapters.sql import journals, usage_queries, usage_schema
from keystead.adapters.sql.database import Database
from keystead.adapters.sql.session import Session, transaction
from keystead.adapters.sql.usage_rows import Row
from keystead.adapters.sql.usage_sums import add_spans, add_sums
from keystead.usage.model import INTERVAL_MS, Attempt, AttemptPage, Interval

# So many groups are summed before the event loop gets its turn.
_SUMMED_AT_ONCE = 1_000

_JOURNALS = usage_schema.journals
_Group = tuple[str, int, str, str, str, int, str]
_Cell = tuple[str, int, str, str, str, str, str, int]


class SqlAttempts:
    """The ``AttemptStore`` of one database."""

    def __init__(self, database: Database) -> None:
        """Count in ``database``."""
        self._database = database

    async def count_attempts(self, page: AttemptPage) -> bool:
        """Count a page exactly once, whole or not at all; return whether it was counted by this call.

        Raises ``UnavailableError`` when nobody knows whether it was counted; asking again is safe.
        """
        tally = _Tally()
        for start in range(0, len(page.attempts), _SUMMED_AT_ONCE):
            tally.add(page.attempts[start : start + _SUMMED_AT_ONCE])
            await asyncio.sleep(0)
        async with transaction(self._database) as session:
            if await _counted_to(session, page) >= page.number:
                return False
            for interval in Interval:
                await add_sums(session, usage_queries.ROLLUPS[interval], tally.sums(interval))
            await add_spans(session, usage_schema.attempts, tally.groups())
            await journals.reported(session, page.journal_id, {"attempts_counted_to": page.number})
        return True

    async def attempts_counted_to(self, journal_id: str) -> int:
        """Return the number of the last page of a journal that is counted; 0 for one of which none is."""
        number = select(_JOURNALS.c.attempts_counted_to).where(_JOURNALS.c.id == journal_id)
        rows: Sequence[Any] = await Session(self._database, read_only=False).read(number)
        return sum(row[0] for row in rows)


async def _counted_to(session: Session, page: AttemptPage) -> int:
    """Return the number of the page that was counted last; nobody else changes it until the transaction ends."""
    mine = select(_JOURNALS.c.attempts_counted_to).where(_JOURNALS.c.id == page.journal_id).with_for_update()
    rows = await session.lock(mine)
    if not rows:
        first_ms = min((attempt.first_at_ms for attempt in page.attempts), default=0)
        await journals.make_known(session, page.journal_id, at_ms=first_ms)
        rows = await session.lock(mine)
    counted_to: int = rows[0][0]
    return counted_to


class _Tally:
    """What a page adds: a group may stand in several of its slots."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._groups: dict[_Group, tuple[int, int, int]] = {}
        self._minutes: dict[_Cell, int] = {}

    def add(self, attempts: Sequence[Attempt]) -> None:
        """Sum ``attempts`` too."""
        for it in attempts:
            group = (
                it.workspace_id,
                it.minute_ms,
                it.environment,
                it.brand,
                it.secret_environment,
                it.code,
                it.client_ip,
            )
            count, first_at_ms, last_at_ms = self._groups.get(group, (0, it.first_at_ms, it.last_at_ms))
            span = min(first_at_ms, it.first_at_ms), max(last_at_ms, it.last_at_ms)
            self._groups[group] = (count + it.count, *span)
            cell = (it.workspace_id, it.minute_ms, "", it.environment, "", "", "", it.code)
            self._minutes[cell] = self._minutes.get(cell, 0) + it.count

    def groups(self) -> list[Row]:
        """Return the rows of groups, in order."""
        return [(*group, *self._groups[group]) for group in sorted(self._groups)]

    def sums(self, interval: Interval) -> list[Row]:
        """Return the rows of calls that no key made, in order; they cost nothing."""
        sums: dict[_Cell, int] = {}
        for cell, count in self._minutes.items():
            wide = (cell[0], cell[1] - cell[1] % INTERVAL_MS[interval], *cell[2:])
            sums[wide] = sums.get(wide, 0) + count
        return [(*cell, sums[cell], 0, 0, 0) for cell in sorted(sums)]
