"""The contract of ``KeyRepository``, but for its filters."""

from __future__ import annotations

from dataclasses import replace

import pytest

from keystead.adapters.walls import OutsideWallsError
from keystead.kernel.paging import PageRequest
from keystead.keys.model import Key, KeyFilter, KeyKind, KeyState
from keystead.tenants.errors import AlreadyExistsError, EtagMismatchError
from keystead.tenants.model import Environment
from tests.contract.stores import HOSTILE, ORIGIN, Stores, changed, ids_of, walls


async def test_what_is_stored_comes_back(stores: Stores) -> None:
    """A key comes back with every field and every secret as it was given."""
    workspace = stores.make.workspace()
    first = stores.make.key(workspace)
    older = replace(stores.make.secret(), created_at_ms=5, retires_at_ms=1_000, last_used_at_ms=7)
    key = replace(
        first,
        environment=Environment.ALL,
        kind=KeyKind.MANAGEMENT,
        owner_id="cust-1",
        name=HOSTILE,
        description=HOSTILE,
        state=KeyState.SUSPENDED,
        state_reason=HOSTILE,
        scopes=("write:keys", "read:*"),
        metadata={HOSTILE: HOSTILE},
        tags=(HOSTILE, "b"),
        allowed_ips=("2001:db8::/32", "192.0.2.1/32"),
        expires_at_ms=2**40,
        revoked_at_ms=9,
        last_used_at_ms=8,
        version=3,
        secrets=(*first.secrets, older),
    )
    await stores.add(workspace, key)
    assert await stores.key(key.id) == key
    bare = replace(stores.make.key(workspace), scopes=(), metadata={}, tags=(), allowed_ips=())
    await stores.add(bare)
    assert await stores.key(bare.id) == bare


async def test_secrets_come_the_current_one_first(stores: Stores) -> None:
    """A key's secrets are told with the current one first, then the newest, in whatever order they were stored."""
    workspace = stores.make.workspace()
    key = stores.make.key(workspace)
    retired = [replace(stores.make.secret(), created_at_ms=at_ms, retires_at_ms=9) for at_ms in (3, 1, 2)]
    await stores.add(workspace, replace(key, secrets=(*retired, *key.secrets)))
    stored = await stores.key(key.id)
    assert stored is not None
    assert stored.secrets == (key.secrets[0], retired[0], retired[2], retired[1])
    snapshot = await stores.snapshots.by_key(key.id)
    assert snapshot is not None
    assert [secret.id for secret in snapshot.secrets] == [secret.id for secret in stored.secrets]


async def test_ids_and_prefixes_are_taken_once(stores: Stores) -> None:
    """Two keys never share an id, two secrets never a prefix; the refused key leaves nothing behind."""
    workspace = stores.make.workspace()
    key, second, third = (stores.make.key(workspace) for _ in range(3))
    await stores.add(workspace, key)
    with pytest.raises(AlreadyExistsError):
        await stores.add(replace(second, id=key.id))
    with pytest.raises(AlreadyExistsError):
        await stores.add(replace(third, secrets=(replace(third.secrets[0], prefix=key.secrets[0].prefix),)))
    async with stores.units.read(None) as unit:
        assert await unit.keys.find(KeyFilter(now_ms=0), limit=10) == [key]


async def test_a_key_is_found_by_any_of_its_prefixes(stores: Stores) -> None:
    """The whole prefix of any secret finds its key; a part of one, or one in another case, finds nothing."""
    workspace = stores.make.workspace()
    key = stores.make.key(workspace)
    retiring = replace(stores.make.secret("acme_live_AbCdEf123456"), retires_at_ms=10)
    key = replace(key, secrets=(*key.secrets, retiring))
    await stores.add(workspace, key, stores.make.key(workspace))
    async with stores.units.read(walls(workspace)) as unit:
        for secret in key.secrets:
            assert await unit.keys.by_prefix(secret.prefix) == key
        for wrong in ("acme_live_AbCdEf12345", "acme_live_abcdef123456", "acme_live_%", "", "🦊"):
            assert await unit.keys.by_prefix(wrong) is None


