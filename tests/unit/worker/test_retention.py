"""The keeper of usage: room first, then bounded steps, and never at the cost of counting."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from keystead.kernel.errors import UnavailableError
from keystead.usage.retention import Kept, Retention
from keystead.worker import retention as worker
from keystead.worker.retention import ALLOWANCE_KEPT_MS, AllowanceKeeper, UsageKeeper
from tests.fakes import ManualClock

RETENTION = Retention(calls_days=30, minutes_days=35, hours_days=400)


@dataclass
class Shelf:
    """Remembers what it was asked, and has so many ``steps`` of old usage."""

    steps: int = 0
    away: bool = False
    prepared: list[int] = field(default_factory=list)
    asked: list[Kept] = field(default_factory=list)

    async def prepare(self, *, now_ms: int) -> None:
        """Make room, when the database is there."""
        if self.away:
            raise UnavailableError("The database does not answer.", internal="away")
        self.prepared.append(now_ms)

    async def forget(self, kept: Kept) -> int:
        """Take one step."""
        self.asked.append(kept)
        self.steps -= 1
        return 10 if self.steps >= 0 else 0


async def test_a_turn_makes_room_and_forgets_to_the_end() -> None:
    """Everything that is too old goes in one turn, as the retention says at that moment."""
    shelf, clock = Shelf(steps=3), ManualClock()
    await UsageKeeper(shelf, RETENTION, clock).turn()
    assert shelf.prepared == [clock.now_ms()]
    assert shelf.asked == [RETENTION.kept(clock.now_ms())] * 4


async def test_a_turn_is_bounded() -> None:
    """However much is old, a turn ends, and the next goes on."""
    shelf = Shelf(steps=10_000)
    keeper = UsageKeeper(shelf, RETENTION, ManualClock())
    await keeper.turn()
    assert len(shelf.asked) == worker._STEPS_PER_TURN
    await keeper.turn()
    assert len(shelf.asked) == 2 * worker._STEPS_PER_TURN


async def test_a_server_starts_without_room() -> None:
    """A database that makes no room now keeps no server from starting, but a turn says so."""
    shelf = Shelf(away=True)
    keeper = UsageKeeper(shelf, RETENTION, ManualClock())
    await keeper.begin()
    with pytest.raises(UnavailableError):
        await keeper.turn()
    shelf.away = False
    await keeper.begin()
    assert len(shelf.prepared) == 1
    assert shelf.asked == []


@dataclass
class AllowanceRows:
    """Has so many ``steps`` of periods that are over, and remembers what it was asked."""

    steps: int
    asked: list[int] = field(default_factory=list)

    async def forget(self, *, before_ms: int) -> int:
        """Take one step."""
        self.asked.append(before_ms)
        self.steps -= 1
        return 10 if self.steps >= 0 else 0


async def test_periods_of_quotas_are_forgotten_long_after_their_end() -> None:
    """A turn goes on until nothing is old, and keeps what was over for less than 35 days."""
    rows, clock = AllowanceRows(steps=3), ManualClock()
    await AllowanceKeeper(rows, clock).turn()
    assert rows.asked == [clock.now_ms() - ALLOWANCE_KEPT_MS] * 4


async def test_forgetting_periods_is_bounded() -> None:
    """However many periods are old, a turn ends, and the next goes on."""
    rows = AllowanceRows(steps=10_000)
    await AllowanceKeeper(rows, ManualClock()).turn()
    assert len(rows.asked) == worker._STEPS_PER_TURN
