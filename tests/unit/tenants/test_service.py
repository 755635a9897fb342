"""Owners and workspaces: what can be said of them, what is recorded, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from keystead.kernel.change import Action, owner_subject
from keystead.kernel.errors import InvalidRequestError
from keystead.keys.ports import Unit
from keystead.keys.principal import Principal
from keystead.tenants.errors import AlreadyExistsError, EtagMismatchError, NotFoundError
from keystead.tenants.model import Owner, Workspace
from keystead.tenants.service import OwnerDraft, WorkspaceDraft
from tests.fakes import LateOwners
from tests.world import ORIGIN, World

DRAFT = OwnerDraft("customer-1", "Ada", {"tier": "gold"})


@pytest.fixture
def world() -> World:
    """Lend a world in memory."""
    return World()


@pytest.fixture
async def root(world: World) -> Principal:
    """Lend the first management key's caller."""
    return (await world.workspace())[1]


async def create(world: World, caller: Principal, draft: OwnerDraft = DRAFT) -> Owner:
    """Make an owner."""
    return await world.change(caller, lambda unit: world.owners.create(unit, caller.workspace_id, draft))


async def update(
    world: World, caller: Principal, draft: OwnerDraft, *mask: str, etag: str = "", allow_missing: bool = False
) -> Owner:
    """Change what ``mask`` names."""
    return await world.change(
        caller,
        lambda unit: world.owners.update(
            unit, caller.workspace_id, draft, mask=set(mask), etag=etag, allow_missing=allow_missing
        ),
    )


async def stored(world: World, caller: Principal, owner_id: str = "customer-1") -> Owner:
    """Return an owner as it is stored."""
    async with world.units.read(caller.scope) as unit:
        return await world.owners.get(unit, owner_id)


async def test_an_owner_is_stored_and_recorded(world: World, root: Principal) -> None:
    """What was said of it, when, and one event (P6); nothing that is cached depends on it."""
    owner = await create(world, root)
    assert await stored(world, root) == owner
    assert (owner.owner_id, owner.name, owner.metadata) == ("customer-1", "Ada", {"tier": "gold"})
    assert (owner.created_at_ms, owner.updated_at_ms, owner.suspended, owner.version) == (
        *[world.clock.now_ms()] * 2,
        False,
        1,
    )
    change = world.changes[-1]
    assert (change.action, change.target, change.owner_id) == (Action.OWNER_CREATED, "customer-1", "customer-1")
    assert change.touches == ()
    assert change.changes == {"name": (None, "Ada"), "metadata": (None, {"tier": "gold"})}


async def test_owner_ids_are_unique_within_their_workspace(world: World, root: Principal) -> None:
    """The platform's own id names one owner; another platform may use the same and sees nothing of it (P8)."""
    await create(world, root)
    with pytest.raises(AlreadyExistsError):
        await create(world, root)
    _, stranger, _ = await world.workspace("other")
    with pytest.raises(NotFoundError):
        await stored(world, stranger)
    await create(world, stranger, OwnerDraft("customer-1", "Bob"))
    assert (await stored(world, root)).name == "Ada"


async def test_a_wrong_owner_is_told_everything_at_once(world: World, root: Principal) -> None:
    """Every broken field is named in one reply, in the request's own spelling."""
    wrong = OwnerDraft("a b", "n" * 101, {"": "v"})
    with pytest.raises(InvalidRequestError) as made:
        await create(world, root, wrong)
    assert [item.field for item in made.value.violations] == ["owner_id", "name", "metadata"]
    with pytest.raises(InvalidRequestError) as changed:
        await update(world, root, wrong, "name")
    assert [item.field for item in changed.value.violations] == ["owner.owner_id", "owner.name", "owner.metadata"]


