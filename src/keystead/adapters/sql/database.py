"""One database, SQLite or PostgreSQL, and the ways into it.

Nothing connects before the first statement, so a process starts, and answers ``UNAVAILABLE``, while its database is
away; it goes on by itself when the database is back (P10, P12).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import lru_cache
from typing import Any

import asyncpg
from asyncpg.exceptions import InterfaceError, PostgresError
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.sql.dml import Insert
from sqlalchemy.sql.schema import Table

from keystead.adapters.sql.engines import (
    BEGIN_OPTION,
    POSTGRESQL,
    SQLITE,
    DatabaseSettings,
    kind_of,
    postgresql_engine,
    sqlite_engine,
)
from keystead.adapters.sql.failures import answering

_FETCH_RETRIES = 1

_Ask = Callable[[Any, str, Sequence[object]], Awaitable[Sequence[Sequence[Any]]]]


class Database:
    """The engines of one database. ``kind`` is ``sqlite`` or ``postgresql``; ``close`` ends every connection."""

    def __init__(
        self, kind: str, *, settings: DatabaseSettings, writers: AsyncEngine, readers: AsyncEngine, lookups: AsyncEngine
    ) -> None:
        """Use ``connect`` instead."""
        self.kind = kind
        self.settings = settings
        self._engines = {writers, readers, lookups}
        self.writers = writers
        self._lookups = lookups
        if kind == SQLITE:
            self.statements = readers
            self.snapshots = readers.execution_options(**{BEGIN_OPTION: "BEGIN"})
            self.sequencers = writers
        else:
            self.statements = readers.execution_options(isolation_level="AUTOCOMMIT")
            self.snapshots = readers.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            self.sequencers = lookups

    @classmethod
    def connect(cls, url: str, *, settings: DatabaseSettings | None = None) -> Database:
        """Prepare the way to ``sqlite:///PATH`` or ``postgresql://…``; raise ``InvalidRequestError`` for others."""
        settings = settings or DatabaseSettings()
        kind = kind_of(url)
        if kind == POSTGRESQL:
            units = postgresql_engine(url, settings, connections=settings.pool_size)
            lookups = postgresql_engine(url, settings, connections=settings.verification_pool_size)
            return cls(kind, settings=settings, writers=units, readers=units, lookups=lookups)
        return cls(
            kind,
            settings=settings,
            writers=sqlite_engine(url, settings, connections=1, writes=True),
            readers=sqlite_engine(url, settings, connections=settings.verification_pool_size, writes=False),
            lookups=sqlite_engine(
                url, settings, connections=settings.verification_pool_size, writes=False, transactions=False
            ),
        )

    async def close(self) -> None:
        """End every connection; what is under way on one of them fails."""
        for engine in self._engines:
            await engine.dispose()

    async def ping(self) -> None:
        """Raise ``UnavailableError`` unless the database answers now."""
        await self.fetch("SELECT 1")

    def insert_new(self, table: Table) -> Insert:
        """Make an INSERT that does nothing, and says so by its row count, when the row is there already.

        On PostgreSQL a plain INSERT that fails would end the transaction with it.
        """
        if self.kind == SQLITE:
            return sqlite.insert(table).on_conflict_do_nothing()
        return postgresql.insert(table).on_conflict_do_nothing()

    async def acquire(self, engine: AsyncEngine) -> AsyncConnection:
        """Take a connection out of the pool; raise ``UnavailableError`` when there is none in time."""
        with answering():
            return await engine.connect()

    @asynccontextmanager
    async def asking(self, connection: AsyncConnection) -> AsyncIterator[None]:
        """Guard one question to the database: what means "I cannot answer" is raised as ``UnavailableError``."""
        with answering():
            try:
                yield
            except TimeoutError:
                await self.abandon(connection)
                raise

    async def release(self, connection: AsyncConnection) -> None:
        """Give a connection back, without its transaction; one that cannot be cleaned is thrown away."""
        try:
            await connection.close()
        except (SQLAlchemyError, OSError, TimeoutError):
            await self.abandon(connection)

    async def abandon(self, connection: AsyncConnection) -> None:
        """Throw away a connection that did not answer, without asking it anything more; it may be gone already."""
        with suppress(SQLAlchemyError, OSError, TimeoutError, ValueError):
            raw = await connection.get_raw_connection()
            await _hang_up(raw.driver_connection)
            await connection.invalidate()

    async def fetch(self, statement: str, *parameters: object) -> Sequence[Sequence[Any]]:
        """Run one reading statement in the lane of verification, straight on the driver, with ``?`` for parameters.

        SQLAlchemy's own execution takes three times as long (on SQLite each of its steps is a trip to another thread),
        which matters for cold verifications and the log's polls and for nothing else.
        """
        ask = _ask_postgresql if self.kind == POSTGRESQL else _ask_sqlite
        with answering():
            async with asyncio.timeout(self.settings.command_timeout_ms / 1_000):
                for _ in range(_FETCH_RETRIES):
                    with suppress(_HungUpError):
                        return await self._fetch(ask, statement, parameters)
                return await self._fetch(ask, statement, parameters)

    async def _fetch(self, ask: _Ask, statement: str, parameters: Sequence[object]) -> Sequence[Sequence[Any]]:
        connection = await self._lookups.connect()
        try:
            raw = await connection.get_raw_connection()
            return await ask(raw.driver_connection, statement, parameters)
        except BaseException:
            await self.abandon(connection)
            raise
        finally:
            await self.release(connection)


class _HungUpError(OSError):
    """Raised when a pooled connection turns out to be closed: the server was restarted, and a new one may well work."""


async def _ask_sqlite(driver: Any, statement: str, parameters: Sequence[object]) -> Sequence[Sequence[Any]]:
    return list(await driver.execute_fetchall(statement, parameters))


async def _ask_postgresql(driver: Any, statement: str, parameters: Sequence[object]) -> Sequence[Sequence[Any]]:
    try:
        rows: Sequence[Sequence[Any]] = await driver.fetch(_numbered(statement), *parameters)
    except (PostgresError, InterfaceError, OSError) as error:
        if driver.is_closed():
            raise _HungUpError("the server closed the connection") from error
        raise
    return rows


@lru_cache(maxsize=64)
def _numbered(statement: str) -> str:
    """Write ``$1``, ``$2``, … in the place of each ``?``; the statements are ours and hold none in a text."""
    first, *rest = statement.split("?")
    return first + "".join(f"${number}{part}" for number, part in enumerate(rest, start=1))


async def _hang_up(driver: Any) -> None:
    if isinstance(driver, asyncpg.Connection):
        driver.terminate()
    else:
        await driver.interrupt()
