"""The contract of ``OwnerRepository``."""

from __future__ import annotations

from dataclasses import replace

import pytest

from keystead.adapters.walls import OutsideWallsError
from keystead.kernel.paging import PageRequest
from keystead.tenants.errors import AlreadyExistsError, EtagMismatchError
from keystead.tenants.model import Environment, Owner, Workspace
from tests.contract.stores import HOSTILE, ORIGIN, Stores, walls


async def names(stores: Stores, workspace: Workspace, query: str = "", *, suspended: bool | None = None) -> list[str]:
    """Name the owners that a question finds, the oldest first."""
    async with stores.units.read(walls(workspace)) as unit:
        request = PageRequest(100, ascending=True)
        return [owner.name for owner in (await unit.owners.page(request, query=query, suspended=suspended)).items]


async def test_what_is_stored_comes_back(stores: Stores) -> None:
    """An owner comes back with every field as it was given, hostile texts and empty ones alike."""
    workspace = stores.make.workspace()
    owner = replace(stores.make.owner(workspace, "a:b@c._-1"), name=HOSTILE, metadata={HOSTILE: HOSTILE, "empty": ""})
    await stores.add(workspace, owner)
    async with stores.units.read(walls(workspace)) as unit:
        assert await unit.owners.get("a:b@c._-1") == owner


async def test_an_owner_id_is_taken_once_in_each_workspace(stores: Stores) -> None:
    """The same owner id is refused twice in one workspace, differs by case, and is free in every other workspace."""
    first, second = stores.make.workspace(), stores.make.workspace()
    await stores.add(first, second, stores.make.owner(first, "cust-1"), stores.make.owner(second, "cust-1"))
    await stores.add(stores.make.owner(first, "CUST-1"))
    with pytest.raises(AlreadyExistsError):
        await stores.add(stores.make.owner(first, "cust-1", "another"))
    assert await names(stores, first) == ["An Owner", "An Owner"]


async def test_saving_needs_the_version_before(stores: Stores) -> None:
    """A change that was based on an older version is refused and changes nothing."""
    workspace = stores.make.workspace()
    owner = stores.make.owner(workspace)
    await stores.add(workspace, owner)
    second = replace(owner, suspended=True, name="second", metadata={}, version=2)
    async with stores.units.begin(walls(workspace), ORIGIN) as unit:
        assert await unit.owners.get(owner.owner_id, lock=True) == owner
        await unit.owners.save(second)
    with pytest.raises(EtagMismatchError):
        async with stores.units.begin(walls(workspace), ORIGIN) as unit:
            await unit.owners.save(replace(second, name="another second"))
    async with stores.units.read(walls(workspace)) as unit:
        assert await unit.owners.get(owner.owner_id) == second


async def test_walls_are_around_the_workspace(stores: Stores) -> None:
    """An owner of another workspace is neither found, counted, changed nor deleted, even under the same id (P8)."""
    own, other = stores.make.workspace(), stores.make.workspace()
    theirs = stores.make.owner(other, "cust-1")
    await stores.add(own, other, theirs)
    async with stores.units.begin(walls(own), ORIGIN) as unit:
        assert await unit.owners.get("cust-1") is None
        assert await unit.owners.get("cust-1", lock=True) is None
        assert not (await unit.owners.page(PageRequest(10))).items
        await unit.owners.delete("cust-1")
    for change in ("add", "save"):
        with pytest.raises(OutsideWallsError):
            async with stores.units.begin(walls(own), ORIGIN) as unit:
                await getattr(unit.owners, change)(replace(theirs, name="mine", version=2))
    async with stores.units.read(walls(other)) as unit:
        assert await unit.owners.get("cust-1") == theirs


async def test_owners_are_seen_from_both_environments(stores: Stores) -> None:
    """Owners belong to the workspace: a caller of one environment sees them as well."""
    workspace = stores.make.workspace()
    owner = stores.make.owner(workspace)
    await stores.add(workspace, owner)
    async with stores.units.read(walls(workspace, Environment.TEST)) as unit:
        assert await unit.owners.get(owner.owner_id) == owner


async def test_looking_for_an_owner_needs_a_workspace(stores: Stores) -> None:
    """Without walls there is no telling whose owner is meant, so the question is refused rather than guessed."""
    async with stores.units.read(None) as unit:
        with pytest.raises(OutsideWallsError):
            await unit.owners.get("cust-1")
        with pytest.raises(OutsideWallsError):
            await unit.owners.page(PageRequest(1))


