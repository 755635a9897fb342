"""A server that is told to stop lets its calls finish, and says at once that it wants no more."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from typing import Any

import asyncpg
import grpc
import pytest
from grpc_health.v1 import health_pb2

from tests.clients import Client, GrpcClient, client_for
from tests.polling import eventually
from tests.servers import KeysteadServer, ServerFarm

WATCH = "/grpc.health.v1.Health/Watch"
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING

GONE = -1


async def watched(client: GrpcClient, states: list[int]) -> None:
    """Write down what health says, until it says no more."""
    stream = client.channel.unary_stream(
        WATCH,
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )(health_pb2.HealthCheckRequest())
    try:
        async for reply in stream:
            states.append(reply.status)  # noqa: PERF401 -- each must be there as soon as it was said
    except grpc.RpcError:
        states.append(GONE)


async def made_key(server: KeysteadServer) -> Any:
    """Make a key."""
    async with client_for(server) as client:
        wanted: dict[str, Any] = {
            "owner_id": "o",
            "create_owner": True,
            "name": "Key",
            "environment": "LIVE",
            "plan_id": "enterprise",
        }
        return (await client.call("CreateKey", **wanted)).must()


async def waits_for_a_lock(connection: asyncpg.Connection) -> bool:
    """Say whether somebody waits for a row that this connection holds."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    return bool(await connection.fetchval(query) > 0)


@pytest.mark.parametrize(("engine", "transport"), (("native", "grpc"), ("grpcio", "grpc"), ("native", "json")))
async def test_calls_under_way_finish(servers: ServerFarm, postgres_url: str, engine: str, transport: str) -> None:
    """SIGTERM with a call under way: health says NOT_SERVING at once, the call gets its reply, its change is there,
    and the process ends with 0 soon after.
    """
    server = servers.start(database=postgres_url, grpc_engine=engine)
    made, states = await made_key(server), []  # type: tuple[Any, list[int]]
    connection = await asyncpg.connect(postgres_url)
    async with client_for(server, transport) as client, GrpcClient(server.grpc) as watcher:
        watching = asyncio.create_task(watched(watcher, states))
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("SELECT 1 FROM keys WHERE id = $1 FOR UPDATE", made.key.id)
        call = asyncio.create_task(client.call("SuspendKey", key_id=made.key.id, reason="draining"))
        observer = await asyncpg.connect(postgres_url)

        async def blocked() -> bool:
            return await waits_for_a_lock(observer)

        async def looks() -> bool:
            return states == [SERVING]

        async def looks_away() -> bool:
            return states[-1:] in ([NOT_SERVING], [GONE])

        await eventually(blocked, within_s=10)
        await eventually(looks, within_s=10)
        server.signal(signal.SIGTERM)
        await eventually(looks_away, within_s=2)
        assert states[:2] == [SERVING, NOT_SERVING]
        watching.cancel()
        assert not call.done()
        assert server.running
        await transaction.rollback()
        assert (await call).must().key.state_reason == "draining"
        await asyncio.to_thread(server.wait, timeout_s=10)
        assert await observer.fetchval("SELECT state_reason FROM keys WHERE id = $1", made.key.id) == "draining"
        for each in (observer, connection):
            await each.close()


@pytest.mark.parametrize("engine", ("native", "grpcio"))
async def test_nobody_who_watches_health_keeps_a_server_from_stopping(servers: ServerFarm, engine: str) -> None:
    """A balancer's open health watch is told NOT_SERVING and is no call under way: an idle server ends at once."""
    server, states = servers.start(grpc_engine=engine), []  # type: tuple[KeysteadServer, list[int]]
    async with GrpcClient(server.grpc) as watcher:
        watching = asyncio.create_task(watched(watcher, states))

        async def seen() -> bool:
            return states == [SERVING]

        await eventually(seen, within_s=10)
        began_s = time.monotonic()
        assert await asyncio.to_thread(server.stop) == 0
        took_s = time.monotonic() - began_s
        await asyncio.wait_for(watching, 10)
        assert states[:2] == [SERVING, NOT_SERVING]
        assert took_s < 5, f"the drain lasted {took_s:.1f} s with nothing to do"


async def test_no_call_keeps_a_server_from_stopping(servers: ServerFarm, postgres_url: str) -> None:
    """A call that does not finish within drain_ms is cut off with UNAVAILABLE and undone, and the server ends."""
    server = servers.start(database=postgres_url, drain_ms=300, database_timeout_ms=20_000)
    made = await made_key(server)
    connection = await asyncpg.connect(postgres_url)
    async with client_for(server) as client:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("SELECT 1 FROM keys WHERE id = $1 FOR UPDATE", made.key.id)
        call = asyncio.create_task(client.call("SuspendKey", key_id=made.key.id))
        observer = await asyncpg.connect(postgres_url)

        async def blocked() -> bool:
            return await waits_for_a_lock(observer)

        await eventually(blocked, within_s=10)
        assert await asyncio.to_thread(server.stop, timeout_s=15) == 0
        assert (await call).status in {"UNAVAILABLE", "UNREACHABLE", "CANCELLED"}
        await transaction.rollback()
        assert await observer.fetchval("SELECT state FROM keys WHERE id = $1", made.key.id) == "active"
        for each in (observer, connection):
            await each.close()


async def test_stopping_under_load_loses_no_reply(servers: ServerFarm) -> None:
    """Calls that come in while the server stops are answered whole or refused as a whole: what was answered VALID is,
    and what was made is there after the start.
    """
    server = servers.start()
    made: list[str] = []

    async def work(client: Client) -> None:
        while True:
            wanted: dict[str, Any] = {
                "owner_id": "o",
                "create_owner": True,
                "name": "Key",
                "environment": "LIVE",
                "plan_id": "enterprise",
            }
            answer = await client.call("CreateKey", **wanted)
            if not answer.ok:
                assert answer.status in {"UNAVAILABLE", "UNREACHABLE", "CANCELLED"}, answer
                return
            made.append(answer.reply.key.id)

    async with client_for(server) as grpc, client_for(server, "json") as http:
        workers = [asyncio.create_task(work(client)) for client in (grpc, grpc, http, http)]

        async def busy() -> bool:
            return len(made) > 20

        await eventually(busy, within_s=20)
        assert await asyncio.to_thread(server.stop) == 0
        await asyncio.gather(*workers)
    host, port = server.grpc.rsplit(":", 1)
    with pytest.raises(OSError, match="refused"), socket.create_connection((host, int(port)), timeout=1):
        pass
    server.start()
    async with client_for(server) as client:
        found = [(await client.call("GetKey", key_id=key_id)).ok for key_id in made]
        assert all(found)
