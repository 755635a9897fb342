"""The log over the wire: what happened is listed and told, inside walls, once and in order."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict

from keystead.gen.v1 import audit_pb2, keys_pb2
from tests.clients import METHODS, STREAMS, TRANSPORTS, Answer, Client, client_for
from tests.polling import eventually
from tests.servers import KeysteadServer, ServerFarm
from tests.streams import HTTP_STREAMS, STREAM_TRANSPORTS, StreamClient, StreamRefusedError

TAIL = STREAMS["TailEvents"]
NO_KEY = "key_01h455vb4pex5vsknk084sn02q"
WAYS = (("native", "grpc"), ("grpcio", "grpc"), *[("native", transport) for transport in HTTP_STREAMS])


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, KeysteadServer]]:
    """Start a server for each engine; its tests leave it running."""
    farm = ServerFarm(Path(tmp_path_factory.mktemp("audit")))
    flags = ("--first-run", "--operator")
    yield {engine: farm.start(flags=flags, grpc_engine=engine) for engine in ("native", "grpcio")}
    farm.end()


async def make(client: Client, **fields: Any) -> Any:
    """Make a key, a customer's unless told."""
    wanted: dict[str, Any] = {"owner_id": "o", "create_owner": True, "name": "n", "environment": "LIVE"}
    return (await client.call("CreateKey", **(wanted | fields))).must()


async def make_manager(
    client: Client, environment: str = "ALL", scopes: tuple[str, ...] = ("*:*",), **more: Any
) -> Any:
    """Make a management key."""
    fields: dict[str, Any] = {"kind": "MANAGEMENT", "owner_id": "", "create_owner": False, "scopes": scopes}
    return await make(client, **fields, environment=environment, **more)


async def events(client: Client, **fields: Any) -> list[Any]:
    """List all that is asked for, in one page."""
    return list((await client.call("ListEvents", page_size=1_000, **fields)).must().events)


async def settled(client: Client, **fields: Any) -> list[Any]:
    """Wait until everything asked for has its place, and return it."""
    found: list[Any] = []

    async def placed() -> bool:
        found[:] = await events(client, **fields)
        return all(event.HasField("index") for event in found)

    await eventually(placed, within_s=5)
    return found


def tail_of(server: KeysteadServer, transport: str, token: str = "", **fields: Any) -> AsyncGenerator[Any, None]:
    """Open a tail."""
    streams = StreamClient(server.grpc, server.http, token or server.management_key)
    return _closing(streams, transport, TAIL.request(**fields))


async def _closing(streams: StreamClient, transport: str, request: Any) -> AsyncGenerator[Any, None]:
    async with streams, aclosing(streams.open(transport, TAIL, request)) as replies:
        async for told in replies:
            yield told


async def ending_of(stream: AsyncGenerator[Any, None]) -> Answer:
    """Read a stream to its end, which must be a refusal, and return that."""
    try:
        async with asyncio.timeout(10):
            async for _ in stream:
                pass
    except StreamRefusedError as refused:
        return refused.answer
    raise AssertionError("it ended well")


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_what_was_done_is_listed(engines: dict[str, KeysteadServer], transport: str) -> None:
    """Who did what to what, when, from where and why, on every transport; the newest first; no secret in it (P6)."""
    server = engines["native"]
    async with client_for(server, transport) as client:
        manager = await make_manager(client)
        named = {"x-request-id": f"req-{transport}", "user-agent": "a-test/1"}
        made = await make(client, token=manager.secret, headers=named, owner_id=f"by-{transport}")
        (await client.call("RevokeKey", key_id=made.key.id, reason="it leaked", token=manager.secret)).must()
        revoked, created = await settled(client, key_id=made.key.id)
        assert (created.action, revoked.action) == ("key.created", "key.revoked")
        assert revoked.index > created.index
        for event in (created, revoked):
            assert (event.actor.type, event.actor.id) == ("key", manager.key.id)
            assert (event.owner_id, event.environment, event.target) == (
                f"by-{transport}",
                keys_pb2.Key.LIVE,
                made.key.id,
            )
            assert (event.client_ip, event.result, event.count) == ("127.0.0.1", audit_pb2.Event.DONE, 1)
            assert abs(event.occurred_at.ToDatetime(UTC) - datetime.now(UTC)) < timedelta(minutes=1)
        assert created.request_id == f"req-{transport}"
        assert ("grpc-python" if transport == "grpc" else "a-test/1") in created.user_agent  # grpcio names itself
        assert revoked.reason == "it leaked"
        state = MessageToDict(revoked.changes["state"])
        assert state == {"before": "active", "after": "revoked"}
        assert not created.changes["name"].HasField("before")
        text = str(await events(client))
        assert made.secret not in text
        assert made.secret[-46:-14] not in text


