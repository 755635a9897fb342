"""Streams of a running server: the tail of usage, reports of outcomes, and what ends them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import AsyncExitStack, aclosing
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from keystead.gen.v1 import usage_pb2, verification_pb2
from keystead.transport.streaming import STREAMS_MAXIMUM
from keystead.usage.tail import PART_CALLS_MAX
from tests.clients import METHODS, STREAMS, Answer, Client, client_for
from tests.polling import eventually
from tests.servers import KeysteadServer, ServerFarm
from tests.streams import HTTP_STREAMS, STREAM_TRANSPORTS, StreamClient, StreamRefusedError

TAIL, OUTCOMES = STREAMS["TailCalls"], STREAMS["StreamOutcomes"]
WAYS = (("native", "grpc"), ("grpcio", "grpc"), *[("native", transport) for transport in HTTP_STREAMS])
FLAGS = ("--first-run", "--operator")
VALID = verification_pb2.VerifyKeyResponse.VALID


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerFarm]:
    """Lend one farm to all tests of this file."""
    farm = ServerFarm(Path(tmp_path_factory.mktemp("streams")))
    yield farm
    farm.end()


@pytest.fixture(scope="module")
def engines(farm: ServerFarm) -> dict[str, KeysteadServer]:
    """Start a server for each engine; its tests leave it running and with room for streams."""
    return {engine: farm.start(flags=FLAGS, grpc_engine=engine) for engine in ("native", "grpcio")}


def streams_of(server: KeysteadServer, token: str = "") -> StreamClient:
    """Make a client of the server's streams."""
    return StreamClient(server.grpc, server.http, token or server.management_key)


def tail_of(streams: StreamClient, transport: str, **fields: Any) -> AsyncGenerator[Any, None]:
    """Open a tail."""
    token = fields.pop("token", None)
    return streams.open(transport, TAIL, TAIL.request(**fields), token=token)


async def make_key(client: Client, owner_id: str = "o", environment: str = "LIVE", **fields: Any) -> Any:
    """Make a key."""
    wanted: dict[str, Any] = {
        "owner_id": owner_id,
        "create_owner": True,
        "name": "n",
        "environment": environment,
        "plan_id": "enterprise",
    } | fields
    return (await client.call("CreateKey", **wanted)).must()


async def make_manager(client: Client, environment: str = "ALL", scopes: tuple[str, ...] = ("*:*",)) -> Any:
    """Make a management key."""
    wanted: dict[str, Any] = {"kind": "MANAGEMENT", "name": "m", "environment": environment, "scopes": scopes}
    return (await client.call("CreateKey", **wanted)).must()


async def make_bound(client: Client, address: str) -> str:
    """Make a management key that may be used from one network alone, and return its secret."""
    wanted: dict[str, Any] = {"kind": "MANAGEMENT", "name": "b", "environment": "ALL", "scopes": ["*:*"]}
    return str((await client.call("CreateKey", allowed_ips=[address], **wanted)).must().secret)


async def ending_of(stream: AsyncGenerator[Any, None], *, within_s: float = 10) -> Answer:
    """Read a stream to its end, which must be a refusal, and return that."""
    try:
        async with asyncio.timeout(within_s):
            async for _ in stream:
                pass
    except StreamRefusedError as refused:
        return refused.answer
    raise AssertionError("it ended well")


async def verified(client: Client, key: str, number: int) -> list[str]:
    """Verify a key so often, one after another, and return the ids of the verdicts."""
    return [(await client.call("VerifyKey", key=key, environment="LIVE")).must().verification_id for _ in range(number)]


class Follower:
    """Reads a tail until it has seen so many calls, checking what every message must hold to."""

    def __init__(self, begins_at: datetime) -> None:
        """Begin at a time."""
        self.place = begins_at
        self.ids: list[str] = []
        self._last = (0, "")

    async def follow(self, stream: AsyncGenerator[Any, None], upto: int) -> None:
        """Read until ``upto`` calls were seen and nothing is half told."""
        async with aclosing(stream):
            async for told in stream:
                for call in told.calls:
                    here = (call.called_at.ToMilliseconds(), call.verification_id)
                    assert here > self._last
                    self._last = here
                    self.ids.append(call.verification_id)
                if told.HasField("complete_until"):
                    claimed = told.complete_until.ToDatetime(UTC)
                    assert claimed >= self.place or not told.calls
                    self.place = max(claimed, self.place)
                if len(self.ids) >= upto and len(told.calls) < PART_CALLS_MAX:
                    return


