"""Days of a table on PostgreSQL, each a partition: a day that is forgotten is dropped, which costs nothing.

Partitions are made ahead of time; what belongs to a day without one is taken by the rest, and deleted from there row by
row. Making and dropping need the whole table for an instant, so they wait for it a second at most and try again later;
and nobody queues behind them for longer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy import Table, text

from keystead.adapters.sql.database import Database
from keystead.adapters.sql.session import Session, transaction
from keystead.adapters.sql.usage_schema import PARTITIONED, REST
from keystead.usage.model import INTERVAL_MS, Interval

_DAY_MS = INTERVAL_MS[Interval.DAY]
_DAYS_AHEAD = 3
_LOCK = int.from_bytes(b"usageday")
_NAME = re.compile(rf"({'|'.join(table.name for table in PARTITIONED)})_(\d{{8}}|{REST})")
_LISTED = (
    "SELECT part.relname FROM pg_inherits JOIN pg_class part ON part.oid = inhrelid "
    "WHERE inhparent = CAST(:parent AS regclass) ORDER BY part.relname"
)


def is_partition(name: str) -> bool:
    """Say whether a table's name is a partition's."""
    return _NAME.fullmatch(name) is not None


async def make_ahead(database: Database, *, now_ms: int) -> None:
    """Make what is missing of today's partitions and those of the next three days; any number may do so at once."""
    today_ms = now_ms - now_ms % _DAY_MS
    for table in PARTITIONED:
        there = await _days(database, table)
        for begin_ms in range(today_ms, today_ms + (_DAYS_AHEAD + 1) * _DAY_MS, _DAY_MS):
            if begin_ms not in there:
                await _make(database, table, begin_ms)


async def drop_oldest(database: Database, table: Table, *, before_ms: int) -> int:
    """Drop the oldest partition if its day had ended by ``before_ms``; return how many were dropped, 0 or 1."""
    for begin_ms in (await _days(database, table))[:1]:
        if begin_ms + _DAY_MS <= before_ms:
            async with transaction(database) as session:
                await _begin(session)
                await session.write(text(f"DROP TABLE IF EXISTS {_name(table, begin_ms)}"))
            return 1
    return 0


async def _make(database: Database, table: Table, begin_ms: int) -> None:
    """Make one day's partition; without it when rows of that day came before it, since those are in the rest."""
    end_ms = begin_ms + _DAY_MS
    there = text(
        f"SELECT 1 FROM {table.name}_{REST} WHERE {PARTITIONED[table].name} >= :begin "  # noqa: S608 -- our own names
        f"AND {PARTITIONED[table].name} < :end LIMIT 1"
    )
    async with transaction(database) as session:
        await _begin(session)
        if await session.read(there.bindparams(begin=begin_ms, end=end_ms)):
            return
        await session.write(
            text(
                f"CREATE TABLE IF NOT EXISTS {_name(table, begin_ms)} PARTITION OF {table.name} "
                f"FOR VALUES FROM ({begin_ms}) TO ({end_ms})"
            )
        )


async def _begin(session: Session) -> None:
    """Begin a transaction that waits for a lock a second at most; those that make or drop follow one another."""
    await session.write(text("SET LOCAL lock_timeout = '1s'"))
    await session.lock(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))


async def _days(database: Database, table: Table) -> Sequence[int]:
    """Return the beginnings of the days that have a partition, in order."""
    rows = await Session(database, read_only=False).read(text(_LISTED).bindparams(parent=table.name))
    dates = [match[2] for row in rows if (match := _NAME.fullmatch(row[0])) is not None and match[2] != REST]
    return [int(datetime.strptime(date, "%Y%m%d").replace(tzinfo=UTC).timestamp()) * 1_000 for date in dates]


def _name(table: Table, begin_ms: int) -> str:
    return f"{table.name}_{datetime.fromtimestamp(begin_ms / 1_000, UTC):%Y%m%d}"
