"""Wake-ups by PostgreSQL's LISTEN and NOTIFY: a process that has committed something tells the others to read the log.

NOTIFY is never part of the change's own transaction: PostgreSQL lets only one transaction that notifies commit at a
time. It is sent afterwards, on a connection of its own outside the pools, once for everything that was told within a
moment. While that connection is lost nobody is told and nobody hears, and the log is read when its time comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from random import SystemRandom
from typing import Any

import asyncpg
import structlog
from asyncpg.exceptions import InterfaceError, InternalClientError, PostgresError

from keystead.adapters.sql.engines import DatabaseSettings, connect_postgresql

CHANNEL = "keystead_log"
APART_S = 0.01
"""The first news is told at once, and what comes within so long after it together; nobody reads the log more often."""
LOOK_AFTER_S = 10.0
"""A connection that nothing was sent on for so long is asked whether it is still there."""
FLOOD_PER_S = 5_000
"""With more than this, hearing costs more than it is worth: the process hangs up and reads the log in its own time."""
PAUSE_MIN_S = 0.1
PAUSE_MAX_S = 5.0

# What a connection that cannot be made or used raises; a timeout is an OSError.
_LOST = (PostgresError, InterfaceError, InternalClientError, OSError)

_log = structlog.get_logger(__name__)
_random = SystemRandom()


class PostgresWaker:
    """What wakes the processes on one database, and this one; ``sent`` and ``received`` count wake-ups."""

    def __init__(self, url: str, settings: DatabaseSettings, *, name: str, on_wake: Callable[[], None]) -> None:
        """Tell others by ``name``, which is how a process knows its own word; ``on_wake`` must return at once."""
        self._url = url
        self._settings = settings
        self._name = name
        self._on_wake = on_wake
        self._news = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._counted_from_s = 0.0
        self._counted = 0
        self.sent = 0
        self.received = 0
        self.listening = False

    def start(self) -> None:
        """Connect, in the background, and again whenever the connection was lost."""
        self._keeper = asyncio.create_task(self._keep(), name="wake-ups")

    async def close(self) -> None:
        """Hear and tell nothing more."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            with suppress(asyncio.CancelledError):
                await keeper

    def tell(self) -> None:
        """Tell the others soon."""
        self._news.set()

    async def _keep(self) -> None:
        pause_s = PAUSE_MIN_S
        while True:
            try:
                connection = await connect_postgresql(self._url, self._settings)
            except _LOST as error:
                _log.info("nobody can be woken", why=type(error).__name__)
            else:
                await self._use(connection)
                pause_s = PAUSE_MAX_S if self._counted > FLOOD_PER_S else PAUSE_MIN_S
            await asyncio.sleep(pause_s * _random.uniform(0.5, 1.0))
            pause_s = min(pause_s * 2, PAUSE_MAX_S)

    async def _use(self, connection: asyncpg.Connection) -> None:
        """Listen and tell on ``connection`` until it is lost."""
        try:
            connection.add_termination_listener(self._lost)
            await connection.add_listener(CHANNEL, self._heard)
            self.listening = True
            self._on_wake()  # what was told while nobody listened is lost
            await self._tell_on(connection)
        except _LOST as error:
            _log.warning("wake-ups are lost; the log is read when its time comes", why=type(error).__name__)
        finally:
            self.listening = False
            connection.terminate()

    async def _tell_on(self, connection: asyncpg.Connection) -> None:
        while not connection.is_closed():
            try:
                async with asyncio.timeout(LOOK_AFTER_S):
                    await self._news.wait()
            except TimeoutError:
                await connection.execute("SELECT 1")
                continue
            self._news.clear()
            await connection.execute("SELECT pg_notify($1, $2)", CHANNEL, self._name)
            self.sent += 1
            await asyncio.sleep(APART_S)

    def _heard(self, connection: Any, _pid: int, _channel: str, payload: object) -> None:
        now_s = asyncio.get_running_loop().time()
        if now_s - self._counted_from_s > 1:
            self._counted_from_s, self._counted = now_s, 0
        self._counted += 1
        if self._counted > FLOOD_PER_S:
            connection.terminate()
        if payload != self._name:
            self.received += 1
            self._on_wake()

    def _lost(self, _connection: object) -> None:
        """Notice at once, and not when there is something to tell."""
        self._news.set()
