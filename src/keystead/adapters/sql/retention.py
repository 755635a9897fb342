"""Forgetting usage in SQL: by rows in bounded batches, and on PostgreSQL by whole days where there are partitions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Table, case, delete, literal, select, text, tuple_, update

from keystead.adapters.sql import ledger_schema, partitions, usage_schema
from keystead.adapters.sql.database import Database
from keystead.adapters.sql.engines import POSTGRESQL
from keystead.adapters.sql.session import Session, transaction
from keystead.usage.retention import Kept

FORGOTTEN_AT_ONCE = 2_000
USES_AT_ONCE = 20_000
"""How many rows that say what keys used are looked at in one step: no index leads to the old ones."""

_USES = usage_schema.used_expressions
_USE = tuple(_USES.primary_key.columns)
_METERS = ledger_schema.entitlement_meters
_EVENTS = ledger_schema.entitlement_events


@dataclass(frozen=True, slots=True)
class _Old:
    """What is too old in a table."""

    table: Table
    at_ms: Column[int]
    before_ms: int


class SqlUsageShelf:
    """The ``UsageShelf`` of one database."""

    def __init__(self, database: Database, *, uses_at_once: int = USES_AT_ONCE) -> None:
        """Work on ``database``, looking at so many rows of what keys used in one step."""
        self._database = database
        self._uses_at_once = uses_at_once
        self._looked_to: tuple[Any, ...] | None = None

    async def prepare(self, *, now_ms: int) -> None:
        """Make the partitions of today and the next days, on PostgreSQL."""
        if self._database.kind == POSTGRESQL:
            await partitions.make_ahead(self._database, now_ms=now_ms)

    async def forget(self, kept: Kept) -> int:
        """Delete from each table at most 2,000 rows, or one day's partition, that is older than ``kept``.

        What keys used is looked through 20,000 rows at a time, and the next step goes on there.
        """
        forgotten = 0
        for old in _old(kept):
            if self._database.kind == POSTGRESQL and old.table in usage_schema.PARTITIONED:
                forgotten += await partitions.drop_oldest(self._database, old.table, before_ms=old.before_ms)
            statement = _delete(old, self._database.kind)
            async with transaction(self._database) as session:
                forgotten += await session.write(text(statement), {"before": old.before_ms, "most": FORGOTTEN_AT_ONCE})
        return forgotten + await self._forget_uses(kept.uses_since_ms) + await self._forget_told(kept.told_since_ms)

    async def _forget_uses(self, before_ms: int) -> int:
        """Delete what was last used before, among the rows that come after those looked at the last time."""
        rest = tuple_(*_USE) > tuple_(*map(literal, self._looked_to)) if self._looked_to else literal(value=True)
        last = select(*_USE).where(rest).order_by(*_USE).offset(self._uses_at_once - 1).limit(1)
        ends = await Session(self._database, read_only=False).read(last)
        self._looked_to = tuple(ends[0]) if ends else None
        old = delete(_USES).where(rest, _USES.c.last_used_at_ms < before_ms)
        if self._looked_to:
            old = old.where(tuple_(*_USE) <= tuple_(*map(literal, self._looked_to)))
        async with transaction(self._database) as session:
            return await session.write(old)

    async def _forget_told(self, before_ms: int) -> int:
        """Delete events that the receiver has, of hours before; those hours are none to tell of any more.

        That comes first, and in one statement: from then on nobody takes them for hours of which nothing was told.
        Hours that are still to be told, and events still to be sent, stay.
        """
        since_ms = case((_METERS.c.told_to_ms < before_ms, _METERS.c.told_to_ms), else_=before_ms)
        again_ms = case((_METERS.c.again_from_ms < since_ms, since_ms), else_=_METERS.c.again_from_ms)
        early = update(_METERS).where(_METERS.c.since_ms < since_ms)
        async with transaction(self._database) as session:
            await session.write(early.values(since_ms=since_ms, again_from_ms=again_ms))
        async with transaction(self._database) as session:
            return await session.write(text(_delete_told(self._database.kind)), {"most": FORGOTTEN_AT_ONCE})


def _old(kept: Kept) -> Iterator[_Old]:
    schema = usage_schema
    yield _Old(schema.calls, schema.calls.c.at_ms, kept.calls_since_ms)
    yield _Old(schema.usage_minutes, schema.usage_minutes.c.begins_at_ms, kept.minutes_since_ms)
    yield _Old(schema.attempts, schema.attempts.c.minute_ms, kept.minutes_since_ms)
    for table in (schema.usage_hours, schema.usage_tags, schema.latencies):
        yield _Old(table, table.c.begins_at_ms, kept.hours_since_ms)


def _delete(old: _Old, kind: str) -> str:
    """Delete old rows, found platform by platform: every index begins with the platform."""
    name = old.table.name
    if kind == POSTGRESQL and old.table in usage_schema.PARTITIONED:
        name += f"_{usage_schema.REST}"
    found = (
        f"FROM platforms CROSS JOIN {name} AS old "
        f"WHERE old.workspace_id = platforms.id AND old.{old.at_ms.name} < :before LIMIT :most"
    )
    return _delete_found(old.table, name, found, kind)


def _delete_told(kind: str) -> str:
    """Delete acknowledged events of hours that are none to tell of, found platform by platform and meter by meter."""
    found = (
        "FROM platforms CROSS JOIN entitlement_meters AS known CROSS JOIN entitlement_events AS old "
        "WHERE old.workspace_id = platforms.id AND old.meter = known.name AND old.begins_at_ms < known.since_ms "
        "AND old.acknowledged_at_ms IS NOT NULL LIMIT :most"
    )
    return _delete_found(_EVENTS, _EVENTS.name, found, kind)


def _delete_found(table: Table, name: str, found: str, kind: str) -> str:
    """Delete rows by their places; ``found`` says what ``old`` is, given ``platforms``."""
    if kind == POSTGRESQL:
        place, wanted = "ctid", "ctid = ANY(ARRAY({found}))"
    else:
        place = ", ".join(column.name for column in table.primary_key.columns) or "rowid"
        wanted = f"({place}) IN ({{found}})"
    places = (
        f"WITH RECURSIVE platforms(id) AS (SELECT min(workspace_id) FROM {name} UNION ALL "  # noqa: S608 -- our own names
        f"SELECT (SELECT min(workspace_id) FROM {name} WHERE workspace_id > platforms.id) "
        f"FROM platforms WHERE platforms.id IS NOT NULL) "
        f"SELECT {', '.join(f'old.{column}' for column in place.split(', '))} {found}"
    )
    return f"DELETE FROM {name} WHERE {wanted.format(found=places)}"  # noqa: S608 -- our own names
