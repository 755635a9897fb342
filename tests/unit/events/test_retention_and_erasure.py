"""Deciding what goes: cuts of logs, and erasing what is private."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from keystead.adapters.memory.events import MemoryEventLog
from keystead.adapters.memory.store import MemoryStore
from keystead.adapters.memory.units import MemoryUnits
from keystead.events.checkpoints import KeptCheckpoint
from keystead.events.erasure import Erased, erase
from keystead.events.model import Erasure, Retained
from keystead.events.retention import CHECKPOINTS_WHOLE_MS, DAY_MS, ORIGIN, SWEPT_AT_ONCE, LogCutter
from keystead.kernel.change import Action, Actor, ActorType, Change, Origin
from keystead.kernel.errors import InvalidRequestError
from keystead.kernel.ids import IdSource
from tests.fakes import ManualClock

POINT = KeptCheckpoint("wsp_1", 2_500, b"", "a note", 1)


class FakeShelf:
    """Says that a log may be cut, and sweeps it; ``asked`` is what it was asked."""

    def __init__(self, point: KeptCheckpoint | None, sweeps: Sequence[int] = (0,)) -> None:
        """Offer ``point``, and sweep so much at each step."""
        self.point = point
        self.sweeps = list(sweeps)
        self.asked: list[object] = []

    async def begin_turn(self, *, now_ms: int, every_ms: int) -> bool:
        """Say that none is due."""
        return now_ms < every_ms

    async def workspaces(self, *, after: str, limit: int) -> Sequence[Retained]:
        """Know none."""
        self.asked.append((after, limit))
        return ()

    async def cut_point(self, workspace_id: str, *, before_ms: int) -> KeptCheckpoint | None:
        """Return the point."""
        self.asked.append(("cut", workspace_id, before_ms))
        return self.point

    async def sweep(self, workspace_id: str, *, limit: int) -> int:
        """Sweep the next part."""
        self.asked.append(("sweep", workspace_id, limit))
        return self.sweeps.pop(0)

    async def thin_checkpoints(self, workspace_id: str, *, before_ms: int) -> int:
        """Thin out none."""
        self.asked.append(("thin", workspace_id, before_ms))
        return 0


class Shop:
    """A memory store and what cuts it."""

    def __init__(self, shelf: FakeShelf) -> None:
        """Begin empty."""
        self.clock = ManualClock()
        self.changes: list[Change] = []
        self.store = MemoryStore()
        self.units = MemoryUnits(self.store, clock=self.clock, ids=IdSource(self.clock), on_commit=self.changes.extend)
        self.cutter = LogCutter(shelf, self.units, self.clock)

    async def see_to(self, days: int) -> list[int]:
        """See to the one workspace."""
        return [swept async for swept in self.cutter.see_to(Retained("wsp_1", days))]


async def test_a_log_is_cut_where_the_shelf_says_and_swept_to_the_end() -> None:
    """The cut is recorded once, by the system; the sweep goes on until nothing is left, in bounded steps."""
    shelf = FakeShelf(POINT, (1_000, 1_000, 500, 0))
    shop = Shop(shelf)
    now_ms = shop.clock.now_ms()
    assert await shop.see_to(30) == [1_000, 1_000, 500, 0]
    assert shelf.asked[:2] == [
        ("thin", "wsp_1", now_ms - CHECKPOINTS_WHOLE_MS),
        ("cut", "wsp_1", now_ms - 30 * DAY_MS),
    ]
    assert shelf.asked[2:] == [("sweep", "wsp_1", SWEPT_AT_ONCE)] * 4
    assert [(it.action, it.target, dict(it.changes)) for it in shop.changes] == [
        (Action.AUDIT_LOG_CUT, "wsp_1", {"first_index": (0, 2_500), "checkpoint": (None, "a note")})
    ]
    assert ORIGIN.actor == Actor(ActorType.SYSTEM, "retention")


async def test_a_cut_that_another_node_made_is_not_recorded_again() -> None:
    """As much is gone already."""
    shop = Shop(FakeShelf(POINT, (0, 0)))
    await shop.see_to(30)
    assert len(shop.changes) == 1
    await shop.see_to(30)
    assert len(shop.changes) == 1


@pytest.mark.parametrize(("point", "days"), ((None, 30), (POINT, 0)))
async def test_nothing_is_cut_without_a_point_or_a_retention(point: KeptCheckpoint | None, days: int) -> None:
    """What an interrupted cut left is swept all the same."""
    shop = Shop(FakeShelf(point, (7, 0)))
    assert await shop.see_to(days) == [7, 0]
    assert shop.changes == []


async def test_an_erasure_must_name_something() -> None:
    """Without a word of what, nothing is erased rather than everything; a reason is bounded."""
    shop = Shop(FakeShelf(None))
    origin = Origin(Actor(ActorType.KEY, "key_1"), client_ip="192.0.2.1")
    async with shop.units.begin(None, origin) as unit:
        unit.record(Change("wsp_1", Action.KEY_CREATED, "key_1", touches=()))
    await MemoryEventLog(shop.store).place(limit=10)
    with pytest.raises(InvalidRequestError):
        async with shop.units.begin(None, origin) as unit:
            await erase(unit, "wsp_1", Erasure(), reason="")
    with pytest.raises(InvalidRequestError):
        async with shop.units.begin(None, origin) as unit:
            await erase(unit, "wsp_1", Erasure(key_id="key_1"), reason="r" * 501)
    async with shop.units.begin(None, origin) as unit:
        assert await erase(unit, "wsp_1", Erasure(key_id="key_2"), reason="") == Erased(0, more=False)
        assert await erase(unit, "wsp_1", Erasure(key_id="key_1"), reason="", at_most=1) == Erased(1, more=True)
