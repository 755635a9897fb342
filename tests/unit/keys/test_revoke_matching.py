"""Revoking many keys at once: all that match or none, and never more than was meant."""

from __future__ import annotations

from dataclasses import replace

import pytest

from keystead.kernel.change import Action
from keystead.keys import service
from keystead.keys.errors import CountMismatchError, PermissionDeniedError, TooManyKeysError
from keystead.keys.model import Key, KeyFilter, KeyKind, KeyState
from keystead.keys.principal import Principal
from keystead.keys.service import KeyDraft
from keystead.tenants.model import Environment
from tests.world import World, narrowed

DRAFT = KeyDraft(name="Key", owner_id="customer-1", environment=Environment.LIVE, tags=("old",))


async def revoke(
    world: World, caller: Principal, *, validate_only: bool = False, expected_count: int | None = None, tag: str = "old"
) -> list[Key]:
    """Revoke every key with ``tag``."""
    wanted = KeyFilter(now_ms=world.clock.now_ms(), tag=tag)
    return await world.change(
        caller,
        lambda unit: world.keys.revoke_matching(
            unit, caller, wanted, reason="cleaning", validate_only=validate_only, expected_count=expected_count
        ),
    )


async def states(world: World, caller: Principal, keys: list[Key]) -> list[KeyState]:
    """Return the states that are stored."""
    return [(await world.get(caller, key.id)).state for key in keys]


async def three_keys(world: World, caller: Principal) -> list[Key]:
    """Make two keys that match and one that does not."""
    made = []
    for tags in (("old",), ("old", "red"), ("new",)):
        world.wait(1)
        key, _ = await world.create(caller, replace(DRAFT, tags=tags))
        made.append(key)
    return made


async def test_all_that_match_are_revoked(world: World, root: Principal) -> None:
    """Each with its own event and its own reason, the newest first; what does not match stays, what was revoked too."""
    keys = await three_keys(world, root)
    events = len(world.changes)
    revoked = await revoke(world, root, expected_count=2)
    assert [key.id for key in revoked] == [keys[1].id, keys[0].id]
    assert await states(world, root, keys) == [KeyState.REVOKED, KeyState.REVOKED, KeyState.ACTIVE]
    assert world.recorded(after=events) == [Action.KEY_REVOKED] * 2
    assert {change.reason for change in world.changes[events:]} == {"cleaning"}
    assert await revoke(world, root, expected_count=0) == []


async def test_trying_first_changes_nothing(world: World, root: Principal) -> None:
    """``validate_only`` tells what would be revoked and revokes nothing."""
    keys = await three_keys(world, root)
    events = len(world.changes)
    assert len(await revoke(world, root, validate_only=True, expected_count=2)) == 2
    assert await states(world, root, keys) == [KeyState.ACTIVE] * 3
    assert world.recorded(after=events) == []


@pytest.mark.parametrize("expected", (0, 1, 3))
async def test_another_number_than_expected_revokes_nothing(world: World, root: Principal, expected: int) -> None:
    """A filter that meets more or fewer keys than its author thought is stopped before it harms, trying or not."""
    keys = await three_keys(world, root)
    for validate_only in (True, False):
        with pytest.raises(CountMismatchError) as caught:
            await revoke(world, root, validate_only=validate_only, expected_count=expected)
        assert caught.value.metadata == {"expected": str(expected), "found": "2"}
    assert await states(world, root, keys) == [KeyState.ACTIVE] * 3


async def test_one_key_beyond_the_callers_rights_stops_all(world: World, root: Principal) -> None:
    """All or none: a management key that the caller could not revoke alone keeps the others alive as well (P8)."""
    keys = await three_keys(world, root)
    strong = KeyDraft(
        name="M", kind=KeyKind.MANAGEMENT, environment=Environment.ALL, scopes=("*:owners",), tags=("old",)
    )
    await world.create(root, strong)
    weak = narrowed(root, ["write:keys"])
    for validate_only in (True, False):
        with pytest.raises(PermissionDeniedError):
            await revoke(world, weak, validate_only=validate_only)
    assert await states(world, root, keys) == [KeyState.ACTIVE] * 3
    assert len(await revoke(world, root)) == 3


async def test_the_walls_hold_for_filters_too(world: World, root: Principal) -> None:
    """A filter meets nothing outside the caller's workspace and environment (P8)."""
    keys = await three_keys(world, root)
    _, stranger, _ = await world.workspace("other")
    assert await revoke(world, stranger) == []
    assert await revoke(world, narrowed(root, environment=Environment.TEST)) == []
    assert await states(world, root, keys) == [KeyState.ACTIVE] * 3


async def test_one_call_revokes_at_most_a_thousand(world: World, root: Principal) -> None:
    """More than that is refused as a whole, so no call holds a transaction open without bound."""
    for _ in range(service.REVOKED_AT_ONCE_MAX):
        await world.create(root, DRAFT)
    assert len(await revoke(world, root, validate_only=True)) == 1_000
    await world.create(root, DRAFT)
    with pytest.raises(TooManyKeysError):
        await revoke(world, root)
    assert KeyState.REVOKED not in {change.changes.get("state", ("", ""))[1] for change in world.changes}
