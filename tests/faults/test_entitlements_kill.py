"""A server that dies after it told what was used, and before it hears so, bills nothing twice and nothing less."""

from __future__ import annotations

from typing import Any

import pytest

from tests.clients import client_for
from tests.polling import eventually
from tests.receivers import PastUsage, RunningReceiver, receiver
from tests.servers import ServerFarm

WITHIN_S = 60.0
ROUNDS = 3


@pytest.mark.parametrize("kind", ("sqlite", "postgresql"))
async def test_kill_9_between_sending_and_acknowledging(
    servers: ServerFarm, request: pytest.FixtureRequest, kind: str
) -> None:
    """Killed after the receiver has counted a batch and before its answer, again and again, and billed exactly.

    Started again it goes on at once: the dead sender would hold the place for longer than anything here waits.
    """
    database = {"database": request.getfixturevalue("postgres_url")} if kind == "postgresql" else {}
    server = servers.start(**database)
    usage = PastUsage(server)
    with receiver() as service:
        server.settings |= service.settings | {"entitlements_timeout_ms": 60_000}
        for _ in range(ROUNDS):
            server.stop()
            await usage.add(60, hours=3)  # after the first round they come late, to hours that were told
            await service.misbehave("hang=1")
            before = (await service.report())["received"]
            server.start()

            async def counted(before: int = before) -> bool:
                return bool((await service.report())["received"] > before)

            await eventually(counted, within_s=WITHIN_S)
            server.kill()
            server.start()
        await demand_equal(service, usage)
        async with client_for(server) as client:

            async def equal() -> bool:
                return bool((await client.call("ReconcileUsage")).must().equal)

            await eventually(equal, within_s=WITHIN_S)
        report = await service.report()
        assert report["totals"] == usage.totals
        assert report["received"] > report["events"]  # what the killed ones had sent came again


async def test_a_frozen_sender_is_replaced_and_harms_nothing_when_it_wakes(
    servers: ServerFarm, postgres_url: str
) -> None:
    """When the node that sends hangs, another goes on; both of them awake again, every bill is still exact."""
    first = servers.start(database=postgres_url)
    usage = PastUsage(first)
    with receiver() as service:
        first.stop()
        await usage.add(60)
        settings = service.settings | {"entitlements_timeout_ms": 1_000}
        first.settings |= settings
        first.start()
        await demand_equal(service, usage)
        servers.start(flags=(), database=postgres_url, **settings)
        first.freeze()
        await usage.add(60, hours=3)
        await demand_equal(service, usage)
        first.thaw()
        await usage.add(60, hours=3)
        async with client_for(first) as client:

            async def equal() -> bool:
                return bool((await client.call("ReconcileUsage")).must().equal)

            await eventually(equal, within_s=WITHIN_S)
        assert (await service.report())["totals"] == usage.totals


async def demand_equal(service: RunningReceiver, usage: PastUsage) -> None:
    """Wait until what is billed is what was used; it is never more."""

    async def equal() -> bool:
        found: dict[str, Any] = (await service.report())["totals"]
        for owner, meters in found.items():
            for meter, value in meters.items():
                assert value <= usage.totals[owner][meter], "billed more than was used"
        return bool(found == usage.totals)

    await eventually(equal, within_s=WITHIN_S)
