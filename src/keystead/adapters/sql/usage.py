"""Usage in SQL: a stretch of a journal becomes sums and rows in one transaction, exactly once.

The journal's row is the one idea: it is locked first and says up to which place the journal is counted, so a stretch
that comes twice, from two processes or after a commit that nobody saw succeed, finds the place moved on and changes
nothing. Sums are made in Python and added to by upserts whose rows come in one order everywhere, so that counters which
meet in the same rows wait for one another and never in a circle.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import select

from keystead.adapters.sql import journals, usage_queries, usage_schema, used_expressions
from keystead.adapters.sql.database import Database
from keystead.adapters.sql.day_queries import DayQuestion
from keystead.adapters.sql.engines import POSTGRESQL
from keystead.adapters.sql.latency_queries import LatencyQuestion, latency_points_of
from keystead.adapters.sql.secret_uses import SecretQuestion, day_of, secret_uses
from keystead.adapters.sql.session import Session, transaction
from keystead.adapters.sql.usage_rows import CALL_COLUMNS, ExpressionMemory, Row, Tally, raw_row
from keystead.adapters.sql.usage_sums import add_sums, keep_latest
from keystead.adapters.texts import call_position
from keystead.adapters.walls import Walls
from keystead.kernel.paging import Page, PageRequest, cut
from keystead.tenants.model import TenantScope
from keystead.usage.journals import KnownJournal
from keystead.usage.model import (
    Call,
    Dimension,
    Interval,
    KeyTotals,
    LatencyPoint,
    Point,
    SecretUse,
    Stretch,
    UsageFilter,
)

# So many calls are summed before the event loop gets its turn.
_SUMMED_AT_ONCE = 500

_JOURNALS = usage_schema.journals
_INSERT_CALLS = f"INSERT INTO calls ({', '.join(CALL_COLUMNS)}) VALUES ({', '.join('?' * len(CALL_COLUMNS))})"  # noqa: S608 -- constants


class SqlUsage:
    """The ``UsageStore`` of one database."""

    def __init__(self, database: Database) -> None:
        """Count in ``database``."""
        self._database = database
        self._memory = ExpressionMemory()

    async def register(self, journal_id: str, *, at_ms: int, node: str = "") -> None:
        """Make a journal known; one that was closed, and is here again on a copied disk, is open again."""
        async with transaction(self._database) as session:
            await journals.make_known(session, journal_id, at_ms=at_ms, node=node)
            await journals.open_again(session, journal_id, node=node)

    async def count(self, stretch: Stretch) -> bool:
        """Count a stretch exactly once, whole or not at all; return whether it was counted by this call.

        A journal's first stretch begins at place 0 and makes it known if it is not. Raises ``UnavailableError`` when
        nobody knows whether it was counted; asking again is safe.
        """
        tally = Tally()
        for start in range(0, len(stretch.calls), _SUMMED_AT_ONCE):
            tally.add(stretch.calls[start : start + _SUMMED_AT_ONCE])
            await asyncio.sleep(0)
        async with transaction(self._database) as session:
            journal = await self._locked(session, stretch)
            if journal is None or journal.counted_to != stretch.begin:
                return False
            for interval, rows in tally.rows():
                await add_sums(session, usage_queries.ROLLUPS[interval], rows)
            await add_sums(session, usage_schema.usage_tags, tally.tag_rows())
            expressions = self._memory.news(tally.expression_rows())
            await keep_latest(session, usage_schema.used_expressions, expressions)
            await self._insert(session, [raw_row(call) for call in stretch.calls])
            complete_until_ms = max(journal.complete_until_ms, stretch.seen_at_ms or 0)
            values = {"counted_to": stretch.end, "complete_until_ms": complete_until_ms}
            if journal.lost_at_ms is not None:
                values |= await journals.back_again(session, stretch)
            await journals.reported(session, stretch.journal_id, values)
        self._memory.learn(expressions)
        return True

    async def counted_to(self, journal_id: str) -> int:
        """Return the place up to which a journal is counted; 0 for one of which nothing is."""
        place = select(_JOURNALS.c.counted_to).where(_JOURNALS.c.id == journal_id)
        return sum(row[0] for row in await self._read(place))

    async def close(self, journal_id: str) -> None:
        """Note that a journal is counted to its end; again, or for one that is not known, changes nothing."""
        async with transaction(self._database) as session:
            await journals.close(session, journal_id)

    async def complete_until(self) -> int | None:
        """Return the least of the open journals; None when there is none."""
        return await journals.complete_until(Session(self._database, read_only=False))

    async def journals(self, *, closed: bool, limit: int) -> list[KnownJournal]:
        """Return at most ``limit`` journals, those opened last first; closed ones only when ``closed``."""
        register = journals.SqlJournals(Session(self._database, read_only=False))
        return await register.journals(closed=closed, limit=limit)

    async def series(
        self,
        scope: TenantScope,
        wanted: UsageFilter,
        *,
        interval: Interval,
        by: Dimension | None,
        limit: int,
        days: Sequence[int] = (),
    ) -> list[Point]:
        """Return sums of the intervals that begin inside the filter's span, whole; at most ``limit`` points.

        Groups by code are the codes' numbers as text, and stand in their order. One key's series is a search per
        interval of the span, so keep the span near ``limit`` intervals. With ``days``, those are
        what intervals are summed up to.
        """
        question = DayQuestion(self._database.kind, Walls.around(scope), wanted)
        if days:
            return usage_queries.points_of(await self._read(question.by_days(interval, by=by, limit=limit, days=days)))
        return usage_queries.points_of(await self._read(question.series(interval, by=by, limit=limit)))

    async def latencies(
        self,
        scope: TenantScope,
        wanted: UsageFilter,
        *,
        interval: Interval,
        by: Dimension | None,
        limit: int,
        days: Sequence[int] = (),
    ) -> list[LatencyPoint]:
        """Return sketches of the whole hours that begin inside the filter's span; of labels there are none."""
        if by is Dimension.TAG or wanted.tag:
            return []
        question = LatencyQuestion(self._database.kind, Walls.around(scope), wanted)
        return latency_points_of(await self._read(question.sketches(interval, by=by, limit=limit, days=days)))

    async def key_totals(self, scope: TenantScope, wanted: UsageFilter) -> KeyTotals:
        """Return what one key did in the minutes that begin inside the filter's span; its last use is a valid call."""
        session = Session(self._database, read_only=True)
        try:
            return await usage_queries.key_totals(session, self._question(scope, wanted))
        finally:
            await session.rollback()

    async def top(self, scope: TenantScope, wanted: UsageFilter, *, by: Dimension, limit: int) -> list[Point]:
        """Return the groups with the most calls in the minutes that begin inside the filter's span, ties by group."""
        question = self._question(scope, wanted)
        rows = await self._read(question.top(by=by, limit=limit)) if question.parts else []
        return usage_queries.points_of(rows, begins_at_ms=wanted.from_ms)

    async def calls(self, scope: TenantScope, wanted: UsageFilter, request: PageRequest) -> Page[Call]:
        """Return raw calls of the span to the millisecond, the newest first unless ``request`` says otherwise."""
        rows = await self._read(self._question(scope, wanted).calls(request))
        return cut([usage_queries.call_of(row) for row in rows], request.size, call_position)

    async def secret_uses(self, scope: TenantScope, key_id: str, *, since_ms: int) -> list[SecretUse]:
        """Return what was done with each secret of a key in the day from then on, to the minute, by secret.

        Addresses are those of the key's 10,000 calls up to the secret's last minute of use.
        """
        question = SecretQuestion(self._database.kind, Walls.around(scope), day_of(key_id, since_ms))
        session = Session(self._database, read_only=True)
        try:
            return await secret_uses(session, question)
        finally:
            await session.rollback()

    async def used_expressions(
        self, scope: TenantScope, key_ids: Sequence[str], *, since_ms: int
    ) -> Mapping[str, frozenset[str]]:
        """Return which scope expressions the valid calls of keys asked for since the hour of ``since_ms``."""
        asked = used_expressions.question(Walls.around(scope), key_ids, since_ms=since_ms)
        return used_expressions.by_key(await self._read(asked))

    def _question(self, scope: TenantScope, wanted: UsageFilter) -> usage_queries.Question:
        return usage_queries.Question(self._database.kind, Walls.around(scope), wanted)

    async def _read(self, statement: Any) -> Sequence[Any]:
        return await Session(self._database, read_only=False).read(statement)

    async def _locked(self, session: Session, stretch: Stretch) -> Any:
        """Return the journal's row, which nobody else changes until the transaction ends; None when it has none."""
        mine = select(_JOURNALS).where(_JOURNALS.c.id == stretch.journal_id).with_for_update()
        rows = await session.lock(mine)
        if not rows and stretch.begin == 0:
            first_ms = min((call.at_ms for call in stretch.calls), default=stretch.seen_at_ms or 0)
            await journals.make_known(session, stretch.journal_id, at_ms=first_ms)
            rows = await session.lock(mine)
        return rows[0] if rows else None

    async def _insert(self, session: Session, rows: Sequence[Row]) -> None:
        if not rows:
            return
        if self._database.kind == POSTGRESQL:
            await session.on_driver(
                lambda driver: driver.copy_records_to_table("calls", records=rows, columns=CALL_COLUMNS)
            )
        else:
            await session.on_driver(lambda driver: driver.executemany(_INSERT_CALLS, rows))
