"""Changing keys: update, suspend, resume and revoke, what each records, and whom each refuses."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from keystead.kernel.change import Action
from keystead.kernel.errors import InvalidRequestError
from keystead.kernel.limit import Limit, On, SlidingWindow
from keystead.keys.errors import KeyRevokedError, PermissionDeniedError
from keystead.keys.model import Key, KeyKind, KeyState
from keystead.keys.ports import Unit
from keystead.keys.principal import Principal
from keystead.keys.service import KEY_FIELDS, KeyDraft
from keystead.scopes.model import Grants
from keystead.tenants.errors import EtagMismatchError, NotFoundError
from keystead.tenants.model import Environment
from tests.world import ORIGIN, World, narrowed

DRAFT = KeyDraft(
    name="Key",
    owner_id="customer-1",
    environment=Environment.LIVE,
    description="For invoices",
    scopes=("read:invoices",),
    metadata={"team": "billing"},
    tags=("blue",),
    allowed_ips=("192.0.2.0/24",),
)
OTHER = KeyDraft(
    name="Other",
    description="For reports",
    scopes=("read:reports",),
    metadata={},
    tags=(),
    allowed_ips=("::ffff:192.0.2.1",),
    plan_id="enterprise",
    limits=(Limit("burst", On.KEY, SlidingWindow(5, 1_000)),),
)
UNKNOWN = "key_01h455vb4pex5vsknk084sn02q"

Call = Callable[[World, Unit, Principal, str], Awaitable[object]]

CALLS: dict[str, Call] = {
    "update": lambda world, unit, caller, key_id: world.keys.update(
        unit, caller, key_id, OTHER, mask={"name"}, etag=""
    ),
    "rotate": lambda world, unit, caller, key_id: world.keys.rotate(unit, caller, key_id, overlap_ms=None),
    "finish": lambda world, unit, caller, key_id: world.keys.finish_rotation(unit, caller, key_id),
    "cancel": lambda world, unit, caller, key_id: world.keys.cancel_rotation(unit, caller, key_id),
    "suspend": lambda world, unit, caller, key_id: world.keys.suspend(unit, caller, key_id, reason=""),
    "resume": lambda world, unit, caller, key_id: world.keys.resume(unit, caller, key_id),
    "revoke": lambda world, unit, caller, key_id: world.keys.revoke(unit, caller, key_id, reason=""),
}
EVERY_CALL = pytest.mark.parametrize("name", sorted(CALLS))


async def call(world: World, name: str, caller: Principal, key_id: str) -> object:
    """Make one of ``CALLS`` in a unit of its own."""
    return await world.change(caller, lambda unit: CALLS[name](world, unit, caller, key_id))


async def update(world: World, caller: Principal, key: Key, draft: KeyDraft, *mask: str, etag: str = "") -> Key:
    """Change what ``mask`` names."""
    return await world.change(
        caller, lambda unit: world.keys.update(unit, caller, key.id, draft, mask=set(mask), etag=etag)
    )


@EVERY_CALL
async def test_what_is_not_there_cannot_be_changed(world: World, root: Principal, name: str) -> None:
    """An unknown key and another workspace's key are refused alike (P8)."""
    key, _ = await world.create(root, DRAFT)
    _, stranger, _ = await world.workspace("other")
    for caller, key_id in ((root, UNKNOWN), (stranger, key.id)):
        with pytest.raises(NotFoundError):
            await call(world, name, caller, key_id)
    assert await world.get(root, key.id) == key


@EVERY_CALL
async def test_the_other_environment_cannot_be_changed(world: World, root: Principal, name: str) -> None:
    """To a caller bound to ``test`` a live key is not there (P8)."""
    key, _ = await world.create(root, DRAFT)
    with pytest.raises(NotFoundError):
        await call(world, name, narrowed(root, environment=Environment.TEST), key.id)