async def test_every_filter_narrows(engines: dict[str, KeysteadServer]) -> None:
    """Each filter tells what it names and nothing else, alone and together with others."""
    async with client_for(engines["native"]) as client:
        manager = await make_manager(client)
        by_him: dict[str, Any] = {"token": manager.secret, "headers": {"x-request-id": "req-filters"}}
        one = await make(client, owner_id="filters-1", **by_him)
        other = await make(client, owner_id="filters-2", environment="TEST", **by_him)
        everything = await settled(client)
        mine = [it for it in everything if it.actor.id == manager.key.id]
        assert {it.action for it in mine} == {"owner.created", "key.created"}
        asked: list[tuple[dict[str, Any], Any]] = [
            ({"actor_id": manager.key.id}, lambda it: it.actor.id == manager.key.id),
            ({"key_id": one.key.id}, lambda it: it.target == one.key.id),
            ({"target": "filters-1"}, lambda it: it.target == "filters-1"),
            ({"owner_id": "filters-2"}, lambda it: it.owner_id == "filters-2"),
            ({"request_id": "req-filters", "action": "key.*"}, lambda it: it in mine and it.action == "key.created"),
            ({"action": "owner.created"}, lambda it: it.action == "owner.created"),
            ({"action": "*"}, lambda _: True),
            ({"environment": "TEST"}, lambda it: it.environment != keys_pb2.Key.LIVE),
            (
                {"to": other.key.created_at},
                lambda it: it.occurred_at.ToNanoseconds() < other.key.created_at.ToNanoseconds(),
            ),
            (
                {"from": other.key.created_at},
                lambda it: it.occurred_at.ToNanoseconds() >= other.key.created_at.ToNanoseconds(),
            ),
        ]
        for fields, meant in asked:
            expected = [it for it in everything if meant(it)]
            assert expected
            assert await events(client, **fields) == expected, fields
            assert await events(client, order_by="occurred_at asc", **fields) == expected[::-1], fields


async def test_the_log_has_walls(engines: dict[str, KeysteadServer]) -> None:
    """A key for one environment is told of it and of what concerns both, never of the other or of keys for both; what
    is another workspace's answers as what nobody has; without the right there is nothing (P8).
    """
    server = engines["native"]
    async with client_for(server) as client:
        operator = server.told["operator_key"]
        created = (await client.call("CreateWorkspace", token=operator, brand="walled", name="W")).must()
        foreign = await make(client, token=created.secret, owner_id="theirs")
        live, blind = await make_manager(client, "LIVE"), await make_manager(client, scopes=("read:keys",))
        ours = {name: await make(client, environment=name, owner_id="ours") for name in ("LIVE", "TEST")}
        seen = await settled(client, token=live.secret)
        assert {it.environment for it in seen} == {keys_pb2.Key.LIVE, keys_pb2.Key.ENVIRONMENT_UNSPECIFIED}
        assert ours["LIVE"].key.id in {it.target for it in seen}
        for token in (live.secret, server.management_key):
            named: tuple[dict[str, Any], ...] = (
                {"key_id": foreign.key.id},
                {"target": foreign.key.id},
                {"owner_id": "theirs"},
            )
            for fields in named:
                answer = await client.call("ListEvents", token=token, **fields)
                assert answer.raw == (await client.call("ListEvents", token=token, key_id=NO_KEY)).raw
        for hidden in (ours["TEST"].key.id, blind.key.id):
            assert not await events(client, token=live.secret, key_id=hidden)
        asked = await client.call("ListEvents", token=live.secret, environment="TEST")
        assert asked.refusal == ("PERMISSION_DENIED", "PERMISSION_DENIED")
        theirs = await settled(client, token=created.secret)
        assert sorted(it.index for it in theirs) == list(range(len(theirs)))  # a tree of their own, without gaps
        answer = await client.call("ListEvents", token=blind.secret)
        assert answer.refusal == ("PERMISSION_DENIED", "PERMISSION_DENIED")
        page = (await client.call("ListEvents", page_size=1)).must().next_page_token
        for token, owner_id in ((live.secret, ""), (created.secret, ""), (None, "ours")):
            refused = await client.call("ListEvents", token=token, page_token=page, owner_id=owner_id)
            assert refused.fields == ("page_token",)


