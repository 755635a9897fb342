"""The contract of ``SnapshotStore``, ``LastUseStore`` and the registered master keys."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from keystead.keys.model import KeyKind, KeyState
from keystead.tenants.errors import AlreadyExistsError
from keystead.tenants.model import Environment
from keystead.verification.model import KeySnapshot, SecretSnapshot
from tests.contract.stores import HASH, ORIGIN, Stores, changed, walls


async def test_a_snapshot_holds_everything_a_verdict_depends_on(stores: Stores) -> None:
    """A key is read with its secrets, its workspace's brand and its owner's suspension, by key and by prefix."""
    workspace = stores.make.workspace("acme")
    owner = replace(stores.make.owner(workspace), suspended=True)
    key = stores.make.key(workspace, Environment.TEST, owner.owner_id)
    older = replace(stores.make.secret(), created_at_ms=1, retires_at_ms=5, master_id="ffffffff")
    key = replace(
        key,
        kind=KeyKind.SERVICE,
        name="'; -- 🦊",
        state=KeyState.SUSPENDED,
        scopes=("read:*", "b:c"),
        expires_at_ms=77,
        secrets=(*key.secrets, older),
    )
    await stores.add(workspace, owner, key, stores.make.key(workspace))
    expected = KeySnapshot(
        key_id=key.id,
        workspace_id=workspace.id,
        workspace_brand="acme",
        environment=Environment.TEST,
        kind=KeyKind.SERVICE,
        owner_id=owner.owner_id,
        owner_suspended=True,
        name="'; -- 🦊",
        state=KeyState.SUSPENDED,
        scopes=("read:*", "b:c"),
        metadata={"team": "billing"},
        allowed_ips=("192.0.2.0/24",),
        expires_at_ms=77,
        secrets=(
            SecretSnapshot(key.secrets[0].id, key.secrets[0].prefix, HASH, "0a0b0c0d", None),
            SecretSnapshot(older.id, older.prefix, HASH, "ffffffff", 5),
        ),
    )
    assert await stores.snapshots.by_key(key.id) == expected
    for secret in key.secrets:
        assert await stores.snapshots.by_prefix(secret.prefix) == expected


@pytest.mark.parametrize("unknown", ("", "acme_live_%", "acme_live_", "key_x", "'", "🦊", "ACME_LIVE_AAAAAAAAAAAA"))
async def test_what_is_unknown_has_no_snapshot(stores: Stores, unknown: str) -> None:
    """Only a whole and exact prefix or id is found."""
    workspace = stores.make.workspace()
    key = stores.make.key(workspace)
    secret = replace(key.secrets[0], prefix="acme_live_aaaaaaaaaaaa")
    await stores.add(workspace, replace(key, secrets=(secret,)))
    assert await stores.snapshots.by_prefix(unknown) is None
    assert await stores.snapshots.by_key(unknown) is None


async def test_an_owner_is_one_of_the_keys_own_workspace(stores: Stores) -> None:
    """Suspending an owner of another workspace under the same id, or having none, suspends nothing."""
    workspace, other = stores.make.workspace(), stores.make.workspace()
    suspended = replace(stores.make.owner(other, "cust-1"), suspended=True)
    keys = [stores.make.key(workspace, owner_id="cust-1"), stores.make.key(workspace)]
    await stores.add(workspace, other, suspended, *keys)
    for key in keys:
        snapshot = await stores.snapshots.by_key(key.id)
        assert snapshot is not None
        assert not snapshot.owner_suspended


async def test_a_committed_change_is_in_the_next_snapshot(stores: Stores) -> None:
    """A look-up that begins after a unit has ended sees what the unit did: nothing in between remembers (P3)."""
    workspace = stores.make.workspace()
    owner = stores.make.owner(workspace)
    key = stores.make.key(workspace, owner_id=owner.owner_id)
    await stores.add(workspace, owner, key)
    for version in range(1, 20):
        async with stores.units.begin(walls(workspace), ORIGIN) as unit:
            await unit.keys.save(changed(replace(key, version=version), name=f"version {version + 1}"))
            await unit.owners.save(replace(owner, suspended=version % 2 == 1, version=version + 1))
        snapshot = await stores.snapshots.by_prefix(key.secrets[0].prefix)
        assert snapshot is not None
        assert (snapshot.name, snapshot.owner_suspended) == (f"version {version + 1}", version % 2 == 1)


async def test_the_last_use_is_the_latest_and_no_new_version(stores: Stores) -> None:
    """Uses reported late or twice never move a last use back, of a key or a secret, and no etag changes by them."""
    workspace = stores.make.workspace()
    key, unused = stores.make.key(workspace), stores.make.key(workspace)
    older = replace(stores.make.secret(), created_at_ms=1, retires_at_ms=9)
    key = replace(key, secrets=(*key.secrets, older))
    await stores.add(workspace, key, unused)
    current = key.secrets[0]
    await stores.last_use.save({current.id: (key.id, 200), older.id: (key.id, 300)})
    await stores.last_use.save({current.id: (key.id, 250), older.id: (key.id, 100)})
    await stores.last_use.save({})
    assert await stores.key(key.id) == replace(
        key,
        last_used_at_ms=300,
        secrets=(replace(current, last_used_at_ms=250), replace(older, last_used_at_ms=300)),
    )
    assert await stores.key(unused.id) == unused


async def test_uses_of_what_is_gone_are_dropped(stores: Stores) -> None:
    """A use of a key that was deleted meanwhile keeps no other use from being stored."""
    workspace = stores.make.workspace()
    key = stores.make.key(workspace)
    await stores.add(workspace, key)
    await stores.last_use.save({"sec_gone": ("key_gone", 5), key.secrets[0].id: (key.id, 6)})
    stored = await stores.key(key.id)
    assert stored is not None
    assert stored.last_used_at_ms == 6


async def test_many_uses_go_in_bounded_batches(stores: Stores) -> None:
    """Thousands of uses at once are all stored."""
    workspace = stores.make.workspace()
    keys = [stores.make.key(workspace) for _ in range(1_100)]
    await stores.add(workspace, *keys)
    await stores.last_use.save(
        {key.secrets[0].id: (key.id, 5) for key in keys} | {f"sec_{n}": ("x", 1) for n in range(2_000)}
    )
    async with stores.units.read(walls(workspace)) as unit:
        found = [await unit.keys.get(key.id) for key in (keys[0], keys[550], keys[-1])]
    assert [key.last_used_at_ms for key in found if key is not None] == [5, 5, 5]


async def test_masters_are_registered_once(stores: Stores) -> None:
    """A master keeps the check value it was first registered with; another one under its id is refused."""
    assert await stores.masters.registered() == {}
    await stores.masters.register("0a0b0c0d", b"\x00check")
    await stores.masters.register("0a0b0c0d", b"\x00check")
    await stores.masters.register("ffffffff", b"other")
    with pytest.raises(AlreadyExistsError):
        await stores.masters.register("0a0b0c0d", b"wrong")
    assert await stores.masters.registered() == {"0a0b0c0d": b"\x00check", "ffffffff": b"other"}


async def test_masters_of_secrets_that_may_work_are_in_use(stores: Stores) -> None:
    """A master is in use by secrets that work, retire later or are only suspended or expired, and by no others."""
    workspace = stores.make.workspace()
    now_ms = stores.clock.now_ms()
    cases: tuple[tuple[str, dict[str, Any], int | None], ...] = (
        ("0000000a", {}, None),
        ("0000000b", {"state": KeyState.SUSPENDED}, None),
        ("0000000c", {"expires_at_ms": 1}, None),
        ("0000000d", {"state": KeyState.REVOKED}, None),
        ("0000000e", {}, now_ms + 1_000_000),
        ("0000000f", {}, now_ms - 1),
    )
    await stores.add(workspace)
    assert await stores.masters.in_use() == set()
    for master_id, fields, retires_at_ms in cases:
        key = stores.make.key(workspace)
        secret = replace(key.secrets[0], master_id=master_id, retires_at_ms=retires_at_ms)
        await stores.add(replace(key, secrets=(secret,), **fields))
    assert await stores.masters.in_use() == {"0000000a", "0000000b", "0000000c", "0000000e"}
