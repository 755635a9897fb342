"""What it means when a database does not do as it is told.

Drivers, pools and sockets have a hundred ways to say "I cannot answer now"; callers know one, ``UnavailableError``.
What is left, a broken constraint or a wrong statement, is a defect or a conflict and passes through as it is.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from asyncpg.exceptions import InterfaceError, InternalClientError
from sqlalchemy import exc

from keystead.kernel.errors import UnavailableError
from keystead.tenants.errors import NotFoundError

RETRY_AFTER_MS = 1_000
CONFLICT_RETRY_AFTER_MS = 50

_PUBLIC = "The database cannot answer right now; try again."
_PUBLIC_CONFLICT = "Other changes were made at the same moment; try again."

# Primary result codes of SQLite: the file cannot be read or written now, whatever the statement.
_SQLITE = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_NOTADB,
    }
)
# SQLSTATE classes and codes: connection, authorization, resources (disk full, too many connections), operator
# intervention (shutdown, statement timeout), system errors, no such database, read-only (a standby), lock not
# available.
_SQLSTATES = ("08", "28", "53", "57", "58", "3D", "25006", "25P03", "55P03")
_SQLSTATES_OF_CONFLICTS = ("40",)


@contextmanager
def answering() -> Iterator[None]:
    """Turn every error that means "the database cannot answer" into ``UnavailableError``; let all others pass."""
    try:
        yield
    except Exception as error:
        refusal = as_unavailable(error)
        if refusal is None:
            raise
        raise refusal from error


def as_unavailable(error: Exception) -> UnavailableError | None:
    """Return what ``error`` is to a caller when the database cannot answer, or None when it is something else."""
    cause = error.orig if isinstance(error, exc.DBAPIError) and error.orig is not None else error
    internal = f"{type(cause).__name__}: {cause}"[:500]
    if _met_another(cause):
        return UnavailableError(_PUBLIC_CONFLICT, internal=internal, retry_after_ms=CONFLICT_RETRY_AFTER_MS)
    if _invalidated(error) or _out_of_reach(cause):
        return UnavailableError(_PUBLIC, internal=internal, retry_after_ms=RETRY_AFTER_MS)
    return None


@contextmanager
def demanding_workspace(workspace_id: str) -> Iterator[None]:
    """Turn a broken reference to ``workspace_id``, which was deleted meanwhile, into ``NotFoundError``."""
    try:
        yield
    except exc.IntegrityError as error:
        if not _lacks_parent(error.orig):
            raise
        raise NotFoundError("workspace", workspace_id) from error


def _lacks_parent(cause: BaseException | None) -> bool:
    name = getattr(cause, "sqlite_errorname", None)
    return name == "SQLITE_CONSTRAINT_FOREIGNKEY" or getattr(cause, "sqlstate", None) == "23503"


def _invalidated(error: Exception) -> bool:
    return isinstance(error, exc.DBAPIError) and error.connection_invalidated


def _met_another(cause: BaseException) -> bool:
    return _sqlstate(cause).startswith(_SQLSTATES_OF_CONFLICTS)


def _out_of_reach(cause: BaseException) -> bool:
    if isinstance(cause, sqlite3.Error):
        return getattr(cause, "sqlite_errorcode", 0) & 0xFF in _SQLITE or "connection closed" in str(cause).lower()
    if isinstance(cause, OSError | TimeoutError | exc.TimeoutError | exc.DisconnectionError):
        return True
    return _sqlstate(cause).startswith(_SQLSTATES) or _closed_under_us(cause)


def _sqlstate(cause: BaseException) -> str:
    return getattr(cause, "sqlstate", None) or ""


def _closed_under_us(cause: BaseException) -> bool:
    """Say whether asyncpg complains of its connection, not of a value (that error is a ``ValueError`` as well)."""
    origin = cause if isinstance(cause, InterfaceError) else cause.__cause__
    return isinstance(origin, InterfaceError | InternalClientError) and not isinstance(origin, ValueError)