@pytest.mark.parametrize("order", ("occurred_at asc", "occurred_at desc"))
async def test_pages_are_stable_while_others_write(engines: dict[str, KeysteadServer], order: str) -> None:
    """What was there at the first page is told exactly once, while writers go on and places are given."""
    async with client_for(engines["native"]) as client:
        there = [it.id for it in await events(client, order_by=order)]
        told: list[str] = []
        done = asyncio.Event()

        async def write() -> None:
            while not done.is_set():
                await make(client, owner_id="pages")

        writers = [asyncio.create_task(write()) for _ in range(3)]
        token = ""
        while len(told) < len(there) or (order.endswith("desc") and token):
            page = (await client.call("ListEvents", page_size=3, page_token=token, order_by=order)).must()
            told += [it.id for it in page.events]
            token = page.next_page_token
            assert token or order.endswith("desc")
        done.set()
        await asyncio.gather(*writers)
        assert len(told) == len(set(told))
        assert [it for it in told if it in set(there)] == there


@pytest.mark.parametrize(
    ("fields", "field"),
    (
        ({"key_id": "x"}, "key_id"),
        ({"owner_id": "with space"}, "owner_id"),
        ({"actor_id": "x" * 257}, "actor_id"),
        ({"target": "x\ny"}, "target"),
        ({"request_id": "x" * 257}, "request_id"),
        ({"action": "Key.Created"}, "action"),
        ({"action": "key.*.x"}, "action"),
        ({"action": "x" * 101}, "action"),
        ({"environment": "ALL"}, "environment"),
        ({"environment": 9}, "environment"),
        ({"order_by": "index"}, "order_by"),
        ({"page_size": -1}, "page_size"),
        ({"page_token": "x"}, "page_token"),
        ({"from": datetime(2027, 1, 2, tzinfo=UTC), "to": datetime(2027, 1, 2, tzinfo=UTC)}, "from"),
    ),
)
async def test_a_bad_question_is_told_what_to_change(
    engines: dict[str, KeysteadServer], fields: dict[str, Any], field: str
) -> None:
    """Bad ids, patterns, times and sizes are refused by the field's name; a tail refuses what it takes alike."""
    server = engines["native"]
    async with client_for(server) as client:
        refused = await client.call("ListEvents", **fields)
        assert (refused.refusal, refused.fields) == (("INVALID_ARGUMENT", "INVALID_REQUEST"), (field,))
    if field in {"key_id", "owner_id", "action"}:
        for transport in STREAM_TRANSPORTS:
            told = await ending_of(tail_of(server, transport, **fields))
            assert (told.refusal, told.fields) == (refused.refusal, refused.fields)


@pytest.mark.parametrize(("engine", "transport"), WAYS)
async def test_a_tail_tells_every_event_once_and_in_order(
    engines: dict[str, KeysteadServer], engine: str, transport: str
) -> None:
    """While two dozen writers change things, a tail tells every event of the owner, in the order of places, none twice
    and none left out (P6).
    """
    server, owner_id = engines[engine], f"tail-{engine}-{transport}".replace("+", "-")
    async with client_for(server) as client:
        replies = tail_of(server, transport, owner_id=owner_id)
        assert not (await anext(replies)).events
        writing = asyncio.gather(*[make(client, owner_id=owner_id) for _ in range(24)])
        told: list[Any] = []
        async with asyncio.timeout(20), aclosing(replies):
            while len(told) < 25:
                told += (await anext(replies)).events
        await writing
        listed = await settled(client, owner_id=owner_id)
        assert [it.index for it in told] == sorted(it.index for it in listed)
        assert sorted(it.id for it in told) == sorted(it.id for it in listed)
        assert {it.action for it in told} == {"key.created", "owner.created"}


@pytest.mark.parametrize("transport", STREAM_TRANSPORTS)
async def test_a_silent_tail_shows_that_it_lives(engines: dict[str, KeysteadServer], transport: str) -> None:
    """Without events there is an empty message a second at least."""
    times: list[float] = []
    async with aclosing(tail_of(engines["native"], transport, key_id=NO_KEY)) as replies, asyncio.timeout(20):
        while len(times) < 4:
            assert not (await anext(replies)).events
            times.append(time.monotonic())
    assert max(after - before for before, after in pairwise(times)) < 1


