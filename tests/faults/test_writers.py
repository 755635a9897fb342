"""P6: fifty that change things at the same time wait for nothing but what they change, and make one history."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from keystead.bootstrap.core import Core
from keystead.verification.freshness import Lease, Touches
from keystead.worker.follower import LogFollower
from tests.chronicles import Chronicle, begun, called, demand_export, demand_one_history, new_key, opened
from tests.databases import EVENTS_OF_EACH
from tests.mortals import PLACE, SIGN
from tests.sequencers import Orders, Sequencer

WRITERS = 50
OWNERS = 7
ROUNDS = 4
CHANGES = 2 + 4 * ROUNDS
COUNT = "SELECT count(*) FROM events"


async def write(made: Core, chronicle: Chronicle, writer: int) -> None:
    """Make a key, change it, its owner and what all share several times, and revoke it."""
    key = (await called(made, chronicle, "CreateKey", **new_key(f"owner-{writer % OWNERS}", plan_id="enterprise"))).key
    for number in range(ROUNDS):
        await called(made, chronicle, "SuspendKey", key_id=key.id)
        await called(made, chronicle, "ResumeKey", key_id=key.id)
        owner = {"owner_id": key.owner_id, "name": f"Owner {writer} {number}"}
        await called(made, chronicle, "UpdateOwner", owner=owner, update_mask={"paths": ["name"]})
        plan = {"id": "free", "description": f"Free {writer} {number}"}
        await called(made, chronicle, "UpdatePlan", plan=plan, update_mask={"paths": ["description"]})
    await called(made, chronicle, "RevokeKey", key_id=key.id)


async def vouch(made: Core, follower: LogFollower) -> None:
    """Follow the log, as a server does, and sign what is there, until it is enough."""
    while True:
        await follower.turn()
        made.lease.renew(made.clock.monotonic_ms())
        for workspace_id in await made.checkpoints.due(confirmed_to_ms=0, after="", limit=100):
            await made.checkpointer.make(workspace_id)


async def test_fifty_writers_make_one_history(postgres_url: str, tmp_path: Path) -> None:
    """Fifty at once, two that sequence and one that signs meanwhile: no call fails, so there was no deadlock; each
    change has its one event, the log has no gap and no fork, and its export verifies.
    """
    chronicle = replace(
        await begun(tmp_path, postgres_url), more={"database_connections": str(WRITERS), "database_timeout_ms": "30000"}
    )
    before = (await chronicle.rows(COUNT))[0][0]
    async with opened(chronicle) as made:
        follower = LogFollower(log=made.log, touches=Touches(), lease=Lease(30_000), clock=made.clock)
        with Sequencer(Orders(url=postgres_url)) as sequencer:
            vouching = asyncio.create_task(vouch(made, follower))
            await asyncio.gather(*[write(made, chronicle, writer) for writer in range(WRITERS)])
            vouching.cancel()
            await asyncio.wait([vouching])
            assert vouching.cancelled()
            assert sequencer.end(within_s=20).failed == 0
        await called(made, chronicle, PLACE)
        await called(made, chronicle, SIGN)
        sizes = await demand_one_history(chronicle)
        await demand_export(made, chronicle, sizes[chronicle.workspace_id])
    wrong = [row for row in await chronicle.rows(EVENTS_OF_EACH) if row[1] != row[2]]
    assert wrong == [], "(id, version, events)"
    assert sum(sizes.values()) == before + OWNERS + WRITERS * CHANGES
