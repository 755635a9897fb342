"""The contract of ``ReplyRepository`` and of its housekeeping."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from keystead.adapters.walls import OutsideWallsError
from keystead.idempotency.errors import SlotTakenError
from keystead.idempotency.model import ReplySlot, StoredReply
from keystead.keys.model import KeyFilter
from keystead.tenants.model import Workspace
from tests.contract.stores import ORIGIN, Stores, walls

BYTES = bytes(range(256))


def reply(workspace: Workspace, key_hmac: bytes = b"\x00\xff" * 16, created_at_ms: int = 5) -> StoredReply:
    """Make a reply that holds a secret."""
    slot = ReplySlot(workspace.id, "key_caller", "CreateKey", key_hmac)
    return StoredReply(slot, BYTES[:32], BYTES, BYTES[::-1], created_at_ms)


async def kept(stores: Stores, slot: ReplySlot) -> StoredReply | None:
    """Return what is kept in ``slot``."""
    async with stores.units.read(None) as unit:
        return await unit.replies.get(slot)


async def test_what_is_kept_comes_back(stores: Stores) -> None:
    """A reply comes back byte for byte, with and without its sealed part; every other slot is empty."""
    workspace = stores.make.workspace()
    whole = reply(workspace)
    public = replace(whole, slot=replace(whole.slot, method="UpdateKey"), sealed=None, public=b"")
    await stores.add(workspace)
    async with stores.units.begin(walls(workspace), ORIGIN) as unit:
        await unit.replies.add(whole)
        await unit.replies.add(public)
        assert await unit.replies.get(whole.slot) == whole
    assert await kept(stores, whole.slot) == whole
    assert await kept(stores, public.slot) == public
    for other in (
        {"credential_id": "key_other"},
        {"method": "RotateKey"},
        {"key_hmac": b""},
        {"workspace_id": "wsp_x"},
    ):
        assert await kept(stores, replace(whole.slot, **other)) is None


async def test_a_slot_is_taken_once(stores: Stores) -> None:
    """The second reply for a slot is refused, its unit leaves nothing, and the first reply stays."""
    workspace = stores.make.workspace()
    first, key = reply(workspace), stores.make.key(workspace)
    await stores.add(workspace)
    async with stores.units.begin(walls(workspace), ORIGIN) as unit:
        await unit.replies.add(first)

    async def come_second() -> None:
        async with stores.units.begin(walls(workspace), ORIGIN) as unit:
            await unit.keys.add(key)
            await unit.replies.add(replace(first, public=b"another"))

    with pytest.raises(SlotTakenError):
        await come_second()
    assert await kept(stores, first.slot) == first
    assert await stores.key(key.id) is None


async def test_of_twenty_calls_with_one_idempotency_key_one_wins(stores: Stores) -> None:
    """Twenty creations race with one idempotency key: one key is made, the others are told that the slot is taken."""
    workspace = stores.make.workspace()
    await stores.add(workspace)
    keys = [stores.make.key(workspace) for _ in range(20)]
    together = asyncio.Barrier(len(keys))

    async def create(number: int) -> int:
        answer = reply(workspace, created_at_ms=number)
        async with stores.units.begin(walls(workspace), ORIGIN) as unit:
            assert await unit.replies.get(answer.slot) is None
            await together.wait()
            await unit.keys.add(keys[number])
            unit.record(stores.make.change(workspace.id, keys[number].id))
            await unit.replies.add(answer)
        return number

    outcomes = await asyncio.gather(*[create(number) for number in range(20)], return_exceptions=True)
    winners = [outcome for outcome in outcomes if isinstance(outcome, int)]
    losers = [outcome for outcome in outcomes if isinstance(outcome, SlotTakenError)]
    assert (len(winners), len(losers)) == (1, 19), outcomes
    async with stores.units.read(None) as unit:
        assert await unit.keys.find(KeyFilter(now_ms=0), limit=30) == [keys[winners[0]]]
        stored = await unit.replies.get(reply(workspace).slot)
    assert stored is not None
    assert stored.created_at_ms == winners[0]
    assert await stores.log.place(limit=100) == 1


async def test_walls_are_around_the_workspace(stores: Stores) -> None:
    """A reply of another workspace is neither shown nor kept (P8)."""
    own, other = stores.make.workspace(), stores.make.workspace()
    theirs = reply(other)
    await stores.add(own, other)
    async with stores.units.begin(walls(other), ORIGIN) as unit:
        await unit.replies.add(theirs)
    async with stores.units.read(walls(own)) as unit:
        assert await unit.replies.get(theirs.slot) is None
    with pytest.raises(OutsideWallsError):
        async with stores.units.begin(walls(own), ORIGIN) as unit:
            await unit.replies.add(reply(other, b"new"))
    assert await kept(stores, reply(other, b"new").slot) is None


async def test_secrets_go_first_and_replies_later(stores: Stores) -> None:
    """Housekeeping drops sealed secrets and whole replies exactly when they are older than it was told."""
    workspace = stores.make.workspace()
    replies = [reply(workspace, bytes([age]), created_at_ms=age) for age in range(6)]
    await stores.add(workspace)
    async with stores.units.begin(walls(workspace), ORIGIN) as unit:
        for item in replies:
            await unit.replies.add(item)
    assert await stores.reply_keeper.forget(before_ms=2, secrets_before_ms=4) == 4
    assert [await kept(stores, item.slot) for item in replies] == [
        None,
        None,
        replace(replies[2], sealed=None),
        replace(replies[3], sealed=None),
        replies[4],
        replies[5],
    ]
    assert await stores.reply_keeper.forget(before_ms=2, secrets_before_ms=4) == 0


async def test_forgetting_goes_by_bounded_batches(stores: Stores) -> None:
    """However much there is to forget, one call touches at most a thousand replies, the oldest first."""
    workspace = stores.make.workspace()
    await stores.add(workspace)
    async with stores.units.begin(walls(workspace), ORIGIN) as unit:
        for number in range(1_003):
            item = reply(workspace, number.to_bytes(2), created_at_ms=number)
            await unit.replies.add(replace(item, sealed=None))
    assert await stores.reply_keeper.forget(before_ms=5_000, secrets_before_ms=5_000) == 1_000
    assert [await kept(stores, reply(workspace, n.to_bytes(2)).slot) is None for n in (0, 999, 1_000, 1_002)] == [
        True,
        True,
        False,
        False,
    ]
    assert await stores.reply_keeper.forget(before_ms=5_000, secrets_before_ms=5_000) == 3