async def test_deleting_leaves_the_keys(stores: Stores) -> None:
    """A deleted owner is gone; its keys keep its id, and its id can be given again."""
    workspace = stores.make.workspace()
    owner = stores.make.owner(workspace)
    key = stores.make.key(workspace, owner_id=owner.owner_id)
    await stores.add(workspace, owner, key)
    async with stores.units.begin(walls(workspace), ORIGIN) as unit:
        await unit.owners.delete(owner.owner_id)
        await unit.owners.delete("never was")
    assert await stores.key(key.id) == key
    async with stores.units.read(walls(workspace)) as unit:
        assert await unit.owners.get(owner.owner_id) is None
    await stores.add(replace(owner, name="again"))


@pytest.mark.parametrize(
    ("query", "expected"),
    (
        ("ACME", ["Acme GmbH"]),
        ("gmbh", ["Acme GmbH"]),
        ("müller", ["MÜLLER & Söhne"]),
        ("SÖHNE", ["MÜLLER & Söhne"]),
        ("strasse", ["Straße 7"]),
        ("ἘΛΛΆΣ", ["ἑλλάς", "ἐλλάς"][1:]),
        ("100%", ["100% _sure_"]),
        ("%", ["100% _sure_"]),
        ("_s", ["100% _sure_"]),
        ("\\", ["back\\slash"]),
        ("'", ["O'Neil"]),
        ("🦊", ["fox 🦊"]),
        ("id-of-fox", ["fox 🦊"]),
        ("acme gmbh%", []),
        ("/", []),
        ("acme\nfox", []),
    ),
)
async def test_a_query_takes_every_character_literally(stores: Stores, query: str, expected: list[str]) -> None:
    """A person finds what holds his words in id or name, whatever their case; no character means anything else."""
    workspace = stores.make.workspace()
    texts = ["Acme GmbH", "MÜLLER & Söhne", "Straße 7", "ἐλλάς", "100% _sure_", "back\\slash", "O'Neil"]
    owners = [stores.make.owner(workspace, name=text) for text in texts]
    await stores.add(workspace, *owners, stores.make.owner(workspace, "ID-of-Fox", "fox 🦊"))
    assert await names(stores, workspace, query) == expected


async def test_suspended_owners_can_be_asked_for(stores: Stores) -> None:
    """The filter on suspension shows the suspended, the others, or everybody."""
    workspace = stores.make.workspace()
    owners = [stores.make.owner(workspace, name=name) for name in ("a", "b", "c")]
    await stores.add(workspace, owners[0], replace(owners[1], suspended=True), owners[2])
    assert await names(stores, workspace, suspended=True) == ["b"]
    assert await names(stores, workspace, suspended=False) == ["a", "c"]
    assert await names(stores, workspace) == ["a", "b", "c"]


@pytest.mark.parametrize("ascending", (True, False))
async def test_pages_hold_while_owners_come_and_go(stores: Stores, *, ascending: bool) -> None:
    """Walking the list shows every owner that stays exactly once, also among owners of one millisecond."""
    workspace = stores.make.workspace()
    made = [stores.make.owner(workspace) for _ in range(6)]
    same_moment = [replace(stores.make.owner(workspace, name), created_at_ms=made[2].created_at_ms) for name in "zAa_"]
    await stores.add(workspace, *made, *same_moment)
    seen: list[Owner] = []
    position: tuple[str, ...] = ()
    while True:
        async with stores.units.read(walls(workspace)) as unit:
            page = await unit.owners.page(PageRequest(3, position, ascending=ascending))
        seen += page.items
        await stores.add(stores.make.owner(workspace))
        async with stores.units.begin(walls(workspace), ORIGIN) as unit:
            await unit.owners.delete(page.items[0].owner_id)
        if page.next_position is None or len(seen) > 30:
            break
        position = page.next_position
    expected = sorted([*made, *same_moment], key=lambda owner: (owner.created_at_ms, owner.owner_id))
    expected_ids = [owner.owner_id for owner in (expected if ascending else expected[::-1])]
    assert [owner.owner_id for owner in seen if owner.owner_id in expected_ids] == expected_ids
