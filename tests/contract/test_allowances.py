"""The contract of ``AllowanceRepository`` and of its housekeeping, and that many who take at once take no more."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from keystead.adapters.memory.allowances import MemoryAllowanceShelf
from keystead.adapters.memory.units import MemoryUnits
from keystead.adapters.sql.allowances import FORGOTTEN_AT_ONCE, SqlAllowanceShelf
from keystead.adapters.walls import OutsideWallsError
from keystead.kernel.errors import NotFoundError
from keystead.kernel.limit import Credits, Period, Quota
from keystead.kernel.walls import Environment
from keystead.limits.allowances import take
from keystead.limits.blocks import Blocks
from keystead.limits.model import AllowanceRow
from keystead.limits.periods import FOR_EVER_MS
from keystead.tenants.model import Workspace
from keystead.worker.retention import AllowanceShelf
from tests.allowances import allowance, spend_all
from tests.contract.stores import ORIGIN, Stores, walls

DAY_MS = 86_400_000


def row_of(workspace: Workspace, counter: str = "counter", begins_at_ms: int = 5) -> AllowanceRow:
    """Make a row with a different value in every field."""
    return AllowanceRow(
        counter, begins_at_ms, begins_at_ms + DAY_MS, workspace.id, "live", "owner-1", "calls", 2**40, 3, 80, 2**41
    )


async def stored(stores: Stores, row: AllowanceRow) -> AllowanceRow | None:
    """Return the row that is stored in the place of ``row``."""
    async with stores.units.read(None) as unit:
        return await unit.allowances.get(row.counter, row.begins_at_ms)


async def add(stores: Stores, *rows: AllowanceRow) -> None:
    """Store rows in one unit without walls."""
    async with stores.units.begin(None, ORIGIN) as unit:
        for row in rows:
            await unit.allowances.add(row)


def shelf_of(stores: Stores) -> AllowanceShelf:
    """Return the housekeeping of a store."""
    if stores.database is not None:
        return SqlAllowanceShelf(stores.database)
    assert isinstance(stores.units, MemoryUnits)
    return MemoryAllowanceShelf(stores.units._store)


async def test_what_is_stored_comes_back(stores: Stores) -> None:
    """Every field comes back, and its new state; other counters and periods are their own."""
    workspace = stores.make.workspace()
    row, later = row_of(workspace), row_of(workspace, begins_at_ms=6)
    await stores.add(workspace)
    assert await stored(stores, row) is None
    await add(stores, row, later)
    assert await stored(stores, row) == row
    changed = replace(row, amount=7, resets=4, told=100, refilled_at_ms=8)
    async with stores.units.begin(None, ORIGIN) as unit:
        assert await unit.allowances.get(row.counter, row.begins_at_ms, lock=True) == row
        await unit.allowances.save(changed)
    assert (await stored(stores, row), await stored(stores, later)) == (changed, later)


async def test_the_first_row_stays(stores: Stores) -> None:
    """Whoever adds a row that is there gets the one that is there."""
    workspace = stores.make.workspace()
    row = row_of(workspace)
    await stores.add(workspace)
    async with stores.units.begin(None, ORIGIN) as unit:
        assert await unit.allowances.add(row) == row
        assert await unit.allowances.add(replace(row, amount=1)) == row
    assert await stored(stores, row) == row


async def test_walls_are_around_workspace_and_environment(stores: Stores) -> None:
    """Nobody sees or changes what is counted in another workspace or environment (P8)."""
    own, other = stores.make.workspace(), stores.make.workspace()
    row = row_of(own)
    await stores.add(own, other)
    await add(stores, row)
    for scope in (walls(other), walls(own, Environment.TEST)):
        async with stores.units.read(scope) as unit:
            assert await unit.allowances.get(row.counter, row.begins_at_ms) is None
        for change in ("add", "save"):
            with pytest.raises(OutsideWallsError):
                async with stores.units.begin(scope, ORIGIN) as unit:
                    await getattr(unit.allowances, change)(row)
    async with stores.units.read(walls(own, Environment.LIVE)) as unit:
        assert await unit.allowances.get(row.counter, row.begins_at_ms) == row


async def test_what_was_taken_goes_with_its_workspace(stores: Stores) -> None:
    """A workspace that is deleted leaves nothing, and takes nothing any more."""
    workspace = stores.make.workspace()
    row = row_of(workspace)
    await stores.add(workspace)
    await add(stores, row)
    async with stores.units.begin(None, ORIGIN) as unit:
        await unit.workspaces.delete(workspace.id)
    assert await stored(stores, row) is None
    with pytest.raises(NotFoundError):
        await add(stores, row)


@pytest.mark.parametrize("kind", (Quota(40, Period.MONTH), Credits(40)))
async def test_twenty_who_take_first_take_no_more(stores: Stores, kind: Quota | Credits) -> None:
    """The first use races with itself: one row is made, and what is handed out is never more than there is."""
    workspace = stores.make.workspace()
    of = allowance("calls", kind, workspace.id)
    await stores.add(workspace)

    async def take_three() -> int:
        async with stores.units.begin(None, ORIGIN) as unit:
            return (await take(unit, of, 3, stores.clock.now_ms())).granted

    granted = await asyncio.gather(*[take_three() for _ in range(20)])
    assert sum(granted) == 39
    assert sorted(set(granted)) == [0, 3]


async def test_processes_share_exactly_the_limit(stores: Stores) -> None:
    """Four processes that spend one quota together, and give back what they have left, admit exactly its limit."""
    workspace = stores.make.workspace()
    of = allowance("calls", Quota(300, Period.MONTH), workspace.id)
    await stores.add(workspace)
    processes = [Blocks(stores.units, stores.clock) for _ in range(4)]
    admitted = sum(await asyncio.gather(*[spend_all(each, of) for each in processes]))
    for each in processes:
        await each.release_all()
    admitted += await spend_all(Blocks(stores.units, stores.clock), of)
    assert admitted == 300
    assert [change.changes["level"][1] for change in stores.committed] == [80, 100]


async def test_only_periods_that_are_over_are_forgotten(stores: Stores) -> None:
    """Housekeeping deletes what ended before it was told, in bounded batches, and never a balance."""
    workspace = stores.make.workspace()
    await stores.add(workspace)
    old = [row_of(workspace, f"c{number}") for number in range(FORGOTTEN_AT_ONCE + 2)]
    kept = [row_of(workspace, begins_at_ms=10), replace(row_of(workspace, "credits", 0), ends_at_ms=FOR_EVER_MS)]
    await add(stores, *old, *kept)
    shelf = shelf_of(stores)
    steps = [await shelf.forget(before_ms=10 + DAY_MS) for _ in range(3)]
    assert steps == [FORGOTTEN_AT_ONCE, 2, 0]
    assert [await stored(stores, row) for row in kept] == kept
    assert await stored(stores, old[0]) is None
