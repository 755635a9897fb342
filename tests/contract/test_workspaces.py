"""The contract of ``WorkspaceRepository``."""

from __future__ import annotations

from dataclasses import replace

import pytest

from keystead.adapters.walls import OutsideWallsError
from keystead.idempotency.model import ReplySlot, StoredReply
from keystead.kernel.change import Action
from keystead.kernel.paging import PageRequest
from keystead.keys.model import KeyFilter
from keystead.tenants.errors import AlreadyExistsError, EtagMismatchError, NotFoundError
from keystead.tenants.model import RESERVED_BRAND, SYSTEM_WORKSPACE_ID, Workspace
from tests.contract.stores import HOSTILE, ORIGIN, Stores, walls


async def test_what_is_stored_comes_back(stores: Stores) -> None:
    """A workspace comes back with every field as it was given, whatever its name holds."""
    workspace = replace(stores.make.workspace(), name=HOSTILE)
    await stores.add(workspace)
    async with stores.units.read(None) as unit:
        assert await unit.workspaces.get(workspace.id) == workspace
        assert await unit.workspaces.by_brand(workspace.brand) == workspace


async def test_a_brand_belongs_to_one_workspace(stores: Stores) -> None:
    """Two workspaces never share a brand, the system's own included, and the refused one is not there."""
    system = Workspace(SYSTEM_WORKSPACE_ID, RESERVED_BRAND, "Keystead", 1, 1)
    await stores.add(system)
    second = stores.make.workspace(RESERVED_BRAND)
    with pytest.raises(AlreadyExistsError):
        await stores.add(second)
    async with stores.units.read(None) as unit:
        assert await unit.workspaces.get(second.id) is None
        assert await unit.workspaces.by_brand(RESERVED_BRAND) == system


async def test_a_unit_goes_on_after_a_refused_brand(stores: Stores) -> None:
    """A caller who is told that a brand is taken can still use his unit: nothing of it is lost."""
    taken, free = stores.make.workspace("taken"), stores.make.workspace("free")
    await stores.add(taken)
    async with stores.units.begin(None, ORIGIN) as unit:
        with pytest.raises(AlreadyExistsError):
            await unit.workspaces.add(replace(free, brand="taken"))
        await unit.workspaces.add(free)
    async with stores.units.read(None) as unit:
        assert await unit.workspaces.get(free.id) == free


async def test_saving_needs_the_version_before(stores: Stores) -> None:
    """A change that was based on an older version is refused and changes nothing."""
    workspace = stores.make.workspace()
    await stores.add(workspace)
    async with stores.units.begin(None, ORIGIN) as unit:
        await unit.workspaces.save(replace(workspace, name="second", version=2))
    with pytest.raises(EtagMismatchError):
        async with stores.units.begin(None, ORIGIN) as unit:
            await unit.workspaces.save(replace(workspace, name="another second", version=2))
    async with stores.units.read(None) as unit:
        assert await unit.workspaces.get(workspace.id) == replace(workspace, name="second", version=2)


async def test_walls_hide_other_workspaces(stores: Stores) -> None:
    """Inside its walls a caller finds his own workspace and no trace of another, by whatever question (P8)."""
    own, other = stores.make.workspace(), stores.make.workspace()
    await stores.add(own, other)
    async with stores.units.begin(walls(own), ORIGIN) as unit:
        assert await unit.workspaces.get(own.id) == own
        assert await unit.workspaces.get(other.id) is None
        assert await unit.workspaces.get(other.id, lock=True) is None
        assert await unit.workspaces.by_brand(other.brand) is None
        assert (await unit.workspaces.page(PageRequest(10))).items == [own]


async def test_walls_protect_other_workspaces(stores: Stores) -> None:
    """Nothing done inside walls changes another workspace (P8)."""
    own, other = stores.make.workspace(), stores.make.workspace()
    await stores.add(own, other)
    for store in (replace(other, name="mine now", version=2), stores.make.workspace()):
        with pytest.raises(OutsideWallsError):
            async with stores.units.begin(walls(own), ORIGIN) as unit:
                await (unit.workspaces.save(store) if store.id == other.id else unit.workspaces.add(store))
    async with stores.units.begin(walls(own), ORIGIN) as unit:
        await unit.workspaces.delete(other.id)
    async with stores.units.read(None) as unit:
        assert (await unit.workspaces.page(PageRequest(10))).items == [other, own]


