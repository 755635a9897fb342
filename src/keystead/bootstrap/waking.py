"""How a process hears at once of what others have changed, and knows when all of them have heard of its own changes."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

from keystead import __version__
from keystead.adapters.files import data_directory
from keystead.adapters.sql.database import Database
from keystead.adapters.sql.engines import POSTGRESQL
from keystead.adapters.sql.nodes import SqlNodes
from keystead.adapters.sql.waking import PostgresWaker
from keystead.config import Settings
from keystead.events.nodes import NodeIdentity
from keystead.events.propagation import Propagation
from keystead.kernel.clock import Clock
from keystead.kernel.ids import IdSource
from keystead.worker.loop import Loop
from keystead.worker.nodes import BEAT_MS, NodeKeeper

FOLLOW_APART_MS = 10
"""However many wake-ups come, the log is read this often at most."""
FOLLOW_APART_EMBEDDED_MS = 50
"""On SQLite, where placing events takes the one connection that writes, and nobody else waits for them."""
_BEAT_APART_MS = 10
_BEAT_EMBEDDED_MS_MAX = 5_000
"""On SQLite no lease depends on it, and each heartbeat is a write to the one disk."""


class Waking:
    """Wake-ups, heartbeats and waiting for others, of one process.

    ``waker`` is None where nobody else can be told: on SQLite, or with ``wake_up`` off.
    """

    def __init__(self, settings: Settings, database: Database, *, ids: IdSource, clock: Clock) -> None:
        """Wire; nothing is connected to yet."""
        self._shared = database.kind == POSTGRESQL
        self._apart_ms = FOLLOW_APART_MS if self._shared else FOLLOW_APART_EMBEDDED_MS
        self._beat_ms = BEAT_MS if self._shared else min(_BEAT_EMBEDDED_MS_MAX, settings.staleness_bound_ms // 2)
        self._wake_here: Callable[[], None] = _nobody
        self._on_its_own = settings.wake_up == "off"
        self.nodes = SqlNodes(database)
        self._data_dir = settings.data_dir
        self._identity = identity = NodeIdentity(
            ids.new("nod"), socket.gethostname(), __version__, settings.staleness_bound_ms, settings.serve_stale
        )
        self.name = identity.id
        """This process's own, which no other start of it has."""
        self.dead: list[str] = []
        """The processes whose place this one took; filled by ``start``."""
        self.keeper = NodeKeeper(self.nodes, identity, clock)
        self.waker: PostgresWaker | None = None
        if self._shared and not self._on_its_own:
            self.waker = PostgresWaker(settings.database_url, database.settings, name=identity.id, on_wake=self._heard)
        self.propagation = Propagation(self.nodes, staleness_bound_ms=settings.staleness_bound_ms, wake=self.committed)

    @property
    def dated_until_ms(self) -> Callable[[], int] | None:
        """What dates leases by heartbeats; None on SQLite, whose one process must not depend on room for writing."""
        return self.keeper.dated_until_ms if self._shared else None

    def committed(self) -> None:
        """Read the log here, which puts it in order, and make the others read it."""
        if not self._on_its_own:
            self._wake_here()
            self.placed()

    def placed(self) -> None:
        """Make the others read what has its place now."""
        if self.waker is not None:
            self.waker.tell()

    async def start(
        self, stack: AsyncExitStack, turn: Callable[[], Awaitable[None]], *, interval_ms: int
    ) -> list[Loop]:
        """Be seen, and read the log by ``turn`` for the first time; return the loops that do so again and again.

        First the process is forgotten that served from the same data directory before: its lock shows that it is dead.
        Then in this order: who waits for a change that this process has not read must be able to see it. When ``stack``
        ends, after its loops, the process is forgotten.
        """
        if self._shared:
            self.dead = await self.keeper.succeed(data_directory.last_node(self._data_dir))
        else:
            self.dead = await self.keeper.forget_others()
        data_directory.name_node(self._data_dir, self._identity.id)
        stack.push_async_callback(self.keeper.leave)
        await self.keeper.turn()
        await turn()
        beating = Loop("say that it lives", self.keeper.turn, interval_ms=self._beat_ms, apart_ms=_BEAT_APART_MS)
        following = Loop("follow the log", turn, interval_ms=interval_ms, apart_ms=self._apart_ms)
        self.keeper.on_news = beating.wake
        self._wake_here = following.wake
        if self.waker is not None:
            self.waker.start()
            stack.push_async_callback(self.waker.close)
        return [beating, following]

    def _heard(self) -> None:
        self._wake_here()


def _nobody() -> None:
    """Wake nobody: no loop runs yet."""
