"""The keeper of logs: every workspace is seen to once an hour, a little at a time."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

import pytest

from keystead.events.checkpoints import KeptCheckpoint
from keystead.events.model import Retained
from keystead.kernel.errors import UnavailableError
from keystead.worker.log_cuts import FAILURES_MAX, TURN_EVERY_MS, LogKeeper
from keystead.worker.walks import STEP_MS
from tests.fakes import ManualClock


class Shop:
    """Workspaces with something to sweep; each step takes ``takes_ms``. Is a shelf and cuts as well."""

    def __init__(self, workspaces: int) -> None:
        """Begin an hour."""
        self.clock = ManualClock()
        self.names = [f"wsp_{number}" for number in range(workspaces)]
        self.seen: list[str] = []
        self.takes_ms = 0
        self.broken: set[str] = set()
        self.due_at_ms = 0
        self.keeper = LogKeeper(self, self, self.clock, batch=2)  # type: ignore[arg-type] # stands for the cutter too

    async def begin_turn(self, *, now_ms: int, every_ms: int) -> bool:
        """Say whether an hour is over."""
        due = now_ms >= self.due_at_ms
        if due:
            self.due_at_ms = now_ms + every_ms
        return due

    async def workspaces(self, *, after: str, limit: int) -> Sequence[Retained]:
        """Return the next."""
        return [Retained(name, 30) for name in self.names if name > after][:limit]

    async def see_to(self, retained: Retained) -> AsyncGenerator[int, None]:
        """Sweep twice."""
        self.seen.append(retained.workspace_id)
        if retained.workspace_id in self.broken:
            raise UnavailableError("slow", internal="slow")
        for swept in (5, 0):
            self.clock.advance(self.takes_ms)
            yield swept

    async def cut_point(self, workspace_id: str, *, before_ms: int) -> KeptCheckpoint | None:
        """Never asked."""
        raise AssertionError((workspace_id, before_ms))

    async def sweep(self, workspace_id: str, *, limit: int) -> int:
        """Never asked."""
        raise AssertionError((workspace_id, limit))

    async def thin_checkpoints(self, workspace_id: str, *, before_ms: int) -> int:
        """Never asked."""
        raise AssertionError((workspace_id, before_ms))


async def test_every_workspace_is_seen_to_once_an_hour() -> None:
    """Batch after batch, whatever their number; what was forgotten is counted."""
    for count in (0, 1, 2, 5):
        shop = Shop(count)
        for _ in range(3):
            await shop.keeper.turn()
        assert shop.seen == shop.names
        assert shop.keeper.events_forgotten == 5 * count
        shop.clock.advance(TURN_EVERY_MS)
        await shop.keeper.turn()
        assert shop.seen == shop.names * 2


async def test_a_long_walk_goes_on_where_it_was() -> None:
    """No turn takes much longer than its time."""
    shop = Shop(3)
    shop.takes_ms = STEP_MS
    await shop.keeper.turn()
    assert (shop.seen, shop.keeper.events_forgotten) == (["wsp_0"], 5)
    for _ in range(10):
        await shop.keeper.turn()
    assert (shop.seen, shop.keeper.events_forgotten) == (shop.names, 15)


async def test_one_that_fails_keeps_nobody_else_waiting() -> None:
    """Those behind it are seen to all the same; the loop is told, and with many it is the database."""
    shop = Shop(4)
    shop.broken = {"wsp_1"}
    with pytest.raises(UnavailableError):
        await shop.keeper.turn()
    assert (shop.seen, shop.keeper.events_forgotten) == (shop.names, 15)
    await shop.keeper.turn()
    assert shop.seen == shop.names
    away = Shop(FAILURES_MAX + 5)
    away.broken = set(away.names)
    with pytest.raises(UnavailableError):
        await away.keeper.turn()
    assert len(away.seen) == FAILURES_MAX
