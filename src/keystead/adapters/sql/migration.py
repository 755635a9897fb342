"""Bringing a database to this version's schema, and refusing to work on any other.

Migrations are Alembic's, run without its configuration file, all in one transaction under a lock: two that start at
once run one after the other, and one that is killed has changed nothing.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib import resources
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncConnection

from keystead.adapters.sql.engines import (
    SQLITE,
    DatabaseSettings,
    kind_of,
    postgresql_engine,
    sqlite_engine,
    sqlite_path,
)
from keystead.adapters.sql.failures import answering
from keystead.kernel.errors import StartError

# A migration may rewrite a large table, and it may wait for the one that another node has begun.
_SETTINGS = DatabaseSettings(command_timeout_ms=3_600_000, idle_timeout_ms=60_000)
_MIGRATION_LOCK = int.from_bytes(b"migrate!")


class SchemaMismatchError(StartError):
    """Raised when a database does not have the schema that this version works with."""

    code = "schema_mismatch"

    def __init__(self, found: str | None, *, known: bool) -> None:
        """Say which revision was ``found``, and whether this version knows how to go on from it."""
        if found is None:
            public = "The database has no tables yet; run `keystead migrate`."
        elif known:
            public = f"The database is at schema {found}, this version needs {head_revision()}; run `keystead migrate`."
        else:
            public = f"The database is at schema {found}: a newer version ran `keystead migrate`; use that version."
        super().__init__(public=public)


def head_revision() -> str:
    """Return the schema that this version works with."""
    return ScriptDirectory.from_config(_config()).get_current_head() or ""


async def migrate(url: str) -> str:
    """Bring the database at ``url`` to this version's schema and return its revision; make a missing SQLite file.

    Raises ``UnavailableError`` when the database cannot answer, ``SchemaMismatchError`` when it is of a newer version.
    """
    if kind_of(url) == SQLITE:
        _make_file(Path(sqlite_path(url)))
    with answering():
        async with _connected(url, writes=True) as connection:
            if kind_of(url) != SQLITE:
                await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _MIGRATION_LOCK})
            await connection.run_sync(_upgrade)
            await connection.commit()
    return head_revision()


async def current_revision(url: str) -> str | None:
    """Return the schema that the database at ``url`` has; None when it has none."""
    if kind_of(url) == SQLITE and not os.access(sqlite_path(url), os.F_OK):
        return None
    with answering():
        async with _connected(url, writes=False) as connection:
            return await connection.run_sync(_revision)


async def check_schema(url: str) -> None:
    """Raise ``SchemaMismatchError`` unless the database at ``url`` has this version's schema."""
    found = await current_revision(url)
    if found != head_revision():
        raise SchemaMismatchError(found, known=_is_known(found))


@asynccontextmanager
async def _connected(url: str, *, writes: bool) -> AsyncIterator[AsyncConnection]:
    if kind_of(url) == SQLITE:
        engine = sqlite_engine(url, _SETTINGS, connections=1, writes=writes)
    else:
        engine = postgresql_engine(url, _SETTINGS, connections=1)
    try:
        async with engine.connect() as connection:
            yield connection
    finally:
        await engine.dispose()


def _make_file(path: Path) -> None:
    """Make an empty database that nobody but its owner reads; SQLite gives its other files the same rights."""
    with answering(), suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))


def _upgrade(connection: Connection) -> None:
    found = _revision(connection)
    if not _is_known(found):
        raise SchemaMismatchError(found, known=False)
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _is_known(revision: str | None) -> bool:
    if revision is None:
        return True
    scripts = ScriptDirectory.from_config(_config())
    return revision in {script.revision for script in scripts.walk_revisions()}


def _config() -> Config:
    config = Config()
    folder = str(resources.files("keystead.adapters.sql") / "migrations")
    config.set_main_option("script_location", folder.replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