async def test_an_update_changes_what_the_mask_names(world: World, root: Principal) -> None:
    """The rest stays, version and date move on, and the event says what it was before."""
    owner = await create(world, root)
    world.wait(5)
    after = await update(world, root, OwnerDraft("customer-1", "Bea", {}), "name")
    assert after == replace(owner, name="Bea", version=2, updated_at_ms=world.clock.now_ms())
    assert await stored(world, root) == after
    assert (world.changes[-1].action, world.changes[-1].changes) == (Action.OWNER_UPDATED, {"name": ("Ada", "Bea")})


async def test_an_update_that_changes_nothing_records_nothing(world: World, root: Principal) -> None:
    """Asking for what is so already keeps version and log as they are."""
    owner = await create(world, root)
    events = len(world.changes)
    assert await update(world, root, DRAFT, "name", "metadata") == owner
    assert world.recorded(after=events) == []


@pytest.mark.parametrize("mask", ((), ("owner_id",), ("name", "suspended")))
async def test_masks_name_what_can_be_changed(world: World, root: Principal, mask: tuple[str, ...]) -> None:
    """An empty mask, or one that names what never changes this way, is refused."""
    await create(world, root)
    with pytest.raises(InvalidRequestError) as caught:
        await update(world, root, DRAFT, *mask)
    assert caught.value.violations[0].field == "update_mask"


async def test_what_is_missing_is_made_only_when_that_is_asked(world: World, root: Principal) -> None:
    """``allow_missing`` makes the owner; without it the owner is not found; a wrong mask is told in either case."""
    events = len(world.changes)
    with pytest.raises(NotFoundError):
        await update(world, root, DRAFT, "name")
    with pytest.raises(InvalidRequestError):
        await update(world, root, DRAFT, "nmae", allow_missing=True)
    assert (await update(world, root, DRAFT, allow_missing=True)).name == "Ada"
    assert (await update(world, root, replace(DRAFT, name="Bea"), "name", allow_missing=True)).name == "Bea"
    with pytest.raises(InvalidRequestError):
        await update(world, root, DRAFT, allow_missing=True)
    assert world.recorded(after=events) == [Action.OWNER_CREATED, Action.OWNER_UPDATED]


async def test_what_was_made_meanwhile_is_changed(world: World, root: Principal) -> None:
    """Of two calls with ``allow_missing`` at once, the second changes the owner that the first has made."""
    await create(world, root)

    async def update_late(unit: Unit) -> Owner:
        unit.owners = LateOwners(unit.owners)  # type: ignore[misc, assignment] # the memory unit's own attribute
        draft = replace(DRAFT, name="Bea")
        return await world.owners.update(unit, root.workspace_id, draft, mask={"name"}, etag="", allow_missing=True)

    assert await world.change(root, update_late) == await stored(world, root)
    assert (await stored(world, root)).name == "Bea"


async def test_an_etag_guards_against_lost_updates(world: World, root: Principal) -> None:
    """With an etag, a change is made only to the version that was read."""
    await create(world, root)
    await update(world, root, replace(DRAFT, name="Bea"), "name", etag='"1"')
    with pytest.raises(EtagMismatchError):
        await update(world, root, DRAFT, "name", etag='"1"')


async def set_suspended(world: World, caller: Principal, *, suspended: bool, reason: str = "") -> Owner:
    """Suspend or resume the owner."""
    return await world.change(
        caller, lambda unit: world.owners.set_suspended(unit, "customer-1", suspended=suspended, reason=reason)
    )


async def test_suspending_and_resuming_an_owner(world: World, root: Principal) -> None:
    """What is so already stays so; each real change is one event with its reason that touches the owner."""
    await create(world, root)
    events = len(world.changes)
    for _ in range(2):
        assert (await set_suspended(world, root, suspended=True, reason="unpaid")).suspended
    for _ in range(2):
        assert not (await set_suspended(world, root, suspended=False)).suspended
    assert world.recorded(after=events) == [Action.OWNER_SUSPENDED, Action.OWNER_RESUMED]
    assert world.changes[events].reason == "unpaid"
    assert world.changes[events].touches == (owner_subject(root.workspace_id, "customer-1"),)
    assert (await stored(world, root)).version == 3


