"""Plans in every store: kept as they are, found inside walls alone, and never gone while somebody refers to them."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from random import Random

import pytest

from keystead.adapters.cryptography.keyring import MasterKeyring
from keystead.adapters.walls import OutsideWallsError, ReadOnlyUnitError
from keystead.kernel.errors import AlreadyExistsError, EtagMismatchError, NotFoundError
from keystead.kernel.ids import IdSource
from keystead.kernel.limit import (
    Credits,
    Limit,
    On,
    OutagePolicy,
    Quota,
    SlidingWindow,
    TokenBucket,
)
from keystead.kernel.limit import Period as Each
from keystead.kernel.paging import PageRequest
from keystead.keys.errors import KeyLimitReachedError
from keystead.keys.minting import Minter
from keystead.keys.model import Key, KeyKind, KeyState
from keystead.keys.principal import Principal
from keystead.keys.service import KeyDraft, KeyService
from keystead.keys.tiers import plan_of
from keystead.limits.errors import PlanInUseError
from keystead.limits.model import Plan, PlanReach, PlanUses
from keystead.limits.service import PlanDraft, PlanService
from keystead.scopes.model import Grants
from keystead.tenants.model import Environment, Owner, Workspace
from keystead.tenants.service import OwnerService
from tests.contract.stores import HOSTILE, ORIGIN, Stores, changed, walls
from tests.fakes import FakeHasher
from tests.world import MASTER

DAY_MS = 86_400_000
EVERY_KIND = (
    Limit("bucket", On.KEY, TokenBucket(10, 1_000, 20)),
    Limit("window", On.OWNER, SlidingWindow(0, 60_000)),
    Limit("quota", On.WORKSPACE, Quota(2**32 - 1, Each.MONTH, 1_700_000_000_123, soft=True)),
    Limit("day", On.KEY, Quota(7, Each.DAY)),
    Limit("credits", On.OWNER, Credits(5, 1, DAY_MS, 10)),
)


def services(stores: Stores) -> tuple[PlanService, KeyService]:
    """Make the services over ``stores``."""
    ids = IdSource(stores.clock)
    minter = Minter(keyring=MasterKeyring([MASTER]), hasher=FakeHasher(), ids=ids, clock=stores.clock)
    keys = KeyService(minter=minter, owners=OwnerService(stores.clock), ids=ids, clock=stores.clock)
    return PlanService(ids=ids, clock=stores.clock), keys


def caller_of(workspace: Workspace) -> Principal:
    """Return a caller of ``workspace`` who may do everything."""
    return Principal("key_caller", KeyKind.MANAGEMENT, workspace.id, workspace.brand, Environment.ALL, Grants(("*:*",)))


async def uses(stores: Stores, plan: Plan, now_ms: int) -> PlanUses:
    """Count who refers to ``plan``."""
    async with stores.units.read(None) as unit:
        return await unit.plans.uses(plan, now_ms=now_ms)


async def test_a_plan_is_kept_as_it_is(stores: Stores) -> None:
    """Every field and every kind of limit comes back as it was stored, at the making and after a change."""
    workspace = stores.make.workspace()
    plan = replace(
        stores.make.plan(workspace, "gold", EVERY_KIND),
        description=HOSTILE,
        max_keys_per_owner=2**32 - 1,
        rotate_every_ms=4_000 * DAY_MS,
        suspend_overdue=True,
        on_limiter_outage=OutagePolicy.LOCAL,
    )
    await stores.add(workspace, plan)
    after = replace(stores.make.plan(workspace, "silver"), id=plan.id, created_at_ms=plan.created_at_ms, version=2)
    for stored in (plan, after):
        async with stores.units.begin(walls(workspace), ORIGIN) as unit:
            if stored is after:
                await unit.plans.save(after)
            for reference in (stored.id, stored.name):
                assert await unit.plans.get(workspace.id, reference) == stored
                assert await unit.plans.get(workspace.id, reference, lock=True) == stored
                assert await unit.plans.hold(workspace.id, reference) == stored.id
    async with stores.units.read(walls(workspace)) as unit:
        assert await unit.plans.get(workspace.id, "gold") is None


async def test_limits_and_references_of_others_are_kept(stores: Stores) -> None:
    """Keys, owners and workspaces keep plan, limits and entitlement, at the making and after a change."""
    workspace = replace(stores.make.workspace(), default_plan_id="pln_1")
    owner = replace(
        stores.make.owner(workspace), plan_id="pln_2", limits=EVERY_KIND, entitled_plan_id="pln_3", entitled_until_ms=5
    )
    key = replace(stores.make.key(workspace), plan_id="pln_4", limits=EVERY_KIND)
    await stores.add(workspace, owner, key)
    changes = {"plan_id": "", "limits": EVERY_KIND[:1]}
    ended = {"entitled_plan_id": "", "entitled_until_ms": None}
    later = (
        replace(workspace, default_plan_id="", version=2),
        replace(owner, **changes, **ended, version=2),  # type: ignore[arg-type] # the names are the owner's
        changed(key, **changes),
    )
    for round_of in ((workspace, owner, key), later):
        async with stores.units.begin(walls(workspace), ORIGIN) as unit:
            if round_of is later:
                await unit.workspaces.save(later[0])
                await unit.owners.save(later[1])
                await unit.keys.save(later[2])
            assert await unit.workspaces.get(workspace.id) == round_of[0]
            assert await unit.owners.get(owner.owner_id) == round_of[1]
            assert await unit.keys.get(key.id) == round_of[2]


async def test_names_are_unique_in_a_workspace(stores: Stores) -> None:
    """A second plan of a name is refused, when it is added and when it is renamed; other workspaces are not asked."""
    workspace, other = stores.make.workspace(), stores.make.workspace()
    gold, silver = stores.make.plan(workspace, "gold"), stores.make.plan(workspace, "silver")
    await stores.add(workspace, other, gold, silver, stores.make.plan(other, "gold"))
    with pytest.raises(AlreadyExistsError):
        await stores.add(stores.make.plan(workspace, "gold"))
    with pytest.raises(AlreadyExistsError):
        async with stores.units.begin(walls(workspace), ORIGIN) as unit:
            await unit.plans.save(replace(silver, name="gold", version=2))
    async with stores.units.read(walls(workspace)) as unit:
        assert await unit.plans.get(workspace.id, "silver") == silver


async def test_a_lost_update_is_refused(stores: Stores) -> None:
    """Whoever saves a version that is not the next one, or a plan that is gone, is told so."""
    workspace = stores.make.workspace()
    plan = stores.make.plan(workspace)
    await stores.add(workspace, plan)
    for wrong in (plan, replace(plan, version=3), replace(stores.make.plan(workspace), version=2)):
        with pytest.raises(EtagMismatchError):
            async with stores.units.begin(walls(workspace), ORIGIN) as unit:
                await unit.plans.save(wrong)


async def test_plans_stand_inside_walls(stores: Stores) -> None:
    """Another workspace's plan is not found by id or name, in whichever workspace it is looked for (P8)."""
    workspace, other = stores.make.workspace(), stores.make.workspace()
    plan, ours = stores.make.plan(other, "gold"), stores.make.plan(workspace, "ours")
    await stores.add(workspace, other, plan, ours)
    for reference in (plan.id, "gold"):
        for workspace_id in (workspace.id, other.id):
            async with stores.units.begin(walls(workspace), ORIGIN) as unit:
                assert await unit.plans.get(workspace_id, reference) is None
                assert await unit.plans.get(workspace_id, reference, lock=True) is None
                assert await unit.plans.hold(workspace_id, reference) is None
    async with stores.units.begin(None, ORIGIN) as unit:
        assert await unit.plans.hold(other.id, "gold") == plan.id
        assert await unit.plans.hold(workspace.id, plan.id) is None
    async with stores.units.begin(walls(workspace), ORIGIN) as unit:
        with pytest.raises(OutsideWallsError):
            await unit.plans.add(stores.make.plan(other))
        with pytest.raises(OutsideWallsError):
            await unit.plans.save(replace(plan, version=2))
        with pytest.raises(OutsideWallsError):
            await unit.plans.delete(plan)
        with pytest.raises(OutsideWallsError):
            await unit.plans.uses(plan, now_ms=0)
        with pytest.raises(OutsideWallsError):
            await unit.plans.reach(plan, now_ms=0, samples=1)
        with pytest.raises(OutsideWallsError):
            await unit.plans.page(other.id, PageRequest(10, ascending=True))
    async with stores.units.read(walls(workspace)) as unit:
        with pytest.raises(ReadOnlyUnitError):
            await unit.plans.hold(workspace.id, "ours")
        with pytest.raises(ReadOnlyUnitError):
            await unit.plans.delete(ours)