@EVERY_CALL
async def test_a_management_key_is_changed_only_by_who_holds_all_its_scopes(
    world: World, root: Principal, name: str
) -> None:
    """With ``write:keys`` alone nobody touches a stronger key, and above all gets no secret of it (P8)."""
    draft = KeyDraft(name="M", kind=KeyKind.MANAGEMENT, environment=Environment.LIVE, scopes=("*:owners", "write:keys"))
    key, _ = await world.create(root, draft)
    await call(world, "rotate", root, key.id)
    before = await world.get(root, key.id)
    for weak in (["write:keys"], ["write:keys", "read:owners", "write:owners"], ["*:owners"]):
        with pytest.raises(PermissionDeniedError):
            await call(world, name, narrowed(root, weak), key.id)
    assert await world.get(root, key.id) == before
    await call(world, name, narrowed(root, ["*:owners", "write:keys"], Environment.LIVE), key.id)


@EVERY_CALL
async def test_operator_keys_are_changed_by_the_command_line_alone(world: World, root: Principal, name: str) -> None:
    """Even a caller inside the system's workspace with every scope is refused."""
    del root
    async with world.units.begin(None, ORIGIN) as unit:
        key, _ = await world.installation.mint_operator(unit, name="O")
    caller = Principal("key_x", KeyKind.MANAGEMENT, key.workspace_id, "keystead", Environment.ALL, Grants(("*:*",)))
    with pytest.raises(PermissionDeniedError):
        await call(world, name, caller, key.id)


@EVERY_CALL
async def test_revocation_is_final(world: World, root: Principal, name: str) -> None:
    """What was revoked is never changed again; revoking it again changes nothing and is no error."""
    key, _ = await world.create(root, DRAFT)
    await call(world, "revoke", root, key.id)
    revoked, events = await world.get(root, key.id), len(world.changes)
    if name == "revoke":
        assert await call(world, name, root, key.id) == revoked
    else:
        with pytest.raises(KeyRevokedError):
            await call(world, name, root, key.id)
    assert await world.get(root, key.id) == revoked
    assert world.recorded(after=events) == []


async def test_an_update_changes_what_the_mask_names_and_nothing_else(world: World, root: Principal) -> None:
    """Each field alone; the rest of the draft is not looked at, and version and date move on."""
    async with world.units.read(root.scope) as unit:
        plan = await world.plans.get(unit, root.workspace_id, OTHER.plan_id)
    values: dict[str, object] = {"allowed_ips": ("192.0.2.1",), "plan_id": plan.id}
    for name in sorted(KEY_FIELDS - {"expires_at"}):
        key, _ = await world.create(root, DRAFT)
        world.wait(5)
        after = await update(world, root, key, replace(OTHER, expires_at_ms=1), name)
        wanted = values.get(name, getattr(OTHER, name))
        assert after == replace(key, version=2, updated_at_ms=world.clock.now_ms(), **{name: wanted})  # type: ignore[arg-type] # the names are those of the mask
        assert await world.get(root, key.id) == after
        assert world.changes[-1].changes.keys() == {name}
        assert (world.changes[-1].action, world.changes[-1].touches) == (Action.KEY_UPDATED, (key.id,))


async def test_expiry_is_moved_into_the_future_or_taken_away(world: World, root: Principal) -> None:
    """An update may shorten, lengthen or lift an expiry, also of an expired key; the past is refused."""
    now_ms = world.clock.now_ms()
    key, _ = await world.create(root, replace(DRAFT, expires_at_ms=now_ms + 10))
    with pytest.raises(InvalidRequestError) as caught:
        await update(world, root, key, replace(DRAFT, expires_at_ms=now_ms), "expires_at")
    assert caught.value.violations[0].field == "key.expires_at"
    world.wait(20)
    assert (await world.get(root, key.id)).state_at(world.clock.now_ms()) is KeyState.EXPIRED
    after = await update(world, root, key, replace(DRAFT, expires_at_ms=now_ms + 30), "expires_at")
    assert after.state_at(world.clock.now_ms()) is KeyState.ACTIVE
    assert world.changes[-1].changes == {"expires_at_ms": (now_ms + 10, now_ms + 30)}
    assert (await update(world, root, key, DRAFT, "expires_at")).expires_at_ms is None


async def test_an_update_that_changes_nothing_records_nothing(world: World, root: Principal) -> None:
    """Asking for what is so already keeps version and log as they are."""
    key, _ = await world.create(root, DRAFT)
    events = len(world.changes)
    assert await update(world, root, key, DRAFT, "name", "scopes", "metadata", "allowed_ips") == key
    assert world.recorded(after=events) == []


