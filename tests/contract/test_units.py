"""The contract of ``Units``: everything done through a unit happens, or nothing of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from keystead.adapters.walls import ReadOnlyUnitError
from keystead.events.model import Cursor
from keystead.idempotency.model import ReplySlot, StoredReply
from keystead.keys.model import KeyFilter, KeyState
from keystead.keys.ports import Unit
from keystead.tenants.errors import EtagMismatchError
from tests.contract.stores import ORIGIN, Stores, changed, walls


class DefectError(Exception):
    """Stands for whatever goes wrong inside a unit."""


async def everything(unit: Unit, stores: Stores) -> None:
    """Do one of each change."""
    workspace = stores.make.workspace()
    await unit.workspaces.add(workspace)
    await unit.owners.add(stores.make.owner(workspace))
    await unit.keys.add(stores.make.key(workspace))
    await unit.replies.add(StoredReply(ReplySlot(workspace.id, "key_c", "M", b"k"), b"q", b"r", b"s", 1))
    unit.record(stores.make.change(workspace.id))


async def test_a_unit_that_raises_leaves_nothing(stores: Stores) -> None:
    """After an exception anywhere in a unit nothing of it is stored, no event tells of it and nobody is notified."""

    async def fail() -> None:
        async with stores.units.begin(None, ORIGIN) as unit:
            await everything(unit, stores)
            raise DefectError

    with pytest.raises(DefectError):
        await fail()
    async with stores.units.read(None) as unit:
        assert await unit.keys.count(KeyFilter(now_ms=0)) == 0
    page = await stores.log.poll(Cursor(), limit=10)
    assert (list(page.placed), list(page.unplaced), stores.committed) == ([], [], [])
    async with stores.units.begin(None, ORIGIN) as unit:
        await everything(unit, stores)
    assert await stores.log.place(limit=10) == 1


async def test_a_cancelled_unit_leaves_nothing_and_nobody_waits_for_it(stores: Stores) -> None:
    """A caller that hangs up in the middle of a unit undoes it, and the next unit finds the way free at once."""
    inside = asyncio.Event()

    async def hang() -> None:
        async with stores.units.begin(None, ORIGIN) as unit:
            await everything(unit, stores)
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(hang())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    workspace = stores.make.workspace()
    await stores.add(workspace)
    async with stores.units.read(None) as unit:
        assert await unit.workspaces.get(workspace.id) == workspace
        assert await unit.keys.count(KeyFilter(now_ms=0)) == 0


async def test_a_call_cancelled_while_it_waits_for_a_lock_leaves_the_store_whole(stores: Stores) -> None:
    """Hanging up while waiting for another unit's lock disturbs neither that unit nor the next."""
    workspace = stores.make.workspace()
    key = stores.make.key(workspace)
    await stores.add(workspace, key)

    async def wait_in_vain() -> None:
        async with stores.units.begin(None, ORIGIN) as unit:
            await unit.keys.get(key.id, lock=True)

    async with stores.units.begin(None, ORIGIN) as unit:
        await unit.keys.get(key.id, lock=True)
        waiting = asyncio.create_task(wait_in_vain())
        done, _ = await asyncio.wait([waiting], timeout=0.05)
        assert not done
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await unit.keys.save(changed(key, name="first"))
    async with stores.units.begin(None, ORIGIN) as unit:
        assert await unit.keys.get(key.id, lock=True) == changed(key, name="first")


async def test_nothing_is_seen_before_it_is_committed(stores: Stores) -> None:
    """What a unit has done is seen by itself at once and by everybody else when its block has ended."""
    workspace = stores.make.workspace()
    key = stores.make.key(workspace)
    await stores.add(workspace)
    async with stores.units.begin(None, ORIGIN) as unit:
        await unit.keys.add(key)
        unit.record(stores.make.change(workspace.id, key.id))
        assert await unit.keys.get(key.id) == key
        assert await unit.keys.count(KeyFilter(now_ms=0)) == 1
        assert await stores.key(key.id) is None
        assert await stores.snapshots.by_key(key.id) is None
        assert not (await stores.log.poll(Cursor(), limit=1)).unplaced
        assert not stores.committed
    assert await stores.key(key.id) == key
    assert await stores.snapshots.by_key(key.id) is not None
    assert len((await stores.log.poll(Cursor(), limit=1)).unplaced) == 1


async def test_changes_are_told_once_committed_and_in_order(stores: Stores) -> None:
    """Whoever keeps a cache hears of every recorded change before the caller of the unit goes on."""
    workspace = stores.make.workspace()
    first, second = stores.make.change("wsp_1"), stores.make.change("wsp_1", "key_y")
    async with stores.units.begin(None, ORIGIN) as unit:
        await unit.workspaces.add(workspace)
        unit.record(first)
        unit.record(second)
        assert not stores.committed
    assert stores.committed == [first, second]
    await stores.add(stores.make.workspace())
    assert stores.committed == [first, second]


