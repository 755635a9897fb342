"""Declaring a journal lost: the one change of a whole deployment, told to each workspace in it.

Every workspace's numbers may miss calls that the journal held, so each finds the same fact in its own log. The change
and its events are one unit of work (P6).
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from keystead.kernel.bounds import REASON_CHARACTERS, Bounds
from keystead.kernel.paging import PageRequest
from keystead.keys.ports import Unit
from keystead.usage.errors import JournalUnknownError
from keystead.usage.journals import JournalState, KnownJournal, demand_dead, journal_lost

_WORKSPACES_AT_ONCE = 1_000


async def declare_lost(unit: Unit, journal_id: str, *, reason: str, elsewhere: KnownJournal | None = None) -> bool:
    """Wait for a journal no more, in a unit without walls; return False when it was declared lost before.

    ``elsewhere`` is what another store than the unit's knows of it, where usage is counted there; ``reason`` has 1 to
    500 characters, else it raises ``InvalidRequestError``. Raises ``JournalUnknownError``, ``JournalAliveError`` and
    ``JournalClosedError`` for a journal that cannot be declared lost.
    """
    bounds = Bounds()
    bounds.text("reason", reason, at_least=1, at_most=REASON_CHARACTERS)
    bounds.raise_if_any()
    here = await unit.journals.find(journal_id)
    journal = elsewhere or here
    if journal is None:
        raise JournalUnknownError(journal_id)
    if journal.state is JournalState.LOST:
        return False
    demand_dead(journal)
    await unit.journals.lose(journal)
    async for workspace_id in _workspaces(unit):
        unit.record(journal_lost(journal, workspace_id, reason=reason))
    return True


async def _workspaces(unit: Unit) -> AsyncIterator[str]:
    """Yield every workspace's id, the system's own among them."""
    position: tuple[str, ...] | None = ()
    while position is not None:
        page = await unit.workspaces.page(PageRequest(_WORKSPACES_AT_ONCE, position))
        for workspace in page.items:
            yield workspace.id
        position = page.next_position
