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

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from keystead.adapters.clickhouse.connection import ClickHouse, Lane
from keystead.adapters.clickhouse.endings import ended
from keystead.adapters.clickhouse.parcels import insert_lacking, insert_whole
from keystead.adapters.clickhouse.queries import Question, call_of, latency_points_of, points_of
from keystead.adapters.clickhouse.stretches import parcel_of
from keystead.adapters.texts import call_position
from keystead.adapters.walls import Walls
from keystead.kernel.paging import Page, PageRequest, cut
from keystead.kernel.walls import TenantScope
from keystead.usage.journals import JournalState, KnownJournal
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
    "node": "String",
    "seen_at_ms": "Int64",
    "lost": "UInt8",
}
_JOURNALS = f"SELECT {', '.join(_JOURNAL_TYPES)}, toUnixTimestamp64Milli(now64(3)) FROM @journals FINAL"  # noqa: S608 -- constants
_READ_JOURNAL = f"{_JOURNALS} WHERE id = {{id:String}}"
_LIST_JOURNALS = (
    f"{_JOURNALS} WHERE closed = 0 OR {{closed:UInt8}} = 1"
    " ORDER BY registered_at_ms DESC, id DESC LIMIT {limit:UInt64}"
)

Late = Callable[[int], Awaitable[None]]
"""Takes a moment, in milliseconds, from which on usage has become more."""


@dataclass(frozen=True, slots=True)
class JournalRow:
    """How far a journal is counted; of several versions the highest holds. ``now_ms`` is when this one was read."""

    id: str
    version: int
    registered_at_ms: int
    counted_to: int = 0
    complete_until_ms: int = 0
    attempts_counted_to: int = 0
    closed: int = 0
    node: str = ""
    seen_at_ms: int = 0
    lost: int = 0
    now_ms: int = 0


