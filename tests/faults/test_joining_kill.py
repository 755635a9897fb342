"""P5, P12: a process that is killed while it joins outcomes leaves each of them joined exactly once."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from tests.clients import Client, client_for
from tests.polling import eventually
from tests.proxies import proxy_to
from tests.servers import ServerFarm
from tests.services import PrivatePostgres

OUTCOMES = 50
MARKS = b"UPDATE calls SET http_status"
FORGETS = b"DELETE FROM waiting_outcomes USING"
PLACES = {
    "before calls are marked": (MARKS, b""),
    "before what waits is forgotten": (FORGETS, b""),
    "committed and not heard of": (b"COMMIT", FORGETS),
}
"""The statement whose answer the joiner waits for when it is killed, and one that it sent before on its connection."""


async def report(client: Client, ids: list[str]) -> None:
    """Report that so many calls failed."""
    outcomes = [{"verification_id": it, "http_status": 500, "latency": timedelta(milliseconds=20)} for it in ids]
    assert (await client.call("ReportOutcomes", outcomes=outcomes)).must().received == len(ids)


async def settle(client: Client, key_id: str, *, calls: int, outcomes: int) -> None:
    """Wait until so many calls and outcomes of a key are counted; it is never more than that."""

    async def counted() -> bool:
        usage = (await client.call("GetKeyUsage", key_id=key_id)).must()
        assert (usage.calls <= calls, usage.outcomes <= outcomes, usage.errors <= outcomes) == (True, True, True)
        return bool((usage.calls, usage.outcomes, usage.errors) == (calls, outcomes, outcomes))

    await eventually(counted, within_s=15.0)


@pytest.mark.parametrize(("word", "after"), PLACES.values(), ids=PLACES.keys())
async def test_kill_9_in_the_middle_of_joining(
    servers: ServerFarm, postgres: PrivatePostgres, postgres_url: str, word: bytes, after: bytes
) -> None:
    """Killed between the statements of a join, or when it was committed and the process did not hear so: what was
    reported is in the sums and on its call once, and later reports are joined as ever.
    """
    async with proxy_to(postgres.port) as proxy:
        server = await asyncio.to_thread(servers.start, database=proxy.through(postgres_url))
        wanted: dict[str, Any] = {
            "owner_id": "o",
            "create_owner": True,
            "name": "n",
            "environment": "LIVE",
            "plan_id": "enterprise",
        }
        async with client_for(server) as client:
            key = (await client.call("CreateKey", **wanted)).must()
            given = [await client.call("VerifyKey", key=key.secret, environment="LIVE") for _ in range(OUTCOMES + 1)]
            *ids, last = [it.must().verification_id for it in given]
            await settle(client, key.key.id, calls=OUTCOMES + 1, outcomes=0)
            proxy.hold(word, after=after)
            await report(client, ids)
            await asyncio.wait_for(proxy.asked.wait(), 15)
            server.kill()
        proxy.released.set()
        await asyncio.to_thread(server.start)
        async with client_for(server) as client:
            await settle(client, key.key.id, calls=OUTCOMES + 1, outcomes=OUTCOMES)
            await report(client, [*ids, last])
            await settle(client, key.key.id, calls=OUTCOMES + 1, outcomes=OUTCOMES + 1)
            told = (await client.call("ListCalls", page_size=100)).must().calls
            assert [it.http_status for it in told] == [500] * (OUTCOMES + 1)