@pytest.mark.parametrize(("engine", "transport"), WAYS)
async def test_a_tail_tells_every_call_once_and_in_order(
    engines: dict[str, KeysteadServer], engine: str, transport: str
) -> None:
    """While calls are made a tail tells them all, in the order of time and each once, whoever else watches; who begins
    again where he was told everything misses none and sees none twice.
    """
    server = engines[engine]
    async with client_for(server) as client, streams_of(server) as streams, asyncio.timeout(60):
        key = await make_key(client)
        begins_at = datetime.now(UTC)
        only = {"key_id": key.key.id}
        made = asyncio.create_task(verified(client, key.secret, 600))
        more = asyncio.create_task(verified(client, key.secret, 600))
        first, again = Follower(begins_at), Follower(begins_at)

        async def in_two() -> None:
            await again.follow(tail_of(streams, transport, **{"from": again.place, "filter": only}), 1)
            await again.follow(tail_of(streams, transport, **{"from": again.place, "filter": only}), 1_200)

        await asyncio.gather(
            first.follow(tail_of(streams, transport, **{"from": begins_at, "filter": only}), 1_200), in_two()
        )
        assert sorted(first.ids) == sorted(await made + await more)
        assert again.ids == first.ids


@pytest.mark.parametrize("transport", STREAM_TRANSPORTS)
async def test_a_silent_tail_shows_that_it_lives(engines: dict[str, KeysteadServer], transport: str) -> None:
    """Without calls there is a message a second at least, and what it claims to be complete goes on and never back."""
    claims: list[int] = []
    times: list[float] = []
    async with streams_of(engines["native"]) as streams, aclosing(tail_of(streams, transport)) as replies:
        async with asyncio.timeout(20):
            while len(claims) < 6:
                told = await anext(replies)
                assert not told.calls
                claims.append(told.complete_until.ToMilliseconds())
                times.append(time.monotonic())
    assert claims == sorted(claims)
    assert claims[-1] > claims[0]
    assert max(after - before for before, after in pairwise(times)) < 1


async def test_a_tail_has_walls(engines: dict[str, KeysteadServer]) -> None:
    """A tail shows what its key may see and nothing else; without the right, or with another kind of key, it shows
    nothing, and an environment that is not the caller's is refused (P8).
    """
    server = engines["native"]
    async with client_for(server) as client, streams_of(server) as streams:
        tests_only, live = await make_manager(client, "TEST"), await make_manager(client, "LIVE")
        blind = await make_manager(client, "ALL", ("read:keys",))
        key = await make_key(client)
        begins_at = datetime.now(UTC)
        made = await verified(client, key.secret, 3)
        follower = Follower(begins_at)
        await follower.follow(tail_of(streams, "grpc", token=live.secret, **{"from": begins_at}), 3)
        assert set(made) <= set(follower.ids)
        async with aclosing(tail_of(streams, "grpc", token=tests_only.secret, **{"from": begins_at})) as replies:
            while (told := await anext(replies)).complete_until.ToDatetime(UTC) <= follower.place:
                assert not told.calls
        for method in (TAIL, OUTCOMES):
            for token in (blind.secret, server.told["operator_key"]):
                refused = await ending_of(streams.open("grpc", method, method.request(), token=token))
                assert refused.refusal == ("PERMISSION_DENIED", "PERMISSION_DENIED")
            refused = await ending_of(streams.open("grpc", method, method.request(), token=key.secret))
            assert refused.refusal == ("UNAUTHENTICATED", "UNAUTHENTICATED")
        other = tail_of(streams, "grpc", token=live.secret, filter={"environment": "TEST"})
        assert (await ending_of(other)).reason == "PERMISSION_DENIED"


async def test_a_filter_narrows_a_tail(engines: dict[str, KeysteadServer]) -> None:
    """Only the calls that are meant are told."""
    server = engines["native"]
    async with client_for(server) as client, streams_of(server) as streams:
        key = await make_key(client)
        begins_at = datetime.now(UTC)
        for operation in ("list", "show", "list"):
            await client.verify(key.secret, operation=operation, tags=["region:eu"])
        only = usage_pb2.UsageFilter(key_id=key.key.id, operation="list", code=VALID, tag="region:eu")
        follower = Follower(begins_at)
        await follower.follow(tail_of(streams, "grpc", filter=only, **{"from": begins_at}), 2)
        assert len(follower.ids) == 2


