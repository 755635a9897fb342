"""Plans: what can be said of them, what is recorded, whom a change reaches, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from keystead.kernel.change import Action
from keystead.kernel.errors import AlreadyExistsError, EtagMismatchError, InvalidRequestError, NotFoundError
from keystead.kernel.limit import COUNT_MAX, Limit, On, OutagePolicy, Quota, SlidingWindow, limit_record
from keystead.kernel.limit import Period as Each
from keystead.keys.model import KeyKind
from keystead.keys.principal import Principal
from keystead.keys.service import KeyDraft
from keystead.limits.errors import PlanInUseError
from keystead.limits.model import Plan, PlanReach, PlanUses
from keystead.limits.service import PLAN_FIELDS, PlanDraft
from keystead.tenants.model import Environment
from keystead.tenants.service import OwnerDraft
from tests.world import World

HOUR_MS = 3_600_000
MINUTE = Limit("requests", On.KEY, SlidingWindow(1_000, 60_000))
MONTH = Limit("month", On.OWNER, Quota(5, Each.MONTH))
DRAFT = PlanDraft(
    "gold",
    "For those who pay.",
    (MINUTE, MONTH),
    max_keys_per_owner=3,
    rotate_every_ms=HOUR_MS,
    suspend_overdue=True,
    on_limiter_outage=OutagePolicy.LOCAL,
)
OTHER = PlanDraft("silver", "For some.", (MONTH,), 4, 2 * HOUR_MS, suspend_overdue=False)
KEY = KeyDraft(name="Key", owner_id="customer-1", environment=Environment.LIVE)


@pytest.fixture
def world() -> World:
    """Lend a world in memory."""
    return World()


@pytest.fixture
async def root(world: World) -> Principal:
    """Lend the first management key's caller."""
    return (await world.workspace())[1]


async def create(world: World, caller: Principal, draft: PlanDraft = DRAFT) -> Plan:
    """Make a plan."""
    return await world.change(caller, lambda unit: world.plans.create(unit, caller.workspace_id, draft))


async def update(world: World, caller: Principal, reference: str, draft: PlanDraft, *mask: str, etag: str = "") -> Plan:
    """Change what ``mask`` names."""
    return await world.change(
        caller,
        lambda unit: world.plans.update(unit, caller.workspace_id, reference, draft, mask=set(mask), etag=etag),
    )


async def delete(world: World, caller: Principal, reference: str, etag: str = "") -> None:
    """Delete a plan."""
    await world.change(caller, lambda unit: world.plans.delete(unit, caller.workspace_id, reference, etag=etag))


async def stored(world: World, caller: Principal, reference: str) -> Plan:
    """Return a plan as it is stored."""
    async with world.units.read(caller.scope) as unit:
        return await world.plans.get(unit, caller.workspace_id, reference)


async def preview(world: World, caller: Principal, reference: str) -> tuple[PlanUses, PlanReach]:
    """Say whom a plan applies to."""
    async with world.units.read(caller.scope) as unit:
        return await world.plans.preview(unit, caller.workspace_id, reference)


async def give(world: World, caller: Principal, reference: str) -> None:
    """Give the owner a plan."""
    draft = OwnerDraft("customer-1", plan_id=reference)
    await world.change(
        caller,
        lambda unit: world.owners.update(
            unit, caller.workspace_id, draft, mask={"plan_id"}, etag="", allow_missing=True
        ),
    )


async def entitle(world: World, caller: Principal, reference: str, until_ms: int | None) -> None:
    """Entitle the owner to a plan."""
    await world.change(caller, lambda unit: world.owners.entitle(unit, "customer-1", reference, until_ms=until_ms))


async def test_every_workspace_begins_with_two_plans(world: World, root: Principal) -> None:
    """``free`` is the default and lets a hundred requests a minute through, ``enterprise`` everything."""
    free, enterprise = await stored(world, root, "free"), await stored(world, root, "enterprise")
    assert free.limits == (Limit("requests", On.KEY, SlidingWindow(100, 60_000)),)
    assert enterprise.limits == ()
    async with world.units.read(root.scope) as unit:
        workspace = await world.workspaces.get(unit, root.workspace_id)
    assert workspace.default_plan_id == free.id
    created = [change for change in world.changes if change.action is Action.PLAN_CREATED]
    assert [(change.target, change.touches) for change in created] == [(it.id, (it.id,)) for it in (free, enterprise)]


