"""The ledger in SQL of usage that is counted elsewhere: its sums come through a port, page by page, in one order.

What was used is asked first and what was told of it after that. Sums of usage never become less, and what is told is
read with the number of its revisions in one statement; so whoever tells at the same time makes a gap smaller, or has
written the very event that would close it, and nothing is told twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import case, func, literal, select, tuple_

from keystead.adapters.sql import ledger_schema
from keystead.adapters.sql.database import Database
from keystead.adapters.sql.ledger import SqlLedger
from keystead.adapters.sql.session import Session
from keystead.kernel.walls import Environment, TenantScope
from keystead.usage.feed_ports import MeteredUsage
from keystead.usage.meters import Comparison, Gap, KnownMeter, UsedByOwner, UsedWindow

PAGE = 10_000
"""So many sums of usage are held in memory at once."""

_WORKSPACES_AT_ONCE = 500
_EVENTS = ledger_schema.entitlement_events
_WINDOW = (_EVENTS.c.workspace_id, _EVENTS.c.environment, _EVENTS.c.owner_id, _EVENTS.c.begins_at_ms)
_OWNER = (_EVENTS.c.owner_id, _EVENTS.c.environment)

_Told = dict[tuple[Any, ...], tuple[int, int]]


class SqlLedgerApart(SqlLedger):
    """The ``Ledger`` of one database, about usage in another store."""

    def __init__(self, database: Database, usage: MeteredUsage, *, page: int = PAGE) -> None:
        """Keep it in ``database``, about what ``usage`` says, ``page`` sums at a time."""
        super().__init__(database)
        self._database = database
        self._usage = usage
        self._page = page

    async def gaps(self, meter: KnownMeter, *, from_ms: int, to_ms: int, limit: int) -> list[Gap]:
        """Return windows of which more was used than told, the oldest first, at most ``limit``."""
        found: list[Gap] = []
        after: UsedWindow | None = None
        while len(found) < limit:
            page = await self._usage.windows(meter, from_ms=from_ms, to_ms=to_ms, after=after, limit=self._page)
            told = await self._told(meter, page)
            for it in page:
                place = (it.workspace_id, it.environment, it.owner_id, it.begins_at_ms)
                value, revisions = told.get(place, (0, 0))
                if it.used > value:
                    found.append(Gap(*place, it.used, value, revisions))
            if len(page) < self._page:
                break
            after = page[-1]
        # Asked last, for an hour leaves the meter before what was told of it is forgotten: then it is no gap.
        since_ms = max((it.since_ms for it in await self.meters() if it.name == meter.name), default=from_ms)
        return [it for it in found if it.begins_at_ms >= since_ms][:limit]

    async def compare(
        self, scope: TenantScope, meter: KnownMeter, *, from_ms: int, to_ms: int, owner_id: str, equal: bool, limit: int
    ) -> list[Comparison]:
        """Return sums by owner and environment, in that order: those that differ, with ``equal`` all."""
        found: list[Comparison] = []
        span = {"from_ms": from_ms, "to_ms": to_ms}
        after: UsedByOwner | None = None
        while len(found) < limit:
            page = await self._usage.owners(scope, meter, **span, owner_id=owner_id, after=after, limit=self._page)
            last = page[-1] if len(page) == self._page else None
            told = await self._acknowledged(scope, meter, **span, owner_id=owner_id, after=after, last=last)
            used = {(it.owner_id, it.environment): it.used for it in page}
            for place in sorted(used.keys() | told.keys()):
                acknowledged, pending = told.get(place, (0, 0))
                if equal or used.get(place, 0) != acknowledged:
                    found.append(Comparison(*place, meter.name, used.get(place, 0), acknowledged, pending))
            if last is None:
                break
            after = last
        return found[:limit]

    async def _told(self, meter: KnownMeter, page: Sequence[UsedWindow]) -> _Told:
        """Return value and revisions of what was told of the windows of ``page``, and of others between them."""
        told: _Told = {}
        workspaces = sorted({it.workspace_id for it in page})
        for start in range(0, len(workspaces), _WORKSPACES_AT_ONCE):
            statement = select(*_WINDOW, func.sum(_EVENTS.c.value), func.count()).where(
                _EVENTS.c.workspace_id.in_(workspaces[start : start + _WORKSPACES_AT_ONCE]),
                _EVENTS.c.meter == meter.name,
                _EVENTS.c.begins_at_ms >= page[0].begins_at_ms,
                _EVENTS.c.begins_at_ms <= page[-1].begins_at_ms,
            )
            for row in await self._ask(statement.group_by(*_WINDOW)):
                told[tuple(row[:4])] = (int(row[4]), int(row[5]))
        return told

    async def _acknowledged(
        self,
        scope: TenantScope,
        meter: KnownMeter,
        *,
        from_ms: int,
        to_ms: int,
        owner_id: str,
        after: UsedByOwner | None,
        last: UsedByOwner | None,
    ) -> dict[tuple[str, str], tuple[int, int]]:
        """Return what was acknowledged and what is pending of owners behind ``after`` and up to ``last``."""
        has = _EVENTS.c.acknowledged_at_ms.is_not(None)
        sums = [func.sum(case((it, _EVENTS.c.value), else_=0)) for it in (has, ~has)]
        statement = select(*_OWNER, *sums).where(
            _EVENTS.c.workspace_id == scope.workspace_id,
            _EVENTS.c.environment.in_(sorted(scope.environments or {Environment.ALL})),  # no event has it
            _EVENTS.c.meter == meter.name,
            _EVENTS.c.begins_at_ms >= from_ms,
            _EVENTS.c.begins_at_ms < to_ms,
        )
        if owner_id:
            statement = statement.where(_EVENTS.c.owner_id == owner_id)
        if after is not None:
            statement = statement.where(tuple_(*_OWNER) > tuple_(literal(after.owner_id), literal(after.environment)))
        if last is not None:
            statement = statement.where(tuple_(*_OWNER) <= tuple_(literal(last.owner_id), literal(last.environment)))
        rows = await self._ask(statement.group_by(*_OWNER))
        return {(row[0], row[1]): (int(row[2]), int(row[3])) for row in rows}

    async def _ask(self, statement: Any) -> Sequence[Any]:
        return await Session(self._database, read_only=False).read(statement)
