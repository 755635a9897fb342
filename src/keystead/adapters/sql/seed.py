"""Filling a database with very many keys, for benchmarks: past the units of work, and without events.

One statement for each table and batch, straight on the driver, rows in the order of their ids, all in one transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from sqlalchemy import Index, Table, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.schema import CreateIndex, DropIndex

from keystead.adapters.sql import schema
from keystead.adapters.sql.database import Database
from keystead.adapters.sql.engines import SQLITE
from keystead.adapters.sql.keys import key_values, label_rows, secret_values
from keystead.keys.model import Key
from keystead.limits.model import ENTERPRISE

SEEDED_AT_ONCE = 10_000
# Enough for the indexes that grow in random order to stay in memory; the connection is closed afterwards.
_SQLITE_CACHE = "PRAGMA cache_size = -524288"


async def seed_keys(database: Database, keys: Iterable[Key], *, plan: str = ENTERPRISE) -> int:
    """Insert ``keys``, whose workspaces are there already, and return how many; all of them or none.

    They are taken from ``keys`` in batches of 10,000, so it may be a generator of more than memory holds. One without a
    plan gets the one of this name, where its workspace has it: what is measured is not to be limited.
    """
    count = 0
    async with database.writers.connect() as connection:
        plan_ids = await _plans_named(connection, plan)
        if database.kind == SQLITE:
            await connection.exec_driver_sql(_SQLITE_CACHE)
        indexes = await _drop_indexes(connection)
        for batch in _batches(keys):
            await _insert(connection, schema.keys, [_row(key, plan_ids) for key in batch])
            secrets = [secret_values(key, secret) for key in batch for secret in key.secrets]
            await _insert(connection, schema.secrets, secrets)
            await _insert(connection, schema.key_labels, [row for key in batch for row in label_rows(key)])
            count += len(batch)
        for index in indexes:
            await connection.execute(CreateIndex(index))
        await connection.commit()
        await connection.invalidate()
    return count


async def _plans_named(connection: AsyncConnection, name: str) -> dict[str, str]:
    """Return the ids of the plans of this name, by workspace."""
    wanted = select(schema.plans.c.workspace_id, schema.plans.c.id).where(schema.plans.c.name == name)
    return {row.workspace_id: row.id for row in await connection.execute(wanted)}


def _row(key: Key, plan_ids: Mapping[str, str]) -> dict[str, object]:
    return key_values(key) | {"plan_id": key.plan_id or plan_ids.get(key.workspace_id, "")}


async def _drop_indexes(connection: AsyncConnection) -> list[Index]:
    """Drop the indexes that only make questions fast: building them at the end takes a fraction of the time."""
    indexes = [index for table in (schema.keys, schema.secrets, schema.key_labels) for index in table.indexes]
    for index in indexes:
        await connection.execute(DropIndex(index))
    return indexes


async def _insert(connection: AsyncConnection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    if rows:
        names = list(rows[0])
        statement = insert(table).values(dict.fromkeys(names)).compile(dialect=connection.dialect)
        values = [tuple([row[name] for name in statement.positiontup or names]) for row in rows]
        await connection.exec_driver_sql(str(statement), values)


def _batches(keys: Iterable[Key]) -> Iterator[list[Key]]:
    remaining = iter(keys)
    while batch := list(islice(remaining, SEEDED_AT_ONCE)):
        yield batch