async def test_deleting_takes_everything_but_the_events(stores: Stores) -> None:
    """A deleted workspace leaves no owner, key, secret or reply behind, and every event that told of it."""
    gone, stays = stores.make.workspace(), stores.make.workspace()
    owner, key = stores.make.owner(gone), stores.make.key(gone)
    kept_owner, kept_key = stores.make.owner(stays, owner.owner_id), stores.make.key(stays)
    await stores.add(gone, stays, owner, key, kept_owner, kept_key)
    slots = [ReplySlot(workspace.id, "key_c", "M", b"k") for workspace in (gone, stays)]
    await stores.happened(stores.make.change(gone.id, key.id))
    async with stores.units.begin(None, ORIGIN) as unit:
        for slot in slots:
            await unit.replies.add(StoredReply(slot, b"q", b"r", None, 1))
    async with stores.units.begin(None, ORIGIN) as unit:
        await unit.workspaces.delete(gone.id)
        unit.record(stores.make.change(gone.id, gone.id, Action.WORKSPACE_DELETED))
    await stores.log.place(limit=10)
    async with stores.units.read(None) as unit:
        assert await unit.workspaces.get(gone.id) is None
        assert await unit.keys.find(KeyFilter(now_ms=0), limit=10) == [kept_key]
        assert await unit.keys.by_prefix(key.secrets[0].prefix) is None
        assert [await unit.replies.get(slot) is not None for slot in slots] == [False, True]
    async with stores.units.read(walls(gone)) as unit:
        assert await unit.owners.get(owner.owner_id) is None
    assert await stores.snapshots.by_prefix(key.secrets[0].prefix) is None
    page = await stores.log.poll((await stores.log.head()).__class__(), limit=10)
    assert [event.target for event in page.placed] == [key.id, gone.id]


async def test_a_deleted_brand_is_free_again(stores: Stores) -> None:
    """Once a workspace is deleted, its brand can be given to a new one."""
    first, second = stores.make.workspace("acme"), stores.make.workspace("acme")
    await stores.add(first)
    async with stores.units.begin(None, ORIGIN) as unit:
        await unit.workspaces.delete(first.id)
        await unit.workspaces.add(second)
    async with stores.units.read(None) as unit:
        assert await unit.workspaces.by_brand("acme") == second


async def test_nothing_is_added_to_a_workspace_that_is_gone(stores: Stores) -> None:
    """What arrives after its workspace was deleted is told that there is none, and is not stored."""
    ghost = stores.make.workspace()
    slot = ReplySlot(ghost.id, "key_c", "M", b"k")
    for what in (stores.make.owner(ghost), stores.make.key(ghost)):
        with pytest.raises(NotFoundError):
            await stores.add(what)
    with pytest.raises(NotFoundError):
        async with stores.units.begin(walls(ghost), ORIGIN) as unit:
            await unit.replies.add(StoredReply(slot, b"q", b"r", None, 1))


async def test_pages_hold_while_workspaces_come(stores: Stores) -> None:
    """Walking the list shows every workspace that was there at its beginning once, the newest first."""
    made = [stores.make.workspace() for _ in range(7)]
    await stores.add(*made)
    seen: list[Workspace] = []
    request = PageRequest(3)
    while True:
        async with stores.units.read(None) as unit:
            page = await unit.workspaces.page(request)
        seen += page.items
        await stores.add(stores.make.workspace())
        if page.next_position is None:
            break
        request = PageRequest(3, page.next_position)
    assert seen == made[::-1]
    async with stores.units.read(None) as unit:
        oldest_first = await unit.workspaces.page(PageRequest(7, ascending=True))
    assert oldest_first.items == made
