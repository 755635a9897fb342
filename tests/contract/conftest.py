"""Lends each contract test one store after the other: memory, a SQLite file, a real PostgreSQL."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from keystead.adapters.clickhouse.connection import ClickHouse
from keystead.adapters.clickhouse.usage import ClickHouseUsage
from keystead.adapters.memory.usage import MemoryUsage
from keystead.adapters.sql.database import Database
from keystead.adapters.sql.ledger_schema import metadata
from keystead.adapters.sql.migration import migrate
from keystead.adapters.sql.usage import SqlUsage
from tests import clickhouses
from tests.contract.stores import Stores, memory_stores, sql_stores
from tests.contract.usage_stores import Store
from tests.services import PrivatePostgres


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a SQLite file with the schema once; tests work on copies of it."""
    path = tmp_path_factory.mktemp("contract") / "keystead.db"
    asyncio.run(migrate(f"sqlite:///{path}"))
    return path


@pytest.fixture(scope="session")
def migrated_url(postgres: PrivatePostgres) -> str:
    """Make a PostgreSQL database with the schema once; tests empty it behind them."""
    url = postgres.create_database("contract")
    asyncio.run(migrate(url))
    return url


def url_of(kind: str, request: pytest.FixtureRequest, folder: Path) -> str:
    """Return the URL of an empty database with the schema."""
    if kind == "postgresql":
        url: str = request.getfixturevalue("migrated_url")
        return url
    path = folder / "keystead.db"
    shutil.copy(request.getfixturevalue("migrated_file"), path)
    return f"sqlite:///{path}"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Lend the URL of an empty database of each kind."""
    return url_of(request.param, request, tmp_path)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """Lend an empty database of each kind."""
    lent = Database.connect(database_url)
    yield lent
    await empty(lent)


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def stores_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Lend the URL beneath the stores of each kind; memory has none."""
    return "" if request.param == "memory" else url_of(request.param, request, tmp_path)


@pytest.fixture(scope="session")
def clickhouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouse]:
    """Open ClickHouse's engine once, with the schema; tests empty it behind them."""
    with clickhouses.embedded(tmp_path_factory.mktemp("clickhouse")) as opened:
        yield opened


@pytest.fixture(params=["memory", "sqlite", "postgresql", "chdb"])
def usage_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Lend the URL beneath the usage store of each kind; memory has none."""
    if request.param == "chdb":
        for name in ("clickhouse", "migrated_url"):  # are opened by a loop of their own, so before any test's
            request.getfixturevalue(name)
    return request.param if request.param in {"memory", "chdb"} else url_of(request.param, request, tmp_path)


@pytest.fixture
async def stores(stores_url: str) -> AsyncIterator[Stores]:
    """Lend the stores of each kind, empty."""
    if not stores_url:
        yield memory_stores()
        return
    lent = Database.connect(stores_url)
    yield sql_stores(lent)
    await empty(lent)


@pytest.fixture
async def usage_store(usage_url: str, request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    """Lend the usage store of each kind, empty."""
    if usage_url == "memory":
        yield MemoryUsage()
    elif usage_url == "chdb":
        clickhouse = request.getfixturevalue("clickhouse")
        yield ClickHouseUsage(clickhouse)
        await clickhouses.empty(clickhouse)
    else:
        database = Database.connect(usage_url)
        yield SqlUsage(database)
        await empty(database)


async def empty(database: Database) -> None:
    """Close a database, and delete everything in a PostgreSQL's but its schema: the next test uses it again."""
    if database.kind == "postgresql":
        # TRUNCATE makes new files for every table, which takes ten times as long for the few rows of a test.
        emptied = " ".join(f"DELETE FROM {table.name};" for table in reversed(metadata.sorted_tables))  # noqa: S608 -- our own names
        async with database.writers.begin() as connection:
            await connection.execute(text(f"DO $$ BEGIN {emptied} END $$"))
    await database.close()
