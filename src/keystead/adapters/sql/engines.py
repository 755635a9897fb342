"""How connections are made: one engine for what has its own lane, with every wait bounded.

SQLite has one connection that writes and a few that only read, so a reader never waits for a writer. PostgreSQL has two
pools, one for units of work and one for verification and the log, so that no flood of management calls keeps a process
from hearing of a revocation. Parameters never enter an error text: they hold hashes.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import asyncpg
from sqlalchemy import Connection, event, exc
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from keystead.kernel.errors import invalid

SQLITE = "sqlite"
POSTGRESQL = "postgresql"
BEGIN_OPTION = "keystead_begin"

_SQLITE_CACHE_KIB = 16_384
_SQLITE_WAL_BYTES_KEPT = 64 * 1024 * 1024
_KEEPALIVE_IDLE_S = 10
_KEEPALIVE_INTERVAL_S = 5
_KEEPALIVE_PROBES = 3
_CLIENT_GRACE_MS = 500


@dataclass(frozen=True, slots=True)
class DatabaseSettings:
    """Every bound of the way to the database; times are milliseconds.

    ``pool_size`` connections carry units of work, ``verification_pool_size`` verification and the log. A call waits at
    most ``pool_timeout_ms`` for a connection, ``connect_timeout_ms`` for a new one and ``command_timeout_ms`` for each
    statement; a transaction that lies idle longer than ``idle_timeout_ms`` is ended by the server.
    """

    pool_size: int = 10
    verification_pool_size: int = 4
    pool_timeout_ms: int = 5_000
    connect_timeout_ms: int = 5_000
    command_timeout_ms: int = 5_000
    idle_timeout_ms: int = 10_000


def kind_of(url: str) -> str:
    """Return ``sqlite`` or ``postgresql``; raise ``InvalidRequestError`` for any other URL, without repeating it."""
    scheme = url.partition("://")[0]
    if scheme == SQLITE and sqlite_path(url):
        return SQLITE
    if scheme in {POSTGRESQL, "postgres"}:
        with contextlib.suppress(ValueError):
            if urlsplit(url).path.strip("/"):
                return POSTGRESQL
    raise invalid("database", "must be sqlite:///PATH or postgresql://USER@HOST:PORT/NAME")


def sqlite_path(url: str) -> str:
    """Return the path in a ``sqlite:///PATH`` URL, taken as it is; empty when there is none.

    A database in memory is not offered: no other connection would see it.
    """
    path = url.removeprefix(f"{SQLITE}:///")
    return "" if path in {url, ":memory:"} else path


def sqlite_engine(
    url: str, settings: DatabaseSettings, *, connections: int, writes: bool, transactions: bool = True
) -> AsyncEngine:
    """Make the engine for one lane of a SQLite file.

    Transactions are begun by the ``begin`` event, because Python's driver would otherwise choose the moment itself.
    """
    engine = create_async_engine(
        _file(url),
        poolclass=AsyncAdaptedQueuePool,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=settings.pool_timeout_ms / 1_000,
        pool_reset_on_return="rollback" if transactions else None,
        connect_args={"timeout": settings.command_timeout_ms / 1_000, "isolation_level": None},
        hide_parameters=True,
    )

    @event.listens_for(engine.sync_engine, "do_connect")
    def look_first(*_arguments: object) -> None:
        """Refuse what the driver would fail at only after it has started a thread; never open the file to find out.

        Closing a file drops every lock that its process holds on it, SQLite's included.
        """
        if not os.access(sqlite_path(url), os.R_OK | os.W_OK):
            raise FileNotFoundError(errno.ENOENT, "there is no database file that may be read and written")

    @event.listens_for(engine.sync_engine, "connect")
    def prepare(connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        for pragma in _pragmas(settings, writes=writes):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Connection) -> None:
        statement = "BEGIN IMMEDIATE" if writes else connection.get_execution_options().get(BEGIN_OPTION)
        if statement:
            connection.exec_driver_sql(statement)

    return engine


def _file(url: str) -> URL:
    """Name the file so that opening it never creates it: that is the migration's part."""
    name = "file:" + quote(str(Path(sqlite_path(url)).absolute()))
    return URL.create("sqlite+aiosqlite", database=name, query={"mode": "rw", "uri": "true"})


