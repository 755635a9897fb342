"""Attempts in ClickHouse: a page becomes rows by group and minute, and calls of no key in the sums, exactly once.

As with stretches: the page is inserted first and its number written to the journal's row after it, and whoever comes
after a process that died between the two sends to each table what it lacks.
"""

from __future__ import annotations

from dataclasses import replace

from keystead.adapters.clickhouse.connection import ClickHouse, Lane
from keystead.adapters.clickhouse.parcels import Columns, Parcel, Route, insert_lacking, insert_whole
from keystead.adapters.clickhouse.schema import ATTEMPT_ARRIVAL_TYPES, ATTEMPT_SUM_TARGETS, ATTEMPT_TYPES
from keystead.adapters.clickhouse.usage import JournalRow, journal_of, keep_journal
from keystead.usage.model import Attempt, AttemptPage

_ROUTE = Route("attempt_arrivals", ATTEMPT_ARRIVAL_TYPES, ATTEMPT_SUM_TARGETS)


class ClickHouseAttempts:
    """The ``AttemptStore`` of one ClickHouse. One process at a time counts a journal's pages."""

    def __init__(self, clickhouse: ClickHouse) -> None:
        """Count in ``clickhouse``, whose schema is there."""
        self._writer = clickhouse.writer
        # The journals of which this process itself has brought the last page home: nothing is half done there.
        self._certain: set[str] = set()

    async def count_attempts(self, page: AttemptPage) -> bool:
        """Count a page exactly once, whole or not at all; return whether it was counted by this call.

        Raises ``UnavailableError`` when nobody knows whether it was counted; asking again is safe.
        """
        return await self._writer.run(lambda lane: self._count(lane, page))

    async def attempts_counted_to(self, journal_id: str) -> int:
        """Return the number of the last page of a journal that is counted; 0 for one of which none is."""
        journal = await self._writer.run(lambda lane: journal_of(lane, journal_id))
        return journal.attempts_counted_to if journal else 0

    def _count(self, lane: Lane, page: AttemptPage) -> bool:
        journal = journal_of(lane, page.journal_id)
        if journal is not None and journal.attempts_counted_to >= page.number:
            return False
        if journal is None:
            first_ms = min((it.first_at_ms for it in page.attempts), default=0)
            journal = JournalRow(page.journal_id, 0, first_ms, complete_until_ms=first_ms)
        certain = page.journal_id in self._certain
        self._certain.discard(page.journal_id)
        if page.attempts:
            (insert_whole if certain else insert_lacking)(lane, _parcel_of(page))
        keep_journal(lane, replace(journal, version=journal.version + 1, attempts_counted_to=page.number))
        self._certain.add(page.journal_id)
        return True


def _parcel_of(page: AttemptPage) -> Parcel:
    place = f"attempts:{page.number}"
    return Parcel(
        _ROUTE,
        sender=page.journal_id,
        place=place,
        token=f"{page.journal_id}:{place}",
        days=frozenset(),
        columns=lambda _, sums: _columns(page, place, sums),
    )


def _columns(page: AttemptPage, place: str, sums: int) -> Columns:
    """Return a page as columns, for the tables of ``sums``, with its mark."""
    first = page.attempts[0]
    mark = Attempt("", "", first.minute_ms, page.journal_id, "", 0, place, 1, first.minute_ms, first.minute_ms)
    rows = [*page.attempts, mark]
    return {name: [getattr(it, name) for it in rows] for name in ATTEMPT_TYPES} | {"targets": [sums] * len(rows)}
