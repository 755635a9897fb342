"""Three nodes on one database, and how long a revocation takes to the last of them (P3)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from tests.clients import Client, client_for
from tests.polling import eventually
from tests.servers import ServerFarm

KEY: dict[str, Any] = {
    "owner_id": "owner",
    "create_owner": True,
    "name": "Key",
    "environment": "LIVE",
    "plan_id": "enterprise",
}


@asynccontextmanager
async def three(servers: ServerFarm, **settings: Any) -> AsyncIterator[list[Client]]:
    """Lend a client of each of three servers that are told ``settings``."""
    started = [await asyncio.to_thread(servers.start, **settings) for _ in range(3)]
    async with AsyncExitStack() as stack:
        token = started[0].management_key
        yield [await stack.enter_async_context(client_for(one, token=token)) for one in started]


async def warm(clients: list[Client]) -> Any:
    """Make a key by the first node and prove it on all."""
    made = (await clients[0].call("CreateKey", **KEY)).must()
    for client in clients:
        assert await client.verify(made.secret) == "VALID"
    return made


async def reaches_all_ms(clients: list[Client]) -> float:
    """Revoke a key that is warm on all; return the milliseconds from the reply until the last node refuses.

    Each is asked every 10 ms; the node that revoked it must refuse at once.
    """
    made = await warm(clients)
    (await clients[0].call("RevokeKey", key_id=made.key.id)).must()
    began_s = time.monotonic()
    assert await clients[0].verify(made.secret) == "REVOKED"

    async def refuses(client: Client) -> None:
        async def refused() -> bool:
            return await client.verify(made.secret) == "REVOKED"

        await eventually(refused, within_s=10)

    await asyncio.gather(*[refuses(client) for client in clients[1:]])
    return (time.monotonic() - began_s) * 1_000


async def times_to_all_ms(clients: list[Client], *, tries: int, at_once: int) -> list[float]:
    """Do so ``tries`` times, so many at once."""
    turns = iter(range(tries))
    took_ms: list[float] = []

    async def work() -> None:
        took_ms.extend([await reaches_all_ms(clients) for _ in turns])

    await asyncio.gather(*[work() for _ in range(at_once)])
    return took_ms