@pytest.mark.parametrize(
    ("fields", "field"),
    (
        ({"from": timedelta(hours=-2)}, "from"),
        ({"from": timedelta(hours=2)}, "from"),
        ({"filter": {"key_id": "x"}}, "filter.key_id"),
        ({"filter": {"environment": "ALL"}}, "filter.environment"),
        ({"filter": {"operation": "x" * 101}}, "filter.operation"),
    ),
)
@pytest.mark.parametrize("transport", STREAM_TRANSPORTS)
async def test_a_bad_question_is_told_what_to_change(
    engines: dict[str, KeysteadServer], transport: str, fields: dict[str, Any], field: str
) -> None:
    """A tail that cannot be is refused by the field's name before it begins."""
    asked = {name: datetime.now(UTC) + it if isinstance(it, timedelta) else it for name, it in fields.items()}
    async with streams_of(engines["native"]) as streams:
        refused = await ending_of(tail_of(streams, transport, **asked))
    assert refused.refusal == ("INVALID_ARGUMENT", "INVALID_REQUEST")
    assert refused.fields == (field,)


@pytest.mark.parametrize(("engine", "transport"), WAYS)
async def test_a_revoked_key_loses_its_stream(engines: dict[str, KeysteadServer], engine: str, transport: str) -> None:
    """Within a second and a half of its key's revocation a stream ends with UNAUTHENTICATED, though nothing is said on
    it (P3).
    """
    server = engines[engine]
    async with client_for(server) as client, streams_of(server) as streams:
        manager = await make_manager(client)
        replies = tail_of(streams, transport, token=manager.secret)
        await anext(replies)
        (await client.call("RevokeKey", key_id=manager.key.id)).must()
        revoked_at_s = time.monotonic()
        assert (await ending_of(replies)).refusal == ("UNAUTHENTICATED", "UNAUTHENTICATED")
        assert time.monotonic() - revoked_at_s < 1.5


async def test_a_key_revoked_elsewhere_loses_its_stream(farm: ServerFarm, postgres_url: str) -> None:
    """The same when another process revoked it: the log brings the news."""
    one, two = (farm.start(database=postgres_url) for _ in range(2))
    async with client_for(one) as client, streams_of(two, one.management_key) as streams:
        manager = await make_manager(client)
        replies = tail_of(streams, "grpc", token=manager.secret)
        await anext(replies)
        (await client.call("RevokeKey", key_id=manager.key.id)).must()
        assert (await ending_of(replies, within_s=5)).refusal == ("UNAUTHENTICATED", "UNAUTHENTICATED")
    for server in (one, two):
        assert await asyncio.to_thread(server.stop) == 0


async def test_a_tail_tells_the_calls_of_every_process(farm: ServerFarm, postgres_url: str) -> None:
    """Calls that two processes admit side by side come in one order, each once, whichever of them tells."""
    one, two = (farm.start(database=postgres_url) for _ in range(2))
    token = one.management_key
    async with (
        client_for(one) as here,
        client_for(two, token=token) as there,
        streams_of(two, token) as streams,
        asyncio.timeout(60),
    ):
        key = await make_key(here)
        only = {"key_id": key.key.id}
        follower = Follower(datetime.now(UTC))
        making = [asyncio.create_task(verified(client, key.secret, 300)) for client in (here, there, here, there)]
        await follower.follow(tail_of(streams, "grpc", **{"from": follower.place, "filter": only}), 1_200)
        made = [it for each in making for it in await each]
        assert sorted(follower.ids) == sorted(made)
    for server in (one, two):
        assert await asyncio.to_thread(server.stop) == 0


@pytest.mark.parametrize(("engine", "transport"), WAYS)
async def test_an_address_is_known_to_a_tail(engines: dict[str, KeysteadServer], engine: str, transport: str) -> None:
    """A key that is bound to addresses opens a tail from there, and from nowhere else."""
    server = engines[engine]
    async with client_for(server) as client, streams_of(server) as streams:
        near, far = [await make_bound(client, address) for address in ("127.0.0.1/32", "198.51.100.0/24")]
        async with aclosing(tail_of(streams, transport, token=near)) as replies:
            await anext(replies)
        assert (await ending_of(tail_of(streams, transport, token=far))).status == "UNAUTHENTICATED"


@pytest.mark.parametrize(("engine", "status"), (("native", "UNAUTHENTICATED"), ("grpcio", "OK")))
async def test_a_conversation_has_no_address_on_the_native_engine(
    engines: dict[str, KeysteadServer], engine: str, status: str
) -> None:
    """The fast engine hands streams both ways to the server behind it, which cannot see who called: keys that are bound
    to addresses are refused there, and never let in from anywhere.
    """
    server = engines[engine]

    async def reports() -> AsyncIterator[bytes]:
        yield OUTCOMES.request().SerializeToString()

    async with client_for(server) as client, streams_of(server, await make_bound(client, "127.0.0.1/32")) as streams:
        told = "OK"
        try:
            assert [reply.received async for reply in streams.talk(OUTCOMES, reports())] == [0]
        except StreamRefusedError as refused:
            told = refused.answer.status
    assert told == status


