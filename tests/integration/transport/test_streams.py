"""Streams behind each listener: the same messages, endings and refusals over gRPC, Connect and gRPC-Web."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import pytest
from google.protobuf.message import Message

from keystead.gen.v1 import usage_pb2, verification_pb2
from keystead.keys.errors import KeyRevokedError
from keystead.transport.calls import Call, Method, methods_of
from keystead.transport.errors import TABLE
from keystead.transport.grpc.answering import Answering, ClientGoneError
from keystead.transport.grpc.server import GrpcServer
from keystead.transport.grpc.settings import Engine, GrpcSettings
from keystead.transport.http.app import HttpApplication
from keystead.transport.http.gate import Gate
from keystead.transport.http.server import HttpServer
from keystead.transport.http.settings import HttpSettings
from keystead.transport.listening import Address
from keystead.transport.refusals import Refusal
from tests.streams import HTTP_STREAMS, StreamClient, StreamRefusedError
from tests.web import web_client

LOOPBACK = Address("127.0.0.1", 0)
SECRET = "acme_live_THISISASECRET"  # what must never come back
WAYS = ("native", "grpcio", *HTTP_STREAMS)
METHODS = {
    method.name: method
    for service in (
        usage_pb2.DESCRIPTOR.services_by_name["UsageService"],
        verification_pb2.DESCRIPTOR.services_by_name["VerificationService"],
    )
    for method in methods_of(service)
}
TAIL, OUTCOMES = METHODS["TailCalls"], METHODS["StreamOutcomes"]


class Tap:
    """Streams what the filter's operation says: ``count``, ``crash``, ``revoked``, ``wait`` or ``flood``."""

    def __init__(self) -> None:
        """Begin with nothing asked."""
        self.calls: list[Call] = []
        self.closed = asyncio.Event()
        self.sent = 0

    async def stream(self, call: Call, request: Message | AsyncIterator[Message]) -> AsyncGenerator[Message, None]:
        """Answer one stream."""
        self.calls.append(call)
        try:
            if isinstance(request, usage_pb2.TailCallsRequest):
                async for reply in self._tail(request.filter.operation):
                    yield reply
            elif not isinstance(request, Message):
                async for asked in request:
                    self.sent += len(asked.outcomes)  # type: ignore[attr-defined]  # the contract says what it is
                    yield verification_pb2.StreamOutcomesResponse(received=self.sent)
        finally:
            self.closed.set()

    async def _tail(self, word: str) -> AsyncGenerator[Message, None]:
        for number in range(3):
            yield usage_pb2.TailCallsResponse(calls=[usage_pb2.UsageCall(cost=number)])
        if word == "crash":
            raise RuntimeError(f"cannot handle {SECRET}")
        if word == "revoked":
            raise KeyRevokedError("key_1")
        if word == "wait":
            await asyncio.get_running_loop().create_future()
        while word == "flood":
            self.sent += 1
            yield usage_pb2.TailCallsResponse(calls=[usage_pb2.UsageCall(operation="x" * 100_000)])

    async def __call__(self, call: Call, _request: Message) -> Message:
        """Answer what does not stream with an empty reply."""
        return call.method.reply()


def asked(word: str) -> usage_pb2.TailCallsRequest:
    """Ask for one kind of stream."""
    return usage_pb2.TailCallsRequest(filter=usage_pb2.UsageFilter(operation=word))


@pytest.fixture
def tap() -> Tap:
    """Make the dispatcher of a test."""
    return Tap()


async def not_ready() -> list[str]:
    """Say that nothing keeps the server."""
    return []


Start = Callable[[str], Awaitable[StreamClient]]


@pytest.fixture
async def start(tap: Tap) -> AsyncIterator[Start]:
    """Start a listener for a way in, and give a client of it."""
    servers: list[GrpcServer | HttpServer] = []
    clients: list[StreamClient] = []

    async def begin(way: str) -> StreamClient:
        methods = list(METHODS.values())
        if way in HTTP_STREAMS:
            settings = HttpSettings(address=LOOPBACK)
            application = HttpApplication(methods, tap, not_ready, settings, stream_dispatch=tap.stream)
            server: GrpcServer | HttpServer = HttpServer(application, settings)
        else:
            engine: Engine = "native" if way == "native" else "grpcio"
            chosen = GrpcSettings(address=LOOPBACK, engine=engine)
            server = GrpcServer(methods, tap, chosen, stream_dispatch=tap.stream)
        port = await server.start()
        servers.append(server)
        clients.append(StreamClient(f"127.0.0.1:{port}", f"http://127.0.0.1:{port}", "token"))
        return await clients[-1].__aenter__()

    yield begin
    for client in clients:
        await client.__aexit__(None, None, None)
    for server in servers:
        await server.stop(0.2)


def transport_of(way: str) -> str:
    """Name the client's transport for a way in."""
    return way if way in HTTP_STREAMS else "grpc"


