"""P5: every answer is counted exactly once, also when the process is killed at any instant."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from tests.clients import Client, client_for
from tests.polling import eventually
from tests.servers import KeysteadServer, ServerFarm

CALLERS = 4
ROUNDS = 10
SOAK_ROUNDS = 200


class Tally:
    """What the client saw: answers it received, and calls that were under way when the server died."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.answered = 0
        self.unanswered = 0


async def call_until_it_dies(client: Client, secret: str, tally: Tally) -> None:
    """Verify again and again, some good and some not, until the server answers no more."""
    while True:
        scope = "read:invoices" if tally.answered % 3 else "admin:everything"
        fields: dict[str, Any] = {
            "key": secret,
            "environment": "LIVE",
            "scope_expression": scope,
            "operation": f"op{tally.answered % 5}",
        }
        answer = await client.call("VerifyKey", **fields)
        if not answer.ok:
            tally.unanswered += 1
            return
        tally.answered += 1


async def killed_under_load(server: KeysteadServer, secret: str, tally: Tally, *, after: int) -> None:
    """Let the callers call, and kill the server when ``after`` more answers were received."""
    async with client_for(server) as client:
        callers = [asyncio.create_task(call_until_it_dies(client, secret, tally)) for _ in range(CALLERS)]
        target = tally.answered + after

        async def answered() -> bool:
            return tally.answered >= target

        await eventually(answered, within_s=30.0)
        server.kill()
        await asyncio.gather(*callers)


async def counted(server: KeysteadServer, key_id: str) -> int:
    """Return how many calls of the key are counted."""
    async with client_for(server) as client:
        return int((await client.call("GetKeyUsage", key_id=key_id)).must().calls)


async def demand_exact_counts(server: KeysteadServer, *, rounds: int) -> None:
    """Kill and restart ``rounds`` times; each time what was answered is counted, and at most what was under way too."""
    chance = random.Random(7)
    async with client_for(server) as client:
        made = (
            await client.call(
                "CreateKey",
                owner_id="o",
                create_owner=True,
                name="n",
                environment="LIVE",
                plan_id="enterprise",
                scopes=["read:invoices"],
            )
        ).must()
    tally = Tally()
    for _ in range(rounds):
        await killed_under_load(server, made.secret, tally, after=chance.randrange(1, 400))
        server.start()

        async def complete() -> bool:
            return await counted(server, made.key.id) >= tally.answered

        await eventually(complete, within_s=15.0)
        assert await counted(server, made.key.id) <= tally.answered + tally.unanswered


async def test_kill_9_on_sqlite(servers: ServerFarm) -> None:
    """Answers received ≤ calls counted ≤ answers received + calls in flight, ten times in a row."""
    await demand_exact_counts(servers.start(), rounds=ROUNDS)


async def test_kill_9_on_postgresql(servers: ServerFarm, postgres_url: str) -> None:
    """Answers received ≤ calls counted ≤ answers received + calls in flight, ten times in a row."""
    await demand_exact_counts(servers.start(database=postgres_url), rounds=ROUNDS)


@pytest.mark.soak
@pytest.mark.parametrize("store", ("sqlite", "postgresql"))
async def test_kill_9_all_night(servers: ServerFarm, postgres_url: str, store: str) -> None:
    """The same, 200 times."""
    await demand_exact_counts(servers.start(database="" if store == "sqlite" else postgres_url), rounds=SOAK_ROUNDS)