async def test_a_plan_is_stored_and_recorded(world: World, root: Principal) -> None:
    """What was said of it, when, and one event that says so without loss (P6); it is found by id and by name."""
    plan = await create(world, root)
    assert plan.id.startswith("pln_")
    now_ms = world.clock.now_ms()
    assert plan == Plan(
        plan.id,
        root.workspace_id,
        "gold",
        now_ms,
        now_ms,
        "For those who pay.",
        (MINUTE, MONTH),
        3,
        HOUR_MS,
        suspend_overdue=True,
        on_limiter_outage=OutagePolicy.LOCAL,
    )
    assert [await stored(world, root, reference) for reference in (plan.id, "gold")] == [plan, plan]
    change = world.changes[-1]
    assert (change.action, change.target, change.workspace_id) == (Action.PLAN_CREATED, plan.id, root.workspace_id)
    assert change.changes == {
        "name": (None, "gold"),
        "description": (None, "For those who pay."),
        "limits": (None, [limit_record(MINUTE), limit_record(MONTH)]),
        "max_keys_per_owner": (None, 3),
        "rotate_every": (None, HOUR_MS),
        "suspend_overdue": (None, True),
        "on_limiter_outage": (None, OutagePolicy.LOCAL),
    }


async def test_names_are_unique_within_a_workspace(world: World, root: Principal) -> None:
    """A taken name is refused, at the making and at a change; another workspace may use it."""
    await create(world, root)
    with pytest.raises(AlreadyExistsError):
        await create(world, root, replace(OTHER, name="gold"))
    for taken in ("gold", "free"):
        await create(world, root, replace(OTHER, name=f"{taken}-2"))
        with pytest.raises(AlreadyExistsError):
            await update(world, root, f"{taken}-2", replace(OTHER, name=taken), "name")
    _, stranger, _ = await world.workspace("other")
    assert (await create(world, stranger)).name == "gold"


@pytest.mark.parametrize(
    ("wrong", "field"),
    (
        *[(replace(DRAFT, name=name), "name") for name in ("", "a" * 41, "Gold", "a b", "pln_gold", "gold\n")],
        (replace(DRAFT, description="d" * 501), "description"),
        (replace(DRAFT, limits=(MINUTE, MINUTE)), "limits"),
        (replace(DRAFT, limits=(Limit("x", On.KEY, SlidingWindow(1, 0)),)), "limits[0].sliding_window.window"),
        (replace(DRAFT, max_keys_per_owner=COUNT_MAX + 1), "max_keys_per_owner"),
        (replace(DRAFT, max_keys_per_owner=-1), "max_keys_per_owner"),
        (replace(DRAFT, rotate_every_ms=HOUR_MS - 1), "rotate_every"),
        (replace(DRAFT, rotate_every_ms=4_000 * 24 * HOUR_MS + 1), "rotate_every"),
    ),
)
async def test_what_cannot_be_is_refused_when_it_is_written(
    world: World, root: Principal, wrong: PlanDraft, field: str
) -> None:
    """Each broken bound is named in the request's own spelling, whether a plan is made or changed."""
    with pytest.raises(InvalidRequestError) as made:
        await create(world, root, wrong)
    assert [item.field for item in made.value.violations] == [field]
    with pytest.raises(InvalidRequestError) as changed:
        await update(world, root, "free", wrong, *PLAN_FIELDS)
    assert [item.field for item in changed.value.violations] == [f"plan.{field}"]


async def test_an_update_changes_what_the_mask_names_and_nothing_else(world: World, root: Principal) -> None:
    """Each field alone; only what a verdict depends on makes caches read again, by the plan's id."""
    stored_names = {"rotate_every": "rotate_every_ms"}
    plan = await create(world, root, DRAFT)
    for name in sorted(PLAN_FIELDS):
        world.wait(5)
        stored_name = stored_names.get(name, name)
        after = await update(world, root, plan.id, replace(OTHER), name)
        wanted = {stored_name: getattr(OTHER, stored_name)}
        assert after == replace(
            plan,
            version=plan.version + 1,
            updated_at_ms=world.clock.now_ms(),
            **wanted,
        )
        assert await stored(world, root, plan.id) == after
        change = world.changes[-1]
        assert (change.action, change.target) == (Action.PLAN_UPDATED, plan.id)
        assert change.changes.keys() == {stored_name}
        assert change.touches == ((plan.id,) if name in {"limits", "on_limiter_outage"} else ())
        plan = after


async def test_an_update_that_changes_nothing_records_nothing(world: World, root: Principal) -> None:
    """Asking for what is so already keeps version and log as they are."""
    plan = await create(world, root)
    events = len(world.changes)
    assert await update(world, root, "gold", DRAFT, *PLAN_FIELDS) == plan
    assert world.recorded(after=events) == []