async def test_a_reading_unit_changes_nothing(stores: Stores) -> None:
    """In a unit opened for reading every change, every lock and every record is refused."""
    workspace = stores.make.workspace()
    owner, key = stores.make.owner(workspace), stores.make.key(workspace)
    await stores.add(workspace, owner, key)
    slot = ReplySlot(workspace.id, "key_c", "M", b"k")
    async with stores.units.read(walls(workspace)) as unit:
        attempts: list[Callable[[], Awaitable[object]]] = [
            lambda: unit.workspaces.add(workspace),
            lambda: unit.workspaces.save(replace(workspace, version=2)),
            lambda: unit.workspaces.delete(workspace.id),
            lambda: unit.workspaces.get(workspace.id, lock=True),
            lambda: unit.owners.add(owner),
            lambda: unit.owners.save(replace(owner, version=2)),
            lambda: unit.owners.delete(owner.owner_id),
            lambda: unit.owners.get(owner.owner_id, lock=True),
            lambda: unit.keys.add(key),
            lambda: unit.keys.save(changed(key)),
            lambda: unit.keys.get(key.id, lock=True),
            lambda: unit.keys.find(KeyFilter(now_ms=0), limit=1, lock=True),
            lambda: unit.replies.add(StoredReply(slot, b"q", b"r", None, 1)),
        ]
        for attempt in attempts:
            with pytest.raises(ReadOnlyUnitError):
                await attempt()
        with pytest.raises(ReadOnlyUnitError):
            unit.record(stores.make.change(workspace.id))
    assert await stores.key(key.id) == key


async def test_a_reading_unit_sees_one_moment(stores: Stores) -> None:
    """What commits while a reading unit is open does not show in it: its answers fit together."""
    workspace = stores.make.workspace()
    key = stores.make.key(workspace)
    await stores.add(workspace, key)
    async with stores.units.read(walls(workspace)) as unit:
        assert await unit.keys.count(KeyFilter(now_ms=0)) == 1
        await stores.add(stores.make.key(workspace))
        assert await unit.keys.find(KeyFilter(now_ms=0), limit=5) == [key]


async def test_of_two_units_on_one_key_the_second_sees_the_first(stores: Stores) -> None:
    """Two changes of one key happen one after the other: the second is based on the outcome of the first."""
    workspace = stores.make.workspace()
    key = stores.make.key(workspace)
    await stores.add(workspace, key)

    async def add_tag(number: int) -> None:
        async with stores.units.begin(walls(workspace), ORIGIN) as unit:
            before = await unit.keys.get(key.id, lock=True)
            assert before is not None
            await asyncio.sleep(0)
            await unit.keys.save(changed(before, tags=(*before.tags, f"tag-{number}")))

    await asyncio.gather(*[add_tag(number) for number in range(8)])
    stored = await stores.key(key.id)
    assert stored is not None
    assert stored.version == 9
    assert sorted(stored.tags) == sorted(["blue", *(f"tag-{number}" for number in range(8))])


async def test_of_two_units_that_did_not_lock_one_fails(stores: Stores) -> None:
    """Should code forget to lock, one of two changes based on the same version is refused rather than lost."""
    workspace = stores.make.workspace()
    key = stores.make.key(workspace)
    await stores.add(workspace, key)
    both_read = asyncio.Barrier(2)

    async def rename(name: str) -> str:
        async with stores.units.begin(walls(workspace), ORIGIN) as unit:
            before = await unit.keys.get(key.id)
            assert before is not None
            await both_read.wait()
            await unit.keys.save(changed(before, name=name))
        return name

    outcomes = await asyncio.gather(rename("a"), rename("b"), return_exceptions=True)
    names = [outcome for outcome in outcomes if isinstance(outcome, str)]
    assert len(names) == 1, outcomes
    assert any(isinstance(outcome, EtagMismatchError) for outcome in outcomes)
    assert await stores.key(key.id) == changed(key, name=names[0])


async def test_keys_found_with_a_lock_stay_as_they_were_found(stores: Stores) -> None:
    """Keys that a unit has locked by a filter are changed by nobody else before it ends."""
    workspace = stores.make.workspace()
    keys = [stores.make.key(workspace) for _ in range(5)]
    await stores.add(workspace, *keys)

    async def rename() -> None:
        async with stores.units.begin(walls(workspace), ORIGIN) as unit:
            before = await unit.keys.get(keys[0].id, lock=True)
            assert before is not None
            await unit.keys.save(changed(before, name="renamed"))

    async with stores.units.begin(walls(workspace), ORIGIN) as unit:
        found = await unit.keys.find(KeyFilter(now_ms=0, not_revoked=True), limit=10, lock=True)
        waiting = asyncio.create_task(rename())
        done, _ = await asyncio.wait([waiting], timeout=0.05)
        assert not done
        for key in found:
            await unit.keys.save(changed(key, state=KeyState.REVOKED))
    await waiting
    assert await stores.key(keys[0].id) == replace(changed(keys[0], state=KeyState.REVOKED), name="renamed", version=3)


async def test_slow_work_before_the_first_change_keeps_nobody_waiting(stores: Stores) -> None:
    """A unit that has only read so far holds nothing: others write meanwhile, however many such units there are."""
    workspace = stores.make.workspace()
    key = stores.make.key(workspace)
    await stores.add(workspace, key)
    hashed = asyncio.Event()
    started = asyncio.Barrier(31)

    async def create() -> None:
        async with stores.units.begin(walls(workspace), ORIGIN) as unit:
            assert await unit.keys.get(key.id) == key
            await started.wait()
            await hashed.wait()
            await unit.keys.add(stores.make.key(workspace))

    waiting = [asyncio.create_task(create()) for _ in range(30)]
    await started.wait()
    other = stores.make.workspace()
    await stores.add(other)
    hashed.set()
    await asyncio.gather(*waiting)
    async with stores.units.read(None) as unit:
        assert await unit.keys.count(KeyFilter(now_ms=0)) == 31
