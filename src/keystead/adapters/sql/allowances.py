"""What is left of quotas and credits in SQL: one row a counter and period, changed under its own lock."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from sqlalchemy import ColumnElement, delete, select, tuple_, update

from keystead.adapters.sql import schema
from keystead.adapters.sql.database import Database
from keystead.adapters.sql.failures import demanding_workspace
from keystead.adapters.sql.session import Session, transaction
from keystead.adapters.walls import Walls
from keystead.limits.model import AllowanceRow

FORGOTTEN_AT_ONCE = 1_000

_TABLE = schema.allowances
_PLACE = (_TABLE.c.counter, _TABLE.c.begins_at_ms)


class SqlAllowances:
    """The ``AllowanceRepository`` of one unit."""

    def __init__(self, session: Session, walls: Walls) -> None:
        """See what ``walls`` admit."""
        self._session = session
        self._walls = walls

    async def get(self, counter: str, begins_at_ms: int, *, lock: bool = False) -> AllowanceRow | None:
        """Return the row of one period, or None."""
        wanted = select(_TABLE).where(*_is(counter, begins_at_ms))
        rows = await (self._session.lock(wanted.with_for_update()) if lock else self._session.read(wanted))
        row = AllowanceRow(**rows[0]._asdict()) if rows else None
        return row if row is not None and self._walls.admit_in(row.workspace_id, row.environment) else None

    async def add(self, row: AllowanceRow) -> AllowanceRow:
        """Store a new row and return it, or else the one that another unit stored first, once that has committed."""
        self._walls.demand_in(row.workspace_id, row.environment)
        insert = self._session.database.insert_new(_TABLE).values(asdict(row))
        with demanding_workspace(row.workspace_id):
            added = await self._session.write(insert)
        if added:
            return row
        wanted = select(_TABLE).where(*_is(row.counter, row.begins_at_ms)).with_for_update()
        return AllowanceRow(**(await self._session.lock(wanted))[0]._asdict())

    async def save(self, row: AllowanceRow) -> None:
        """Store the new state of a row that was read with ``lock``."""
        self._walls.demand_in(row.workspace_id, row.environment)
        change = update(_TABLE).where(*_is(row.counter, row.begins_at_ms))
        await self._session.write(
            change.values(amount=row.amount, resets=row.resets, told=row.told, refilled_at_ms=row.refilled_at_ms)
        )


class SqlAllowanceShelf:
    """Housekeeping: bounded batches, each in a transaction of its own."""

    def __init__(self, database: Database) -> None:
        """Work on ``database``."""
        self._database = database

    async def forget(self, *, before_ms: int) -> int:
        """Delete at most 1,000 rows of periods that ended before ``before_ms``; return how many."""
        over = select(*_PLACE).where(_TABLE.c.ends_at_ms < before_ms).limit(FORGOTTEN_AT_ONCE)
        async with transaction(self._database) as session:
            return await session.write(delete(_TABLE).where(tuple_(*_PLACE).in_(over)))


def _is(counter: str, begins_at_ms: int) -> tuple[ColumnElement[Any], ...]:
    return _TABLE.c.counter == counter, _TABLE.c.begins_at_ms == begins_at_ms
