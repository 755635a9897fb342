"""P5 while the database is away: what is answered waits in the journal, and is counted when the database is back."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from typing import Any

import pytest

from tests.clients import Client, client_for
from tests.polling import eventually
from tests.servers import ServerFarm
from tests.services import PrivatePostgres


async def verify_for(client: Client, secret: str, *, seconds: float) -> int:
    """Verify without a pause, and say how many verdicts were received."""
    ends_at_s = time.monotonic() + seconds
    verdicts = 0
    while time.monotonic() < ends_at_s:
        answer = await client.call("VerifyKey", key=secret, environment="LIVE")
        assert answer.ok or answer.refusal[0] == "UNAVAILABLE", answer
        verdicts += answer.ok
    return verdicts


async def demand_counted_after(
    servers: ServerFarm, postgres: PrivatePostgres, *, seconds: float, killed: bool, **settings: Any
) -> None:
    """Freeze the database under load for so long, kill the server meanwhile or not, and count in the end."""
    url = postgres.create_database("away")
    async with AsyncExitStack() as stack:
        server = await asyncio.to_thread(servers.start, database=url, database_timeout_ms=1_000, **settings)
        stack.callback(server.kill)
        async with client_for(server) as client:
            wanted: dict[str, Any] = {
                "owner_id": "o",
                "create_owner": True,
                "name": "n",
                "environment": "LIVE",
                "plan_id": "enterprise",
            }
            made = (await client.call("CreateKey", **wanted)).must()
            verdicts = await verify_for(client, made.secret, seconds=1.0)
            postgres.freeze()
            stack.callback(postgres.thaw)
            verdicts += await verify_for(client, made.secret, seconds=seconds)
        assert verdicts > 0
        if killed:
            server.kill()
        postgres.thaw()
        if killed:
            await asyncio.to_thread(server.start)
        async with client_for(server) as client:

            async def counted() -> bool:
                answer = await client.call("GetKeyUsage", key_id=made.key.id)
                if answer.reason == "STALE":  # the node has not heard yet that the database is back
                    return False
                usage = answer.must()
                assert usage.calls <= verdicts
                return bool(usage.calls == verdicts)

            await eventually(counted, within_s=30)


@pytest.mark.parametrize("killed", (False, True), ids=("alive", "killed meanwhile"))
async def test_a_database_away_for_a_while(servers: ServerFarm, own_postgres: PrivatePostgres, *, killed: bool) -> None:
    """Every verdict given while the database was frozen is counted once it is back, and none twice, although nobody
    knows which of the transactions under way went through.
    """
    await demand_counted_after(servers, own_postgres, seconds=4, killed=killed)


@pytest.mark.soak
async def test_a_database_away_for_a_minute(servers: ServerFarm, own_postgres: PrivatePostgres) -> None:
    """The same for a minute, longer than a node vouches for anything."""
    await demand_counted_after(servers, own_postgres, seconds=60, killed=False)