@pytest.mark.parametrize("engine", ("native", "grpcio"))
async def test_so_many_streams_and_no_more(engines: dict[str, KeysteadServer], engine: str) -> None:
    """A process carries 100 streams, over all its listeners together; the next is refused with a code, and each that
    its client leaves makes room for another.
    """
    server = engines[engine]
    async with streams_of(server) as streams, AsyncExitStack() as stack:
        opened = []
        for number in range(STREAMS_MAXIMUM):
            transport = STREAM_TRANSPORTS[number % len(STREAM_TRANSPORTS)]
            opened.append(await stack.enter_async_context(aclosing(tail_of(streams, transport))))
        await asyncio.gather(*[anext(replies) for replies in opened])
        for transport in STREAM_TRANSPORTS:
            refused = await ending_of(tail_of(streams, transport))
            assert refused.refusal == ("UNAVAILABLE", "OVERLOADED")
        for place, transport in enumerate(STREAM_TRANSPORTS):
            await opened[place].aclose()

            async def has_room(transport: str = transport) -> bool:
                replies = tail_of(streams, transport)
                try:
                    await anext(replies)
                except StreamRefusedError:
                    return False
                await stack.enter_async_context(aclosing(replies))
                return True

            await eventually(has_room, within_s=5)
            assert (await ending_of(tail_of(streams, "grpc"))).reason == "OVERLOADED"


@pytest.mark.parametrize(("engine", "transport"), WAYS)
async def test_a_server_that_stops_ends_its_streams(farm: ServerFarm, engine: str, transport: str) -> None:
    """SIGTERM ends every stream with UNAVAILABLE and a reason, and no stream keeps the server from stopping."""
    server = farm.start(grpc_engine=engine)
    async with streams_of(server) as streams:
        replies = [tail_of(streams, transport) for _ in range(5)]
        for each in replies:
            await anext(each)
        ends = [asyncio.create_task(ending_of(each, within_s=20)) for each in replies]
        began_s = time.monotonic()
        assert await asyncio.to_thread(server.stop) == 0
        assert time.monotonic() - began_s < 5
        assert [each.refusal for each in await asyncio.gather(*ends)] == [("UNAVAILABLE", "UNAVAILABLE")] * 5
    assert '"level": "error"' not in server.log_text()


@pytest.mark.parametrize("engine", ("native", "grpcio"))
async def test_outcomes_are_kept_as_they_come(engines: dict[str, KeysteadServer], engine: str) -> None:
    """Each report of a stream is answered with how many were kept so far, and they are joined to their calls."""
    server = engines[engine]
    async with client_for(server) as client, streams_of(server) as streams:
        key = await make_key(client)
        made = await verified(client, key.secret, 6)
        answered: asyncio.Queue[int] = asyncio.Queue()

        async def reports() -> AsyncIterator[bytes]:
            for number in range(3):
                outcomes = [{"verification_id": it, "http_status": 500} for it in made[number * 2 : number * 2 + 2]]
                yield OUTCOMES.request(outcomes=outcomes).SerializeToString()
                assert await answered.get() == number * 2 + 2

        async for reply in streams.talk(OUTCOMES, reports()):
            answered.put_nowait(reply.received)

        async def joined() -> bool:
            usage = (await client.call("GetKeyUsage", key_id=key.key.id)).must()
            return (usage.calls, usage.outcomes, usage.errors) == (6, 6, 6)

        await eventually(joined, within_s=15)


@pytest.mark.parametrize("engine", ("native", "grpcio"))
async def test_a_bad_outcome_ends_its_stream(engines: dict[str, KeysteadServer], engine: str) -> None:
    """A report that cannot be kept ends the stream by the field's name; those that were answered stay."""
    server = engines[engine]

    async def reports() -> AsyncIterator[bytes]:
        yield OUTCOMES.request().SerializeToString()
        yield OUTCOMES.request(outcomes=[{"verification_id": "x", "http_status": 200}]).SerializeToString()

    async with streams_of(server) as streams:
        refused = await ending_of(streams.talk(OUTCOMES, reports()))
    assert refused.refusal == ("INVALID_ARGUMENT", "INVALID_REQUEST")
    assert refused.fields == ("outcomes[0].verification_id",)


def test_every_method_is_tried_as_what_it_is() -> None:
    """The methods that stream are the two that are tried here; all others are tried as calls."""
    assert set(STREAMS) == {"TailCalls", "StreamOutcomes", "TailEvents", "ExportEvents"}
    assert not set(METHODS) & set(STREAMS)
