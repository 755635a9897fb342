"""Forgetting usage: what has had its time goes, everything else stays, and counting never waits for it.

Memory forgets nothing: it answers from the calls themselves and could not forget them and keep their sums.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from random import Random

import pytest
from sqlalchemy import text

from keystead.adapters.sql import partitions, retention, usage_schema
from keystead.adapters.sql.database import Database
from keystead.adapters.sql.engines import POSTGRESQL
from keystead.adapters.sql.retention import SqlUsageShelf
from keystead.adapters.sql.usage import SqlUsage
from keystead.kernel.errors import UnavailableError
from keystead.kernel.paging import PageRequest
from keystead.usage.model import Call, Interval, UsageFilter
from keystead.usage.retention import Kept
from tests.contract.conftest import empty
from tests.contract.usage_stores import (
    DAY,
    HOUR,
    MINUTE,
    OURS,
    T0,
    THEIR_KEY,
    Writer,
    call,
    random_calls,
    recount,
    seen,
)

SPAN = UsageFilter(T0 - 10 * DAY, T0 + 40 * DAY)
NOTHING_OLD = Kept(0, 0, 0)


@pytest.fixture
async def bare(database: Database) -> AsyncIterator[Database]:
    """Lend an empty database of each kind without a day's partition."""
    await unpartitioned(database)
    yield database
    await unpartitioned(database)


@pytest.fixture
async def postgresql(migrated_url: str) -> AsyncIterator[Database]:
    """Lend an empty PostgreSQL database without a day's partition."""
    database = Database.connect(migrated_url)
    await unpartitioned(database)
    yield database
    await unpartitioned(database)
    await empty(database)


async def unpartitioned(database: Database) -> None:
    """Drop every day's partition."""
    for table in usage_schema.PARTITIONED if database.kind == POSTGRESQL else ():
        while await partitions.drop_oldest(database, table, before_ms=T0 + 10_000 * DAY):
            continue


async def forget_all(shelf: SqlUsageShelf, kept: Kept) -> list[int]:
    """Forget until nothing is left to forget; return what each step took."""
    steps = []
    while taken := await shelf.forget(kept):
        steps.append(taken)
    return steps


async def told(store: SqlUsage, interval: Interval) -> list[int]:
    """Return the beginnings of the intervals of which there are sums."""
    return [point.begins_at_ms for point in await store.series(OURS, SPAN, interval=interval, by=None, limit=100_000)]


async def raw(store: SqlUsage) -> list[Call]:
    """Return every raw call of ours."""
    return list((await store.calls(OURS, SPAN, PageRequest(100_000, ascending=True))).items)


async def partitions_of(database: Database, table: str) -> list[str]:
    """Return the names of a table's partitions."""
    async with database.statements.connect() as connection:
        rows = await connection.execute(
            text(
                "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = CAST(:name AS regclass) ORDER BY 1"
            ),
            {"name": table},
        )
        return [row[0] for row in rows]