@pytest.mark.parametrize("mask", ((), ("kind",), ("name", "owner_id"), ("expires_at_ms",), ("*",)))
async def test_masks_name_what_can_be_changed(world: World, root: Principal, mask: tuple[str, ...]) -> None:
    """An empty mask, and one that names what never changes, is told as such and changes nothing."""
    key, _ = await world.create(root, DRAFT)
    with pytest.raises(InvalidRequestError) as caught:
        await update(world, root, key, OTHER, *mask)
    assert caught.value.violations[0].field == "update_mask"


async def test_an_etag_guards_against_lost_updates(world: World, root: Principal) -> None:
    """With an etag, a change is made only to the version that was read; without one, to the latest."""
    key, _ = await world.create(root, DRAFT)
    await update(world, root, key, OTHER, "name", etag='"1"')
    with pytest.raises(EtagMismatchError):
        await update(world, root, key, OTHER, "tags", etag='"1"')
    assert (await update(world, root, key, OTHER, "tags")).version == 3


async def test_nobody_widens_a_management_key_beyond_what_he_holds(world: World, root: Principal) -> None:
    """Scopes are added only by who holds them as well (P8); other fields need no more than the key's own."""
    draft = KeyDraft(name="M", kind=KeyKind.MANAGEMENT, environment=Environment.LIVE, scopes=("read:keys",))
    key, _ = await world.create(root, draft)
    limited = narrowed(root, ["read:keys", "write:keys"])
    await update(world, limited, key, replace(draft, scopes=("write:keys",)), "scopes")
    for scopes in (("*:keys",), ("write:keys", "write:owners")):
        with pytest.raises(PermissionDeniedError):
            await update(world, limited, key, replace(draft, scopes=scopes), "scopes")
    assert (await update(world, limited, key, replace(draft, scopes=("*:*",)), "name", "tags")).scopes == (
        "write:keys",
    )


async def test_suspending_and_resuming(world: World, root: Principal) -> None:
    """A suspension says why and ends when it is told to; what is so already stays so and is not recorded."""
    key, _ = await world.create(root, DRAFT)
    events = len(world.changes)
    for _ in range(2):
        after = await world.change(root, lambda unit: world.keys.suspend(unit, root, key.id, reason="abuse"))
        assert (after.state, after.state_reason, after.version) == (KeyState.SUSPENDED, "abuse", 2)
    for _ in range(2):
        after = await world.change(root, lambda unit: world.keys.resume(unit, root, key.id))
        assert (after.state, after.state_reason, after.version) == (KeyState.ACTIVE, "", 3)
    assert world.recorded(after=events) == [Action.KEY_SUSPENDED, Action.KEY_RESUMED]
    assert world.changes[events].reason == "abuse"
    assert world.changes[events].changes == {"state": ("active", "suspended")}


async def test_revoking(world: World, root: Principal) -> None:
    """A revoked key says when and why, and every process that has cached it hears of it."""
    key, _ = await world.create(root, DRAFT)
    world.wait(7)
    after = await world.change(root, lambda unit: world.keys.revoke(unit, root, key.id, reason="leaked"))
    assert (after.state, after.state_reason, after.revoked_at_ms) == (KeyState.REVOKED, "leaked", world.clock.now_ms())
    change = world.changes[-1]
    assert (change.action, change.reason, change.touches) == (Action.KEY_REVOKED, "leaked", (key.id,))


@pytest.mark.parametrize("reason", ("r" * 501, "a\nb"))
@pytest.mark.parametrize("name", ("suspend", "revoke"))
async def test_reasons_are_bounded(world: World, root: Principal, name: str, reason: str) -> None:
    """A reason is a sentence for the record, not a document and not a way to forge one."""
    key, _ = await world.create(root, DRAFT)
    method = getattr(world.keys, name)
    with pytest.raises(InvalidRequestError):
        await world.change(root, lambda unit: method(unit, root, key.id, reason=reason))
    assert await world.get(root, key.id) == key
