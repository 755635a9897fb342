"""Which errors mean that the database cannot answer."""

from __future__ import annotations

import sqlite3

import pytest
from asyncpg.exceptions import DataError, InterfaceError, PostgresError
from sqlalchemy import exc

from keystead.adapters.sql.failures import CONFLICT_RETRY_AFTER_MS, answering, as_unavailable
from keystead.kernel.errors import UnavailableError


def from_sqlite(code: int) -> Exception:
    """Make what SQLAlchemy raises for a result code of SQLite."""
    cause = sqlite3.OperationalError("disk I/O error")
    cause.sqlite_errorcode = code
    return exc.OperationalError("SELECT 1", {"hash": "$2b$06$secret"}, cause, hide_parameters=True)


def from_postgresql(sqlstate: str) -> Exception:
    """Make what the driver raises for an SQLSTATE."""
    error: Exception = PostgresError("the server said so")
    vars(error)["sqlstate"] = sqlstate
    return error


@pytest.mark.parametrize(
    "error",
    (
        from_sqlite(sqlite3.SQLITE_BUSY),
        from_sqlite(sqlite3.SQLITE_BUSY_SNAPSHOT),
        from_sqlite(sqlite3.SQLITE_FULL),
        from_sqlite(sqlite3.SQLITE_IOERR_WRITE),
        from_sqlite(sqlite3.SQLITE_CANTOPEN),
        from_sqlite(sqlite3.SQLITE_READONLY_DBMOVED),
        from_sqlite(sqlite3.SQLITE_CORRUPT),
        *[
            from_postgresql(sqlstate)
            for sqlstate in ("08006", "53100", "53300", "57P01", "57014", "58030", "3D000", "28P01")
        ],
        from_postgresql("25006"),
        InterfaceError("connection is closed"),
        exc.TimeoutError("QueuePool limit"),
        exc.DisconnectionError("gone"),
        TimeoutError(),
        ConnectionRefusedError(111, "refused"),
        FileNotFoundError(2, "no file"),
    ),
    ids=repr,
)
def test_a_database_out_of_reach_is_one_error(error: Exception) -> None:
    """Whatever a driver, a pool or a socket says, callers are told the same public sentence, and the log the reason."""
    refusal = as_unavailable(error)
    assert refusal is not None
    assert refusal.public == "The database cannot answer right now; try again."
    assert refusal.internal
    assert "secret" not in refusal.internal


@pytest.mark.parametrize("sqlstate", ("40001", "40P01"))
def test_changes_that_met_are_worth_another_try_at_once(sqlstate: str) -> None:
    """A serialization failure or a deadlock is refused with a short delay."""
    refusal = as_unavailable(from_postgresql(sqlstate))
    assert refusal is not None
    assert refusal.retry_after_ms == CONFLICT_RETRY_AFTER_MS


@pytest.mark.parametrize(
    "error",
    (
        from_sqlite(sqlite3.SQLITE_CONSTRAINT_UNIQUE),
        from_sqlite(sqlite3.SQLITE_ERROR),
        from_postgresql("23505"),
        from_postgresql("42P01"),
        DataError("invalid input for query argument $1"),
        ValueError("a defect"),
        KeyError("a defect"),
    ),
    ids=repr,
)
def test_a_defect_stays_a_defect(error: Exception) -> None:
    """A broken constraint, a wrong statement or a wrong value is not dressed up as an outage."""
    assert as_unavailable(error) is None
    with pytest.raises(type(error)), answering():
        raise error


def test_the_reason_stays_with_the_error() -> None:
    """The error that caused a refusal is kept as its cause."""
    cause = OSError(5, "input/output error")
    with pytest.raises(UnavailableError) as refusal, answering():
        raise cause
    assert refusal.value.__cause__ is cause