@pytest.mark.parametrize("prepared", (False, True))
async def test_what_is_older_goes_and_the_rest_stays(bare: Database, *, prepared: bool) -> None:
    """Raw calls, minutes and hours are each there since their own day, of every platform, and days for ever."""
    store, shelf = SqlUsage(bare), SqlUsageShelf(bare)
    if prepared:
        for day in range(0, 8, 3):
            await shelf.prepare(now_ms=T0 + day * DAY + 5)
    calls = [call(T0 + number * DAY // 2 + 7) for number in range(16)]
    await store.count(Writer().stretch(*calls, *[replace(it, subject=THEIR_KEY) for it in calls]))
    await forget_all(shelf, Kept(T0 + 5 * DAY, T0 + 4 * DAY, T0 + 3 * DAY))
    assert await raw(store) == calls[10:]
    assert await told(store, Interval.MINUTE) == [it.at_ms // MINUTE * MINUTE for it in calls[8:]]
    assert await told(store, Interval.HOUR) == [it.at_ms // HOUR * HOUR for it in calls[6:]]
    assert await told(store, Interval.DAY) == [T0 + number * DAY for number in range(8)]
    async with bare.statements.connect() as connection:
        assert (await connection.scalar(text("SELECT count(*) FROM calls"))) == 2 * 6


async def test_nothing_is_forgotten_that_is_kept(bare: Database) -> None:
    """A turn with nothing to forget changes nothing."""
    store, shelf = SqlUsage(bare), SqlUsageShelf(bare)
    await shelf.prepare(now_ms=T0)
    await store.count(Writer().stretch(*[call(T0 + number) for number in range(5)]))
    assert await forget_all(shelf, NOTHING_OLD) == []
    assert await forget_all(shelf, Kept(T0, T0, T0)) == []
    assert len(await raw(store)) == 5


async def test_a_step_is_bounded(bare: Database) -> None:
    """However much is old, a step deletes a bounded number of rows, and the next goes on."""
    store, shelf = SqlUsage(bare), SqlUsageShelf(bare)
    most = retention.FORGOTTEN_AT_ONCE
    await store.count(Writer().stretch(*[call(T0 + number) for number in range(2 * most + 5)]))
    steps = await forget_all(shelf, Kept(T0 + DAY, 0, 0))
    assert steps == [most, most, 5]
    assert await raw(store) == []


async def test_old_rows_are_found_by_an_index(migrated_file: object) -> None:
    """No step of forgetting goes through a table from end to end."""
    database = Database.connect(f"sqlite:///{migrated_file}")
    for old in retention._old(Kept(1, 1, 1)):
        statement = retention._delete(old, "sqlite").replace(":before", "5").replace(":most", "7")
        steps = [row[3] for row in await database.fetch(f"EXPLAIN QUERY PLAN {statement}")]
        assert any("old USING" in step for step in steps)
        assert not [step for step in steps if step.startswith("SCAN") and step != "SCAN platforms"], steps
    told = await database.fetch(f"EXPLAIN QUERY PLAN {retention._delete_told('sqlite')}".replace(":most", "7"))
    index = "SEARCH old USING INDEX sqlite_autoindex_entitlement_events_1"
    assert f"{index} (workspace_id=? AND meter=? AND begins_at_ms<?)" in [row[3] for row in told], list(told)
    await database.close()


async def test_every_day_is_a_partition_and_is_dropped(postgresql: Database) -> None:
    """Days are made ahead, again without harm and by many at once, take their calls, and are dropped whole."""
    store, shelf = SqlUsage(postgresql), SqlUsageShelf(postgresql)
    await asyncio.gather(*[shelf.prepare(now_ms=T0 + 5) for _ in range(4)])
    expected = ["20231115", "20231116", "20231117", "20231118", "rest"]
    assert await partitions_of(postgresql, "calls") == [f"calls_{day}" for day in expected]
    assert await partitions_of(postgresql, "usage_minutes") == [f"usage_minutes_{day}" for day in expected]
    await store.count(Writer().stretch(*[call(T0 + number * DAY) for number in range(6)]))
    async with postgresql.statements.connect() as connection:
        counts = [await connection.scalar(text(f"SELECT count(*) FROM calls_{day}")) for day in expected]  # noqa: S608 -- from above
    assert counts == [1, 1, 1, 1, 2]
    await forget_all(shelf, Kept(T0 + 2 * DAY, T0 + 2 * DAY, 0))
    assert await partitions_of(postgresql, "calls") == ["calls_20231117", "calls_20231118", "calls_rest"]
    assert [it.at_ms for it in await raw(store)] == [T0 + number * DAY for number in range(2, 6)]
    await forget_all(shelf, Kept(T0 + 20 * DAY, T0 + 20 * DAY, 0))
    assert await partitions_of(postgresql, "calls") == ["calls_rest"]
    assert await raw(store) == []


async def test_a_day_whose_calls_came_first_stays_in_the_rest(postgresql: Database) -> None:
    """Calls of a day that has no partition are counted and told all the same, and a partition comes for later days."""
    store, shelf = SqlUsage(postgresql), SqlUsageShelf(postgresql)
    random = Random(5)
    calls = [replace(it, tags=()) for it in random_calls(random, 200, days=1)]
    writer = Writer()
    await store.count(writer.stretch(*calls[:100]))
    await shelf.prepare(now_ms=T0 + 5)
    await store.count(writer.stretch(*calls[100:]))
    assert await partitions_of(postgresql, "calls") == [
        "calls_20231116",
        "calls_20231117",
        "calls_20231118",
        "calls_rest",
    ]
    points = await store.series(OURS, SPAN, interval=Interval.MINUTE, by=None, limit=1_000)
    assert points == recount(seen(calls, OURS), Interval.MINUTE, None)


async def test_nobody_waits_long_for_a_partition(postgresql: Database) -> None:
    """A partition that cannot be made or dropped because somebody reads gives up in a second, and later succeeds."""
    shelf = SqlUsageShelf(postgresql)
    await shelf.prepare(now_ms=T0)
    async with postgresql.writers.connect() as reader:
        await reader.execute(text("SELECT count(*) FROM calls"))
        with pytest.raises(UnavailableError):
            await shelf.forget(Kept(T0 + 2 * DAY, 0, 0))
        await reader.rollback()
    assert await forget_all(shelf, Kept(T0 + 2 * DAY, 0, 0))