@pytest.mark.parametrize(("engine", "transport"), WAYS)
async def test_a_revoked_key_loses_its_tail(engines: dict[str, KeysteadServer], engine: str, transport: str) -> None:
    """Within a second and a half of its key's revocation a tail ends with UNAUTHENTICATED (P3)."""
    server = engines[engine]
    async with client_for(server) as client:
        manager = await make_manager(client)
        replies = tail_of(server, transport, manager.secret)
        await anext(replies)
        (await client.call("RevokeKey", key_id=manager.key.id)).must()
        revoked_at_s = time.monotonic()
        assert (await ending_of(replies)).refusal == ("UNAUTHENTICATED", "UNAUTHENTICATED")
        assert time.monotonic() - revoked_at_s < 1.5


async def test_a_tail_has_walls(engines: dict[str, KeysteadServer]) -> None:
    """A tail tells what its key may see and nothing else; without the right it does not begin (P8)."""
    server = engines["native"]
    async with client_for(server) as client:
        live, blind = await make_manager(client, "LIVE"), await make_manager(client, scopes=("read:keys",))
        async with aclosing(tail_of(server, "grpc", live.secret)) as replies, asyncio.timeout(20):
            await anext(replies)
            hidden = [await make(client, environment="TEST"), await make_manager(client)]
            last = await make(client, owner_id="tail-walls")
            seen: list[Any] = []
            while last.key.id not in {it.target for it in seen}:
                seen += (await anext(replies)).events
        assert not {it.target for it in seen} & {it.key.id for it in hidden}
        refused = await ending_of(tail_of(server, "grpc", blind.secret))
        assert refused.refusal == ("PERMISSION_DENIED", "PERMISSION_DENIED")


async def test_a_tail_tells_what_every_process_did(tmp_path: Path, postgres_url: str) -> None:
    """What two processes change side by side comes in one order, each once, whichever of them tells."""
    farm = ServerFarm(tmp_path)
    one, two = (farm.start(database=postgres_url) for _ in range(2))
    async with client_for(one) as client, client_for(two, token=one.management_key) as other:
        tails = [tail_of(server, "grpc", one.management_key) for server in (one, two)]
        for replies in tails:
            await anext(replies)
        await asyncio.gather(*[make(it, owner_id=f"o{number}") for number in range(10) for it in (client, other)])
        told: list[list[Any]] = [[], []]
        async with asyncio.timeout(20):
            for replies, found in zip(tails, told, strict=True):
                async with aclosing(replies):
                    while sum(it.action == "key.created" for it in found) < 20:
                        found.extend((await anext(replies)).events)
        assert told[0] == told[1]
        indexes = [it.index for it in told[0]]
        assert indexes == list(range(indexes[0], indexes[0] + len(indexes)))
    farm.end()


def test_the_log_is_read_by_its_own_right() -> None:
    """Nothing but `read:audit` opens the log, and reading it changes nothing."""
    for method in (METHODS["ListEvents"], TAIL):
        assert (method.access.scope, method.access.mutates) == ("read:audit", False)


async def test_an_operator_reads_the_log_of_the_system_alone(engines: dict[str, KeysteadServer]) -> None:
    """It tells what operators did, exports and verifies like any other, and has nothing of a tenant's in it (P8)."""
    server = engines["native"]
    async with client_for(server, "grpc") as tenant, client_for(server, "grpc") as operator:
        operator.token = server.told["operator_key"]
        made = await make(tenant)
        told = await settled(operator)
        assert {event.action for event in told} >= {"key.created"}
        own = (await tenant.call("ListEvents", page_size=1_000)).must().events
        assert not {event.id for event in told} & {event.id for event in own}
        assert (await operator.call("ListEvents", key_id=made.key.id)).must().events == []
        mine = next(event for event in own if event.target == made.key.id)
        assert (await operator.call("GetAuditProof", event_id=mine.id)).status == "NOT_FOUND"
        theirs = told[0]
        assert (await tenant.call("GetAuditProof", event_id=theirs.id)).status == "NOT_FOUND"
        size = (await operator.call("GetCheckpoint", make=True)).must().size
        assert size == len(told)
