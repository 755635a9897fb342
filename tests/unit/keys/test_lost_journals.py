"""Giving a journal up: who is told, and who is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from keystead.adapters.memory.store import MemoryStore
from keystead.adapters.memory.units import MemoryUnits
from keystead.kernel.change import Action, Change
from keystead.kernel.errors import InvalidRequestError
from keystead.kernel.ids import IdSource
from keystead.keys.installation import SYSTEM_ORIGIN
from keystead.keys.lost_journals import declare_lost
from keystead.tenants.model import Workspace
from keystead.usage.errors import JournalAliveError, JournalUnknownError
from keystead.usage.journals import ALIVE_MS, JournalState, KnownJournal
from tests.fakes import ManualClock

REASON = "node 3 lost its disk"


class Deployment:
    """Units over an empty memory, and what was committed in them."""

    def __init__(self) -> None:
        """Begin without a workspace."""
        self.clock = ManualClock()
        self.changes: list[Change] = []
        self.units = MemoryUnits(
            MemoryStore(), clock=self.clock, ids=IdSource(self.clock), on_commit=self.changes.extend
        )

    async def add(self, *names: str) -> None:
        """Make workspaces."""
        async with self.units.begin(None, SYSTEM_ORIGIN) as unit:
            for name in names:
                await unit.workspaces.add(Workspace(name, name.removeprefix("wsp_"), name, 0, 0))


def journal_in(deployment: Deployment, **changes: object) -> KnownJournal:
    """Make a journal that nobody has reported for long enough, by the deployment's clock."""
    now_ms = deployment.clock.now_ms()
    silent = KnownJournal("jrn_1", "", 0, now_ms - ALIVE_MS, 0, 40, JournalState.OPEN, now_ms)
    return replace(silent, **changes)  # type: ignore[arg-type] # the names are checked at run time


async def declare(deployment: Deployment, *, elsewhere: KnownJournal | None, reason: str = REASON) -> bool:
    """Declare ``jrn_1`` lost, in a unit of the system's own."""
    async with deployment.units.begin(None, SYSTEM_ORIGIN) as unit:
        return await declare_lost(unit, "jrn_1", reason=reason, elsewhere=elsewhere)


async def test_every_workspace_is_told_once() -> None:
    """Each workspace finds the fact in its own log; giving the same journal up again tells nobody anything."""
    deployment = Deployment()
    made = ["wsp_acme", "wsp_globex"]
    await deployment.add(*made)
    assert await declare(deployment, elsewhere=journal_in(deployment))
    told = deployment.changes
    assert sorted(change.workspace_id for change in told) == made
    assert {(change.action, change.target, change.reason) for change in told} == {
        (Action.JOURNAL_DECLARED_LOST, "jrn_1", REASON)
    }
    assert not await declare(deployment, elsewhere=None)
    assert not await declare(deployment, elsewhere=journal_in(deployment, state=JournalState.LOST))
    assert len(deployment.changes) == len(made)


async def test_what_is_refused_is_told_to_nobody() -> None:
    """A journal that is not known or still reported stays as it is, and so does one that is given up without a why."""
    deployment = Deployment()
    await deployment.add("wsp_acme")
    with pytest.raises(JournalUnknownError):
        await declare(deployment, elsewhere=None)
    with pytest.raises(JournalAliveError):
        await declare(deployment, elsewhere=journal_in(deployment, seen_at_ms=deployment.clock.now_ms()))
    for reason in ("", "x" * 501):
        with pytest.raises(InvalidRequestError):
            await declare(deployment, elsewhere=journal_in(deployment), reason=reason)
    assert deployment.changes == []