async def test_a_plan_needs_its_workspace_and_goes_with_it(stores: Stores) -> None:
    """None is added to a workspace that is gone, and deleting a workspace deletes its plans alone."""
    workspace, other = stores.make.workspace(), stores.make.workspace()
    plan, kept = stores.make.plan(workspace), stores.make.plan(other)
    await stores.add(workspace, other, plan, kept)
    async with stores.units.begin(None, ORIGIN) as unit:
        await unit.workspaces.delete(workspace.id)
    async with stores.units.read(None) as unit:
        assert await unit.plans.get(workspace.id, plan.id) is None
        assert await unit.plans.get(other.id, kept.id) == kept
    with pytest.raises(NotFoundError):
        await stores.add(plan)


async def test_plans_are_listed_by_name(stores: Stores) -> None:
    """Page by page, each once, those of the workspace alone; underscores and digits in the order of their bytes."""
    workspace, other = stores.make.workspace(), stores.make.workspace()
    names = ["-a", "0", "9-", "_x", "a", "a-1", "a1", "a_1", "b"]
    shuffled = Random(4).sample(names, len(names))
    await stores.add(workspace, other, stores.make.plan(other, "a"), stores.make.plan(other, "c"))
    await stores.add(*[stores.make.plan(workspace, name) for name in shuffled])
    seen: list[str] = []
    position: tuple[str, ...] | None = ()
    async with stores.units.read(walls(workspace)) as unit:
        while position is not None:
            page = await unit.plans.page(workspace.id, PageRequest(2, position, ascending=True))
            seen += [plan.name for plan in page.items]
            position = page.next_position
    assert seen == names