def _pragmas(settings: DatabaseSettings, *, writes: bool) -> list[str]:
    return [
        f"busy_timeout = {settings.command_timeout_ms}",
        "journal_mode = WAL",
        f"journal_size_limit = {_SQLITE_WAL_BYTES_KEPT}",
        "synchronous = FULL",
        "foreign_keys = ON",
        "secure_delete = FAST",
        "temp_store = MEMORY",
        f"cache_size = -{_SQLITE_CACHE_KIB}",
        f"query_only = {'OFF' if writes else 'ON'}",
    ]


def postgresql_engine(url: str, settings: DatabaseSettings, *, connections: int) -> AsyncEngine:
    """Make the engine for one pool of PostgreSQL connections."""
    engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=partial(connect_postgresql, url, settings),
        poolclass=AsyncAdaptedQueuePool,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=settings.pool_timeout_ms / 1_000,
        isolation_level="READ COMMITTED",
        hide_parameters=True,
    )

    @event.listens_for(engine.sync_engine, "checkout")
    def refuse_dead(connection: Any, _record: object, _proxy: object) -> None:
        """Make the pool drop what the server has hung up on, instead of asking the server each time."""
        if connection.driver_connection.is_closed():
            raise exc.DisconnectionError("the server has closed this connection")

    return engine


async def connect_postgresql(url: str, settings: DatabaseSettings) -> asyncpg.Connection:
    """Make one connection; raise ``OSError``, ``PostgresError`` or ``InterfaceError`` when there is none to be had.

    The URL goes to asyncpg as it is, so it may say whatever libpq understands (``sslmode``, several hosts, …).
    """
    connection: asyncpg.Connection = await asyncpg.connect(
        url,
        timeout=settings.connect_timeout_ms / 1_000,
        command_timeout=(settings.command_timeout_ms + _CLIENT_GRACE_MS) / 1_000,
        connection_class=_WatchedConnection,
        server_settings=_server_settings(settings),
    )
    return connection


def _server_settings(settings: DatabaseSettings) -> dict[str, str]:
    return {
        "application_name": "keystead",
        "statement_timeout": str(settings.command_timeout_ms),
        "idle_in_transaction_session_timeout": str(settings.idle_timeout_ms),
        "tcp_keepalives_idle": str(_KEEPALIVE_IDLE_S),
        "tcp_keepalives_interval": str(_KEEPALIVE_INTERVAL_S),
        "tcp_keepalives_count": str(_KEEPALIVE_PROBES),
        "tcp_user_timeout": str(settings.idle_timeout_ms),
        "jit": "off",
    }


class _WatchedConnection(asyncpg.Connection):
    """A connection whose socket notices by itself that the other side is gone, so a pool never hoards dead ones."""

    __slots__ = ()

    def __init__(self, protocol: Any, transport: Any, *rest: Any) -> None:
        super().__init__(protocol, transport, *rest)
        peer = transport.get_extra_info("socket")
        if peer is not None and peer.family in {socket.AF_INET, socket.AF_INET6}:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, value in _SOCKET_OPTIONS.items():
                if hasattr(socket, name):  # not every system has each of them
                    peer.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


_SOCKET_OPTIONS = {
    "TCP_KEEPIDLE": _KEEPALIVE_IDLE_S,
    "TCP_KEEPINTVL": _KEEPALIVE_INTERVAL_S,
    "TCP_KEEPCNT": _KEEPALIVE_PROBES,
    "TCP_USER_TIMEOUT": (_KEEPALIVE_IDLE_S + _KEEPALIVE_INTERVAL_S) * 1_000,
}
