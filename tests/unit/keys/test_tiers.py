"""Which plan applies to a key, how many keys a plan allows, and who may say so."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from itertools import product

import pytest

from keystead.kernel.errors import InvalidRequestError
from keystead.kernel.limit import Limit, On, SlidingWindow, limit_record
from keystead.keys.errors import KeyLimitReachedError, PermissionDeniedError
from keystead.keys.model import Key, KeyKind
from keystead.keys.principal import Principal
from keystead.keys.service import KeyDraft
from keystead.keys.tiers import plan_of
from keystead.limits.service import PlanDraft
from keystead.tenants.errors import NotFoundError
from keystead.tenants.model import Environment, Owner
from keystead.tenants.service import OwnerDraft, WorkspaceDraft
from tests.world import World, narrowed

NOW_MS = 1_000_000
DRAFT = KeyDraft(name="Key", owner_id="customer-1", environment=Environment.LIVE)
WINDOW = Limit("requests", On.KEY, SlidingWindow(7, 60_000))
UNKNOWN = "pln_01h455vb4pex5vsknk084sn02q"


def key_of(kind: KeyKind, plan_id: str) -> Key:
    """Make a key."""
    return Key("key_1", "wsp_1", Environment.LIVE, kind, "o", "Key", 0, "", 0, (), plan_id=plan_id)


async def update(world: World, caller: Principal, key: Key, draft: KeyDraft, *mask: str) -> Key:
    """Change what ``mask`` names of a key."""
    return await world.change(
        caller, lambda unit: world.keys.update(unit, caller, key.id, draft, mask=set(mask), etag="")
    )


async def revoke(world: World, caller: Principal, key_id: str) -> None:
    """Revoke a key."""
    await world.change(caller, lambda unit: world.keys.revoke(unit, caller, key_id, reason=""))


@pytest.mark.parametrize("kind", tuple(KeyKind))
def test_the_nearest_plan_applies(kind: KeyKind) -> None:
    """A key's own goes before its owner's entitlement, that before the owner's own, that before the default.

    The default is for customers' keys alone, and keys that call Keystead itself have no plan at all.
    """
    untils = (None, NOW_MS - 1, NOW_MS, NOW_MS + 1)
    for own, entitled, until_ms, chosen, default in product(("", "own"), ("", "ent"), untils, ("", "cho"), ("", "def")):
        owner = Owner("wsp_1", "o", "", 0, 0, plan_id=chosen, entitled_plan_id=entitled, entitled_until_ms=until_ms)
        lasting = entitled if until_ms is None or until_ms > NOW_MS else ""
        wanted = own or lasting or chosen or (default if kind is KeyKind.CUSTOMER else "")
        if kind in {KeyKind.MANAGEMENT, KeyKind.OPERATOR}:
            wanted = ""
        ends_at_ms = until_ms if wanted == "ent" else None
        assert plan_of(key_of(kind, own), owner, default, NOW_MS) == (wanted, ends_at_ms)


def test_a_key_without_an_owner_has_its_own_plan_or_the_default() -> None:
    """An owner that is gone, or never was, gives nothing."""
    assert plan_of(key_of(KeyKind.CUSTOMER, ""), None, "def", NOW_MS) == ("def", None)
    assert plan_of(key_of(KeyKind.SERVICE, ""), None, "def", NOW_MS) == ("", None)
    assert plan_of(key_of(KeyKind.SERVICE, "own"), None, "def", NOW_MS) == ("own", None)


async def test_a_key_may_have_a_plan_and_limits_of_its_own(world: World, root: Principal) -> None:
    """A plan is named by id or name, the id is stored and recorded; a snapshot has what applies."""
    key, _ = await world.create(root, replace(DRAFT, plan_id="enterprise", limits=(WINDOW,)))
    plan = await world.change(root, lambda unit: world.plans.get(unit, root.workspace_id, "enterprise"))
    again, _ = await world.create(root, replace(DRAFT, plan_id=plan.id))
    assert (key.plan_id, key.limits, again.plan_id, again.limits) == (plan.id, (WINDOW,), plan.id, ())
    changes = world.changes[-2].changes
    assert (changes["plan_id"], changes["limits"]) == ((None, plan.id), (None, [limit_record(WINDOW)]))
    snapshot = await world.snapshots.by_key(key.id)
    assert snapshot is not None
    assert (snapshot.plan_id, snapshot.plan_limits, snapshot.key_limits) == (plan.id, (), (WINDOW,))


async def test_a_plan_that_is_not_there_cannot_be_given(world: World, root: Principal) -> None:
    """Neither to a new key nor to an old one; another workspace's answers exactly alike (P8)."""
    _, stranger, _ = await world.workspace("other")
    foreign = await world.change(
        stranger, lambda unit: world.plans.create(unit, stranger.workspace_id, PlanDraft("gold"))
    )
    key, _ = await world.create(root, DRAFT)
    for reference in (foreign.id, "gold", UNKNOWN, "silver"):
        draft = replace(DRAFT, plan_id=reference)
        with pytest.raises(NotFoundError) as made:
            await world.create(root, draft)
        with pytest.raises(NotFoundError) as changed:
            await update(world, root, key, draft, "plan_id")
        assert {made.value.public, changed.value.public} == {f"There is no plan {reference}."}


