"""What migrating makes, and which databases a server refuses to start on."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, inspect, text

from keystead.adapters.sql.database import Database
from keystead.adapters.sql.ledger_schema import metadata
from keystead.adapters.sql.migration import (
    SchemaMismatchError,
    check_schema,
    current_revision,
    head_revision,
    migrate,
)
from keystead.adapters.sql.partitions import is_partition
from keystead.kernel.errors import InvalidRequestError, UnavailableError
from tests.services import PrivatePostgres

_numbers = itertools.count(1)
# A partition is a table to PostgreSQL, and none of ours: ``made`` describes each of them.
_WITHOUT_PARTITIONS = {"include_name": lambda name, _kind, _parents: name is None or not is_partition(name)}


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Lend the URL of a database of each kind that holds nothing yet."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'keystead.db'}"
        return
    server: PrivatePostgres = request.getfixturevalue("postgres")
    name = f"schema_{next(_numbers)}"
    yield server.create_database(name)
    server.drop_database(name)


async def asked(url: str, question: Any) -> Any:
    """Run a synchronous ``question`` on a connection to ``url``."""
    database = Database.connect(url)
    async with database.writers.connect() as connection:
        answer = await connection.run_sync(question)
        await connection.commit()
    await database.close()
    return answer


def made(connection: Connection) -> dict[str, object]:
    """Describe everything that stands in a database, as exactly as it can tell."""
    if connection.dialect.name == "sqlite":
        rows = connection.execute(text("SELECT name, sql FROM sqlite_master WHERE name NOT LIKE 'alembic%'"))
        return {row.name: row.sql and "".join(row.sql.split()) for row in rows}
    columns = connection.execute(
        text(
            "SELECT table_name || '.' || column_name AS name, data_type, is_nullable, collation_name "
            "FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> 'alembic_version'"
        )
    )
    indexes = connection.execute(text("SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'"))
    rules = connection.execute(
        text(
            "SELECT conname, pg_get_constraintdef(oid) AS rule FROM pg_constraint "
            "WHERE connamespace = 'public'::regnamespace"
        )
    )
    described: dict[str, object] = {row.name: tuple(row[1:]) for row in columns}
    described |= {row.indexname: row.indexdef for row in indexes}
    described |= {f"rule {row.conname}": row.rule for row in rules}
    return {name: what for name, what in described.items() if "alembic" not in name}


def modes_in(folder: Path) -> dict[str, int]:
    """Return who may do what with each file in ``folder``."""
    return {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()}


async def test_migrating_makes_exactly_the_tables_of_the_code(empty_url: str) -> None:
    """A migrated database and the tables that the code works with do not differ, down to collations and rules."""
    await migrate(empty_url)
    migrated = await asked(empty_url, made)
    differences = await asked(
        empty_url,
        lambda connection: compare_metadata(MigrationContext.configure(connection, opts=_WITHOUT_PARTITIONS), metadata),
    )
    assert differences == []

    def remake(connection: Connection) -> dict[str, object]:
        metadata.drop_all(connection)
        metadata.create_all(connection)
        return made(connection)

    assert await asked(empty_url, remake) == migrated
    assert len(migrated) > 50 or empty_url.startswith("sqlite")


async def test_migrating_again_changes_nothing(empty_url: str) -> None:
    """Migrating is safe to repeat, and tells the revision it ended at."""
    assert await current_revision(empty_url) is None
    assert await migrate(empty_url) == head_revision()
    before = await asked(empty_url, made)
    assert await migrate(empty_url) == head_revision()
    assert await current_revision(empty_url) == head_revision()
    assert await asked(empty_url, made) == before
    await check_schema(empty_url)


async def test_migrations_that_start_at_once_run_one_after_the_other(empty_url: str) -> None:
    """When every node migrates at its start, all of them succeed."""
    revisions = await asyncio.gather(*[migrate(empty_url) for _ in range(4)])
    assert set(revisions) == {head_revision()}
    await check_schema(empty_url)


async def test_a_database_without_tables_is_refused(empty_url: str) -> None:
    """A server does not start on an empty database; it says which command makes the tables."""
    with pytest.raises(SchemaMismatchError, match="keystead migrate") as refusal:
        await check_schema(empty_url)
    assert refusal.value.code == "schema_mismatch"


async def test_a_database_of_a_newer_version_is_refused_and_left_alone(empty_url: str) -> None:
    """What a newer version migrated is neither served nor touched by an older one."""
    await migrate(empty_url)
    await asked(
        empty_url, lambda connection: connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    )
    for attempt in (check_schema, migrate):
        with pytest.raises(SchemaMismatchError, match="newer version ran `keystead migrate`"):
            await attempt(empty_url)
    assert await current_revision(empty_url) == "9999"


async def test_a_migration_that_fails_leaves_nothing(empty_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A migration that stops half-way has changed nothing, and the next attempt starts afresh."""

    def stop_half_way(connection: Connection) -> None:
        connection.execute(text("CREATE TABLE half_done (id TEXT)"))
        raise RuntimeError("stopped")

    monkeypatch.setattr("keystead.adapters.sql.migration._upgrade", stop_half_way)
    with pytest.raises(RuntimeError, match="stopped"):
        await migrate(empty_url)
    monkeypatch.undo()
    assert await asked(empty_url, lambda connection: inspect(connection).get_table_names()) == []
    await migrate(empty_url)


async def test_a_new_file_is_its_owners_alone(tmp_path: Path) -> None:
    """A SQLite file that migrating makes, and the files beside it, cannot be read by other users."""
    path = tmp_path / "keystead.db"
    await migrate(f"sqlite:///{path}")
    database = Database.connect(f"sqlite:///{path}")
    await database.ping()
    assert set(modes_in(tmp_path)) == {"keystead.db", "keystead.db-shm", "keystead.db-wal"}
    assert set(modes_in(tmp_path).values()) == {0o600}
    assert await asked(f"sqlite:///{path}", lambda connection: connection.scalar(text("PRAGMA journal_mode"))) == "wal"
    await database.close()


async def test_a_folder_that_is_not_there_is_reported(tmp_path: Path) -> None:
    """Migrating makes a file, not folders: a mistyped path is refused rather than created."""
    with pytest.raises(UnavailableError):
        await migrate(f"sqlite:///{tmp_path / 'nowhere' / 'keystead.db'}")


async def test_a_path_may_hold_anything(tmp_path: Path) -> None:
    """Blanks, percent signs, question marks and hashes in a path are taken as they are."""
    folder = tmp_path / "a b%20c#d?e=f"
    folder.mkdir()
    await migrate(f"sqlite:///{folder / 'k.db'}")
    assert "k.db" in modes_in(folder)
    await check_schema(f"sqlite:///{folder / 'k.db'}")
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    "url",
    (
        "",
        "k.db",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///",
        "mysql://u:s3cret@h/d",
        "postgresql://u:s3cret@h",
        "http://x",
    ),
)
def test_other_urls_are_refused_without_repeating_them(url: str) -> None:
    """A URL that names no database we know is refused with what to write; a password in it is not repeated."""
    with pytest.raises(InvalidRequestError, match="sqlite:///PATH or postgresql://") as refusal:
        Database.connect(url)
    assert "s3cret" not in refusal.value.public
