"""What the command line does to the deployment's journals: it shows them, and declares one lost.

Both work on the stores themselves: journals belong to the deployment, and no key is of one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from keystead.adapters.sql.database import Database
from keystead.adapters.sql.migration import check_schema
from keystead.adapters.sql.units import SqlUnits
from keystead.adapters.sql.usage import SqlUsage
from keystead.bootstrap.core import database_settings
from keystead.bootstrap.usage_store import store_elsewhere
from keystead.config import Settings
from keystead.kernel.clock import SystemClock
from keystead.kernel.ids import IdSource
from keystead.keys.installation import SYSTEM_ORIGIN
from keystead.keys.lost_journals import declare_lost
from keystead.usage.journals import JournalState, KnownJournal

LISTED_MAX = 1_000


async def list_journals(settings: Settings, *, closed: bool = False) -> list[KnownJournal]:
    """Return at most 1,000 journals, those opened last first; closed ones only when ``closed``.

    Where usage is counted elsewhere, what is known there of a journal holds.
    """
    async with _database(settings) as database, store_elsewhere(settings) as elsewhere:
        found = {it.id: it for it in await SqlUsage(database).journals(closed=True, limit=LISTED_MAX)}
        if elsewhere is not None:
            found |= {it.id: it for it in await elsewhere.journals(closed=True, limit=LISTED_MAX)}
    ordered = sorted(found.values(), key=lambda it: (it.opened_at_ms, it.id), reverse=True)
    return [it for it in ordered if closed or it.state is not JournalState.CLOSED][:LISTED_MAX]


async def declare_journal_lost(settings: Settings, journal_id: str, *, reason: str) -> bool:
    """Wait for a journal no more, and tell every workspace; return False when it was declared lost before.

    Where usage is counted elsewhere the events come first, so a process that dies in between leaves a journal that can
    be declared lost again.
    """
    clock = SystemClock()
    async with _database(settings) as database, store_elsewhere(settings) as elsewhere:
        units = SqlUnits(database, clock=clock, ids=IdSource(clock))
        there = None if elsewhere is None else await elsewhere.find(journal_id)
        async with units.begin(None, SYSTEM_ORIGIN) as unit:
            anew = await declare_lost(unit, journal_id, reason=reason, elsewhere=there)
        if elsewhere is not None and there is not None:
            await elsewhere.lose(there)
        return anew


@asynccontextmanager
async def _database(settings: Settings) -> AsyncIterator[Database]:
    await check_schema(settings.database_url)
    database = Database.connect(settings.database_url, settings=database_settings(settings))
    try:
        yield database
    finally:
        await database.close()