async def test_suspending_needs_an_owner_and_a_decent_reason(world: World, root: Principal) -> None:
    """An unknown owner is not found, and a reason is bounded."""
    with pytest.raises(NotFoundError):
        await set_suspended(world, root, suspended=True)
    await create(world, root)
    with pytest.raises(InvalidRequestError):
        await set_suspended(world, root, suspended=True, reason="r" * 501)


async def rename(world: World, caller: Principal, name: str, *mask: str, etag: str = "") -> Workspace:
    """Rename the caller's workspace."""
    return await world.change(
        caller,
        lambda unit: world.workspaces.update(
            unit, caller.workspace_id, WorkspaceDraft(name), mask=set(mask), etag=etag
        ),
    )


async def test_a_workspace_is_renamed(world: World, root: Principal) -> None:
    """The name changes and nothing else; the same name again is no change."""
    events = len(world.changes)
    world.wait(5)
    for _ in range(2):
        after = await rename(world, root, "Acme Inc.", "name")
        assert (after.name, after.version, after.updated_at_ms) == ("Acme Inc.", 2, world.clock.now_ms())
    assert world.recorded(after=events) == [Action.WORKSPACE_UPDATED]
    assert world.changes[-1].changes == {"name": ("Acme", "Acme Inc.")}
    async with world.units.read(root.scope) as unit:
        assert await world.workspaces.get(unit, root.workspace_id) == after


@pytest.mark.parametrize(
    ("name", "mask", "field"),
    (("Acme", (), "update_mask"), ("Acme", ("brand",), "update_mask"), ("", ("name",), "workspace.name")),
)
async def test_wrong_workspace_updates_are_refused(
    world: World, root: Principal, name: str, mask: tuple[str, ...], field: str
) -> None:
    """A brand never changes, a name is never empty, and a mask names something."""
    with pytest.raises(InvalidRequestError) as caught:
        await rename(world, root, name, *mask)
    assert caught.value.violations[0].field == field


async def test_a_workspaces_etag_guards_it(world: World, root: Principal) -> None:
    """A rename based on an old version is refused."""
    with pytest.raises(EtagMismatchError):
        await rename(world, root, "Other", "name", etag='"2"')


async def test_another_workspace_is_not_there(world: World, root: Principal) -> None:
    """Inside a caller's walls there is one workspace, his own (P8); an operator sees them all."""
    workspace, _, _ = await world.workspace("other")
    async with world.units.read(root.scope) as unit:
        with pytest.raises(NotFoundError):
            await world.workspaces.get(unit, workspace.id)
    async with world.units.begin(None, ORIGIN) as unit:
        assert await world.workspaces.get(unit, workspace.id) == workspace


async def keep_events(world: World, caller: Principal, days: int) -> Workspace:
    """Say how long events are kept."""
    return await world.change(
        caller,
        lambda unit: world.workspaces.update(
            unit,
            caller.workspace_id,
            WorkspaceDraft(audit_retention_days=days),
            mask={"audit_retention_days"},
            etag="",
        ),
    )


async def test_how_long_events_are_kept_is_told(world: World, root: Principal) -> None:
    """It touches nothing that a verdict depends on, and is an event."""
    assert (await keep_events(world, root, 400)).audit_retention_days == 400
    told = world.changes[-1]
    assert (told.action, dict(told.changes), told.touches) == (
        Action.WORKSPACE_UPDATED,
        {"audit_retention_days": (0, 400)},
        (),
    )
    assert (await keep_events(world, root, 0)).audit_retention_days == 0


@pytest.mark.parametrize("days", (-1, 1, 29, 36_501))
async def test_events_are_kept_for_a_month_at_least(world: World, root: Principal, days: int) -> None:
    """Whoever has stolen a key cannot have its tracks forgotten at once."""
    with pytest.raises(InvalidRequestError):
        await keep_events(world, root, days)
