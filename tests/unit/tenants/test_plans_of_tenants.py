"""What plans owners and workspaces have: what is stored, what is recorded, whom it touches, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from keystead.kernel.change import Action, owner_subject
from keystead.kernel.errors import InvalidRequestError
from keystead.kernel.limit import Limit, On, SlidingWindow, limit_record
from keystead.keys.principal import Principal
from keystead.limits.service import PlanDraft
from keystead.tenants.errors import NotFoundError
from keystead.tenants.model import Owner, Workspace
from keystead.tenants.service import OwnerDraft, WorkspaceDraft
from tests.world import World

DAY_MS = 86_400_000
UNKNOWN = "pln_01h455vb4pex5vsknk084sn02q"
WINDOW = Limit("requests", On.OWNER, SlidingWindow(7, 60_000))


@pytest.fixture
def world() -> World:
    """Lend a world in memory."""
    return World()


@pytest.fixture
async def root(world: World) -> Principal:
    """Lend the first management key's caller; there is an owner ``customer-1``."""
    _, caller, _ = await world.workspace()
    await world.owner(caller)
    return caller


async def plan_id_of(world: World, caller: Principal, name: str) -> str:
    """Return the id of a plan."""
    async with world.units.read(caller.scope) as unit:
        return (await world.plans.get(unit, caller.workspace_id, name)).id


async def update(world: World, caller: Principal, draft: OwnerDraft, *mask: str) -> Owner:
    """Change what ``mask`` names of the owner."""
    return await world.change(
        caller,
        lambda unit: world.owners.update(
            unit, caller.workspace_id, draft, mask=set(mask), etag="", allow_missing=False
        ),
    )


async def entitle(
    world: World, caller: Principal, reference: str, until_ms: int | None = None, owner_id: str = "customer-1"
) -> Owner:
    """Entitle the owner to a plan."""
    return await world.change(caller, lambda unit: world.owners.entitle(unit, owner_id, reference, until_ms=until_ms))


async def set_default(world: World, caller: Principal, reference: str) -> Workspace:
    """Make a plan the default, and say again what the workspace's name is."""
    mask = {"name", "default_plan_id"}
    return await world.change(
        caller,
        lambda unit: world.workspaces.update(
            unit, caller.workspace_id, WorkspaceDraft("Acme", reference), mask=mask, etag=""
        ),
    )


async def test_an_owner_is_made_with_a_plan_and_limits(world: World, root: Principal) -> None:
    """The plan is named by its name, stored by its id, and both are in the event."""
    draft = OwnerDraft("customer-2", "Ada", plan_id="free", limits=(WINDOW,))
    owner = await world.change(root, lambda unit: world.owners.create(unit, root.workspace_id, draft))
    assert (owner.plan_id, owner.limits) == (await plan_id_of(world, root, "free"), (WINDOW,))
    assert world.changes[-1].changes == {
        "name": (None, "Ada"),
        "metadata": (None, {}),
        "plan_id": (None, owner.plan_id),
        "limits": (None, [limit_record(WINDOW)]),
    }


async def test_an_owners_plan_and_limits_are_changed_and_taken_away(world: World, root: Principal) -> None:
    """Each is one event that touches the owner: its keys are read again (P3)."""
    plan_id = await plan_id_of(world, root, "enterprise")
    subject = owner_subject(root.workspace_id, "customer-1")
    for draft, mask, before, after in (
        (OwnerDraft("customer-1", plan_id="enterprise"), "plan_id", "", plan_id),
        (OwnerDraft("customer-1"), "plan_id", plan_id, ""),
        (OwnerDraft("customer-1", limits=(WINDOW,)), "limits", [], [limit_record(WINDOW)]),
        (OwnerDraft("customer-1"), "limits", [limit_record(WINDOW)], []),
    ):
        owner = await update(world, root, draft, mask)
        change = world.changes[-1]
        assert (change.action, change.touches) == (Action.OWNER_UPDATED, (subject,))
        assert change.changes == {mask: (before, after)}
    assert (owner.plan_id, owner.limits, owner.version) == ("", (), 5)


async def test_limits_that_cannot_be_are_refused(world: World, root: Principal) -> None:
    """An owner's limits are checked as a plan's are."""
    wrong = OwnerDraft("customer-1", limits=(replace(WINDOW, name=""),))
    with pytest.raises(InvalidRequestError) as caught:
        await update(world, root, wrong, "limits")
    assert [item.field for item in caught.value.violations] == ["owner.limits[0].name"]


