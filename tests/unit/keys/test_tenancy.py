"""Workspaces and owners that come and go, and what that means for keys."""

from __future__ import annotations

from dataclasses import replace

import pytest

from keystead.kernel.change import Action, owner_subject
from keystead.kernel.errors import InvalidRequestError
from keystead.keys.errors import PermissionDeniedError, TooManyKeysError
from keystead.keys.model import Key, KeyKind, KeyState
from keystead.keys.ports import Unit
from keystead.keys.principal import Principal
from keystead.keys.service import KeyDraft
from keystead.keys.tenancy import OWNED_KEYS_MAX
from keystead.tenants.errors import AlreadyExistsError, EtagMismatchError, NotFoundError, WorkspaceNotEmptyError
from keystead.tenants.model import SYSTEM_WORKSPACE_ID, Environment
from tests.world import ORIGIN, World, narrowed

DRAFT = KeyDraft(name="Key", owner_id="customer-1", environment=Environment.LIVE)


async def delete_workspace(world: World, workspace_id: str, etag: str = "") -> None:
    """Delete a workspace as an operator does."""
    async with world.units.begin(None, ORIGIN) as unit:
        await world.tenancy.delete_workspace(unit, workspace_id, etag=etag)


async def delete_owner(
    world: World, caller: Principal, *, owner_id: str = "customer-1", reason: str = "", etag: str = ""
) -> int:
    """Delete an owner."""
    return await world.change(
        caller, lambda unit: world.tenancy.delete_owner(unit, caller, owner_id, reason=reason, etag=etag)
    )


async def two_keys(world: World, caller: Principal) -> list[Key]:
    """Make a live and a test key for the owner."""
    return [
        (await world.create(caller, replace(DRAFT, environment=environment)))[0]
        for environment in (Environment.LIVE, Environment.TEST)
    ]


async def test_a_workspace_begins_with_one_key_that_holds_everything(world: World) -> None:
    """Its first management key is for both environments; making it with its two plans is one unit."""
    workspace, caller, secret = await world.workspace()
    assert (workspace.brand, workspace.name, workspace.version) == ("acme", "Acme", 1)
    assert (caller.kind, caller.environment, caller.grants.scopes) == (KeyKind.MANAGEMENT, Environment.ALL, ("*:*",))
    assert secret.reveal().startswith("keystead_live_")
    assert world.recorded() == [Action.WORKSPACE_CREATED, *[Action.PLAN_CREATED] * 2, Action.KEY_CREATED]
    assert world.changes[0].changes == {"brand": (None, "acme"), "name": (None, "Acme")}
    assert secret.reveal()[30:] not in repr(world.changes)


@pytest.mark.parametrize("brand", ("", "a", "a" * 17, "Acme", "ac me", "keystead", "ac_me"))
async def test_brands_are_checked(world: World, brand: str) -> None:
    """A brand that scanners could not match on, or that is Keystead's own, is refused before anything is hashed."""
    with pytest.raises(InvalidRequestError) as caught:
        await world.workspace(brand)
    assert caught.value.violations[0].field == "brand"
    assert world.hasher.calls == 0


async def test_a_brand_is_taken_once(world: World) -> None:
    """Two platforms never share a brand: a secret says whose it is."""
    await world.workspace("acme")
    with pytest.raises(AlreadyExistsError):
        await world.workspace("acme")
    assert len(world.changes) == 4


async def test_who_has_built_the_walls_names_the_workspace(world: World) -> None:
    """A workspace gets the id that was chosen for it beforehand."""
    async with world.units.begin(None, ORIGIN) as unit:
        workspace, key, _ = await world.tenancy.create_workspace(
            unit, brand="acme", name="Acme", created_by="test", workspace_id="wsp_chosen"
        )
    assert (workspace.id, key.workspace_id) == ("wsp_chosen", "wsp_chosen")


@pytest.mark.parametrize("kind", (KeyKind.CUSTOMER, KeyKind.SERVICE))
async def test_a_workspace_with_keys_is_not_deleted(world: World, root: Principal, kind: KeyKind) -> None:
    """While a customer or a service has a key that is not revoked, deletion is refused; afterwards it is not."""
    key, secret = await world.create(root, replace(DRAFT, kind=kind))
    assert await world.code(root, secret) == "VALID"
    with pytest.raises(WorkspaceNotEmptyError):
        await delete_workspace(world, root.workspace_id)
    await world.change(root, lambda unit: world.keys.revoke(unit, root, key.id, reason=""))
    await delete_workspace(world, root.workspace_id)
    assert world.recorded()[-1] is Action.WORKSPACE_DELETED
    assert world.changes[-1].touches == (root.workspace_id,)
    with pytest.raises(NotFoundError):
        await delete_workspace(world, root.workspace_id)


async def test_a_deleted_workspaces_keys_are_unknown_at_once(world: World, root: Principal) -> None:
    """Its management keys and whatever was cached of it are refused with the very next call."""
    key, secret = await world.create(root, DRAFT)
    assert await world.code(root, secret) == "VALID"
    await world.change(root, lambda unit: world.keys.revoke(unit, root, key.id, reason=""))
    assert await world.code(root, secret) == "REVOKED"
    await delete_workspace(world, root.workspace_id)
    assert await world.code(root, secret) == "NOT_FOUND"


