"""Usage counted by ClickHouse's engine inside a real server."""

from __future__ import annotations

import asyncio
from typing import Any

from keystead.gen.v1 import usage_pb2
from tests.clients import Client, client_for
from tests.polling import eventually
from tests.servers import ServerFarm

Query = usage_pb2.QueryUsageRequest


async def settle(client: Client, key_id: str, calls: int, last_used_ip: str = "") -> Any:
    """Wait until all ``calls`` of a key are counted, and return its usage; never sees more than that.

    A stretch reaches one table after the other, so the last use may be told a moment after the sums.
    """
    seen: list[Any] = []

    async def counted() -> bool:
        seen[:] = [(await client.call("GetKeyUsage", key_id=key_id)).must()]
        assert seen[0].calls <= calls
        return bool((seen[0].calls, seen[0].last_used_ip) == (calls, last_used_ip))

    await eventually(counted, within_s=20.0)
    return seen[0]


async def test_a_server_counts_in_clickhouse_across_a_kill(servers: ServerFarm) -> None:
    """With usage_store=chdb: every verdict is told once, also those that were given just before a kill (P5)."""
    server = servers.start(usage_store="chdb:")
    async with client_for(server) as client:
        wanted: dict[str, Any] = {"owner_id": "one", "create_owner": True, "name": "n", "environment": "LIVE"}
        made = (await client.call("CreateKey", scopes=["read:invoices"], **wanted)).must()
        await asyncio.gather(*[client.verify(made.secret, operation="list") for _ in range(20)])
        await settle(client, made.key.id, 20)
        await asyncio.gather(*[client.verify(made.secret, scope_expression="admin:all") for _ in range(30)])
    server.kill()
    async with client_for(server.start()) as client:
        await client.verify(made.secret, operation="list", client_ip="192.0.2.7")
        usage = await settle(client, made.key.id, 51, "192.0.2.7")
        assert (usage.admitted, usage.denied) == (21, 30)
        days = (await client.call("QueryUsage", group_by=Query.CODE, interval=Query.DAY)).must()
        assert {it.group: sum(point.calls for point in it.points) for it in days.series} == {
            "INSUFFICIENT_SCOPE": 30,
            "VALID": 21,
        }
