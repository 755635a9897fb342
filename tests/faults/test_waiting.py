"""P3: ``wait=true`` returns when no process can admit the key any more, whatever has become of the processes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from keystead.events.nodes import GONE_AFTER_MS
from tests.clients import Answer, Client, client_for
from tests.polling import eventually
from tests.proxies import Proxy, proxy_to
from tests.servers import KeysteadServer, ServerFarm
from tests.services import PrivatePostgres

pytestmark = pytest.mark.alone

STALE_MS = 1_500
GONE_MS = STALE_MS + GONE_AFTER_MS
SETTINGS: dict[str, Any] = {"staleness_bound_ms": STALE_MS, "database_timeout_ms": 1_000}
KEY: dict[str, Any] = {
    "owner_id": "owner",
    "create_owner": True,
    "name": "Key",
    "environment": "LIVE",
    "plan_id": "enterprise",
}
HAMMERS = 2


@dataclass
class Three:
    """Three servers on one database, a client of each; the third reaches the database through ``proxy``."""

    servers: list[KeysteadServer]
    clients: list[Client]
    proxy: Proxy

    async def make(self) -> Any:
        """Make a key that is warm on all three."""
        made = (await self.clients[0].call("CreateKey", **KEY)).must()
        for client in self.clients:
            assert await client.verify(made.secret) == "VALID"
        return made


@asynccontextmanager
async def three(servers: ServerFarm, postgres: PrivatePostgres, **third: Any) -> AsyncIterator[Three]:
    """Lend them; ``third`` are settings of the third alone."""
    url = postgres.create_database("waiting")
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(proxy_to(postgres.port))
        started = [await asyncio.to_thread(servers.start, database=url, **SETTINGS) for _ in range(2)]
        third = {"database": proxy.through(url), **SETTINGS, **third}
        started.append(await asyncio.to_thread(servers.start, **third))
        stack.callback(started[2].kill)  # before the proxy ends
        token = started[0].management_key
        clients = [await stack.enter_async_context(client_for(one, token=token)) for one in started]
        yield Three(started, clients, proxy)


@dataclass
class Hammer:
    """Asks one node about one key without a pause, and keeps when each admission was asked for."""

    client: Client
    secret: str
    admitted_at_s: list[float] = field(default_factory=list)
    answers: int = 0

    async def swing(self, stopped: asyncio.Event) -> None:
        """Ask until ``stopped``."""
        while not stopped.is_set():
            asked_at_s = time.monotonic()
            code = await self.client.verify(self.secret)
            self.answers += 1
            if code == "VALID":
                self.admitted_at_s.append(asked_at_s)


@asynccontextmanager
async def hammering(clients: list[Client], secret: str) -> AsyncIterator[list[Hammer]]:
    """Hammer each of ``clients``, until the block ends and half a second more."""
    hammers = [Hammer(client, secret) for client in clients for _ in range(HAMMERS)]
    stopped = asyncio.Event()
    tasks = [asyncio.create_task(hammer.swing(stopped)) for hammer in hammers]

    async def swinging() -> bool:
        return all(hammer.admitted_at_s for hammer in hammers)

    await eventually(swinging, within_s=10)
    try:
        yield hammers
        answered = [hammer.answers for hammer in hammers]

        async def asked_again() -> bool:
            return all(hammer.answers > before + 20 for hammer, before in zip(hammers, answered, strict=True))

        await eventually(asked_again, within_s=20)
    finally:
        stopped.set()
        await asyncio.gather(*tasks)


async def revoke(client: Client, made: Any, **fields: Any) -> tuple[Answer, float]:
    """Revoke and wait; return the answer and when it came."""
    answer = await client.call("RevokeKey", key_id=made.key.id, wait=True, **fields)
    return answer, time.monotonic()


def demand_refused(hammers: list[Hammer], since_s: float) -> None:
    """Fail when a node admitted a call that was asked after ``since_s``."""
    late = [asked_at_s - since_s for hammer in hammers for asked_at_s in hammer.admitted_at_s if asked_at_s > since_s]
    assert not late, f"admitted {max(late):.3f} s after the wait had ended"


async def test_no_node_admits_once_the_wait_has_ended(servers: ServerFarm, own_postgres: PrivatePostgres) -> None:
    """While all three are hammered, not one call that is asked after the reply is admitted by any, ten times over; and
    with all of them well, nobody waits for long.
    """
    async with three(servers, own_postgres) as group:
        took_s = []
        for _ in range(10):
            made = await group.make()
            async with hammering(group.clients, made.secret) as hammers:
                began_s = time.monotonic()
                answer, ended_s = await revoke(group.clients[0], made)
                answer.must()
            took_s.append(ended_s - began_s)
            demand_refused(hammers, ended_s)
        assert sorted(took_s)[5] < STALE_MS / 1_000, took_s


async def test_a_frozen_node_is_waited_for_until_it_is_gone(servers: ServerFarm, own_postgres: PrivatePostgres) -> None:
    """A process that hangs may wake at any moment, so the wait lasts until its lease has lapsed; when it wakes after
    that, the first thing it says is no.
    """
    async with three(servers, own_postgres) as group:
        made = await group.make()
        group.servers[2].freeze()
        asked = [asyncio.create_task(group.clients[2].verify(made.secret)) for _ in range(5)]
        began_s = time.monotonic()
        async with hammering(group.clients[:2], made.secret) as hammers:
            answer, ended_s = await revoke(group.clients[0], made)
            answer.must()
        demand_refused(hammers, ended_s)
        assert GONE_MS / 1_000 - 0.6 < ended_s - began_s < GONE_MS / 1_000 + 3
        group.servers[2].thaw()
        assert set(await asyncio.gather(*asked)) <= {"UNAVAILABLE", "REVOKED"}
        assert await group.clients[2].verify(made.secret) in {"UNAVAILABLE", "REVOKED"}

        async def recovered() -> bool:
            return await group.clients[2].verify(made.secret) == "REVOKED"

        await eventually(recovered, within_s=10)


async def test_a_killed_node_is_waited_for_until_it_is_gone(servers: ServerFarm, own_postgres: PrivatePostgres) -> None:
    """Nobody can tell a killed process from one that hangs, so the first wait lasts as long; the next ones do not. One
    that stops in good order is waited for by nobody.
    """
    async with three(servers, own_postgres) as group:
        first, second, third = await group.make(), await group.make(), await group.make()
        group.servers[2].kill()
        began_s = time.monotonic()
        answer, ended_s = await revoke(group.clients[0], first)
        answer.must()
        assert GONE_MS / 1_000 - 0.6 < ended_s - began_s < GONE_MS / 1_000 + 3
        answer, again_s = await revoke(group.clients[0], second)
        answer.must()
        assert again_s - ended_s < GONE_MS / 1_000 / 2
        await asyncio.to_thread(group.servers[1].stop)
        began_s = time.monotonic()
        answer, ended_s = await revoke(group.clients[0], third)
        answer.must()
        assert ended_s - began_s < GONE_MS / 1_000 / 2


async def test_a_node_cut_off_is_waited_for_until_it_refuses(
    servers: ServerFarm, own_postgres: PrivatePostgres
) -> None:
    """A process that has lost the database goes on to admit what it knows until ``staleness_bound``; the wait ends
    after its last admission.
    """
    async with three(servers, own_postgres) as group:
        made = await group.make()
        async with hammering(group.clients, made.secret) as hammers:
            group.proxy.flowing.clear()
            began_s = time.monotonic()
            answer, ended_s = await revoke(group.clients[0], made)
            answer.must()
        demand_refused(hammers, ended_s)
        third = [at_s for hammer in hammers[2 * HAMMERS :] for at_s in hammer.admitted_at_s if at_s > began_s]
        assert max(third) - began_s > 0.5  # it did admit while it was cut off
        group.proxy.flowing.set()


async def test_a_wait_that_takes_too_long_says_that_the_change_is_made(
    servers: ServerFarm, own_postgres: PrivatePostgres
) -> None:
    """When the caller's deadline comes first, the error says that the change holds; a retry with the same idempotency
    key waits for the rest of it, and changes nothing.
    """
    async with three(servers, own_postgres) as group:
        made = await group.make()
        group.servers[2].freeze()
        async with client_for(group.servers[0], "json", token=group.clients[0].token) as client:
            timeout = {"connect-timeout-ms": "700"}
            key: dict[str, Any] = {"key_id": made.key.id, "idempotency_key": "a-retry-that-waits"}
            answer = await client.call("RevokeKey", wait=True, headers=timeout, **key)
            assert answer.refusal == ("DEADLINE_EXCEEDED", "NOT_PROPAGATED")
            assert "is made" in answer.text
            assert await group.clients[1].verify(made.secret) == "REVOKED"
            began_s = time.monotonic()
            reply = (await client.call("RevokeKey", wait=True, **key)).must()
            assert reply.key.state == reply.key.REVOKED
            assert time.monotonic() - began_s > 0.5
            began_s = time.monotonic()
            (await client.call("RevokeKey", **key)).must()
            assert time.monotonic() - began_s < GONE_MS / 1_000 / 2
        group.servers[2].thaw()


async def test_a_node_that_serves_stale_answers_is_never_taken_for_gone(
    servers: ServerFarm, own_postgres: PrivatePostgres
) -> None:
    """Cut off, such a node goes on to admit by its operator's choice, so the wait ends well when it is back."""
    async with three(servers, own_postgres, serve_stale=True) as group:
        made = await group.make()
        group.proxy.flowing.clear()
        answer, _ = await revoke(group.clients[0], made)
        assert answer.refusal == ("DEADLINE_EXCEEDED", "NOT_PROPAGATED")
        assert await group.clients[2].verify(made.secret) == "VALID"
        group.proxy.flowing.set()
        (await group.clients[0].call("SuspendOwner", owner_id="owner", wait=True)).must()
        assert await group.clients[2].verify(made.secret) == "REVOKED"