async def test_who_refers_to_a_plan_is_counted(stores: Stores) -> None:
    """Keys that are not revoked, owners once each, entitlements that last, and the default; in all environments."""
    workspace, other = stores.make.workspace(), stores.make.workspace()
    plan = stores.make.plan(workspace)
    await stores.add(workspace, other, plan)
    assert not await uses(stores, plan, 100)
    owners = [
        {"plan_id": plan.id},
        {"entitled_plan_id": plan.id, "entitled_until_ms": None},
        {"entitled_plan_id": plan.id, "entitled_until_ms": 101},
        {"entitled_plan_id": plan.id, "entitled_until_ms": 100},
        {"entitled_plan_id": plan.id, "entitled_until_ms": 101, "plan_id": plan.id},
        {},
    ]
    for fields in owners:
        await stores.add(replace(stores.make.owner(workspace), **fields))  # type: ignore[arg-type] # the names are the owner's
    for environment in (Environment.LIVE, Environment.TEST):
        for state in (KeyState.ACTIVE, KeyState.SUSPENDED, KeyState.REVOKED):
            key = stores.make.key(workspace, environment)
            await stores.add(replace(key, plan_id=plan.id, state=state), stores.make.key(workspace, environment))
    # What another workspace says, by whatever mistake, does not count.
    await stores.add(replace(stores.make.key(other), plan_id=plan.id))
    assert await uses(stores, plan, 100) == PlanUses(keys=4, owners=4)
    async with stores.units.begin(walls(workspace, Environment.TEST), ORIGIN) as unit:
        await unit.workspaces.save(replace(workspace, default_plan_id=plan.id, version=2))
        assert await unit.plans.uses(plan, now_ms=100) == PlanUses(keys=4, owners=4, is_default=True)


async def test_every_store_agrees_on_which_keys_a_plan_applies_to(stores: Stores) -> None:
    """Whatever keys, owners and the workspace refer to, reach and snapshots say what the rule says (``plan_of``)."""
    random = Random(7)
    workspace = stores.make.workspace()
    plans = [stores.make.plan(workspace, limits=EVERY_KIND[place : place + 1]) for place in range(3)]
    references = [plan.id for plan in plans] + [""] * 2
    workspace = replace(workspace, default_plan_id=plans[0].id)
    now_ms = stores.clock.now_ms() + 1_000
    owners: dict[str, Owner] = {}
    for number in range(12):
        owner = replace(
            stores.make.owner(workspace, f"owner-{number:02d}"),
            plan_id=random.choice(references),
            entitled_plan_id=random.choice(references),
            entitled_until_ms=random.choice((None, now_ms - 1, now_ms, now_ms + 1)),
            limits=random.choice(((), EVERY_KIND[3:4])),
        )
        owners[owner.owner_id] = owner
    keys: list[Key] = []
    for _ in range(120):
        kind = random.choice(tuple(KeyKind))
        key = stores.make.key(workspace, random.choice((Environment.LIVE, Environment.TEST)))
        keys.append(
            replace(
                key,
                kind=kind,
                owner_id=random.choice(("", "gone", *owners)),
                plan_id=random.choice(("", *references)) if kind in {KeyKind.CUSTOMER, KeyKind.SERVICE} else "",
                state=random.choice((KeyState.ACTIVE, KeyState.SUSPENDED, KeyState.REVOKED)),
            )
        )
    await stores.add(workspace, *plans, *owners.values(), *keys)
    stores.clock.advance(now_ms - stores.clock.now_ms())
    applying = {key.id: plan_of(key, owners.get(key.owner_id), workspace.default_plan_id, now_ms) for key in keys}
    by_id = {plan.id: plan for plan in plans}
    for key in keys:
        snapshot = await stores.snapshots.by_key(key.id)
        assert snapshot is not None
        plan_id, ends_at_ms = applying[key.id]
        owner_limits = owners[key.owner_id].limits if key.owner_id in owners else ()
        assert (snapshot.plan_id, snapshot.plan_ends_at_ms) == (plan_id, ends_at_ms)
        assert snapshot.plan_limits == (by_id[plan_id].limits if plan_id else ())
        assert (snapshot.owner_limits, snapshot.key_limits) == (owner_limits, ())
    for environments in ((), (Environment.LIVE,), (Environment.TEST,)):
        for plan in plans:
            affected = [
                key
                for key in keys
                if applying[key.id][0] == plan.id
                and key.state is not KeyState.REVOKED
                and key.environment in (environments or tuple(Environment))
            ]
            samples = sorted({key.owner_id for key in affected} - {""})[:5]
            async with stores.units.read(walls(workspace, *environments)) as unit:
                reach = await unit.plans.reach(plan, now_ms=now_ms, samples=5)
            assert reach == PlanReach(len(affected), tuple(samples))
            assert affected