async def test_an_entitlement_goes_before_the_owners_plan_until_it_ends(world: World, root: Principal) -> None:
    """From its end on the owner's own plan applies again, without anything being written."""
    free, enterprise = await plan_id_of(world, root, "free"), await plan_id_of(world, root, "enterprise")
    await update(world, root, OwnerDraft("customer-1", plan_id="free"), "plan_id")
    now_ms = world.clock.now_ms()
    owner = await entitle(world, root, "enterprise", now_ms + DAY_MS)
    assert owner.plan_at(now_ms) == owner.plan_at(now_ms + DAY_MS - 1) == (enterprise, now_ms + DAY_MS)
    assert owner.plan_at(now_ms + DAY_MS) == (free, None)
    change = world.changes[-1]
    assert (change.action, change.target, change.owner_id) == (Action.OWNER_ENTITLED, "customer-1", "customer-1")
    assert change.touches == (owner_subject(root.workspace_id, "customer-1"),)
    assert change.changes == {
        "entitled_plan_id": ("", enterprise),
        "entitled_until_ms": (None, now_ms + DAY_MS),
    }
    owner = await entitle(world, root, enterprise)
    assert owner.plan_at(now_ms + 1_000 * DAY_MS) == (enterprise, None)
    owner = await entitle(world, root, "")
    assert owner.plan_at(now_ms) == (free, None)


async def test_applying_the_same_again_changes_nothing(world: World, root: Principal) -> None:
    """Also after it has ended: whoever tells late what he told before is not refused, and records nothing."""
    until_ms = world.clock.now_ms() + DAY_MS
    owner = await entitle(world, root, "enterprise", until_ms)
    events = len(world.changes)
    assert await entitle(world, root, "enterprise", until_ms) == owner
    world.wait(2 * DAY_MS)
    assert await entitle(world, root, "enterprise", until_ms) == owner
    assert world.recorded(after=events) == []


async def test_an_entitlement_needs_an_owner_a_plan_and_a_future(world: World, root: Principal) -> None:
    """What is not there is not found, and what has ended before it began is refused; nothing is written."""
    now_ms = world.clock.now_ms()
    events = len(world.changes)
    for owner_id, reference in (("customer-2", "free"), ("customer-1", "gold"), ("customer-1", UNKNOWN)):
        with pytest.raises(NotFoundError):
            await entitle(world, root, reference, owner_id=owner_id)
    for reference, until_ms in (("free", now_ms), ("free", 1), ("", now_ms + DAY_MS)):
        with pytest.raises(InvalidRequestError) as caught:
            await entitle(world, root, reference, until_ms)
        assert [item.field for item in caught.value.violations] == ["until"]
    assert world.recorded(after=events) == []


async def test_another_workspaces_plan_cannot_be_given(world: World, root: Principal) -> None:
    """To an owner, by entitlement or as the default, it is as if there were none (P8)."""
    _, stranger, _ = await world.workspace("other")
    foreign = await world.change(
        stranger, lambda unit: world.plans.create(unit, stranger.workspace_id, PlanDraft("gold"))
    )
    for reference in (foreign.id, "gold", UNKNOWN):
        draft = OwnerDraft("customer-1", plan_id=reference)
        for attempt in (
            lambda it=draft: update(world, root, it, "plan_id"),
            lambda it=reference: entitle(world, root, it),
            lambda it=reference: set_default(world, root, it),
        ):
            with pytest.raises(NotFoundError) as caught:
                await attempt()
            assert caught.value.public == f"There is no plan {reference}."


async def test_the_default_plan_is_changed_and_taken_away(world: World, root: Principal) -> None:
    """Each is one event that touches the workspace; the name may change with it."""
    free, enterprise = await plan_id_of(world, root, "free"), await plan_id_of(world, root, "enterprise")
    for default, before, after in (("enterprise", free, enterprise), ("", enterprise, "")):
        workspace = await set_default(world, root, default)
        assert workspace.default_plan_id == after
        change = world.changes[-1]
        assert (change.action, change.touches) == (Action.WORKSPACE_UPDATED, (root.workspace_id,))
        assert change.changes == {"default_plan_id": (before, after)}
