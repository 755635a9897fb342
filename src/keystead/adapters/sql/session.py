"""The statements of one unit of work, and when its transaction begins.

A unit that only reads sees one moment of the database. In a unit that writes, plain reads before the first lock or
change stand alone, as they would under READ COMMITTED, and the transaction begins with that lock or change: whoever
asks something and then works slowly (bcrypt) holds neither SQLite's one writing connection nor one of PostgreSQL's pool
meanwhile.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from sqlalchemy import CursorResult, Executable, Row
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from keystead.adapters.sql.database import Database
from keystead.adapters.walls import ReadOnlyUnitError

Result = TypeVar("Result")
Parameters = Mapping[str, object] | Sequence[Mapping[str, object]] | None


class Session:
    """Runs the statements of one unit; whoever makes it ends it with ``commit`` or ``rollback``."""

    def __init__(self, database: Database, *, read_only: bool, engine: AsyncEngine | None = None) -> None:
        """Connect to nothing before the first statement; write through ``engine`` rather than the units' own."""
        self.database = database
        self.read_only = read_only
        self._engine = engine or (database.snapshots if read_only else database.writers)
        self._connection: AsyncConnection | None = None

    async def read(self, statement: Executable) -> Sequence[Row[Any]]:
        """Return every row of a reading statement."""
        if self._connection is not None or self.read_only:
            connection = await self._begun()
            return (await self._execute(connection, statement, None)).all()
        connection = await self.database.acquire(self.database.statements)
        try:
            return (await self._execute(connection, statement, None)).all()
        finally:
            await self.database.release(connection)

    async def lock(self, statement: Executable) -> Sequence[Row[Any]]:
        """Return every row of a statement that says ``FOR UPDATE``; raise ``ReadOnlyUnitError`` in a reading unit."""
        self.demand_writable()
        connection = await self._begun()
        return (await self._execute(connection, statement, None)).all()

    async def write(self, statement: Executable, parameters: Parameters = None) -> int:
        """Run a changing statement, once for each of ``parameters``; return how many rows it changed.

        The number means nothing when there were several ``parameters``. Raises ``ReadOnlyUnitError`` in a reading unit.
        """
        self.demand_writable()
        connection = await self._begun()
        return (await self._execute(connection, statement, parameters)).rowcount

    async def on_driver(self, work: Callable[[Any], Awaitable[Result]]) -> Result:
        """Do ``work`` with the driver's own connection, for what SQLAlchemy would take many times as long for.

        It is part of the unit's transaction, which a lock or a change must have begun before.
        """
        self.demand_writable()
        connection = await self._begun()
        async with self.database.asking(connection):
            raw = await connection.get_raw_connection()
            return await work(raw.driver_connection)

    def demand_writable(self) -> None:
        """Raise ``ReadOnlyUnitError`` when the unit was opened for reading alone."""
        if self.read_only:
            raise ReadOnlyUnitError("this unit of work was opened for reading alone")

    async def commit(self) -> None:
        """Make everything lasting; when it raises ``UnavailableError``, nobody knows whether it did."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            async with self.database.asking(connection):
                await connection.commit()
        finally:
            await self.database.release(connection)

    async def rollback(self) -> None:
        """Undo everything since the transaction began."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await self.database.release(connection)

    async def _begun(self) -> AsyncConnection:
        if self._connection is None:
            self._connection = await self.database.acquire(self._engine)
        return self._connection

    async def _execute(
        self, connection: AsyncConnection, statement: Executable, parameters: Parameters
    ) -> CursorResult[Any]:
        async with self.database.asking(connection):
            return await connection.execute(statement, parameters)


@asynccontextmanager
async def transaction(database: Database, *, engine: AsyncEngine | None = None) -> AsyncIterator[Session]:
    """Lend a writing session that commits when its block ends and rolls back when it raises."""
    session = Session(database, read_only=False, engine=engine)
    try:
        yield session
    except BaseException:
        await session.rollback()
        raise
    await session.commit()
