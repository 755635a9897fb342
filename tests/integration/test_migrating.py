"""What `keystead migrate` leaves behind for the first server."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import asyncpg

from keystead.bootstrap import migrate
from keystead.config import load_settings

PARTITIONS = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = CAST($1 AS regclass) ORDER BY 1"


async def partitions_of(url: str, table: str) -> list[str]:
    """Return the names of a table's partitions."""
    connection = await asyncpg.connect(url, timeout=10)
    try:
        return [row[0] for row in await connection.fetch(PARTITIONS, table)]
    finally:
        await connection.close()


def test_the_first_server_finds_partitions(postgres_url: str, tmp_path: Path) -> None:
    """Migrating PostgreSQL makes the days of today and after, beside the one for the rest, so that no call of a first
    server has to wait for one; migrating again changes nothing.
    """
    settings = load_settings(None, database=postgres_url, data_dir=tmp_path)
    before, revision = migrate(settings)
    assert (before, migrate(settings)) == (None, (revision, revision))
    for table in ("calls", "usage_minutes"):
        *days, rest = asyncio.run(partitions_of(postgres_url, table))
        assert (len(days), rest) == (4, f"{table}_rest")
        assert all(re.fullmatch(rf"{table}_\d{{8}}", day) for day in days)
