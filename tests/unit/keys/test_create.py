"""Making keys: what is stored, what is recorded, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from keystead.events.model import make_event
from keystead.kernel.change import Action
from keystead.kernel.errors import InvalidRequestError
from keystead.keys import secret_format
from keystead.keys.errors import OverloadedError, PermissionDeniedError
from keystead.keys.model import Key, KeyKind, KeyState
from keystead.keys.ports import Lane, Unit
from keystead.keys.principal import Principal
from keystead.keys.service import KeyDraft
from keystead.tenants.errors import NotFoundError
from keystead.tenants.model import Environment
from tests.fakes import FixedRandom, LateOwners
from tests.world import ORIGIN, World, narrowed

DRAFT = KeyDraft(name="Key", owner_id="customer-1", environment=Environment.LIVE)
FULL = replace(
    DRAFT,
    description="For invoices",
    scopes=("read:invoices", "write:*"),
    metadata={"team": "billing"},
    tags=("blue",),
    allowed_ips=("::ffff:192.0.2.0/120", "2001:DB8::1"),
)


async def test_a_key_is_stored_as_it_was_asked_for(world: World, root: Principal) -> None:
    """Every field of the request is in the key, addresses in one spelling, and who made it and when beside them."""
    expires_at_ms = world.clock.now_ms() + 1
    key, secret = await world.create(root, replace(FULL, expires_at_ms=expires_at_ms))
    assert await world.get(root, key.id) == key
    assert (key.workspace_id, key.owner_id, key.environment, key.kind) == (
        root.workspace_id, "customer-1", Environment.LIVE, KeyKind.CUSTOMER,
    )  # fmt: skip
    assert (key.name, key.description, key.scopes, key.tags) == (
        "Key", "For invoices", ("read:invoices", "write:*"), ("blue",),
    )  # fmt: skip
    assert (key.metadata, key.allowed_ips) == ({"team": "billing"}, ("192.0.2.0/24", "2001:db8::1"))
    assert (key.created_by, key.created_at_ms, key.updated_at_ms) == (root.key_id, *[world.clock.now_ms()] * 2)
    assert (key.state, key.expires_at_ms, key.version) == (KeyState.ACTIVE, expires_at_ms, 1)
    parsed = secret_format.parse(secret.reveal())
    assert parsed is not None
    assert (parsed.brand, parsed.environment) == ("acme", "live")
    assert [(it.prefix, it.master_id, it.retires_at_ms) for it in key.secrets] == [
        (parsed.prefix, world.keyring.current_id, None)
    ]


async def test_no_plaintext_is_stored_or_recorded(world: World, root: Principal) -> None:
    """Neither the key nor its event holds the secret, its entropy or its hash (P1)."""
    key, secret = await world.create(root, FULL)
    parsed = secret_format.parse(secret.reveal())
    assert parsed is not None
    event = make_event(world.changes[-1], ORIGIN, event_id="evt_1", occurred_at_ms=1, random_bytes=FixedRandom().bytes)
    for text in (repr(key), event.record, event.private, repr(world.changes)):
        assert parsed.entropy not in text
        assert parsed.tag not in text
        assert key.secrets[0].hash not in text
    assert parsed.entropy not in key.secrets[0].hash


async def test_making_a_key_is_one_event_that_touches_key_and_prefix(world: World, root: Principal) -> None:
    """The record says what was made, and any process that believed the prefix unknown hears of it (P6)."""
    before = len(world.changes)
    key, _ = await world.create(root, FULL)
    (change,) = world.changes[before:]
    assert (change.action, change.target, change.workspace_id) == (Action.KEY_CREATED, key.id, root.workspace_id)
    assert (change.environment, change.owner_id) == ("live", "customer-1")
    assert change.touches == (key.id, key.secrets[0].prefix)
    assert change.changes["scopes"] == (None, ["read:invoices", "write:*"])
    assert change.changes["kind"] == (None, "customer")
    assert json.dumps(dict(change.changes))


async def test_the_environment_defaults_to_the_callers_own(world: World, root: Principal) -> None:
    """A caller for one environment need not name it; one for both must say which is meant."""
    draft = replace(DRAFT, environment=None)
    key, _ = await world.create(narrowed(root, environment=Environment.TEST), draft)
    assert key.environment is Environment.TEST
    assert key.secrets[0].prefix.startswith("acme_test_")
    with pytest.raises(InvalidRequestError):
        await world.create(root, draft)


@pytest.mark.parametrize("kind", (KeyKind.CUSTOMER, KeyKind.SERVICE))
async def test_only_management_keys_are_for_both_environments(world: World, root: Principal, kind: KeyKind) -> None:
    """A customer's key is live or test, never both (P8)."""
    with pytest.raises(InvalidRequestError):
        await world.create(root, replace(DRAFT, kind=kind, environment=Environment.ALL))


async def test_a_caller_makes_keys_in_his_own_environment_alone(world: World, root: Principal) -> None:
    """Bound to ``test``, nobody makes a key for ``live`` or for both (P8)."""
    bound = narrowed(root, environment=Environment.TEST)
    for draft in (DRAFT, KeyDraft(name="M", kind=KeyKind.MANAGEMENT, environment=Environment.ALL)):
        with pytest.raises(PermissionDeniedError):
            await world.create(bound, draft)


async def test_nobody_mints_a_management_key_beyond_what_he_holds(world: World, root: Principal) -> None:
    """A new management key's scopes are all the maker's own (P8); its secret carries Keystead's brand."""
    limited = narrowed(root, ["write:keys", "read:*"])
    draft = KeyDraft(name="M", kind=KeyKind.MANAGEMENT, environment=Environment.ALL, scopes=("read:keys", "write:keys"))
    key, secret = await world.create(limited, draft)
    assert key.owner_id == ""
    assert secret.reveal().startswith("keystead_live_")
    for scopes in (("write:*",), ("*:*",), ("read:keys", "write:owners"), ("*:keys",)):
        with pytest.raises(PermissionDeniedError):
            await world.create(limited, replace(draft, scopes=scopes))


