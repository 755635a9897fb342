"""Rotating through the service (P7): two secrets in the overlap, one afterwards, and everything else as it was."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from keystead.kernel.change import Action
from keystead.kernel.errors import InvalidRequestError
from keystead.kernel.secret import Secret
from keystead.keys import rotation
from keystead.keys.errors import KeyExpiredError, KeyRevokedError, NoRotationError, OverloadedError, TooManySecretsError
from keystead.keys.model import Key
from keystead.keys.ports import Lane
from keystead.keys.principal import Principal
from keystead.keys.service import KeyDraft
from keystead.tenants.model import Environment
from tests.world import World

DRAFT = KeyDraft(
    name="Key", owner_id="customer-1", environment=Environment.LIVE, scopes=("read:invoices",), tags=("blue",)
)
HOUR = 3_600_000


async def rotate(world: World, caller: Principal, key: Key, overlap_ms: int | None = HOUR) -> tuple[Key, Secret]:
    """Rotate ``key`` a millisecond later."""
    world.wait(1)
    return await world.change(caller, lambda unit: world.keys.rotate(unit, caller, key.id, overlap_ms=overlap_ms))


async def test_both_secrets_work_in_the_overlap_and_the_new_one_after_it(world: World, root: Principal) -> None:
    """Through every cache: the old secret is let in to the last millisecond of its overlap, and not one longer."""
    key, old = await world.create(root, DRAFT)
    assert await world.code(root, old) == "VALID"
    after, new = await rotate(world, root, key)
    world.wait(HOUR - 1)
    assert [await world.code(root, secret) for secret in (old, new)] == ["VALID", "VALID"]
    world.wait(1)
    assert [await world.code(root, secret) for secret in (old, new)] == ["EXPIRED", "VALID"]
    assert new.reveal() != old.reveal()
    assert replace(after, secrets=key.secrets, version=1, updated_at_ms=key.updated_at_ms) == key


async def test_the_overlap_is_a_day_unless_it_is_chosen(world: World, root: Principal) -> None:
    """The default is 24 h; 0 retires the old secret at once; 90 days is the most."""
    key, _ = await world.create(root, DRAFT)
    for chosen, lasts in ((None, 24 * HOUR), (0, 0), (90 * 24 * HOUR, 90 * 24 * HOUR)):
        after, _ = await rotate(world, root, key, chosen)
        assert after.secrets[1].retires_at_ms == world.clock.now_ms() + lasts
    for wrong in (-1, rotation.OVERLAP_MAX_MS + 1):
        with pytest.raises(InvalidRequestError):
            await rotate(world, root, key, wrong)


async def test_without_overlap_the_old_secret_is_refused_at_once(world: World, root: Principal) -> None:
    """An overlap of 0 evicts what is cached: the very next call with the old secret is refused."""
    key, old = await world.create(root, DRAFT)
    assert await world.code(root, old) == "VALID"
    _, new = await rotate(world, root, key, 0)
    assert [await world.code(root, secret) for secret in (old, new)] == ["EXPIRED", "VALID"]


async def test_rotation_never_lengthens_a_life(world: World, root: Principal) -> None:
    """Both secrets end with the key; an expired key is not rotated, and its old secret is not revived by trying."""
    key, old = await world.create(root, replace(DRAFT, expires_at_ms=world.clock.now_ms() + 10))
    after, new = await rotate(world, root, key)
    assert after.secrets[1].retires_at_ms == key.expires_at_ms
    world.wait(9)
    assert [await world.code(root, secret) for secret in (old, new)] == ["EXPIRED", "EXPIRED"]
    with pytest.raises(KeyExpiredError):
        await rotate(world, root, key)


async def test_finishing_ends_the_overlap_now(world: World, root: Principal) -> None:
    """The old secret is refused at once, also where it was cached."""
    key, old = await world.create(root, DRAFT)
    _, new = await rotate(world, root, key)
    assert await world.code(root, old) == "VALID"
    await world.change(root, lambda unit: world.keys.finish_rotation(unit, root, key.id))
    assert [await world.code(root, secret) for secret in (old, new)] == ["EXPIRED", "VALID"]
    with pytest.raises(NoRotationError):
        await world.change(root, lambda unit: world.keys.finish_rotation(unit, root, key.id))


async def test_cancelling_takes_the_new_secret_back(world: World, root: Principal) -> None:
    """The new secret is refused at once; the old one is current again, without an end of its own."""
    key, old = await world.create(root, DRAFT)
    _, new = await rotate(world, root, key)
    assert await world.code(root, new) == "VALID"
    after = await world.change(root, lambda unit: world.keys.cancel_rotation(unit, root, key.id))
    world.wait(10 * HOUR)
    assert [await world.code(root, secret) for secret in (old, new)] == ["VALID", "EXPIRED"]
    assert after.secrets[0].retires_at_ms is None
    with pytest.raises(NoRotationError):
        await world.change(root, lambda unit: world.keys.cancel_rotation(unit, root, key.id))


async def test_rotations_within_one_overlap_are_bounded(world: World, root: Principal) -> None:
    """All of up to five secrets work; the sixth is refused, and a finish makes room."""
    key, first = await world.create(root, DRAFT)
    secrets = [first]
    for _ in range(rotation.WORKING_SECRETS_MAX - 1):
        _, secret = await rotate(world, root, key)
        secrets.append(secret)
    assert {await world.code(root, secret) for secret in secrets} == {"VALID"}
    hashed = world.hasher.hashes
    with pytest.raises(TooManySecretsError):
        await rotate(world, root, key)
    assert world.hasher.hashes == hashed
    await world.change(root, lambda unit: world.keys.finish_rotation(unit, root, key.id))
    await rotate(world, root, key)


async def test_what_a_rotation_records(world: World, root: Principal) -> None:
    """Start, finish and cancel are events that name the secrets by id and prefix, and touch the new prefix (P6)."""
    key, _ = await world.create(root, DRAFT)
    events = len(world.changes)
    after, new = await rotate(world, root, key)
    await world.change(root, lambda unit: world.keys.cancel_rotation(unit, root, key.id))
    await rotate(world, root, key)
    await world.change(root, lambda unit: world.keys.finish_rotation(unit, root, key.id))
    assert world.recorded(after=events) == [
        Action.KEY_ROTATION_STARTED,
        Action.KEY_ROTATION_CANCELLED,
        Action.KEY_ROTATION_STARTED,
        Action.KEY_ROTATION_FINISHED,
    ]
    started = world.changes[events]
    assert started.touches == (key.id, after.secrets[0].prefix)
    before, now = started.changes["secrets"]
    assert before == [{"id": key.secrets[0].id, "prefix": key.secrets[0].prefix, "retires_at_ms": None}]
    assert now == [
        {"id": secret.id, "prefix": secret.prefix, "retires_at_ms": secret.retires_at_ms} for secret in after.secrets
    ]
    assert new.reveal()[30:] not in repr(world.changes)


async def test_a_full_minting_lane_leaves_a_rotation_undone(world: World, root: Principal) -> None:
    """When no hash can be made, the key keeps its one secret and nothing is recorded."""
    key, old = await world.create(root, DRAFT)
    world.hasher.full.add(Lane.MINT)
    with pytest.raises(OverloadedError):
        await rotate(world, root, key)
    assert await world.get(root, key.id) == key
    assert await world.code(root, old) == "VALID"


async def test_hashing_a_new_secret_holds_nobody_up(world: World, root: Principal) -> None:
    """While a rotation waits for its hash nothing is locked: other keys, and the key itself, can be revoked."""
    key, _ = await world.create(root, DRAFT)
    other, _ = await world.create(root, DRAFT)
    world.hasher.gate.close()
    rotating = asyncio.create_task(rotate(world, root, key))
    await world.hasher.gate.arrival()
    async with asyncio.timeout(5):
        await world.change(root, lambda unit: world.keys.revoke(unit, root, other.id, reason=""))
        await world.change(root, lambda unit: world.keys.revoke(unit, root, key.id, reason=""))
    world.hasher.gate.open()
    with pytest.raises(KeyRevokedError):
        await rotating
    assert len((await world.get(root, key.id)).secrets) == 1
