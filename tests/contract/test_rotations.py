"""Finding secrets that are too old: SQL and memory find the same, and what was done about one is kept with it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from random import Random

import pytest

from keystead.kernel.change import Action
from keystead.keys.model import Key, KeyKind, KeyState
from keystead.keys.overdue import Due, OverdueKey, RotationNotice, Walked
from keystead.keys.reminding import RotationReminder
from keystead.limits.model import Plan
from keystead.tenants.model import Owner, Workspace
from keystead.worker.rotations import RotationKeeper
from tests.contract.stores import ORIGIN, Stores, changed, memory_stores, walls

HOUR = 3_600_000
DAY = 24 * HOUR
EVERY = 30 * DAY
GRACE = 3 * DAY


async def add_plan(stores: Stores, plan: Plan) -> None:
    """Store a plan."""
    async with stores.units.begin(None, ORIGIN) as unit:
        await unit.plans.add(plan)


async def shop(stores: Stores, *, suspends: bool = True) -> tuple[Workspace, Plan]:
    """Store a workspace with a plan that demands rotation every 30 days."""
    workspace = stores.make.workspace()
    plan = replace(stores.make.plan(workspace, "strict"), rotate_every_ms=EVERY, suspend_overdue=suspends)
    await stores.add(workspace)
    await add_plan(stores, plan)
    return workspace, plan


async def overdue(stores: Stores, *, at_most: int = 100, now_ms: int | None = None) -> list[str]:
    """Walk over all secrets, so many at once, and name the keys about which something is due, in the order found."""
    now_ms = stores.clock.now_ms() if now_ms is None else now_ms
    found: list[str] = []
    walked = Walked((), None)
    while True:
        walked = await stores.overdue_keys.walk(now_ms=now_ms, after=walked.next_place, at_most=at_most)
        found += [key.key_id for key in walked.found]
        if walked.next_place is None:
            return found


async def test_a_secret_is_found_when_it_is_too_old_and_not_before(stores: Stores) -> None:
    """To the millisecond, with everything that the worker needs."""
    workspace, plan = await shop(stores)
    key = replace(stores.make.key(workspace), plan_id=plan.id)
    await stores.add(key)
    secret = key.secrets[0]
    stores.clock.advance(secret.created_at_ms + EVERY - 1 - stores.clock.now_ms())
    assert await overdue(stores) == []
    stores.clock.advance(1)
    walked = await stores.overdue_keys.walk(now_ms=stores.clock.now_ms(), after=None, at_most=2)
    assert walked == Walked((OverdueKey(key.id, workspace.id),), None)


async def test_what_was_done_is_not_found_again(stores: Stores) -> None:
    """After the warning not before the grace is over, and after the suspension never; it goes with its secret."""
    workspace, plan = await shop(stores)
    key = replace(stores.make.key(workspace), plan_id=plan.id)
    await stores.add(key)
    stores.clock.advance(EVERY)
    notice = RotationNotice(key.secrets[0].id, stores.clock.now_ms())
    async with stores.units.begin(walls(workspace), ORIGIN) as unit:
        assert await unit.rotations.notice(notice.secret_id) is None
        await unit.rotations.add(notice)
    stores.clock.advance(GRACE - 1)
    assert await overdue(stores) == []
    stores.clock.advance(1)
    assert await overdue(stores) == [key.id]
    async with stores.units.begin(walls(workspace), ORIGIN) as unit:
        await unit.rotations.save(replace(notice, suspended_at_ms=5))
    assert await overdue(stores) == []
    async with stores.units.read(None) as unit:
        assert await unit.rotations.notice(notice.secret_id) == replace(notice, suspended_at_ms=5)


async def test_a_secret_with_a_notice_can_go(stores: Stores) -> None:
    """A key drops its oldest secrets in time; what was done about them is in nobody's way."""
    workspace, plan = await shop(stores)
    key = replace(stores.make.key(workspace), plan_id=plan.id)
    await stores.add(key)
    stores.clock.advance(EVERY)
    async with stores.units.begin(walls(workspace), ORIGIN) as unit:
        await unit.rotations.add(RotationNotice(key.secrets[0].id, 1))
    fresh = stores.make.secret()
    async with stores.units.begin(walls(workspace), ORIGIN) as unit:
        await unit.keys.save(changed(key, secrets=(fresh,)))
    assert await overdue(stores) == []
    stores.clock.advance(EVERY)
    assert await overdue(stores) == [key.id]


async def test_a_plan_that_only_warns_has_one_thing_to_do(stores: Stores) -> None:
    """A warned secret is not found again, however old it gets."""
    workspace, plan = await shop(stores, suspends=False)
    key = replace(stores.make.key(workspace), plan_id=plan.id)
    await stores.add(key)
    stores.clock.advance(EVERY)
    async with stores.units.begin(walls(workspace), ORIGIN) as unit:
        await unit.rotations.add(RotationNotice(key.secrets[0].id, 1))
    stores.clock.advance(100 * EVERY)
    assert await overdue(stores) == []


def owners_of(stores: Stores, workspace: Workspace, plan: Plan, other: Plan) -> list[Owner]:
    """Make owners with and without plans and entitlements, some of which end soon."""
    plain = [stores.make.owner(workspace) for _ in range(6)]
    later_ms = stores.clock.now_ms() + 2 * EVERY
    return [
        plain[0],
        replace(plain[1], plan_id=plan.id),
        replace(plain[2], plan_id=other.id, entitled_plan_id=plan.id),
        replace(plain[3], plan_id=plan.id, entitled_plan_id=other.id, entitled_until_ms=later_ms),
        replace(plain[4], plan_id=plan.id, entitled_plan_id=other.id, entitled_until_ms=1),
        replace(plain[5], entitled_plan_id=plan.id, entitled_until_ms=later_ms),
    ]


