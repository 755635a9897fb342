"""What happens when two calls need the same new owner at once, on real databases."""

from __future__ import annotations

import asyncio

from keystead.adapters.sql.database import Database
from keystead.adapters.sql.snapshots import SqlSnapshots
from keystead.adapters.sql.units import SqlUnits
from keystead.kernel.change import Action
from keystead.kernel.ids import IdSource
from keystead.keys.service import KeyDraft
from keystead.tenants.model import Environment
from tests.fakes import ManualClock
from tests.world import OnCommit, Ports, World

DRAFT = KeyDraft(name="Key", owner_id="customer-1", environment=Environment.LIVE, create_owner=True)


async def test_all_first_keys_of_a_new_owner_are_made(database: Database) -> None:
    """Five calls with ``create_owner`` at once: five keys, one owner, and none of the callers is refused."""

    def open_ports(clock: ManualClock, ids: IdSource, on_commit: OnCommit) -> Ports:
        return Ports(SqlUnits(database, clock=clock, ids=ids, on_commit=on_commit), SqlSnapshots(database, clock=clock))

    world = World(open_ports)
    _, caller, _ = await world.workspace()
    made = await asyncio.gather(*[world.create(caller, DRAFT) for _ in range(5)])
    assert len({key.id for key, _ in made}) == 5
    assert world.recorded().count(Action.OWNER_CREATED) == 1