@pytest.mark.parametrize("given", ({"plan_id": "free"}, {"limits": (WINDOW,)}))
async def test_keys_that_call_keystead_have_no_limits(world: World, root: Principal, given: dict[str, object]) -> None:
    """A management key is given none, neither when it is made nor later; what the mask leaves out is not looked at."""
    draft = KeyDraft(name="Key", kind=KeyKind.MANAGEMENT, environment=Environment.LIVE)
    limited = replace(draft, **given)  # type: ignore[arg-type] # the names are those of the draft
    with pytest.raises(InvalidRequestError) as made:
        await world.create(root, limited)
    assert [item.field for item in made.value.violations] == list(given)
    key, _ = await world.create(root, draft)
    with pytest.raises(InvalidRequestError) as changed:
        await update(world, root, key, limited, *given)
    assert [item.field for item in changed.value.violations] == [f"key.{name}" for name in given]
    renamed = replace(limited, name="Other")
    after = await world.change(
        root, lambda unit: world.keys.update(unit, root, key.id, renamed, mask={"name"}, etag="")
    )
    assert (after.name, after.plan_id, after.limits) == ("Other", "", ())


async def test_limits_that_cannot_be_are_refused(world: World, root: Principal) -> None:
    """A key's limits are checked as a plan's are, and named as the request names them."""
    wrong = (Limit("requests", On.KEY, SlidingWindow(1, 1)),)
    with pytest.raises(InvalidRequestError) as made:
        await world.create(root, replace(DRAFT, limits=wrong))
    assert [item.field for item in made.value.violations] == ["limits[0].sliding_window.window"]


async def test_an_owner_has_at_most_so_many_keys(world: World, root: Principal) -> None:
    """As many as the plan of the new key allows, in each environment, revoked ones aside; the default plan counts."""
    await world.change(
        root,
        lambda unit: world.plans.update(
            unit, root.workspace_id, "free", PlanDraft(max_keys_per_owner=2), mask={"max_keys_per_owner"}, etag=""
        ),
    )
    first, _ = await world.create(root, DRAFT)
    await world.create(root, replace(DRAFT, kind=KeyKind.SERVICE))
    with pytest.raises(KeyLimitReachedError) as caught:
        await world.create(root, DRAFT)
    assert caught.value.metadata == {"limit": "2"}
    assert "customer-1 has 2 keys" in caught.value.public
    await world.create(root, replace(DRAFT, environment=Environment.TEST))
    await world.create(root, replace(DRAFT, owner_id="customer-2", create_owner=True))
    await world.create(root, replace(DRAFT, plan_id="enterprise"))
    for key_id in (first.id, (await world.create(root, replace(DRAFT, plan_id="enterprise")))[0].id):
        await revoke(world, root, key_id)
    with pytest.raises(KeyLimitReachedError):
        await world.create(root, DRAFT)  # the service's and the enterprise one are left