async def test_saving_writes_what_a_change_may_write(stores: Stores) -> None:
    """Saving stores the new fields, new secrets and new ends of old ones, and finds the key by its new labels alone."""
    workspace = stores.make.workspace()
    key = stores.make.key(workspace)
    fresh = stores.make.secret()
    await stores.add(workspace, key)
    async with stores.units.begin(walls(workspace), ORIGIN) as unit:
        before = await unit.keys.get(key.id, lock=True)
        assert before == key
        after = changed(
            before,
            name="new name",
            description="said anew",
            state=KeyState.SUSPENDED,
            state_reason="why",
            scopes=("write:x", "read:x"),
            metadata={},
            tags=("green", "blue"),
            allowed_ips=(),
            expires_at_ms=77,
            updated_at_ms=78,
            revoked_at_ms=79,
            secrets=(fresh, replace(key.secrets[0], retires_at_ms=500)),
        )
        await unit.keys.save(after)
        assert await unit.keys.get(key.id) == after
    assert await stores.key(key.id) == after
    async with stores.units.read(walls(workspace)) as unit:
        found = {
            label: await unit.keys.count(KeyFilter(now_ms=0, **{kind: label}))  # type: ignore[arg-type] # scope or tag
            for kind, label in (("scope", "read:invoices"), ("scope", "read:x"), ("tag", "blue"), ("tag", "green"))
        }
        assert found == {"read:invoices": 0, "read:x": 1, "blue": 1, "green": 1}
        assert ids_of(await unit.keys.find(KeyFilter(now_ms=0, query="SAID ANEW"), limit=1)) == [key.id]


async def test_saving_never_writes_the_last_use(stores: Stores) -> None:
    """A use that is noted between reading and saving a key survives the saving, of the key and of each secret."""
    workspace = stores.make.workspace()
    key = stores.make.key(workspace)
    await stores.add(workspace, key)
    await stores.last_use.save({key.secrets[0].id: (key.id, 4_000)})
    async with stores.units.begin(walls(workspace), ORIGIN) as unit:
        await unit.keys.save(changed(key, name="renamed", secrets=(replace(key.secrets[0], retires_at_ms=9),)))
    stored = await stores.key(key.id)
    assert stored is not None
    assert (stored.name, stored.last_used_at_ms) == ("renamed", 4_000)
    assert (stored.secrets[0].retires_at_ms, stored.secrets[0].last_used_at_ms) == (9, 4_000)


async def test_saving_leaves_what_never_changes(stores: Stores) -> None:
    """Kind, owner and origin of a key stay as they were made, whatever is saved."""
    workspace = stores.make.workspace()
    key = stores.make.key(workspace, owner_id="cust-1")
    await stores.add(workspace, key)
    async with stores.units.begin(walls(workspace), ORIGIN) as unit:
        await unit.keys.save(changed(key, kind=KeyKind.SERVICE, owner_id="cust-2", created_by="x", created_at_ms=1))
    assert await stores.key(key.id) == changed(key)


async def test_saving_deletes_the_secrets_that_are_left_out(stores: Stores) -> None:
    """A secret that a key no longer has is found by nobody any more, by its key or by its prefix."""
    workspace = stores.make.workspace()
    old, new = stores.make.secret(), stores.make.secret()
    key = replace(stores.make.key(workspace), secrets=(new, replace(old, retires_at_ms=1)))
    await stores.add(workspace, key)
    async with stores.units.begin(walls(workspace), ORIGIN) as unit:
        await unit.keys.save(changed(key, secrets=(new,)))
    stored = await stores.key(key.id)
    assert stored is not None
    assert stored.secrets == (new,)
    async with stores.units.read(walls(workspace)) as unit:
        assert await unit.keys.by_prefix(old.prefix) is None
    assert await stores.snapshots.by_prefix(old.prefix) is None


async def test_saving_needs_the_version_before(stores: Stores) -> None:
    """A change that was based on an older version is refused and changes nothing, new secrets included."""
    workspace = stores.make.workspace()
    key = stores.make.key(workspace)
    await stores.add(workspace, key)
    async with stores.units.begin(walls(workspace), ORIGIN) as unit:
        await unit.keys.save(changed(key, name="first"))
    with pytest.raises(EtagMismatchError):
        async with stores.units.begin(walls(workspace), ORIGIN) as unit:
            await unit.keys.save(changed(key, name="second", secrets=(stores.make.secret(), *key.secrets)))
    with pytest.raises(EtagMismatchError):
        async with stores.units.begin(walls(workspace), ORIGIN) as unit:
            await unit.keys.save(changed(stores.make.key(workspace)))
    assert await stores.key(key.id) == changed(key, name="first")


