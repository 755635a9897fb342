"""What keys asked for: noted for admitted calls alone, by the hour, apart by platform."""

from __future__ import annotations

from dataclasses import replace

from tests.contract.usage_stores import (
    DAY,
    HOUR,
    OUR_KEY,
    OURS,
    ROTATED,
    T0,
    THEIR_KEY,
    THEIRS,
    UNOWNED,
    Store,
    Writer,
    call,
)

EVERY_KEY = ("key_a", "key_b", "key_c", "key_unknown")


async def test_what_admitted_calls_asked_for_is_told(usage_store: Store) -> None:
    """Expressions of valid calls, with any secret, an empty one included, and none of those that were denied."""
    await usage_store.count(
        Writer().stretch(
            call(T0 + 1, scope_expression="read:a"),
            call(T0 + 2, ROTATED, scope_expression="read:b OR write:b"),
            call(T0 + 3, scope_expression="read:a"),
            call(T0 + 4, scope_expression="admin:x", code=9),
            call(T0 + 5, UNOWNED),
        )
    )
    assert await usage_store.used_expressions(OURS, EVERY_KEY, since_ms=T0) == {
        "key_a": frozenset({"read:a", "read:b OR write:b"}),
        "key_b": frozenset({""}),
    }
    assert await usage_store.used_expressions(OURS, ["key_b"], since_ms=T0) == {"key_b": frozenset({""})}
    assert await usage_store.used_expressions(OURS, [], since_ms=T0) == {}


async def test_the_last_use_counts_in_whatever_order_calls_come(usage_store: Store) -> None:
    """A use is noted by its hour; an earlier one that is counted later takes nothing back."""
    writer = Writer()
    await usage_store.count(writer.stretch(call(T0 + 5 * HOUR + 7, scope_expression="read:a")))
    await usage_store.count(writer.stretch(call(T0 + 1, scope_expression="read:a")))
    await usage_store.count(writer.stretch(call(T0 + 9, scope_expression="read:old")))
    both = frozenset({"read:a", "read:old"})
    for since_ms, expected in ((T0, both), (T0 + HOUR, {"read:a"}), (T0 + 5 * HOUR, {"read:a"}), (T0 + 6 * HOUR, None)):
        told = await usage_store.used_expressions(OURS, ["key_a"], since_ms=since_ms)
        assert told.get("key_a") == expected


async def test_a_use_shortly_before_is_a_use(usage_store: Store) -> None:
    """What was used in the hour asked from counts as used: nothing is called unused that was not."""
    await usage_store.count(Writer().stretch(call(T0 + 5, scope_expression="read:a")))
    told = await usage_store.used_expressions(OURS, ["key_a"], since_ms=T0 + HOUR - 1)
    assert told == {"key_a": frozenset({"read:a"})}


async def test_uses_have_walls(usage_store: Store) -> None:
    """Another platform's key of the same id lends its uses to nobody (P8)."""
    await usage_store.count(Writer().stretch(call(T0, THEIR_KEY, scope_expression="read:theirs")))
    assert await usage_store.used_expressions(OURS, EVERY_KEY, since_ms=T0) == {}
    assert await usage_store.used_expressions(THEIRS, EVERY_KEY, since_ms=T0) == {"key_a": frozenset({"read:theirs"})}


async def test_many_keys_are_one_question(usage_store: Store) -> None:
    """A page of a thousand keys is answered whole, also when all of them were used the same way for days."""
    names = [f"key_{number:04d}" for number in range(1_000)]
    writer = Writer()
    for day in range(2):
        calls = [call(T0 + day * DAY, replace(OUR_KEY, key_id=name), scope_expression="read:a") for name in names]
        await usage_store.count(writer.stretch(*calls))
    told = await usage_store.used_expressions(OURS, names, since_ms=T0 + DAY)
    assert told == dict.fromkeys(names, frozenset({"read:a"}))