async def test_a_snapshot_shares_limits_and_tells_what_happens_in_an_outage(stores: Stores) -> None:
    """A key's own limits are in its snapshot; a million keys of one plan hold one copy of its limits."""
    workspace = stores.make.workspace()
    plan = replace(stores.make.plan(workspace, limits=EVERY_KIND), on_limiter_outage=OutagePolicy.ALLOW)
    keys = [replace(stores.make.key(workspace), plan_id=plan.id, limits=EVERY_KIND[:2]) for _ in range(2)]
    await stores.add(workspace, plan, *keys)
    first, second = [await stores.snapshots.by_prefix(key.secrets[0].prefix) for key in keys]
    assert first is not None
    assert second is not None
    assert (first.plan_limits, first.key_limits, first.owner_limits) == (EVERY_KIND, EVERY_KIND[:2], ())
    assert first.on_limiter_outage is OutagePolicy.ALLOW
    assert first.plan_limits is second.plan_limits


async def test_a_reference_and_a_deletion_at_once_never_both_win(stores: Stores) -> None:
    """However they race, a key never refers to a plan that is gone: one of the two is refused."""
    plans, keys = services(stores)
    workspace = stores.make.workspace()
    await stores.add(workspace)
    caller = caller_of(workspace)
    draft = KeyDraft(name="Key", kind=KeyKind.SERVICE, environment=Environment.LIVE, plan_id="gold")

    async def make() -> bool:
        with suppress(NotFoundError):
            async with stores.units.begin(caller.scope, ORIGIN) as unit:
                await keys.create(unit, caller, draft)
            return True
        return False

    async def delete() -> bool:
        with suppress(PlanInUseError):
            async with stores.units.begin(caller.scope, ORIGIN) as unit:
                await plans.delete(unit, workspace.id, "gold", etag="")
            return True
        return False

    for turn in range(12):
        async with stores.units.begin(caller.scope, ORIGIN) as unit:
            await plans.create(unit, workspace.id, PlanDraft("gold"))
        both = (make(), delete()) if turn % 2 else (delete(), make())
        outcomes = await asyncio.gather(*both)
        assert sorted(outcomes) == [False, True]
        async with stores.units.begin(caller.scope, ORIGIN) as unit:
            plan = await unit.plans.get(workspace.id, "gold", lock=True)
            if plan is not None:
                await unit.plans.save(replace(plan, name=f"kept-{turn}", version=plan.version + 1))


async def test_an_owner_never_has_more_keys_than_its_plan_allows(stores: Stores) -> None:
    """Twenty made at once: exactly as many as are allowed, whether the owner is there already or made with them."""
    plans, keys = services(stores)
    workspace = stores.make.workspace()
    await stores.add(workspace)
    caller = caller_of(workspace)
    async with stores.units.begin(caller.scope, ORIGIN) as unit:
        await plans.create(unit, workspace.id, PlanDraft("three", max_keys_per_owner=3))
    draft = KeyDraft("Key", "customer-1", create_owner=True, environment=Environment.LIVE, plan_id="three")

    async def make() -> bool:
        with suppress(KeyLimitReachedError):
            async with stores.units.begin(caller.scope, ORIGIN) as unit:
                await keys.create(unit, caller, draft)
            return True
        return False

    assert sum(await asyncio.gather(*[make() for _ in range(20)])) == 3