@pytest.mark.parametrize("scope", ("other workspace", "other environment"))
async def test_walls_hide_keys(stores: Stores, scope: str) -> None:
    """A key of another workspace or environment is found by no method and no filter (P8)."""
    workspace, elsewhere = stores.make.workspace(), stores.make.workspace()
    key = stores.make.key(workspace)
    await stores.add(workspace, elsewhere, key)
    around = walls(elsewhere) if scope == "other workspace" else walls(workspace, Environment.TEST)
    everything = KeyFilter(now_ms=0)
    asked = [
        everything,
        replace(everything, key_ids=(key.id,)),
        replace(everything, workspace_id=workspace.id),
        replace(everything, environment=Environment.LIVE),
        replace(everything, prefix=key.secrets[0].prefix),
        replace(everything, scope="read:invoices", tag="blue"),
        replace(everything, query=key.id),
    ]
    async with stores.units.begin(around, ORIGIN) as unit:
        assert await unit.keys.get(key.id) is None
        assert await unit.keys.get(key.id, lock=True) is None
        assert await unit.keys.by_prefix(key.secrets[0].prefix) is None
        for wanted in asked:
            assert not (await unit.keys.page(wanted, PageRequest(10))).items
            assert not await unit.keys.find(wanted, limit=10)
            assert not await unit.keys.find(wanted, limit=10, lock=True)
            assert await unit.keys.count(wanted) == 0


@pytest.mark.parametrize("scope", ("other workspace", "other environment"))
async def test_walls_protect_keys(stores: Stores, scope: str) -> None:
    """Nothing done inside walls adds or changes a key outside them, also when the key claims to be inside (P8)."""
    workspace, elsewhere = stores.make.workspace(), stores.make.workspace()
    key = stores.make.key(workspace)
    await stores.add(workspace, elsewhere, key)
    around = walls(elsewhere) if scope == "other workspace" else walls(workspace, Environment.TEST)
    for what, where in (("add", stores.make.key(workspace)), ("save", changed(key, name="mine"))):
        with pytest.raises(OutsideWallsError):
            async with stores.units.begin(around, ORIGIN) as unit:
                await getattr(unit.keys, what)(where)
    disguised = replace(changed(key), workspace_id=around.workspace_id, environment=Environment.TEST)
    with pytest.raises(EtagMismatchError):
        async with stores.units.begin(around, ORIGIN) as unit:
            await unit.keys.save(disguised)
    assert await stores.key(key.id) == key


async def test_walls_of_one_environment_hide_keys_for_both(stores: Stores) -> None:
    """A management key for both environments is seen from walls around both, and not from one of them."""
    workspace = stores.make.workspace()
    keys = [stores.make.key(workspace, environment) for environment in Environment]
    await stores.add(workspace, *keys)
    seen = {}
    for environments in ((), (Environment.LIVE,), (Environment.TEST,)):
        async with stores.units.read(walls(workspace, *environments)) as unit:
            seen[environments] = {key.environment for key in await unit.keys.find(KeyFilter(now_ms=0), limit=10)}
    assert seen == {
        (): {Environment.LIVE, Environment.TEST, Environment.ALL},
        (Environment.LIVE,): {Environment.LIVE},
        (Environment.TEST,): {Environment.TEST},
    }


@pytest.mark.parametrize("ascending", (True, False))
@pytest.mark.parametrize("wanted", (KeyFilter(now_ms=0), KeyFilter(now_ms=0, scope="read:invoices", tag="blue")))
async def test_pages_hold_while_keys_come(stores: Stores, wanted: KeyFilter, *, ascending: bool) -> None:
    """Walking the list shows every key that was there at its beginning exactly once, in order of creation."""
    workspace = stores.make.workspace()
    made = [stores.make.key(workspace) for _ in range(8)]
    rotated = replace(made[3], secrets=(*made[3].secrets, replace(stores.make.secret(), retires_at_ms=1)))
    await stores.add(workspace, *made[:3], rotated, *made[4:])
    seen: list[Key] = []
    position: tuple[str, ...] = ()
    for _ in range(20):
        async with stores.units.read(walls(workspace)) as unit:
            page = await unit.keys.page(wanted, PageRequest(3, position, ascending=ascending))
        seen += page.items
        if page.next_position is None:
            break
        position = page.next_position
        if not ascending:
            await stores.add(stores.make.key(workspace))
    assert ids_of(seen) == [key.id for key in (made if ascending else made[::-1])]
    assert rotated in seen


async def test_a_thousand_keys_fit_a_page(stores: Stores) -> None:
    """The largest page that is allowed comes whole, and so does the largest that one call may revoke, locked."""
    workspace = stores.make.workspace()
    made = [stores.make.key(workspace) for _ in range(1_001)]
    await stores.add(workspace, *made)
    async with stores.units.begin(walls(workspace), ORIGIN) as unit:
        page = await unit.keys.page(KeyFilter(now_ms=0), PageRequest(1_000))
        locked = await unit.keys.find(KeyFilter(now_ms=0, key_ids=tuple(ids_of(made))), limit=1_001, lock=True)
    assert page.items == made[:0:-1]
    assert page.next_position == (made[1].id,)
    assert locked == made[::-1]
