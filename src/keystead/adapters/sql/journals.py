"""Journals in SQL: how far each is counted, when it was reported last, and whether usage waits for it.

A row is never deleted, so a copied disk finds out how far it was counted. When somebody reported is told by the
database's clock, the only one that all nodes and the command line share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, case, false, func, literal_column, null, or_, select, true, update

from keystead.adapters.sql import ledger_schema, usage_schema
from keystead.adapters.sql.database import Database
from keystead.adapters.sql.engines import POSTGRESQL, SQLITE
from keystead.adapters.sql.session import Session, transaction
from keystead.usage.journals import JournalState, KnownJournal
from keystead.usage.meters import window_of
from keystead.usage.model import Stretch

_JOURNALS = usage_schema.journals
_METERS = ledger_schema.entitlement_meters
_CLOCKS = {
    POSTGRESQL: "CAST(floor(extract(epoch FROM clock_timestamp()) * 1000) AS bigint)",
    SQLITE: "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)",
}
_WAITED_FOR = (_JOURNALS.c.closed == false(), _JOURNALS.c.lost_at_ms.is_(None))


def clock_ms(kind: str) -> ColumnElement[int]:
    """Return the moment by the clock of a database of one ``kind``."""
    return literal_column(_CLOCKS[kind])


class SqlJournals:
    """The ``JournalRegister`` of one unit."""

    def __init__(self, session: Session) -> None:
        """Work in ``session``."""
        self._session = session
        self._clock = clock_ms(session.database.kind)

    async def find(self, journal_id: str) -> KnownJournal | None:
        """Return a journal, which nobody else changes until the unit ends; None when it is not known."""
        rows = await self._session.lock(self._select().where(_JOURNALS.c.id == journal_id).with_for_update())
        return _journal(rows[0]) if rows else None

    async def lose(self, journal: KnownJournal) -> None:
        """Wait for a journal no more, until it is here again and counted; make it known when it is not."""
        await make_known(self._session, journal.id, at_ms=journal.complete_until_ms, node=journal.node)
        lost = update(_JOURNALS).where(_JOURNALS.c.id == journal.id)
        await self._session.write(lost.values(lost_at_ms=self._clock))

    async def journals(self, *, closed: bool, limit: int) -> list[KnownJournal]:
        """Return at most ``limit`` journals, those opened last first; closed ones only when ``closed``."""
        asked = self._select().order_by(_JOURNALS.c.registered_at_ms.desc(), _JOURNALS.c.id.desc()).limit(limit)
        if not closed:
            asked = asked.where(_JOURNALS.c.closed == false())
        return [_journal(row) for row in await self._session.read(asked)]

    def _select(self) -> Select[Any]:
        return select(_JOURNALS, self._clock.label("now_ms"))


async def make_known(session: Session, journal_id: str, *, at_ms: int, node: str = "") -> None:
    """Make a journal known from ``at_ms`` on; one that is known stays as it is."""
    row = {"id": journal_id, "registered_at_ms": at_ms, "counted_to": 0, "complete_until_ms": at_ms}
    row |= {"attempts_counted_to": 0, "closed": False, "node": node, "seen_at_ms": 0}
    await session.write(session.database.insert_new(_JOURNALS), [row])


async def open_again(session: Session, journal_id: str, *, node: str) -> None:
    """Note that a journal is about to be counted: one that was closed is open, one that was lost is lost still."""
    named = case((_JOURNALS.c.node == "", node), else_=_JOURNALS.c.node)
    opened = update(_JOURNALS).where(_JOURNALS.c.id == journal_id)
    await session.write(opened.values(closed=false(), node=named, seen_at_ms=clock_ms(session.database.kind)))


async def close(session: Session, journal_id: str) -> None:
    """Note that a journal is counted to its end, also one that was lost."""
    ended = update(_JOURNALS).where(_JOURNALS.c.id == journal_id)
    await session.write(ended.values(closed=true(), lost_at_ms=null()))


async def reported(session: Session, journal_id: str, values: Mapping[str, Any]) -> None:
    """Note how far a journal is counted, and that somebody does it now."""
    counted = update(_JOURNALS).where(_JOURNALS.c.id == journal_id)
    await session.write(counted.values(seen_at_ms=clock_ms(session.database.kind), **values))


async def back_again(session: Session, stretch: Stretch) -> dict[str, Any]:
    """Return what changes in the row of a lost journal that is counted after all, and have its calls billed.

    It is waited for from when nothing of it is left to count, so ``complete_until`` does not go back. Its calls may be
    of windows that were told long ago: the feed looks at them once more.
    """
    if stretch.calls:
        await tell_again(session, from_ms=min(call.at_ms for call in stretch.calls))
    return {} if stretch.seen_at_ms is None else {"lost_at_ms": None}


async def tell_again(session: Session, *, from_ms: int) -> None:
    """Have the feed look once more at all windows from that of ``from_ms`` on, of every meter."""
    from_ms = window_of(from_ms)
    begin_ms = case((_METERS.c.since_ms > from_ms, _METERS.c.since_ms), else_=from_ms)
    later = or_(_METERS.c.again_from_ms.is_(None), _METERS.c.again_from_ms > begin_ms)
    told = update(_METERS).where(_METERS.c.told_to_ms > begin_ms, later)
    await session.write(told.values(again_from_ms=begin_ms))


class LateUsage:
    """Has the feed look again at what came late, for a store of usage that is not this database."""

    def __init__(self, database: Database) -> None:
        """Ask the meters of ``database``."""
        self._database = database

    async def __call__(self, from_ms: int) -> None:
        """Look again at everything from ``from_ms`` on."""
        async with transaction(self._database) as session:
            await tell_again(session, from_ms=from_ms)


async def complete_until(session: Session) -> int | None:
    """Return the least of the journals that are waited for; None when there is none."""
    rows: Sequence[Any] = await session.read(select(func.min(_JOURNALS.c.complete_until_ms)).where(*_WAITED_FOR))
    until: int | None = rows[0][0]
    return until


def _state(row: Any) -> JournalState:
    if row.closed:
        return JournalState.CLOSED
    return JournalState.OPEN if row.lost_at_ms is None else JournalState.LOST


def _journal(row: Any) -> KnownJournal:
    return KnownJournal(
        id=row.id,
        node=row.node,
        opened_at_ms=row.registered_at_ms,
        seen_at_ms=row.seen_at_ms,
        complete_until_ms=row.complete_until_ms,
        counted_to=row.counted_to,
        state=_state(row),
        now_ms=row.now_ms,
    )