@pytest.mark.parametrize("way", WAYS)
async def test_messages_come_in_order_and_the_end_is_told(start: Start, tap: Tap, way: str) -> None:
    """A stream is what its handler yields, no more and no less, and the handler knows who called."""
    client = await start(way)
    costs = [reply.calls[0].cost async for reply in client.open(transport_of(way), TAIL, asked("count"))]
    assert costs == [0, 1, 2]
    [call] = tap.calls
    assert call.credential() == "Bearer token"
    assert call.peer == "127.0.0.1"
    assert call.remaining_ms is not None
    assert tap.closed.is_set()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("word", "status"), (("revoked", "FAILED_PRECONDITION"), ("crash", "INTERNAL")))
async def test_a_refusal_in_the_middle_says_why(start: Start, way: str, word: str, status: str) -> None:
    """What was sent before arrives, then the code and reason as of any call; a fault tells nothing of the inside."""
    client = await start(way)
    replies = client.open(transport_of(way), TAIL, asked(word))
    assert [(await anext(replies)).calls[0].cost for _ in range(3)] == [0, 1, 2]
    with pytest.raises(StreamRefusedError) as ended:
        await anext(replies)
    assert ended.value.answer.status == status
    assert ended.value.answer.reason == {"revoked": "KEY_REVOKED", "crash": "INTERNAL"}[word]
    assert SECRET not in ended.value.answer.text


@pytest.mark.parametrize("way", WAYS)
async def test_a_client_that_leaves_ends_its_handler(start: Start, tap: Tap, way: str) -> None:
    """Nothing works on for a client that cancelled or hung up, also while there is nothing to send."""
    client = await start(way)
    async with aclosing(client.open(transport_of(way), TAIL, asked("wait"))) as replies:
        await anext(replies)
        assert not tap.closed.is_set()
    await asyncio.wait_for(tap.closed.wait(), 5)


@pytest.mark.parametrize("way", WAYS)
async def test_a_deadline_ends_a_stream(start: Start, tap: Tap, way: str) -> None:
    """A client's deadline holds for a stream as for a call: it is told so, and the handler ends."""
    client = await start(way)
    with pytest.raises(StreamRefusedError) as ended:
        async for _ in client.open(transport_of(way), TAIL, asked("wait"), timeout_s=0.5):
            pass
    assert ended.value.answer.status == "DEADLINE_EXCEEDED"
    await asyncio.wait_for(tap.closed.wait(), 5)


@pytest.mark.parametrize("way", WAYS)
async def test_a_slow_reader_slows_the_handler(start: Start, tap: Tap, way: str) -> None:
    """A client that does not read is not sent messages into memory without end, and its leaving ends the handler."""
    client = await start(way)
    async with aclosing(client.open(transport_of(way), TAIL, asked("flood"))) as replies:
        await anext(replies)
        sent, before = 0, -1
        async with asyncio.timeout(20):
            while sent != before:
                before = sent
                await pause()
                sent = tap.sent
        assert sent < 1_000
    await asyncio.wait_for(tap.closed.wait(), 5)


async def pause() -> None:
    """Let half a second pass, in which a handler that is let on would send."""
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.get_running_loop().create_future(), 0.5)


@pytest.mark.parametrize("way", ("native", "grpcio"))
async def test_each_request_of_a_conversation_is_answered(start: Start, tap: Tap, way: str) -> None:
    """In a stream both ways every message is answered, in order, before the next is looked at."""
    client = await start(way)
    replies: asyncio.Queue[int] = asyncio.Queue()

    async def requests() -> AsyncIterator[bytes]:
        for number in range(1, 4):
            outcomes = [verification_pb2.Outcome()] * number
            yield verification_pb2.StreamOutcomesRequest(outcomes=outcomes).SerializeToString()
            assert await replies.get() == sum(range(number + 1))

    async for reply in client.talk(OUTCOMES, requests()):
        replies.put_nowait(reply.received)
    assert tap.sent == 6
    await asyncio.wait_for(tap.closed.wait(), 5)


@pytest.mark.parametrize("way", ("native", "grpcio"))
@pytest.mark.parametrize(
    ("bad", "reason"),
    (
        (b"\xff\xff", "MALFORMED_MESSAGE"),
        (b"\x0a" * 1_100_000, "MESSAGE_TOO_LARGE"),
        (b"\xfa\x3f\x01a", "UNKNOWN_FIELD"),
    ),
)
async def test_a_bad_message_ends_a_conversation(start: Start, way: str, bad: bytes, reason: str) -> None:
    """What is no message of the method is refused by its reason, also in the middle of a stream."""
    client = await start(way)

    async def requests() -> AsyncIterator[bytes]:
        yield b""
        yield bad

    with pytest.raises(StreamRefusedError) as ended:
        async for _ in client.talk(OUTCOMES, requests()):
            pass
    assert ended.value.answer.reason == reason


async def test_http_says_where_a_conversation_is_to_be_had(start: Start) -> None:
    """A method that streams both ways is for gRPC alone, and its refusal names what to call over HTTP."""
    client = await start("connect+json")
    with pytest.raises(StreamRefusedError) as ended:
        await anext(client.send_all("connect+json", OUTCOMES, [verification_pb2.StreamOutcomesRequest()]))
    assert ended.value.answer.refusal == ("UNIMPLEMENTED", "METHOD_NOT_FOUND")
    assert "ReportOutcomes" in ended.value.answer.text