async def test_without_any_plan_there_is_no_bound(world: World, root: Principal) -> None:
    """A workspace may have no default plan."""
    await world.change(
        root,
        lambda unit: world.workspaces.update(
            unit, root.workspace_id, WorkspaceDraft(), mask={"default_plan_id"}, etag=""
        ),
    )
    key, _ = await world.create(root, DRAFT)
    snapshot = await world.snapshots.by_key(key.id)
    assert snapshot is not None
    assert (snapshot.plan_id, snapshot.plan_limits) == ("", ())


Work = Callable[[World, Principal], Awaitable[object]]

OF_BOTH: dict[str, Work] = {
    "create_plan": lambda w, c: w.change(c, lambda unit: w.tiers.create_plan(unit, c, PlanDraft("gold"))),
    "update_plan": lambda w, c: w.change(
        c,
        lambda unit: w.tiers.update_plan(unit, c, "free", PlanDraft(description="d"), mask={"description"}, etag=""),
    ),
    "delete_plan": lambda w, c: w.change(c, lambda unit: w.tiers.delete_plan(unit, c, "enterprise", etag="")),
    "create_owner": lambda w, c: w.change(
        c, lambda unit: w.tiers.create_owner(unit, c, OwnerDraft("customer-2", limits=(WINDOW,)))
    ),
    "update_owner": lambda w, c: w.change(
        c,
        lambda unit: w.tiers.update_owner(
            unit, c, OwnerDraft("customer-1", plan_id="free"), mask={"plan_id"}, etag="", allow_missing=False
        ),
    ),
    "make_owner": lambda w, c: w.change(
        c,
        lambda unit: w.tiers.update_owner(
            unit, c, OwnerDraft("customer-2", plan_id="free"), mask=set(), etag="", allow_missing=True
        ),
    ),
    "entitle": lambda w, c: w.change(c, lambda unit: w.tiers.entitle(unit, c, "customer-1", "free", until_ms=None)),
    "update_workspace": lambda w, c: w.change(
        c,
        lambda unit: w.tiers.update_workspace(
            unit, c, c.workspace_id, WorkspaceDraft("", "enterprise"), mask={"default_plan_id"}, etag=""
        ),
    ),
}


@pytest.mark.parametrize("name", OF_BOTH)
async def test_what_holds_in_both_environments_is_changed_by_a_caller_for_both(
    world: World, root: Principal, name: str
) -> None:
    """A key for one environment alone sets no tier, since those of the other would follow (P8)."""
    for environment in (Environment.LIVE, Environment.TEST):
        with pytest.raises(PermissionDeniedError):
            await OF_BOTH[name](world, narrowed(root, environment=environment))
    events = len(world.changes)
    await OF_BOTH[name](world, root)
    assert len(world.recorded(after=events)) == 1


async def test_names_are_changed_by_a_caller_for_one_environment(world: World, root: Principal) -> None:
    """An owner and a workspace are renamed, and an owner without a plan is made, as before there were tiers."""
    caller = narrowed(root, environment=Environment.TEST)
    draft = OwnerDraft("customer-1", "Ada", plan_id="free")
    owner = await world.change(
        caller,
        lambda unit: world.tiers.update_owner(unit, caller, draft, mask={"name"}, etag="", allow_missing=False),
    )
    assert (owner.name, owner.plan_id) == ("Ada", "")
    made = await world.change(caller, lambda unit: world.tiers.create_owner(unit, caller, OwnerDraft("customer-2")))
    assert made.owner_id == "customer-2"
    workspace = await world.change(
        caller,
        lambda unit: world.tiers.update_workspace(
            unit, caller, caller.workspace_id, WorkspaceDraft("New"), mask={"name"}, etag=""
        ),
    )
    assert workspace.name == "New"
    assert workspace.default_plan_id
