"""Filling a database for benchmarks: what is seeded is as good as what units of work store."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from keystead.adapters.sql.database import Database
from keystead.adapters.sql.engines import SQLITE
from keystead.adapters.sql.seed import seed_keys
from keystead.keys.model import KeyFilter
from tests.contract.stores import sql_stores, walls


async def indexes(database: Database) -> set[str]:
    """Name every index there is."""
    question = "SELECT indexname FROM pg_indexes WHERE schemaname = 'public'"
    if database.kind == SQLITE:
        question = "SELECT name FROM sqlite_master WHERE type = 'index'"
    async with database.statements.connect() as connection:
        return set((await connection.execute(text(question))).scalars())


async def test_seeded_keys_are_keys(database: Database) -> None:
    """A seeded key is read, found by its labels and looked up like any other, and every index is there again."""
    stores = sql_stores(database)
    workspace = stores.make.workspace()
    await stores.add(workspace)
    before = await indexes(database)
    made = [stores.make.key(workspace) for _ in range(20)]
    made[3] = replace(made[3], scopes=("rare:scope", "b:c"), tags=(), secrets=(*made[3].secrets, stores.make.secret()))
    assert await seed_keys(database, iter(made)) == 20
    assert await indexes(database) == before
    async with stores.units.read(walls(workspace)) as unit:
        assert await unit.keys.find(KeyFilter(now_ms=0), limit=30) == [
            replace(key, secrets=tuple(sorted(key.secrets, key=lambda secret: secret.id, reverse=True)))
            for key in reversed(made)
        ]
        assert [key.id for key in await unit.keys.find(KeyFilter(now_ms=0, scope="rare:scope"), limit=2)] == [
            made[3].id
        ]
    assert await stores.snapshots.by_prefix(made[7].secrets[0].prefix) is not None


async def test_seeding_is_all_or_nothing(database: Database) -> None:
    """When one key cannot be stored, none is, and the database is as it was."""
    stores = sql_stores(database)
    workspace = stores.make.workspace()
    await stores.add(workspace)
    before = await indexes(database)
    key = replace(stores.make.key(workspace), scopes=(), tags=())
    with pytest.raises(IntegrityError):
        await seed_keys(database, [key, key])
    assert await indexes(database) == before
    assert await stores.key(key.id) is None
    assert await seed_keys(database, [key]) == 1
