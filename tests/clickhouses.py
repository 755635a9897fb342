"""A ClickHouse for tests: its engine inside the test's process, where there can be one alone."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from keystead.adapters.clickhouse.connection import ClickHouse, Lane, Target
from keystead.adapters.clickhouse.schema import make


@contextmanager
def embedded(data_dir: Path) -> Iterator[ClickHouse]:
    """Open the engine with its schema; nothing in it is ever too old, for tests live in the past."""
    target = Target.parse("chdb:", data_dir)
    clickhouse = ClickHouse(target)
    try:
        asyncio.run(clickhouse.writer.run(lambda lane: make(lane, target, None)))
        yield clickhouse
    finally:
        asyncio.run(clickhouse.close())


async def empty(clickhouse: ClickHouse) -> None:
    """Delete everything but the schema, also what the engine remembers of inserts."""

    def work(lane: Lane) -> None:
        kept = "engine LIKE '%MergeTree' AND name != 'schema_versions' AND total_rows > 0"
        asked = f"SELECT name FROM system.tables WHERE database = 'keystead' AND {kept}"  # noqa: S608 -- constants
        for (name,) in lane.rows(asked):
            lane.command(f"TRUNCATE TABLE @{name}")

    await clickhouse.writer.run(work)
