"""Secrets that are older than their plan allows: each is warned of once, and then suspended for once if need be."""

from __future__ import annotations

from dataclasses import replace

import pytest

from keystead.kernel.change import Action
from keystead.keys.model import Key, KeyKind, KeyState
from keystead.keys.overdue import Due, RotationNotice, due, grace_ms
from keystead.keys.principal import Principal
from keystead.keys.reminding import RotationReminder
from keystead.keys.service import KeyDraft
from keystead.limits.model import Plan
from keystead.limits.service import PlanDraft
from keystead.tenants.model import Environment
from tests.world import World

HOUR = 3_600_000
DAY = 24 * HOUR
EVERY = 90 * DAY
GRACE = 9 * DAY
DRAFT = KeyDraft(name="Key", owner_id="customer-1", environment=Environment.LIVE, plan_id="strict")


async def make_plan(world: World, root: Principal, *, suspends: bool = True, every_ms: int = EVERY) -> Plan:
    """Make the plan ``strict``."""
    draft = PlanDraft("strict", rotate_every_ms=every_ms, suspend_overdue=suspends)
    return await world.change(root, lambda unit: world.tiers.create_plan(unit, root, draft))


async def remind(world: World, root: Principal, key: Key) -> Due:
    """Look at a key now, as the worker does."""
    reminder = RotationReminder(world.clock)
    return await world.change(root, lambda unit: reminder.remind(unit, key.id))


async def test_a_key_is_warned_of_once_then_suspended_once(world: World, root: Principal) -> None:
    """To the millisecond: a warning when the secret gets too old, and a suspension when the grace is over too."""
    plan = await make_plan(world, root)
    key, secret = await world.create(root, DRAFT)
    born_ms, before = key.secrets[0].created_at_ms, len(world.changes)
    world.wait(EVERY - 1)
    assert await remind(world, root, key) is Due.NOTHING
    world.wait(1)
    assert [await remind(world, root, key) for _ in range(2)] == [Due.WARNING, Due.NOTHING]
    (warning,) = world.changes[before:]
    assert (warning.action, warning.target, warning.touches) == (Action.KEY_ROTATION_DUE, key.id, ())
    assert {name: after for name, (_, after) in warning.changes.items()} == {
        "secret_id": key.secrets[0].id,
        "plan_id": plan.id,
        "due_at_ms": born_ms + EVERY,
        "suspends_at_ms": born_ms + EVERY + GRACE,
    }
    world.wait(GRACE - 1)
    assert await remind(world, root, key) is Due.NOTHING
    assert await world.code(root, secret) == "VALID"
    world.wait(1)
    assert [await remind(world, root, key) for _ in range(2)] == [Due.SUSPENSION, Due.NOTHING]
    assert await world.code(root, secret) == "SUSPENDED"
    suspension = world.changes[-1]
    assert (suspension.action, suspension.environment, suspension.owner_id) == (
        Action.KEY_SUSPENDED,
        Environment.LIVE,
        "customer-1",
    )
    assert suspension.changes == {"state": (KeyState.ACTIVE, KeyState.SUSPENDED)}
    stored = await world.get(root, key.id)
    assert stored.state_reason == suspension.reason
    assert suspension.reason == "The plan strict demands a new secret every 90 days; rotate the key, then resume it."


async def test_a_rotation_ends_it(world: World, root: Principal) -> None:
    """A new secret is as good as new, and is warned of when it gets too old itself."""
    await make_plan(world, root)
    key, _ = await world.create(root, DRAFT)
    world.wait(EVERY)
    assert await remind(world, root, key) is Due.WARNING
    await world.change(root, lambda unit: world.keys.rotate(unit, root, key.id, overlap_ms=0))
    world.wait(EVERY - 1)
    assert await remind(world, root, key) is Due.NOTHING
    world.wait(1)
    assert await remind(world, root, key) is Due.WARNING


async def test_a_key_that_was_resumed_is_not_suspended_for_the_same_secret_again(world: World, root: Principal) -> None:
    """Who resumes it has decided so: the machine does not take it back every hour."""
    await make_plan(world, root)
    key, secret = await world.create(root, DRAFT)
    world.wait(EVERY)
    await remind(world, root, key)
    world.wait(GRACE)
    await remind(world, root, key)
    await world.change(root, lambda unit: world.keys.resume(unit, root, key.id))
    world.wait(GRACE)
    assert await remind(world, root, key) is Due.NOTHING
    assert await world.code(root, secret) == "VALID"