async def test_operator_keys_are_not_made_by_the_api(world: World, root: Principal) -> None:
    """Not even a caller with every scope makes one: the command line alone does."""
    with pytest.raises(PermissionDeniedError):
        await world.create(root, KeyDraft(name="O", kind=KeyKind.OPERATOR, environment=Environment.LIVE))


async def test_an_unknown_owner_is_not_found(world: World, root: Principal) -> None:
    """A key for an owner who is not there is not made, and nothing else is either."""
    before = len(world.changes)
    with pytest.raises(NotFoundError):
        await world.create(root, replace(DRAFT, owner_id="nobody"))
    assert world.recorded(after=before) == []


async def test_create_owner_makes_the_owner_with_the_key(world: World, root: Principal) -> None:
    """One call makes both, in one unit; an owner who is there already stays as he is."""
    before = len(world.changes)
    for _ in range(2):
        await world.create(root, replace(DRAFT, owner_id="customer-2", create_owner=True))
    assert world.recorded(after=before) == [Action.OWNER_CREATED, Action.KEY_CREATED, Action.KEY_CREATED]


async def test_create_owner_needs_the_right_to_make_owners(world: World, root: Principal) -> None:
    """``write:keys`` alone makes no owners, also none that happens to be there already."""
    limited = narrowed(root, ["write:keys"])
    await world.create(limited, DRAFT)
    for owner_id in ("customer-1", "customer-2"):
        with pytest.raises(PermissionDeniedError) as caught:
            await world.create(limited, replace(DRAFT, owner_id=owner_id, create_owner=True))
        assert caught.value.metadata == {"missing_scopes": "write:owners"}


async def test_customers_keys_need_an_owner_and_services_do_not(world: World, root: Principal) -> None:
    """A customer's key without an owner is a mistake; an internal service has none."""
    with pytest.raises(InvalidRequestError):
        await world.create(root, replace(DRAFT, owner_id=""))
    key, _ = await world.create(root, replace(DRAFT, owner_id="", kind=KeyKind.SERVICE))
    assert key.owner_id == ""
    with pytest.raises(InvalidRequestError):
        await world.create(root, replace(DRAFT, owner_id="", kind=KeyKind.SERVICE, create_owner=True))


async def test_a_wrong_request_is_told_everything_at_once(world: World, root: Principal) -> None:
    """Every broken field is named in one reply, before anything was hashed or stored."""
    wrong = replace(
        DRAFT,
        name="",
        description="d" * 501,
        scopes=("wrong",),
        metadata={"": "x"},
        tags=("t", "t"),
        allowed_ips=("192.0.2.1/8",),
        expires_at_ms=world.clock.now_ms(),
    )
    hashed = world.hasher.calls
    with pytest.raises(InvalidRequestError) as caught:
        await world.create(root, wrong)
    assert [item.field for item in caught.value.violations] == [
        "name", "description", "scopes[0]", "metadata", "tags", "expires_at", "allowed_ips[0]",
    ]  # fmt: skip
    assert world.hasher.calls == hashed


async def test_a_full_minting_lane_leaves_nothing_half_done(world: World, root: Principal) -> None:
    """When no hash can be made the call is shed with a delay, and neither key nor owner is there."""
    world.hasher.full.add(Lane.MINT)
    before = len(world.changes)
    with pytest.raises(OverloadedError) as caught:
        await world.create(root, replace(DRAFT, owner_id="customer-2", create_owner=True))
    assert caught.value.retry_after_ms is not None
    assert world.recorded(after=before) == []
    world.hasher.full.clear()
    with pytest.raises(NotFoundError):
        await world.create(root, replace(DRAFT, owner_id="customer-2"))


async def test_another_workspace_sees_nothing_of_a_key(world: World, root: Principal) -> None:
    """In other walls a key is not there, for reading and for changing, as if it had never been (P8)."""
    key, _ = await world.create(root, DRAFT)
    _, stranger, _ = await world.workspace("other")
    with pytest.raises(NotFoundError) as unseen:
        await world.get(stranger, key.id)
    with pytest.raises(NotFoundError) as unknown:
        await world.get(stranger, key.id[:-1] + "0")
    assert unseen.value.public.replace(key.id, "") == unknown.value.public.replace(key.id[:-1] + "0", "")


async def test_two_first_keys_of_a_new_owner_both_get_one(world: World, root: Principal) -> None:
    """Two calls with ``create_owner`` at once: the one that comes second uses the owner that the first has made."""
    events = len(world.changes)

    async def create_late(unit: Unit) -> Key:
        unit.owners = LateOwners(unit.owners)  # type: ignore[misc, assignment] # the memory unit's own attribute
        return (await world.keys.create(unit, root, replace(DRAFT, create_owner=True)))[0]

    key = await world.change(root, create_late)
    assert (await world.get(root, key.id)).owner_id == "customer-1"
    assert world.recorded(after=events) == [Action.KEY_CREATED]


async def test_a_management_key_belongs_to_no_owner(world: World, root: Principal) -> None:
    """Whoever may suspend an owner would otherwise decide about keys whose scopes he does not hold (P8)."""
    draft = replace(DRAFT, kind=KeyKind.MANAGEMENT, scopes=("read:keys",))
    with pytest.raises(InvalidRequestError) as refused:
        await world.create(root, draft)
    assert [violation.field for violation in refused.value.violations] == ["owner_id"]
