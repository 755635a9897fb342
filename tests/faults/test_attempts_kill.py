"""P5: answers about no key are counted exactly once too, also when the process is killed at any instant."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

from keystead.gen.v1 import usage_pb2
from tests.clients import Client, client_for
from tests.forgeries import CODE_OF, FORGED, MALFORMED, UNKNOWN, Forger
from tests.polling import eventually
from tests.servers import KeysteadServer, ServerFarm

CALLERS = 4
ROUNDS = 10
KINDS = (FORGED, MALFORMED, UNKNOWN)

Query = usage_pb2.QueryUsageRequest


class Tally:
    """What the client saw, by code: answers it received, and calls that were under way when the server died."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.answered: Counter[str] = Counter()
        self.unanswered: Counter[str] = Counter()

    @property
    def answers(self) -> int:
        """How many answers were received."""
        return self.answered.total()


async def call_until_it_dies(client: Client, forger: Forger, tally: Tally) -> None:
    """Verify what is no key again and again, from few addresses and from many, until the server answers no more."""
    while True:
        kind = KINDS[tally.answers % len(KINDS)]
        client_ip = forger.address() if tally.answers % 2 else "192.0.2.7"
        answer = await client.call("VerifyKey", key=forger.text(kind), environment="LIVE", client_ip=client_ip)
        if not answer.ok:
            tally.unanswered[CODE_OF[kind]] += 1
            return
        tally.answered[CODE_OF[kind]] += 1


async def killed_under_load(server: KeysteadServer, forger: Forger, tally: Tally, *, after: int) -> None:
    """Let the callers call, and kill the server when ``after`` more answers were received."""
    async with client_for(server) as client:
        callers = [asyncio.create_task(call_until_it_dies(client, forger, tally)) for _ in range(CALLERS)]
        target = tally.answers + after

        async def answered() -> bool:
            return tally.answers >= target

        await eventually(answered, within_s=30.0)
        server.kill()
        await asyncio.gather(*callers)


async def counted(server: KeysteadServer) -> Counter[str]:
    """Return how many calls of each code are counted."""
    async with client_for(server) as client:
        reply = (await client.call("QueryUsage", group_by=Query.CODE, interval=Query.HOUR)).must()
    return Counter({it.group: sum(point.calls for point in it.points) for it in reply.series})


async def demand_exact_counts(server: KeysteadServer, master_key: str) -> None:
    """Kill and restart again and again; each time what was answered is counted, and at most what was under way too."""
    forger, tally, chance = Forger(master_key), Tally(), random.Random(7)
    for _ in range(ROUNDS):
        await killed_under_load(server, forger, tally, after=chance.randrange(1, 400))
        server.start()

        async def complete() -> bool:
            return await counted(server) >= tally.answered

        await eventually(complete, within_s=15.0)
        assert await counted(server) <= tally.answered + tally.unanswered
    assert tally.answers > ROUNDS
    server.restart()

    async def tidy() -> bool:
        return len(list((server.data_dir / "journal").glob("jrn_*"))) == 1

    await eventually(tidy, within_s=15.0)  # what is counted to its end is deleted, and nothing of it is counted again
    assert tally.answered <= await counted(server) <= tally.answered + tally.unanswered


async def test_kill_9_on_sqlite(servers: ServerFarm) -> None:
    """Answers received ≤ calls counted ≤ answers received + calls in flight, by code, ten times in a row."""
    await demand_exact_counts(servers.start(master_keys=servers.master_key), servers.master_key)


async def test_kill_9_on_postgresql(servers: ServerFarm, postgres_url: str) -> None:
    """Answers received ≤ calls counted ≤ answers received + calls in flight, by code, ten times in a row."""
    await demand_exact_counts(servers.start(database=postgres_url), servers.master_key)