async def test_a_plan_may_only_warn(world: World, root: Principal) -> None:
    """Then nothing says when the key would be suspended, and it never is."""
    await make_plan(world, root, suspends=False, every_ms=HOUR)
    key, _ = await world.create(root, DRAFT)
    world.wait(HOUR)
    assert await remind(world, root, key) is Due.WARNING
    assert "suspends_at_ms" not in world.changes[-1].changes
    world.wait(EVERY)
    assert await remind(world, root, key) is Due.NOTHING


async def test_the_grace_is_counted_from_the_warning(world: World, root: Principal) -> None:
    """A rule made today suspends nobody today, however old secrets are; the grace is at least a day."""
    key, secret = await world.create(root, replace(DRAFT, plan_id=""))
    world.wait(400 * DAY)
    assert await remind(world, root, key) is Due.NOTHING
    await make_plan(world, root, every_ms=36 * HOUR)
    given = replace(DRAFT, owner_id="")
    await world.change(
        root, lambda unit: world.keys.update(unit, root, key.id, given, mask=frozenset({"plan_id"}), etag="")
    )
    assert await remind(world, root, key) is Due.WARNING
    world.wait(DAY - 1)
    assert await remind(world, root, key) is Due.NOTHING
    world.wait(1)
    assert await remind(world, root, key) is Due.SUSPENSION
    assert await world.code(root, secret) == "SUSPENDED"
    assert "every 36 hours" in world.changes[-1].reason


async def test_the_plan_that_applies_counts(world: World, root: Principal) -> None:
    """It may be the owner's or the workspace's; a key without an owner has its own alone, and one without none."""
    await make_plan(world, root)
    free, _ = await world.create(root, replace(DRAFT, plan_id=""))
    alone, _ = await world.create(root, replace(DRAFT, plan_id="", owner_id="", kind=KeyKind.SERVICE))
    world.wait(EVERY)
    assert [await remind(world, root, key) for key in (free, alone)] == [Due.NOTHING] * 2
    await world.change(
        root, lambda unit: world.owners.entitle(unit, "customer-1", "strict", until_ms=world.clock.now_ms() + 1)
    )
    assert [await remind(world, root, key) for key in (free, alone)] == [Due.WARNING, Due.NOTHING]


async def test_a_key_that_is_gone_needs_nothing(world: World, root: Principal) -> None:
    """It may go between being found and being looked at."""
    key, _ = await world.create(root, replace(DRAFT, plan_id=""))
    assert await remind(world, root, replace(key, id="key_gone")) is Due.NOTHING


async def test_only_keys_that_work_are_looked_at(world: World, root: Principal) -> None:
    """One that is suspended, revoked, expired, or has no current secret, is left alone."""
    plan = await make_plan(world, root)
    key, _ = await world.create(root, DRAFT)
    now_ms = world.clock.now_ms() + EVERY
    (secret,) = key.secrets
    assert due(key, plan, None, now_ms) is Due.WARNING
    for idle in (
        replace(key, state=KeyState.SUSPENDED),
        replace(key, state=KeyState.REVOKED),
        replace(key, expires_at_ms=now_ms),
        replace(key, secrets=(replace(secret, retires_at_ms=now_ms),)),
    ):
        assert due(idle, plan, None, now_ms) is Due.NOTHING
    assert due(key, replace(plan, rotate_every_ms=0), None, now_ms) is Due.NOTHING
    assert due(key, None, None, now_ms) is Due.NOTHING


async def test_a_plan_that_became_milder_counts_from_its_own_time(world: World, root: Principal) -> None:
    """Who was warned under a stricter rule has his grace under the one that applies now."""
    plan = await make_plan(world, root)
    key, _ = await world.create(root, DRAFT)
    milder = replace(plan, rotate_every_ms=2 * EVERY)
    told = RotationNotice(key.secrets[0].id, key.secrets[0].created_at_ms + EVERY)
    ends_at_ms = key.secrets[0].created_at_ms + 2 * EVERY + 2 * GRACE
    assert due(key, milder, told, ends_at_ms - 1) is Due.NOTHING
    assert due(key, milder, told, ends_at_ms) is Due.SUSPENSION


@pytest.mark.parametrize(("every_ms", "grace"), ((HOUR, DAY), (10 * DAY, DAY), (11 * DAY, 11 * DAY // 10)))
def test_the_grace_is_a_tenth_and_a_day_at_least(every_ms: int, grace: int) -> None:
    """A rule of an hour leaves a day, a rule of a year more than a month."""
    assert grace_ms(every_ms) == grace
