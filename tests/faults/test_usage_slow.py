"""P5 while the database is slow and not away: verdicts do not wait for it, and every one is counted."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from tests.clients import client_for
from tests.polling import eventually
from tests.proxies import proxy_to
from tests.servers import ServerFarm
from tests.services import PrivatePostgres

pytestmark = pytest.mark.alone

DELAY_S = 0.15
LOAD_S = 1.0


async def test_verdicts_do_not_wait_for_a_slow_database(
    servers: ServerFarm, postgres: PrivatePostgres, postgres_url: str
) -> None:
    """While each answer of the database takes 150 ms, and counting a stretch many of them, warm keys are answered in
    less than one; what was answered is counted meanwhile, exactly.
    """
    async with proxy_to(postgres.port) as proxy:
        server = await asyncio.to_thread(servers.start, database=proxy.through(postgres_url))
        async with client_for(server) as client:
            wanted: dict[str, Any] = {
                "owner_id": "o",
                "create_owner": True,
                "name": "n",
                "environment": "LIVE",
                "plan_id": "enterprise",
            }
            key = (await client.call("CreateKey", **wanted)).must()
            assert await client.verify(key.secret) == "VALID"
            proxy.delay_s = DELAY_S
            took_s: list[float] = []
            ends_s = time.monotonic() + LOAD_S
            while (began_s := time.monotonic()) < ends_s:
                assert await client.verify(key.secret) == "VALID"
                took_s.append(time.monotonic() - began_s)

            async def counted() -> bool:
                usage = (await client.call("GetKeyUsage", key_id=key.key.id)).must()
                assert usage.calls <= len(took_s) + 1
                return bool(usage.calls == len(took_s) + 1)

            assert await eventually(counted, within_s=30.0) > DELAY_S  # asking once takes as long: it was slow
            proxy.delay_s = 0.0
    took_s.sort()
    assert took_s[len(took_s) * 99 // 100] < DELAY_S