@pytest.mark.parametrize("number", (0, 2))
@pytest.mark.parametrize("transport", HTTP_STREAMS)
async def test_a_stream_is_asked_for_by_one_message(start: Start, transport: str, number: int) -> None:
    """No message, or a second one, is no request."""
    client = await start(transport)
    with pytest.raises(StreamRefusedError) as ended:
        await anext(client.send_all(transport, TAIL, [asked("count")] * number))
    assert ended.value.answer.refusal == ("INVALID_ARGUMENT", "MALFORMED_MESSAGE")


@pytest.mark.parametrize(
    ("method", "transport"), ((TAIL, "json"), (TAIL, "proto"), (METHODS["TopUsage"], "connect+json"))
)
async def test_a_content_type_is_for_calls_or_for_streams(start: Start, method: Method, transport: str) -> None:
    """Who takes a stream for a plain call, or a plain call for a stream, reads what to send."""
    client = await start("connect+json")
    with pytest.raises(StreamRefusedError) as ended:
        await anext(client.send_all(transport, method, [method.request()]))
    assert (ended.value.answer.http_status, ended.value.answer.reason) == (415, "UNSUPPORTED_MEDIA_TYPE")
    assert "application/" in ended.value.answer.text


async def test_a_client_that_takes_nothing_is_left_over_grpc(tap: Tap) -> None:
    """A client that does not read for longer than it may loses its stream, and with it the place it held."""
    answering = Answering(
        tap,
        message_maximum_bytes=1_000,
        concurrent_calls_maximum=1,
        stream_dispatch=tap.stream,
        patience_ms=10,
    )

    async def never(_message: bytes) -> None:
        await asyncio.get_running_loop().create_future()

    async def gone(_message: bytes) -> None:
        raise ClientGoneError

    payload = asked("flood").SerializeToString()
    refusal = await answering.stream(Call(TAIL, (), "", None), payload, never)
    assert isinstance(refusal, Refusal)
    assert refusal.statuses is TABLE["unavailable"]
    assert tap.closed.is_set()
    assert await answering.stream(Call(TAIL, (), "", None), payload, gone) is None


async def test_a_client_that_takes_nothing_is_left_over_http() -> None:
    """The same over HTTP: the answer is given up, quietly, because nobody reads it."""

    async def endless(_scope: Any, _receive: Any, send: Any) -> None:
        while True:
            await send({"type": "http.response.body", "body": b"x", "more_body": True})

    async def never(_message: Any) -> None:
        await asyncio.get_running_loop().create_future()

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    gate = Gate(endless, [TAIL], message_maximum_bytes=1_000, body_timeout_ms=1_000, patience_ms=10)
    headers = [(b"content-type", b"application/connect+json")]
    scope = {"type": "http", "path": TAIL.path, "method": "POST", "headers": headers}
    await asyncio.wait_for(gate(scope, receive, never), 5)


async def test_a_fault_of_a_stream_is_not_taken_for_a_slow_client() -> None:
    """What fails inside is not hidden by the patience with clients."""

    async def broken(_scope: Any, _receive: Any, _send: Any) -> None:
        raise RuntimeError

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(_message: Any) -> None:
        return

    gate = Gate(broken, [TAIL], message_maximum_bytes=1_000, body_timeout_ms=1_000)
    headers = [(b"content-type", b"application/connect+json")]
    with pytest.raises(RuntimeError):
        await gate({"type": "http", "path": TAIL.path, "method": "POST", "headers": headers}, receive, send)


@pytest.mark.parametrize("way", ("native", "grpcio", "connect+json"))
async def test_without_a_dispatcher_for_streams_there_are_none(tap: Tap, way: str) -> None:
    """A listener that was given no way to answer streams refuses them as methods it does not have."""
    methods = list(METHODS.values())
    if way == "connect+json":
        settings = HttpSettings(address=LOOPBACK)
        server: GrpcServer | HttpServer = HttpServer(HttpApplication(methods, tap, not_ready, settings), settings)
    else:
        engine: Engine = "native" if way == "native" else "grpcio"
        server = GrpcServer(methods, tap, GrpcSettings(address=LOOPBACK, engine=engine))
    port = await server.start()
    async with StreamClient(f"127.0.0.1:{port}", f"http://127.0.0.1:{port}", "token") as client:
        with pytest.raises(StreamRefusedError) as ended:
            await anext(client.open(transport_of(way), TAIL, asked("count")))
        assert ended.value.answer.refusal == ("UNIMPLEMENTED", "METHOD_NOT_FOUND")
    await server.stop(0.2)


@pytest.mark.parametrize("packed", ("connect-content-encoding", "content-encoding"))
async def test_a_packing_that_nobody_knows_is_named(start: Start, packed: str) -> None:
    """A stream's request that is packed in an unknown way is refused before anybody unpacks it."""
    client = await start("connect+json")
    async with web_client(base_url=client.http_url) as http:
        headers = {"content-type": "application/connect+json", packed: "zstd"}
        got = await http.post(TAIL.path, content=b"", headers=headers)
    assert got.status_code == 415
