"""The keeper of rotations: a walk once an hour, a little at a time, and never in the way of stopping."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from keystead.kernel.change import Action
from keystead.kernel.errors import UnavailableError
from keystead.keys.model import Key
from keystead.keys.overdue import OverdueKey, Place, Walked
from keystead.keys.principal import Principal
from keystead.keys.service import KeyDraft
from keystead.limits.service import PlanDraft
from keystead.tenants.model import Environment
from keystead.worker.rotations import TURN_EVERY_MS, RotationKeeper
from keystead.worker.walks import STEP_MS
from tests.world import World

EVERY_MS = 3_600_000


@dataclass
class SlowKeys:
    """Finds the keys that it was given, two at a time; to look takes so long, and may fail."""

    world: World
    takes_ms: int = 0
    away: bool = False
    keys: list[Key] = field(default_factory=list)
    begun_at_ms: int = -TURN_EVERY_MS
    looked_past: list[Place | None] = field(default_factory=list)

    async def begin_turn(self, *, now_ms: int, every_ms: int) -> bool:
        """Say whether the time is over."""
        is_due = self.begun_at_ms <= now_ms - every_ms
        self.begun_at_ms = now_ms if is_due else self.begun_at_ms
        return is_due

    async def walk(self, *, now_ms: int, after: Place | None, at_most: int) -> Walked:
        """Find the next keys."""
        assert now_ms == self.world.clock.now_ms()
        self.looked_past.append(after)
        if self.away:
            raise UnavailableError("The database does not answer.")
        self.world.wait(self.takes_ms)
        begin = 0 if after is None else after[0]
        found = self.keys[begin : begin + at_most]
        more = begin + at_most < len(self.keys)
        overdue = tuple(OverdueKey(key.id, key.workspace_id) for key in found)
        return Walked(overdue, (begin + at_most, "sec") if more else None)


@pytest.fixture
async def slow() -> SlowKeys:
    """Lend five keys that are due for a warning."""
    world = World()
    _, root, _ = await world.workspace()
    return await filled(SlowKeys(world), root)


async def filled(slow: SlowKeys, root: Principal) -> SlowKeys:
    """Make a plan that demands rotation every hour, and keys of it that are older."""
    world = slow.world
    draft = PlanDraft("strict", rotate_every_ms=EVERY_MS)
    await world.change(root, lambda unit: world.tiers.create_plan(unit, root, draft))
    wanted = KeyDraft(name="n", owner_id="o", create_owner=True, environment=Environment.LIVE, plan_id="strict")
    slow.keys = [(await world.create(root, wanted))[0] for _ in range(5)]
    world.wait(EVERY_MS)
    return slow


def warned(slow: SlowKeys) -> list[str]:
    """Return the keys that were warned of, in order."""
    return [change.target for change in slow.world.changes if change.action is Action.KEY_ROTATION_DUE]


def keeper_of(slow: SlowKeys) -> RotationKeeper:
    """Make a keeper that looks at two secrets at once."""
    return RotationKeeper(slow, slow.world.units, slow.world.clock, batch=2)


async def test_a_quick_walk_is_one_step(slow: SlowKeys) -> None:
    """Every key is seen to, batch after batch, and within the hour nothing is looked at again."""
    keeper = keeper_of(slow)
    for _ in range(3):
        await keeper.turn()
    assert warned(slow) == [key.id for key in slow.keys]
    assert slow.looked_past == [None, (2, "sec"), (4, "sec")]
    slow.world.wait(TURN_EVERY_MS)
    await keeper.turn()
    assert len(slow.looked_past) == 6


async def test_a_slow_walk_goes_on_where_it_was(slow: SlowKeys) -> None:
    """No step takes longer than its time and one look; together they see to each key once."""
    slow.takes_ms = STEP_MS
    keeper = keeper_of(slow)
    await keeper.turn()
    assert (slow.looked_past, warned(slow)) == ([None], [])
    await keeper.turn()
    assert (slow.looked_past, warned(slow)) == ([None, (2, "sec")], [key.id for key in slow.keys[:2]])
    for _ in range(4):
        await keeper.turn()
    assert slow.looked_past == [None, (2, "sec"), (4, "sec")]
    assert warned(slow) == [key.id for key in slow.keys]


async def test_a_walk_that_fails_is_begun_anew_in_the_next_hour(slow: SlowKeys) -> None:
    """The loop is told, and nothing is stuck."""
    keeper = keeper_of(slow)
    slow.away = True
    with pytest.raises(UnavailableError):
        await keeper.turn()
    slow.away = False
    await keeper.turn()
    assert warned(slow) == []
    slow.world.wait(TURN_EVERY_MS)
    await keeper.turn()
    assert warned(slow) == [key.id for key in slow.keys]
