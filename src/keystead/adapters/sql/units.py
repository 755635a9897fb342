"""Units of work in SQL: everything done through one happens, or nothing of it, and its events with it (P6)."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from keystead.adapters.sql.allowances import SqlAllowances
from keystead.adapters.sql.database import Database
from keystead.adapters.sql.event_changes import SqlEvents
from keystead.adapters.sql.events import insert_events
from keystead.adapters.sql.journals import SqlJournals
from keystead.adapters.sql.keys import SqlKeys
from keystead.adapters.sql.owners import SqlOwners
from keystead.adapters.sql.plans import SqlPlans
from keystead.adapters.sql.replies import SqlReplies
from keystead.adapters.sql.rotations import SqlRotations
from keystead.adapters.sql.session import Session
from keystead.adapters.sql.sinks import SqlSinks
from keystead.adapters.sql.workspaces import SqlWorkspaces
from keystead.adapters.walls import Walls
from keystead.events.model import RandomBytes, make_event
from keystead.kernel.change import Change, Origin
from keystead.kernel.clock import Clock
from keystead.kernel.ids import IdSource
from keystead.tenants.model import TenantScope

OnCommit = Callable[[Sequence[Change]], None]


class SqlUnit:
    """The ``Unit`` inside one block."""

    def __init__(self, session: Session, walls: Walls) -> None:
        """Work in ``session``, inside ``walls``."""
        self._session = session
        self.workspaces = SqlWorkspaces(session, walls)
        self.owners = SqlOwners(session, walls)
        self.keys = SqlKeys(session, walls)
        self.plans = SqlPlans(session, walls)
        self.allowances = SqlAllowances(session, walls)
        self.rotations = SqlRotations(session)
        self.replies = SqlReplies(session, walls)
        self.events = SqlEvents(session, walls)
        self.sinks = SqlSinks(session, walls)
        self.journals = SqlJournals(session)
        self.changes: list[Change] = []

    def record(self, change: Change) -> None:
        """Note a change; it is stored as an event when the unit commits."""
        self._session.demand_writable()
        self.changes.append(change)


class SqlUnits:
    """The ``Units`` of one database."""

    def __init__(
        self,
        database: Database,
        *,
        clock: Clock,
        ids: IdSource,
        random_bytes: RandomBytes = secrets.token_bytes,
        on_commit: OnCommit | None = None,
    ) -> None:
        """Date and name events by ``clock`` and ``ids``, and salt their private parts with ``random_bytes``.

        ``on_commit`` is told what was recorded once it is committed, and also when nobody can know whether it is:
        before the unit's block returns to its caller.
        """
        self._database = database
        self._clock = clock
        self._ids = ids
        self._random_bytes = random_bytes
        self._on_commit = on_commit

    @asynccontextmanager
    async def begin(self, scope: TenantScope | None, origin: Origin) -> AsyncIterator[SqlUnit]:
        """Open a unit that commits when its block ends and rolls back when it raises."""
        session = Session(self._database, read_only=False)
        unit = SqlUnit(session, Walls.around(scope))
        try:
            yield unit
            await self._store_events(session, unit.changes, origin)
        except BaseException:
            await session.rollback()
            raise
        try:
            await session.commit()
        finally:
            if self._on_commit is not None and unit.changes:
                self._on_commit(tuple(unit.changes))

    @asynccontextmanager
    async def read(self, scope: TenantScope | None) -> AsyncIterator[SqlUnit]:
        """Open a unit that sees one moment of the database; ``record`` and every write raise."""
        session = Session(self._database, read_only=True)
        try:
            yield SqlUnit(session, Walls.around(scope))
        finally:
            await session.rollback()

    async def _store_events(self, session: Session, changes: Sequence[Change], origin: Origin) -> None:
        """Store the changes as events of one moment, with ids that sort as the changes happened."""
        if not changes:
            return
        now_ms = self._clock.now_ms()
        names = sorted(self._ids.new("evt") for _ in changes)
        events = [
            make_event(change, origin, event_id=name, occurred_at_ms=now_ms, random_bytes=self._random_bytes)
            for change, name in zip(changes, names, strict=True)
        ]
        await insert_events(session, events)