async def test_the_systems_own_workspace_stays(world: World) -> None:
    """Nobody deletes what the operators' keys belong to."""
    with pytest.raises(PermissionDeniedError):
        await delete_workspace(world, SYSTEM_WORKSPACE_ID)


async def test_etags_guard_deletions(world: World, root: Principal) -> None:
    """A deletion based on an old version is refused, for workspaces and owners alike."""
    with pytest.raises(EtagMismatchError):
        await delete_workspace(world, root.workspace_id, etag='"2"')
    with pytest.raises(EtagMismatchError):
        await delete_owner(world, root, etag='"2"')
    assert await delete_owner(world, root, etag='"1"') == 0
    await delete_workspace(world, root.workspace_id, etag='"1"')


async def test_deleting_an_owner_revokes_its_keys_in_both_environments(world: World, root: Principal) -> None:
    """Every key of the owner, and no other's, is revoked with the owner's end, each by its own event."""
    keys = await two_keys(world, root)
    other, _ = await world.create(root, replace(DRAFT, owner_id="customer-2", create_owner=True))
    events = len(world.changes)
    assert await delete_owner(world, root) == 2
    for key in keys:
        stored = await world.get(root, key.id)
        assert (stored.state, stored.state_reason, stored.owner_id) == (KeyState.REVOKED, "owner deleted", "customer-1")
    assert (await world.get(root, other.id)).state is KeyState.ACTIVE
    assert world.recorded(after=events) == [Action.KEY_REVOKED, Action.KEY_REVOKED, Action.OWNER_DELETED]
    deleted = world.changes[-1]
    assert (deleted.target, deleted.touches) == ("customer-1", (owner_subject(root.workspace_id, "customer-1"),))
    with pytest.raises(NotFoundError):
        await delete_owner(world, root)


async def test_the_reason_for_an_owners_end_is_its_keys_too(world: World, root: Principal) -> None:
    """Whoever asks later why a key was revoked finds what was said of its owner."""
    (key, _) = await two_keys(world, root)
    await delete_owner(world, root, reason="left us")
    assert (await world.get(root, key.id)).state_reason == "left us"
    assert world.changes[-1].reason == "left us"


async def test_an_owner_can_be_made_anew(world: World, root: Principal) -> None:
    """The id is free again, and the old keys stay revoked: nothing comes back with it."""
    _, secret = await world.create(root, DRAFT)
    await delete_owner(world, root)
    await world.owner(root)
    assert await world.code(root, secret) == "REVOKED"


async def test_deleting_an_owner_needs_the_rights_to_revoke_its_keys(world: World, root: Principal) -> None:
    """It takes ``write:keys`` and both environments (P8)."""
    keys = await two_keys(world, root)
    for weak in (narrowed(root, ["write:owners"]), narrowed(root, environment=Environment.LIVE)):
        with pytest.raises(PermissionDeniedError):
            await delete_owner(world, weak)
    assert [(await world.get(root, key.id)).state for key in keys] == [KeyState.ACTIVE] * 2
    assert await delete_owner(world, narrowed(root, ["write:keys"])) == 2


async def test_an_owner_with_too_many_keys_is_not_half_deleted(world: World, root: Principal) -> None:
    """Past the bound nothing at all is revoked."""
    key, _ = await world.create(root, DRAFT)

    async def fill(unit: Unit) -> None:
        for number in range(OWNED_KEYS_MAX):
            secret = replace(key.secrets[0], id=f"sec_{number}", prefix=f"acme_live_{number:012d}")
            await unit.keys.add(replace(key, id=f"key_{number}", secrets=(secret,)))

    await world.change(root, fill)
    events = len(world.changes)
    with pytest.raises(TooManyKeysError):
        await delete_owner(world, root)
    assert world.recorded(after=events) == []


@pytest.mark.parametrize("suspended", (True, False))
async def test_an_owner_is_suspended_by_who_is_for_both_environments(
    world: World, root: Principal, *, suspended: bool
) -> None:
    """An owner's keys of both environments follow it, so a caller for one of them does not decide that (P8)."""
    key, secret = await world.create(root, DRAFT)
    await world.change(
        root, lambda unit: world.tenancy.set_suspended(unit, root, "customer-1", suspended=not suspended)
    )
    before = await world.code(root, secret)
    bound = narrowed(root, environment=Environment.LIVE)
    with pytest.raises(PermissionDeniedError):
        await world.change(
            bound, lambda unit: world.tenancy.set_suspended(unit, bound, "customer-1", suspended=suspended)
        )
    assert await world.code(root, secret) == before
    await world.change(root, lambda unit: world.tenancy.set_suspended(unit, root, "customer-1", suspended=suspended))
    assert await world.code(root, secret) == ("SUSPENDED" if suspended else "VALID")
    assert (await world.get(root, key.id)).state is KeyState.ACTIVE