@pytest.mark.parametrize("mask", ((), ("id",), ("name", "created_at")))
async def test_masks_name_what_can_be_changed(world: World, root: Principal, mask: tuple[str, ...]) -> None:
    """An empty mask, or one that names what never changes, is refused."""
    with pytest.raises(InvalidRequestError) as caught:
        await update(world, root, "free", DRAFT, *mask)
    assert caught.value.violations[0].field == "update_mask"


async def test_an_etag_guards_against_lost_changes(world: World, root: Principal) -> None:
    """With an etag only the version that was read is changed or deleted."""
    await create(world, root)
    await update(world, root, "gold", OTHER, "description", etag='"1"')
    with pytest.raises(EtagMismatchError):
        await update(world, root, "gold", OTHER, "limits", etag='"1"')
    with pytest.raises(EtagMismatchError):
        await delete(world, root, "gold", etag='"1"')
    await delete(world, root, "gold", etag='"2"')
    with pytest.raises(NotFoundError):
        await stored(world, root, "gold")
    change = world.changes[-1]
    assert (change.action, change.changes) == (Action.PLAN_DELETED, {"name": ("gold", None)})


async def test_another_workspaces_plan_is_not_there(world: World, root: Principal) -> None:
    """By id and by name it answers exactly as one that does not exist (P8)."""
    plan = await create(world, root)
    _, stranger, _ = await world.workspace("other")
    for reference, unknown in ((plan.id, plan.id[:-4] + "0000"), ("gold", "gold-2")):
        texts = []
        for asked in (reference, unknown):
            for attempt in (
                lambda name: stored(world, stranger, name),
                lambda name: update(world, stranger, name, OTHER, "limits"),
                lambda name: delete(world, stranger, name),
                lambda name: preview(world, stranger, name),
            ):
                with pytest.raises(NotFoundError) as caught:
                    await attempt(asked)
                texts.append(caught.value.public.replace(asked, "…"))
        assert len(set(texts)) == 1
    assert await stored(world, root, "gold") == plan


async def test_a_plan_in_use_is_not_deleted(world: World, root: Principal) -> None:
    """A key that is not revoked, an owner, an entitlement that lasts and the default each keep a plan alone."""
    plan = await create(world, root)
    await world.owner(root)
    with pytest.raises(PlanInUseError, match="the workspace, as its default plan"):
        await delete(world, root, "free")

    key, _ = await world.create(root, replace(KEY, plan_id="gold"))
    with pytest.raises(PlanInUseError, match="in use by 1 key;") as caught:
        await delete(world, root, "gold")
    assert caught.value.metadata == {"keys": "1", "owners": "0"}
    await world.change(root, lambda unit: world.keys.revoke(unit, root, key.id, reason=""))

    await give(world, root, plan.id)
    with pytest.raises(PlanInUseError, match="in use by 1 owner;"):
        await delete(world, root, "gold")
    await give(world, root, "")

    await entitle(world, root, "gold", world.clock.now_ms() + HOUR_MS)
    with pytest.raises(PlanInUseError, match="in use by 1 owner;"):
        await delete(world, root, "gold")
    world.wait(HOUR_MS)
    with pytest.raises(PlanInUseError, match="in use by 1 owner;"):
        await delete(world, root, "gold")  # another node's clock may be behind
    world.wait(60_000)
    await delete(world, root, "gold")
    assert world.changes[-1].touches == (plan.id,)


async def test_a_preview_says_whom_a_plan_applies_to(world: World, root: Principal) -> None:
    """Those who refer to it are counted apart from the keys that follow, by themselves, owners or the default."""
    await create(world, root)
    await world.owner(root)
    await world.owner(root, "customer-2")
    await world.create(root, KEY)
    await world.create(root, replace(KEY, environment=Environment.TEST))
    await world.create(root, replace(KEY, owner_id="customer-2", plan_id="gold"))
    await world.create(root, replace(KEY, owner_id="", kind=KeyKind.SERVICE))
    assert await preview(world, root, "free") == (PlanUses(0, 0, is_default=True), PlanReach(2, ("customer-1",)))
    assert await preview(world, root, "gold") == (PlanUses(1, 0), PlanReach(1, ("customer-2",)))
    await give(world, root, "gold")
    assert await preview(world, root, "free") == (PlanUses(0, 0, is_default=True), PlanReach(0, ()))
    assert await preview(world, root, "gold") == (PlanUses(1, 1), PlanReach(3, ("customer-1", "customer-2")))
    await entitle(world, root, "enterprise", world.clock.now_ms() + HOUR_MS)
    assert await preview(world, root, "enterprise") == (PlanUses(0, 1), PlanReach(2, ("customer-1",)))
    assert await preview(world, root, "gold") == (PlanUses(1, 1), PlanReach(1, ("customer-2",)))
    world.wait(HOUR_MS)
    assert (await preview(world, root, "enterprise"))[0] == PlanUses()
