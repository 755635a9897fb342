"""Usage in ClickHouse: a stretch of a journal becomes raw calls and sums, exactly once, without transactions.

A stretch is inserted first and the journal's place written after it. A process that dies between the two leaves a
stretch of which nobody knows how far it came; whoever counts that journal next looks into every table for the stretch's
mark, sends what is lacking to the tables that lack it, and then writes the place. Beside that each insert carries the
stretch's name as its token, by which ClickHouse knows a repeated one again. Stretches are fixed for ever, so the second
try is the first one's twin.

A question that is asked while a stretch arrives may see it in one table and not in another yet; what is told as
complete is in all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from keystead.adapters.clickhouse.connection import ClickHouse, Lane
from keystead.adapters.clickhouse.queries import Question, call_of, latency_points_of, points_of
from keystead.adapters.clickhouse.stretches import insert_lacking, insert_whole
from keystead.adapters.texts import call_position
from keystead.adapters.walls import Walls
from keystead.kernel.paging import Page, PageRequest, cut
from keystead.kernel.walls import TenantScope
from keystead.usage.model import (
    INTERVAL_MS,
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

# So many ids are looked for in one question, which must fit into an address.
_LOOKED_FOR_AT_ONCE = 500
_EVERY_GROUP = 1_000_000

_JOURNAL_TYPES = {
    "id": "String",
    "version": "UInt64",
    "registered_at_ms": "Int64",
    "counted_to": "UInt64",
    "complete_until_ms": "Int64",
    "attempts_counted_to": "UInt64",
    "closed": "UInt8",
}
_READ_JOURNAL = f"SELECT {', '.join(_JOURNAL_TYPES)} FROM @journals FINAL WHERE id = {{id:String}}"  # noqa: S608 -- constants


@dataclass(frozen=True, slots=True)
class JournalRow:
    """How far a journal is counted; of several versions the highest holds."""

    id: str
    version: int
    registered_at_ms: int
    counted_to: int = 0
    complete_until_ms: int = 0
    attempts_counted_to: int = 0
    closed: int = 0


class ClickHouseUsage:
    """The ``UsageStore`` of one ClickHouse. One process at a time counts a journal, as its directory's lock sees to."""

    def __init__(self, clickhouse: ClickHouse) -> None:
        """Count in ``clickhouse``, whose schema is there."""
        self._clickhouse = clickhouse
        self._writer = clickhouse.writer
        self._reader = clickhouse.reader
        # Where the journals end whose last stretch this process itself has brought home: nothing is half done there.
        self._certain: dict[str, int] = {}

    async def register(self, journal_id: str, *, at_ms: int) -> None:
        """Make a journal known; one that was closed, and is here again on a copied disk, is open again."""

        def work(lane: Lane) -> None:
            journal = journal_of(lane, journal_id)
            if journal is None:
                keep_journal(lane, JournalRow(journal_id, 1, at_ms, complete_until_ms=at_ms))
            elif journal.closed:
                keep_journal(lane, replace(journal, version=journal.version + 1, closed=0))

        await self._writer.run(work)

    async def count(self, stretch: Stretch) -> bool:
        """Count a stretch exactly once, whole or not at all; return whether it was counted by this call.

        A journal's first stretch begins at place 0 and makes it known if it is not. Raises ``UnavailableError`` when
        nobody knows whether it was counted; asking again is safe.
        """
        return await self._writer.run(lambda lane: self._count(lane, stretch))

    async def counted_to(self, journal_id: str) -> int:
        """Return the place up to which a journal is counted; 0 for one of which nothing is."""
        journal = await self._writer.run(lambda lane: journal_of(lane, journal_id))
        return journal.counted_to if journal else 0

    async def close(self, journal_id: str) -> None:
        """Note that a journal is counted to its end; again, or for one that is not known, changes nothing."""

        def work(lane: Lane) -> None:
            journal = journal_of(lane, journal_id)
            if journal is not None and not journal.closed:
                keep_journal(lane, replace(journal, version=journal.version + 1, closed=1))
            self._certain.pop(journal_id, None)

        await self._writer.run(work)

    async def complete_until(self) -> int | None:
        """Return the least of the open journals; None when there is none."""
        asked = "SELECT count(), min(complete_until_ms) FROM @journals FINAL WHERE closed = 0"
        opened, least_ms = (await self._ask((asked, {})))[0]
        return int(least_ms) if opened else None

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

        Groups by code are the codes' numbers as text, and stand in their order.
        """
        question = Question(Walls.around(scope), wanted)
        return points_of(await self._ask(question.series(interval, by=by, limit=limit, days=days)))

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
        """Return sketches of how long answers took, per hour or day (and group but for tags), as ``series`` does."""
        question = Question(Walls.around(scope), wanted)
        return latency_points_of(await self._ask(question.sketches(interval, by=by, limit=limit, days=days)))

    async def key_totals(self, scope: TenantScope, wanted: UsageFilter) -> KeyTotals:
        """Return what one key did in the minutes that begin inside the filter's span; its last use is a valid call."""
        question = Question(Walls.around(scope), wanted)
        by_code = question.sums(Dimension.CODE, limit=_EVERY_GROUP)
        rows = await self._ask(by_code) if by_code else []
        if not rows:
            return KeyTotals()
        last_valid = question.last_valid()
        last = await self._ask(last_valid) if last_valid else []
        at_ms, client_ip, operation = last[0] if last else (None, "", "")
        calls, cost, outcomes, errors = (sum(int(row[place]) for row in rows) for place in range(1, 5))
        return KeyTotals(
            calls=calls,
            cost=cost,
            by_code={int(row[0]): int(row[1]) for row in rows},
            last_used_at_ms=at_ms,
            last_used_ip=client_ip,
            last_operation=operation,
            outcomes=outcomes,
            errors=errors,
        )

    async def top(self, scope: TenantScope, wanted: UsageFilter, *, by: Dimension, limit: int) -> list[Point]:
        """Return the groups with the most calls in the minutes that begin inside the filter's span, ties by group."""
        statement = Question(Walls.around(scope), wanted).sums(by, limit=limit)
        rows = await self._ask(statement) if statement else []
        return points_of([(wanted.from_ms, *row) for row in rows])

    async def calls(self, scope: TenantScope, wanted: UsageFilter, request: PageRequest) -> Page[Call]:
        """Return raw calls of the span to the millisecond, the newest first unless ``request`` says otherwise."""
        rows = await self._ask(Question(Walls.around(scope), wanted).calls(request))
        return cut([call_of(row) for row in rows], request.size, call_position)

    async def secret_uses(self, scope: TenantScope, key_id: str, *, since_ms: int) -> list[SecretUse]:
        """Return what was done with each secret of a key since then, by secret, with at most 20 addresses each."""
        begin_ms = since_ms - since_ms % INTERVAL_MS[Interval.MINUTE]
        day = UsageFilter(begin_ms, begin_ms + INTERVAL_MS[Interval.DAY] + INTERVAL_MS[Interval.MINUTE], key_id=key_id)
        question = Question(Walls.around(scope), day)
        return [SecretUse(row[0], int(row[1]), tuple(row[2])) for row in await self._ask(question.secret_uses())]

    async def used_expressions(
        self, scope: TenantScope, key_ids: Sequence[str], *, since_ms: int
    ) -> Mapping[str, frozenset[str]]:
        """Return which scope expressions the valid calls of keys asked for since then, to the hour."""
        asked = (
            "SELECT key_id, groupUniqArray(scope_expression) FROM (SELECT key_id, scope_expression"
            " FROM @used_expressions WHERE workspace_id = {workspace:String} AND has({keys:Array(String)}, key_id)"
            " GROUP BY key_id, scope_expression HAVING max(last_used_at_ms) >= {since:Int64}) GROUP BY key_id"
        )
        found: dict[str, frozenset[str]] = {}
        for start in range(0, len(key_ids), _LOOKED_FOR_AT_ONCE):
            values = {
                "workspace": Walls.around(scope).demand_workspace(),
                "keys": list(key_ids[start : start + _LOOKED_FOR_AT_ONCE]),
                "since": since_ms - since_ms % INTERVAL_MS[Interval.HOUR],
            }
            found |= {row[0]: frozenset(row[1]) for row in await self._ask((asked, values))}
        return found

    async def _ask(self, statement: tuple[str, Mapping[str, Any]]) -> Sequence[Sequence[Any]]:
        return await self._reader.run(lambda lane: lane.rows(*statement))

    def _count(self, lane: Lane, stretch: Stretch) -> bool:
        journal = journal_of(lane, stretch.journal_id)
        if (journal.counted_to if journal else 0) != stretch.begin:
            return False
        if journal is None:
            first_ms = min((call.at_ms for call in stretch.calls), default=stretch.seen_at_ms or 0)
            journal = JournalRow(stretch.journal_id, 0, first_ms, complete_until_ms=first_ms)
        if stretch.calls:
            certain = self._certain.pop(stretch.journal_id, None) == stretch.begin
            (insert_whole if certain else insert_lacking)(lane, stretch)
        counted = replace(
            journal,
            version=journal.version + 1,
            counted_to=stretch.end,
            complete_until_ms=max(journal.complete_until_ms, stretch.seen_at_ms or 0),
        )
        keep_journal(lane, counted)
        self._certain[stretch.journal_id] = stretch.end
        return True


def journal_of(lane: Lane, journal_id: str) -> JournalRow | None:
    """Return a journal's row; None for one that is not known."""
    rows = lane.rows(_READ_JOURNAL, {"id": journal_id})
    return JournalRow(*rows[0]) if rows else None


def keep_journal(lane: Lane, journal: JournalRow) -> None:
    """Put ``journal`` in the place of the version before it."""
    lane.insert("journals", {name: [getattr(journal, name)] for name in _JOURNAL_TYPES}, _JOURNAL_TYPES)
