"""Forgetting usage in SQL: by rows in bounded batches, and on PostgreSQL by whole days where there are partitions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Column, Table, text

from keystead.adapters.sql import partitions, usage_schema
from keystead.adapters.sql.database import Database
from keystead.adapters.sql.engines import POSTGRESQL
from keystead.adapters.sql.session import transaction
from keystead.usage.retention import Kept

FORGOTTEN_AT_ONCE = 2_000


@dataclass(frozen=True, slots=True)
class _Old:
    """What is too old in a table."""

    table: Table
    at_ms: Column[int]
    before_ms: int


class SqlUsageShelf:
    """The ``UsageShelf`` of one database."""

    def __init__(self, database: Database) -> None:
        """Work on ``database``."""
        self._database = database

    async def prepare(self, *, now_ms: int) -> None:
        """Make the partitions of today and the next days, on PostgreSQL."""
        if self._database.kind == POSTGRESQL:
            await partitions.make_ahead(self._database, now_ms=now_ms)

    async def forget(self, kept: Kept) -> int:
        """Delete from each table at most 2,000 rows, or one day's partition, that is older than ``kept``."""
        forgotten = 0
        for old in _old(kept):
            if self._database.kind == POSTGRESQL and old.table in usage_schema.PARTITIONED:
                forgotten += await partitions.drop_oldest(self._database, old.table, before_ms=old.before_ms)
            statement = _delete(old, self._database.kind)
            async with transaction(self._database) as session:
                forgotten += await session.write(text(statement), {"before": old.before_ms, "most": FORGOTTEN_AT_ONCE})
        return forgotten


def _old(kept: Kept) -> Iterator[_Old]:
    schema = usage_schema
    yield _Old(schema.calls, schema.calls.c.at_ms, kept.calls_since_ms)
    yield _Old(schema.usage_minutes, schema.usage_minutes.c.begins_at_ms, kept.minutes_since_ms)
    yield _Old(schema.attempts, schema.attempts.c.minute_ms, kept.minutes_since_ms)
    for table in (schema.usage_hours, schema.usage_tags, schema.latencies):
        yield _Old(table, table.c.begins_at_ms, kept.hours_since_ms)


def _delete(old: _Old, kind: str) -> str:
    """Delete old rows by their places, found platform by platform: every index begins with the platform."""
    name = old.table.name
    if kind == POSTGRESQL:
        name += f"_{usage_schema.REST}" if old.table in usage_schema.PARTITIONED else ""
        place, wanted = "ctid", "ctid = ANY(ARRAY({found}))"
    else:
        names = [column.name for column in old.table.primary_key.columns]
        place = ", ".join(names) or "rowid"
        wanted = f"({place}) IN ({{found}})"
    found = (
        f"WITH RECURSIVE platforms(id) AS (SELECT min(workspace_id) FROM {name} UNION ALL "  # noqa: S608 -- our own names
        f"SELECT (SELECT min(workspace_id) FROM {name} WHERE workspace_id > platforms.id) "
        f"FROM platforms WHERE platforms.id IS NOT NULL) "
        f"SELECT {', '.join(f'old.{column}' for column in place.split(', '))} FROM platforms CROSS JOIN {name} AS old "
        f"WHERE old.workspace_id = platforms.id AND old.{old.at_ms.name} < :before LIMIT :most"
    )
    return f"DELETE FROM {name} WHERE {wanted.format(found=found)}"  # noqa: S608 -- our own names