def keys_of(stores: Stores, workspace: Workspace, owners: Sequence[Owner], plans: Sequence[Plan]) -> list[Key]:
    """Make keys of every kind and state, with and without owners, plans of their own and an end."""
    random = Random(3)
    now_ms = stores.clock.now_ms()
    keys = []
    for _ in range(120):
        owner_id = random.choice(["", *(owner.owner_id for owner in owners)])
        key = stores.make.key(workspace, owner_id=owner_id)
        secret = replace(key.secrets[0], created_at_ms=now_ms - random.randrange(20) * DAY)
        keys.append(
            replace(
                key,
                kind=random.choice([KeyKind.CUSTOMER, KeyKind.CUSTOMER, KeyKind.SERVICE, KeyKind.MANAGEMENT]),
                state=random.choice([KeyState.ACTIVE, KeyState.ACTIVE, KeyState.SUSPENDED, KeyState.REVOKED]),
                plan_id=random.choice(["", "", "", *(plan.id for plan in plans)]),
                expires_at_ms=random.choice([None, None, now_ms + random.randrange(40) * DAY]),
                secrets=(secret,),
            )
        )
    return keys


@pytest.mark.parametrize("by_default", (True, False))
async def test_every_store_finds_what_the_rule_says(stores: Stores, *, by_default: bool) -> None:
    """Whichever way a plan comes to apply, for every kind and state of keys, over days: SQL agrees with memory."""
    twin = memory_stores()
    workspace = stores.make.workspace()
    strict = replace(stores.make.plan(workspace, "strict"), rotate_every_ms=EVERY, suspend_overdue=True)
    other = replace(stores.make.plan(workspace, "other"), rotate_every_ms=45 * DAY)
    loose = stores.make.plan(workspace, "loose")
    workspace = replace(workspace, default_plan_id=strict.id if by_default else loose.id)
    owners = owners_of(stores, workspace, strict, other)
    keys = keys_of(stores, workspace, owners, (strict, other, loose))
    for each in (stores, twin):
        await each.add(workspace, *owners, *keys)
        for plan in (strict, other, loose):
            await add_plan(each, plan)
        async with each.units.begin(None, ORIGIN) as unit:
            for key in keys[::3]:
                await unit.rotations.add(RotationNotice(key.secrets[0].id, stores.clock.now_ms() + 20 * DAY))
    seen = set()
    for _ in range(16):
        stores.clock.advance(4 * DAY)
        now_ms = stores.clock.now_ms()
        found = await overdue(stores)
        assert found == await overdue(twin, now_ms=now_ms)
        assert found == await overdue(stores, at_most=7)
        seen |= set(found)
    assert len(seen) > 15


async def test_one_node_is_told_that_it_is_its_turn(stores: Stores) -> None:
    """Of many who ask at once exactly one works, and nobody again before the time is over."""
    keys, now_ms = stores.overdue_keys, stores.clock.now_ms()
    for at_ms, granted in ((now_ms, 1), (now_ms + HOUR - 1, 0), (now_ms + HOUR, 1)):
        asked = [keys.begin_turn(now_ms=at_ms, every_ms=HOUR) for _ in range(4)]
        assert sum(await asyncio.gather(*asked)) == granted


async def test_two_nodes_at_once_warn_once(stores: Stores) -> None:
    """Should two ever see to a key at the same moment, one does and the other sees that it is done."""
    workspace, plan = await shop(stores)
    key = replace(stores.make.key(workspace), plan_id=plan.id)
    await stores.add(key)
    stores.clock.advance(EVERY)
    reminder = RotationReminder(stores.clock)

    async def remind() -> Due:
        async with stores.units.begin(walls(workspace), ORIGIN) as unit:
            return await reminder.remind(unit, key.id)

    done = await asyncio.gather(*(remind() for _ in range(4)))
    assert sorted(done) == [Due.NOTHING] * 3 + [Due.WARNING]
    assert [change.action for change in stores.committed] == [Action.KEY_ROTATION_DUE]


async def test_a_turn_sees_to_every_key_once(stores: Stores) -> None:
    """From the warning to the suspension, over many batches and turns: each key has one event of each."""
    workspace, plan = await shop(stores)
    keys = [replace(stores.make.key(workspace), plan_id=plan.id) for _ in range(5)]
    await stores.add(*keys)
    keeper = RotationKeeper(stores.overdue_keys, stores.units, stores.clock, batch=2)
    stores.clock.advance(EVERY)
    await keeper.turn()
    await keeper.turn()
    stores.clock.advance(GRACE)
    await keeper.turn()
    stores.clock.advance(EVERY)
    await keeper.turn()
    by_action = {
        action: sorted(change.target for change in stores.committed if change.action is action)
        for action in (Action.KEY_ROTATION_DUE, Action.KEY_SUSPENDED)
    }
    ids = sorted(key.id for key in keys)
    assert by_action == {Action.KEY_ROTATION_DUE: ids, Action.KEY_SUSPENDED: ids}
    stored = [await stores.key(key.id) for key in keys]
    assert {key.state for key in stored if key is not None} == {KeyState.SUSPENDED}