class ClickHouseUsage:
    """The ``UsageStore`` of one ClickHouse. One process at a time counts a journal, as its directory's lock sees to."""

    def __init__(self, clickhouse: ClickHouse, *, late: Late | None = None) -> None:
        """Count in ``clickhouse``, whose schema is there; tell ``late`` from when on a lost journal had more calls."""
        self._clickhouse = clickhouse
        self._late = late
        self._writer = clickhouse.writer
        self._reader = clickhouse.reader
        # Where the journals end whose last stretch this process itself has brought home: nothing is half done there.
        self._certain: dict[str, int] = {}
        self._lost: set[str] = set()

    async def register(self, journal_id: str, *, at_ms: int, node: str = "") -> None:
        """Make a journal known; one that was closed, and is here again on a copied disk, is open again."""

        def work(lane: Lane) -> None:
            journal = journal_of(lane, journal_id)
            if journal is None:
                keep_journal(lane, JournalRow(journal_id, 1, at_ms, complete_until_ms=at_ms, node=node))
            elif journal.closed or not journal.node:
                opened = replace(journal, version=journal.version + 1, closed=0, node=journal.node or node)
                keep_journal(lane, opened)

        await self._writer.run(work)

    async def count(self, stretch: Stretch) -> bool:
        """Count a stretch exactly once, whole or not at all; return whether it was counted by this call.

        A journal's first stretch begins at place 0 and makes it known if it is not. Raises ``UnavailableError`` when
        nobody knows whether it was counted; asking again is safe.
        """
        counted = await self._writer.run(lambda lane: self._count(lane, stretch))
        if counted and stretch.seen_at_ms is not None and stretch.journal_id in self._lost:
            await self._find_again(stretch.journal_id)
        return counted

    async def counted_to(self, journal_id: str) -> int:
        """Return the place up to which a journal is counted; 0 for one of which nothing is."""
        journal = await self._writer.run(lambda lane: journal_of(lane, journal_id))
        return journal.counted_to if journal else 0

    async def close(self, journal_id: str) -> None:
        """Note that a journal is counted to its end; again, or for one that is not known, changes nothing."""
        await self._find_again(journal_id)

        def work(lane: Lane) -> None:
            journal = journal_of(lane, journal_id)
            if journal is not None and not journal.closed:
                keep_journal(lane, replace(journal, version=journal.version + 1, closed=1))
            self._certain.pop(journal_id, None)

        await self._writer.run(work)

    async def complete_until(self) -> int | None:
        """Return the least of the open journals; None when there is none."""
        asked = "SELECT count(), min(complete_until_ms) FROM @journals FINAL WHERE closed = 0 AND lost = 0"
        opened, least_ms = (await self._ask((asked, {})))[0]
        return int(least_ms) if opened else None

    async def journals(self, *, closed: bool, limit: int) -> list[KnownJournal]:
        """Return at most ``limit`` journals, those opened last first; closed ones only when ``closed``."""
        rows = await self._ask((_LIST_JOURNALS, {"closed": int(closed), "limit": limit}))
        return [_known(JournalRow(*row)) for row in rows]

    async def find(self, journal_id: str) -> KnownJournal | None:
        """Return a journal; None when it is not known. Somebody may count it meanwhile."""
        journal = await self._writer.run(lambda lane: journal_of(lane, journal_id))
        return None if journal is None else _known(journal)

    async def lose(self, journal: KnownJournal) -> None:
        """Wait for a journal no more, until it is here again and counted; one that is not known changes nothing."""

        def work(lane: Lane) -> None:
            known = journal_of(lane, journal.id)
            if known is not None:
                keep_journal(lane, replace(known, version=known.version + 1, lost=1, now_ms=0))

        await self._writer.run(work)

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
        """Return sketches of the whole hours that begin inside the filter's span; of labels there are none."""
        if by is Dimension.TAG or wanted.tag:
            return []
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
        page = cut([call_of(row) for row in rows], request.size, call_position)
        names = [(it.subject.workspace_id, it.at_ms, it.verification_id) for it in page.items]
        endings = await self._reader.run(lambda lane: ended(lane, names))
        for it in page.items:
            name = (it.subject.workspace_id, it.at_ms, it.verification_id)
            it.http_status, it.latency_us = endings.get(name, (None, None))
        return page

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
            (insert_whole if certain else insert_lacking)(lane, parcel_of(stretch))
        counted = replace(
            journal,
            version=journal.version + 1,
            counted_to=stretch.end,
            complete_until_ms=max(journal.complete_until_ms, stretch.seen_at_ms or 0),
        )
        keep_journal(lane, counted)
        self._certain[stretch.journal_id] = stretch.end
        if journal.lost:
            self._lost.add(stretch.journal_id)
        return True

    async def _find_again(self, journal_id: str) -> None:
        """Wait for a lost journal again, of which all is counted; before that, what is told of its calls is told anew.

        A process that dies in between leaves it lost, and the next step does both once more.
        """

        def work(lane: Lane) -> None:
            known = journal_of(lane, journal_id)
            if known is not None:
                keep_journal(lane, replace(known, version=known.version + 1, lost=0))

        journal = await self._writer.run(lambda lane: journal_of(lane, journal_id))
        if journal is not None and journal.lost:
            if self._late is not None:
                await self._late(journal.registered_at_ms)
            await self._writer.run(work)
        self._lost.discard(journal_id)


def journal_of(lane: Lane, journal_id: str) -> JournalRow | None:
    """Return a journal's row; None for one that is not known."""
    rows = lane.rows(_READ_JOURNAL, {"id": journal_id})
    return JournalRow(*rows[0]) if rows else None


def keep_journal(lane: Lane, journal: JournalRow) -> None:
    """Put ``journal`` in the place of the version before it, as reported when that was read."""
    seen = replace(journal, seen_at_ms=max(journal.seen_at_ms, journal.now_ms))
    lane.insert("journals", {name: [getattr(seen, name)] for name in _JOURNAL_TYPES}, _JOURNAL_TYPES)


def _known(row: JournalRow) -> KnownJournal:
    state = JournalState.LOST if row.lost else JournalState.OPEN
    return KnownJournal(
        id=row.id,
        node=row.node,
        opened_at_ms=row.registered_at_ms,
        seen_at_ms=row.seen_at_ms,
        complete_until_ms=row.complete_until_ms,
        counted_to=row.counted_to,
        state=JournalState.CLOSED if row.closed else state,
        now_ms=row.now_ms,
    )
