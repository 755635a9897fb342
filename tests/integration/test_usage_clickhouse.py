"""Usage counted by ClickHouse's engine inside a real server: calls, how they ended, attempts, and what is billed."""

from __future__ import annotations

import asyncio
import sqlite3
from typing import Any

from keystead.gen.v1 import usage_pb2, verification_pb2
from tests.clients import Client, client_for
from tests.polling import eventually
from tests.receivers import PastUsage, receiver
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
        wanted: dict[str, Any] = {
            "owner_id": "one",
            "create_owner": True,
            "name": "n",
            "environment": "LIVE",
            "plan_id": "enterprise",
        }
        made = (await client.call("CreateKey", scopes=["read:invoices"], **wanted)).must()
        asked = {"key": made.secret, "environment": "LIVE", "operation": "list"}
        answers = await asyncio.gather(*[client.call("VerifyKey", **asked) for _ in range(20)])
        told = [
            verification_pb2.Outcome(verification_id=it.must().verification_id, http_status=503 if number < 5 else 200)
            for number, it in enumerate(answers)
        ]
        await client.call("ReportOutcomes", outcomes=told[:10])
        await settle(client, made.key.id, 20)
        await client.call("ReportOutcomes", outcomes=told)
        await asyncio.gather(*[client.verify(f"no key {number}") for number in range(7)])
        await asyncio.gather(*[client.verify(made.secret, scope_expression="admin:all") for _ in range(30)])
    server.kill()
    async with client_for(server.start()) as client:
        await client.verify(made.secret, operation="list", client_ip="192.0.2.7")
        usage = await settle(client, made.key.id, 51, "192.0.2.7")
        assert (usage.admitted, usage.denied) == (21, 30)
        days = (await client.call("QueryUsage", group_by=Query.CODE, interval=Query.DAY)).must()
        assert {it.group: sum(point.calls for point in it.points) for it in days.series} == {
            "INSUFFICIENT_SCOPE": 30,
            "MALFORMED": 7,
            "VALID": 21,
        }

        async def joined() -> bool:
            totals = (await client.call("GetKeyUsage", key_id=made.key.id)).must()
            assert totals.outcomes <= 20
            return bool((totals.outcomes, totals.errors) == (20, 5))

        await eventually(joined, within_s=20.0)
        listed = (await client.call("ListCalls", page_size=100)).must().calls
        assert sum(it.http_status == 503 for it in listed) == 5
    known = sqlite3.connect(server.data_dir / "keystead.db")
    assert known.execute("SELECT count(*) FROM journals").fetchone() == (0,)
    known.close()


async def test_what_clickhouse_counts_is_billed_once(servers: ServerFarm) -> None:
    """With usage_store=chdb: the feed tells exactly what was used, and reconciling says so."""
    server = servers.start(usage_store="chdb:")
    server.stop()
    usage = PastUsage(server)
    await usage.add(50, hours=3)

    async def billed() -> bool:
        report = await service.report()
        for owner, meters in report["totals"].items():
            assert all(value <= usage.totals[owner][meter] for meter, value in meters.items())
        return bool(report["totals"] == usage.totals)

    with receiver() as service:
        server.settings |= service.settings
        server.start()
        await eventually(billed, within_s=40.0)
        async with client_for(server) as client:
            proof = (await client.call("ReconcileUsage", include_equal=True)).must()
    assert usage.billed
    assert {(it.owner_id, it.meter): it.used for it in proof.meters} == dict(usage.billed)
