"""The ledger in SQL: an event is a row that is written once, and its acknowledgement one more column.

Two tellers at once see the same gap, or one sees less of it: their events then have the same id, the first to be
written stays, and what it lacks is the next gap. So nothing here takes a lock.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from sqlalchemy import Executable, func, or_, select, update

from keystead.adapters.sql import ledger_queries, ledger_schema
from keystead.adapters.sql.database import Database
from keystead.adapters.sql.session import Session, transaction
from keystead.adapters.walls import Walls
from keystead.kernel.walls import Environment, TenantScope
from keystead.usage.meters import Comparison, Gap, KnownMeter, LedgerEntry, Meter, window_of

_METERS = ledger_schema.entitlement_meters
_EVENTS = ledger_schema.entitlement_events
_SENDERS = ledger_schema.entitlement_senders
_SENDER = "entitlements"
_IDS_AT_ONCE = 500
_ENTRY = tuple(
    _EVENTS.c[name]
    for name in ("id", "workspace_id", "environment", "owner_id", "meter", "begins_at_ms", "revision", "value")
)


class SqlLedger:
    """The ``Ledger`` of one database, beside the usage that is counted there."""

    def __init__(self, database: Database) -> None:
        """Keep it in ``database``."""
        self._database = database

    async def begin(self, meters: Sequence[Meter], *, since_ms: int) -> None:
        """Make meters known that are not; such a one is told from the window of ``since_ms`` on."""
        since_ms = window_of(since_ms)
        rows = [
            {"name": meter.name, "meaning": meter.meaning, "since_ms": since_ms, "told_to_ms": since_ms}
            for meter in meters
        ]
        async with transaction(self._database) as session:
            await session.write(self._database.insert_new(_METERS), rows)

    async def meters(self) -> list[KnownMeter]:
        """Return all that were ever known, by name."""
        rows = await self._read(select(_METERS).order_by(_METERS.c.name))
        return [KnownMeter(row.name, row.meaning, row.since_ms, row.told_to_ms, row.again_from_ms) for row in rows]

    async def gaps(self, meter: KnownMeter, *, from_ms: int, to_ms: int, limit: int) -> list[Gap]:
        """Return windows of which more was used than told, the oldest first, at most ``limit``, as of one moment."""
        rows = await self._read(ledger_queries.gaps(meter, from_ms=from_ms, to_ms=to_ms, limit=limit))
        return [Gap(row[0], row[1], row[2], row[3], *(int(number) for number in row[4:])) for row in rows]

    async def record(self, entries: Sequence[LedgerEntry], *, at_ms: int) -> None:
        """Write events down, to be sent; one whose id is there already changes nothing, so two may race."""
        rows = [
            {column.name: getattr(entry, column.name) for column in _ENTRY}
            | {"recorded_at_ms": at_ms, "due_at_ms": at_ms}
            for entry in sorted(entries, key=lambda entry: entry.id)
        ]
        if rows:
            async with transaction(self._database) as session:
                await session.write(self._database.insert_new(_EVENTS), rows)

    async def told(self, meter: str, *, to_ms: int) -> None:
        """Note that all windows before ``to_ms`` were told; never goes back."""
        behind = update(_METERS).where(_METERS.c.name == meter, _METERS.c.told_to_ms < to_ms)
        await self._write(behind.values(told_to_ms=to_ms))

    async def look_again(self, meter: str, *, from_ms: int) -> None:
        """Ask for the windows from ``from_ms`` on to be looked at once more; the earliest asked for stays."""
        later = or_(_METERS.c.again_from_ms.is_(None), _METERS.c.again_from_ms > from_ms)
        await self._write(update(_METERS).where(_METERS.c.name == meter, later).values(again_from_ms=from_ms))

    async def looked_again(self, meter: KnownMeter, *, to_ms: int | None) -> None:
        """Note how far they were looked at, None when to the end; nothing when an earlier one was asked for since."""
        same = update(_METERS).where(_METERS.c.name == meter.name, _METERS.c.again_from_ms == meter.again_from_ms)
        await self._write(same.values(again_from_ms=to_ms))

    async def pending(self, *, now_ms: int, limit: int) -> list[LedgerEntry]:
        """Return events that are due and not acknowledged, the same ones first until they are."""
        due = select(*_ENTRY).where(_EVENTS.c.acknowledged_at_ms.is_(None), _EVENTS.c.due_at_ms <= now_ms)
        rows = await self._read(due.order_by(_EVENTS.c.due_at_ms, _EVENTS.c.id).limit(limit))
        return [LedgerEntry(*row) for row in rows]

    async def acknowledge(self, ids: Collection[str], *, at_ms: int) -> None:
        """Note that the receiver has these events, all in one transaction."""
        await self._change_waiting(ids, acknowledged_at_ms=at_ms)

    async def postpone(self, ids: Collection[str], *, until_ms: int) -> None:
        """Let events wait that the receiver would not take, so that they hold up no others."""
        await self._change_waiting(ids, due_at_ms=until_ms)

    async def count_pending(self, scope: TenantScope | None) -> int:
        """Return how many events are not acknowledged inside the walls; None is all of them."""
        walls = Walls.around(scope)
        waiting = select(func.count()).where(_EVENTS.c.acknowledged_at_ms.is_(None))
        if walls.workspace_id is not None:
            waiting = waiting.where(_EVENTS.c.workspace_id == walls.workspace_id)
        if walls.environments is not None:
            waiting = waiting.where(_EVENTS.c.environment.in_(sorted(walls.environments)))
        return int((await self._read(waiting))[0][0])

    async def hold(self, holder: str, *, now_ms: int, until_ms: int) -> bool:
        """Take or keep the one sender's place until then; False while somebody else holds it."""
        free = or_(_SENDERS.c.holder == holder, _SENDERS.c.held_until_ms <= now_ms)
        async with transaction(self._database) as session:
            row = {"name": _SENDER, "holder": holder, "held_until_ms": until_ms}
            if await session.write(self._database.insert_new(_SENDERS), row):
                return True
            taken = update(_SENDERS).where(_SENDERS.c.name == _SENDER, free)
            return bool(await session.write(taken.values(holder=holder, held_until_ms=until_ms)))

    async def let_go(self, holder: str) -> None:
        """Give the place back, if ``holder`` has it."""
        await self._write(update(_SENDERS).where(_SENDERS.c.holder == holder).values(held_until_ms=0))

    async def compare(
        self, scope: TenantScope, meter: KnownMeter, *, from_ms: int, to_ms: int, owner_id: str, equal: bool, limit: int
    ) -> list[Comparison]:
        """Return sums by owner and environment, in that order: those that differ, with ``equal`` all."""
        asked = ledger_queries.comparison(
            meter,
            workspace_id=scope.workspace_id,
            environments=scope.environments or {Environment.ALL},  # no usage has it
            from_ms=from_ms,
            to_ms=to_ms,
            owner_id=owner_id,
            equal=equal,
            limit=limit,
        )
        rows = await self._read(asked)
        return [Comparison(row[0], row[1], meter.name, *(int(number) for number in row[2:])) for row in rows]

    async def _change_waiting(self, ids: Collection[str], **values: int) -> None:
        async with transaction(self._database) as session:
            for some in _in_parts(sorted(ids)):
                waiting = update(_EVENTS).where(_EVENTS.c.id.in_(some), _EVENTS.c.acknowledged_at_ms.is_(None))
                await session.write(waiting.values(**values))

    async def _read(self, statement: Executable) -> Sequence[Any]:
        return await Session(self._database, read_only=False).read(statement)

    async def _write(self, statement: Executable) -> None:
        async with transaction(self._database) as session:
            await session.write(statement)


def _in_parts(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), _IDS_AT_ONCE):
        yield ids[start : start + _IDS_AT_ONCE]
