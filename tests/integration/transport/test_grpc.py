"""gRPC, seen by a real client, the same on both engines."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
import pytest
import structlog
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status

from keystead.gen.v1 import keys_pb2, verification_pb2
from keystead.keys.errors import KeyRevokedError
from keystead.transport.calls import Call, Outcome
from keystead.transport.grpc.server import GrpcServer
from keystead.transport.grpc.settings import GrpcSettings
from keystead.transport.listening import Address, ListenError, TlsFiles

GET_KEY = "/keystead.v1.KeyService/GetKey"
VERIFY_KEY = "/keystead.v1.VerificationService/VerifyKey"
SECRET = "acme_live_THISISASECRET"


def channel_to(target: str, **options: Any) -> Any:
    """Open a channel for bytes, for which grpc's stubs have no type."""
    return aio.insecure_channel(target, **options)


def get_key(word: str) -> keys_pb2.GetKeyRequest:
    """Ask the dispatcher to do what ``word`` says."""
    return keys_pb2.GetKeyRequest(key_id=word)


async def refused(bench: Any, path: str, request: Any, **options: Any) -> aio.AioRpcError:
    """Make a call that must fail, and return how."""
    with pytest.raises(aio.AioRpcError) as caught:
        await bench.call(path, request, timeout=10, **options)
    return caught.value


def info_of(error: aio.AioRpcError) -> error_details_pb2.ErrorInfo:
    """Check the form of an error, and return its one ErrorInfo."""
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # an AioRpcError has what a call has
    assert status is not None, f"no details with {error.code()}: {error.details()}"
    assert status.message == error.details()
    found = [detail for detail in status.details if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR)]
    assert len(found) == 1
    info = error_details_pb2.ErrorInfo()
    found[0].Unpack(info)
    assert info.domain == "keystead"
    return info


async def test_a_call_is_answered_with_its_reply_and_headers(grpc_bench: Any) -> None:
    """What a handler returns, and the headers it sets, reach the client, whether it returned a message or bytes."""
    for word in ("key_7", "bytes"):
        call = grpc_bench.channel.unary_unary(GET_KEY)(get_key(word).SerializeToString())
        assert keys_pb2.GetKeyResponse.FromString(await call).key.id == word
        assert ("x-keystead-test", "yes") in [tuple(pair) for pair in await call.initial_metadata()]


async def test_the_handler_sees_what_the_wire_said(grpc_bench: Any) -> None:
    """Headers, credential, peer and deadline reach the dispatcher alike on both engines."""
    metadata = (("authorization", "Bearer one"), ("x-note", "a"), ("x-note", "b"), ("x-raw-bin", b"\xff"))
    await grpc_bench.call(GET_KEY, get_key("x"), metadata=metadata, timeout=20)
    call = grpc_bench.desk.calls[0]
    assert call.credential() == "Bearer one"
    assert call.header("x-note") == "a, b"
    assert call.header("x-raw-bin") == ""
    assert call.header("absent") == ""
    assert call.peer == "127.0.0.1"
    assert call.remaining_ms is not None
    assert 10_000 < call.remaining_ms <= 20_500  # grpcio rounds a deadline up by some 100 ms


async def test_two_credentials_are_seen_as_two(grpc_bench: Any) -> None:
    """A call with two different credentials cannot pass for one of them; without a deadline none is made up."""
    metadata = (("authorization", "Bearer one"), ("authorization", "Bearer two"))
    await grpc_bench.call(GET_KEY, get_key("x"), metadata=metadata)
    assert grpc_bench.desk.calls[0].credential() is None
    assert grpc_bench.desk.calls[0].remaining_ms is None


async def test_an_ipv6_peer_has_no_brackets_and_no_port(start_grpc: Any) -> None:
    """An allow-list sees the same spelling of an address whatever the engine."""
    bench = await start_grpc(address=Address("::1", 0))
    async with channel_to(f"[::1]:{bench.port}") as channel:
        await channel.unary_unary(GET_KEY)(get_key("x").SerializeToString())
    assert bench.desk.calls[0].peer == "::1"


async def test_an_error_carries_its_code_and_details(grpc_bench: Any) -> None:
    """A program can branch on the reason, and the status is the table's."""
    error = await refused(grpc_bench, GET_KEY, get_key("revoked"))
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert error.details() == "Key key_1 is revoked; create a new key instead."
    assert info_of(error).reason == "KEY_REVOKED"


async def test_an_error_worth_repeating_says_when(grpc_bench: Any) -> None:
    """A retry delay reaches the client as RetryInfo, and the internal text does not."""
    error = await refused(grpc_bench, GET_KEY, get_key("away"))
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # see info_of
    assert status is not None
    retry = error_details_pb2.RetryInfo()
    assert any(detail.Unpack(retry) for detail in status.details)
    assert retry.retry_delay.ToMilliseconds() == 1_500
    assert "db-3" not in str(error)


async def test_an_unexpected_error_says_nothing_but_an_id(grpc_bench: Any) -> None:
    """Neither the caller nor the log sees an exception's text, which may quote a secret; the log has the place (P1)."""
    with structlog.testing.capture_logs() as logs:
        error = await refused(grpc_bench, GET_KEY, get_key("crash"))
    assert error.code() is grpc.StatusCode.INTERNAL
    info = info_of(error)
    assert info.reason == "INTERNAL"
    assert info.metadata["error_id"] in str(error.details())
    assert SECRET not in str(error)
    (entry,) = [entry for entry in logs if entry.get("error_id") == info.metadata["error_id"]]
    assert "builtins.RuntimeError" in entry["traceback"]
    assert "_get_key" in entry["traceback"]
    assert SECRET not in str(logs)


async def test_a_header_that_cannot_be_sent_is_a_fault_and_not_a_hang(grpc_bench: Any) -> None:
    """A handler that sets an illegal header fails its call at once, in our words, rather than leaving it open."""
    error = await refused(grpc_bench, GET_KEY, get_key("header a\nb"))
    assert error.code() is grpc.StatusCode.INTERNAL
    assert info_of(error).reason == "INTERNAL"
    assert await grpc_bench.call(GET_KEY, get_key("header ab"))


@pytest.mark.parametrize(
    ("payload", "reason", "field"),
    (
        (b"\xff\xff\xff", "MALFORMED_MESSAGE", ""),
        (b"\x0a\x50short", "MALFORMED_MESSAGE", ""),
        (b"\x0a\x02\xff\xfe", "MALFORMED_MESSAGE", ""),
        (b"\xf8\x7f\x01", "UNKNOWN_FIELD", "2047"),
        (b"\x22\x03\x98\x06\x01", "UNKNOWN_FIELD", "resource.99"),
    ),
    ids=("no-protobuf", "truncated", "bad-utf8", "unknown", "unknown-inside"),
)
async def test_bytes_that_are_no_request_are_refused_in_our_words(
    grpc_bench: Any, payload: bytes, reason: str, field: str
) -> None:
    """What the contract does not know is never half-obeyed, and the refusal is ours, with details, on both engines."""
    error = await refused(grpc_bench, VERIFY_KEY, payload)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert info_of(error).reason == reason
    assert field in str(error.details())
    assert grpc_bench.desk.calls == []


async def test_a_message_past_the_limit_is_refused(start_grpc: Any) -> None:
    """A large message never reaches a handler, and the refusal names the limit."""
    bench = await start_grpc(message_maximum_bytes=1_000)
    error = await refused(bench, VERIFY_KEY, verification_pb2.VerifyKeyRequest(key="k" * 2_000))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert info_of(error).reason == "MESSAGE_TOO_LARGE"
    assert "1000 bytes" in str(error.details())
    assert bench.desk.calls == []


async def test_a_message_that_unpacks_past_the_limit_is_refused(start_grpc: Any) -> None:
    """Compression does not get a large message past the limit."""
    bench = await start_grpc(message_maximum_bytes=1_000)
    async with channel_to(f"127.0.0.1:{bench.port}", compression=grpc.Compression.Gzip) as channel:
        with pytest.raises(aio.AioRpcError) as caught:
            await channel.unary_unary(VERIFY_KEY)(b"\x0a\x80\x10" + b"k" * 2_048)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert bench.desk.calls == []


async def test_metadata_past_the_limit_is_refused(grpc_bench: Any) -> None:
    """Headers of more than 16 KiB reach no handler, and the server lives on. (The two engines differ in the status.)"""
    error = await refused(grpc_bench, GET_KEY, get_key("x"), metadata=(("x-large", "y" * 40_000),))
    assert error.code() in {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNKNOWN, grpc.StatusCode.UNAVAILABLE}
    assert grpc_bench.desk.calls == []
    assert await grpc_bench.call(GET_KEY, get_key("x"))


@pytest.mark.parametrize("path", ("/keystead.v1.KeyService/Nope", "/some.other.Service/Call"))
async def test_a_method_that_is_not_there_is_said_not_to_be(grpc_bench: Any, path: str) -> None:
    """A client that is newer than the server learns so, with a code to branch on."""
    error = await refused(grpc_bench, path, b"")
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED
    assert info_of(error).reason == "METHOD_NOT_FOUND"
    assert path in str(error.details())


async def test_a_cancelled_call_is_cancelled_in_its_handler(grpc_bench: Any) -> None:
    """A client that leaves stops the work it asked for."""
    call = grpc_bench.channel.unary_unary(GET_KEY)(get_key("wait").SerializeToString())
    await grpc_bench.desk.started.wait()
    call.cancel()
    await asyncio.wait_for(grpc_bench.desk.cancelled.wait(), 10)
    assert await call.code() is grpc.StatusCode.CANCELLED


async def test_a_deadline_stops_the_handler(grpc_bench: Any) -> None:
    """No request hangs past its deadline, and nothing goes on working for it (P10)."""
    call = grpc_bench.channel.unary_unary(GET_KEY)(get_key("wait").SerializeToString(), timeout=0.2)
    assert await call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await asyncio.wait_for(grpc_bench.desk.cancelled.wait(), 10)


async def test_calls_past_the_bound_are_shed(start_grpc: Any) -> None:
    """More calls at once than the bound are refused at once, and told when to come back."""
    bench = await start_grpc(concurrent_calls_maximum=1)
    first = bench.channel.unary_unary(GET_KEY)(get_key("wait").SerializeToString())
    await bench.desk.started.wait()
    error = await refused(bench, GET_KEY, get_key("x"))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert info_of(error).reason == "OVERLOADED"
    bench.desk.release.set()
    await first
    await bench.call(GET_KEY, get_key("x"))


async def test_stopping_lets_calls_finish(grpc_bench: Any) -> None:
    """A call that was taken is answered, if it ends within the grace."""
    call = grpc_bench.channel.unary_unary(GET_KEY)(get_key("wait").SerializeToString())
    await grpc_bench.desk.started.wait()
    stopping = asyncio.create_task(grpc_bench.server.stop(10))
    grpc_bench.desk.release.set()
    assert keys_pb2.GetKeyResponse.FromString(await call).key.id == "wait"
    await stopping
    error = await refused(grpc_bench, GET_KEY, get_key("x"))
    assert error.code() is grpc.StatusCode.UNAVAILABLE


async def test_stopping_sends_every_answer_out(grpc_bench: Any) -> None:
    """An answer that was given is not lost because the server stops before it is on the wire."""
    method = grpc_bench.channel.unary_unary(GET_KEY)
    calls = [method(get_key("wait").SerializeToString()) for _ in range(50)]
    for _ in calls:
        await asyncio.wait_for(grpc_bench.desk.waiting.get(), 10)
    stopping = asyncio.create_task(grpc_bench.server.stop(10))
    grpc_bench.desk.release.set()
    replies = await asyncio.gather(*calls)
    assert {keys_pb2.GetKeyResponse.FromString(reply).key.id for reply in replies} == {"wait"}
    await stopping


async def test_stopping_without_grace_cancels_what_runs(grpc_bench: Any) -> None:
    """A handler that does not end in time is cancelled, so a stop always ends."""
    call = grpc_bench.channel.unary_unary(GET_KEY)(get_key("wait").SerializeToString())
    await grpc_bench.desk.started.wait()
    await grpc_bench.server.stop(0)
    await asyncio.wait_for(grpc_bench.desk.cancelled.wait(), 10)
    assert await call.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}


async def test_health_tells_each_service_and_the_whole(grpc_bench: Any) -> None:
    """A balancer can ask for one service or for all, and is told before the server stops."""
    health: Any = health_pb2_grpc.HealthStub(grpc_bench.channel)
    states = health_pb2.HealthCheckResponse
    for service in ("", "keystead.v1.KeyService", "keystead.v1.VerificationService"):
        assert (await health.Check(health_pb2.HealthCheckRequest(service=service))).status == states.SERVING
    with pytest.raises(aio.AioRpcError) as caught:
        await health.Check(health_pb2.HealthCheckRequest(service="nobody"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    watch = health.Watch(health_pb2.HealthCheckRequest(service="keystead.v1.KeyService"))
    assert (await watch.read()).status == states.SERVING
    await grpc_bench.server.set_serving(serving=False)
    assert (await watch.read()).status == states.NOT_SERVING
    watch.cancel()


async def test_reflection_is_there_only_when_asked_for(start_grpc: Any) -> None:
    """With reflection on grpcurl finds the services; by default the server describes itself to nobody."""
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    quiet = await start_grpc()
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(quiet.channel)
    with pytest.raises(aio.AioRpcError) as caught:
        await stub.ServerReflectionInfo(nothing()).read()
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    open_one = await start_grpc(reflection=True)
    stub = reflection_pb2_grpc.ServerReflectionStub(open_one.channel)
    call = stub.ServerReflectionInfo(iter([request]))
    names = {service.name for service in (await call.read()).list_services_response.service}
    assert {"keystead.v1.KeyService", "keystead.v1.VerificationService", "grpc.health.v1.Health"} <= names
    call.cancel()


async def nothing() -> AsyncIterator[Any]:
    """Send nothing: grpcio's client fails by itself when it writes to a call that was refused already."""
    await asyncio.Event().wait()
    yield


async def test_a_taken_port_is_an_error_that_names_it(grpc_bench: Any, start_grpc: Any) -> None:
    """Two servers never share a port by accident, and whoever starts the second learns which address it was."""
    with pytest.raises(ListenError, match=re.escape(f"127.0.0.1:{grpc_bench.port}")):
        await start_grpc(address=Address("127.0.0.1", grpc_bench.port))


async def test_garbage_on_the_port_harms_nobody(grpc_bench: Any) -> None:
    """Bytes that are no HTTP/2, or a preface and then noise, end that connection and no other."""
    for garbage in (b"\x00" * 4_096, b"GET / HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 4_096):
        reader, writer = await asyncio.open_connection("127.0.0.1", grpc_bench.port)
        with contextlib.suppress(OSError):  # it may hang up before it has read everything
            writer.write(garbage)
            writer.write_eof()
            await asyncio.wait_for(reader.read(), 10)
        await hang_up(writer)
    assert await grpc_bench.call(GET_KEY, get_key("x"))


@pytest.mark.parametrize(
    ("value", "seen"),
    ((b"plain", ["plain"]), (b"a\nb", []), (b"a\r\nb: c", []), (b"a\x00b", []), (b"a\x7fb", []), (b"\xff\xfe", [])),
    ids=repr,
)
async def test_control_characters_in_metadata_reach_no_handler(
    grpc_bench: Any, caplog: pytest.LogCaptureFixture, value: bytes, seen: list[str]
) -> None:
    """A header cannot smuggle a line break, or bytes that are no text, into a log or a store; nor is it logged."""
    await raw_call(grpc_bench.port, value)
    assert repr(value)[2:-1] not in caplog.text
    assert [call.header("x-note") for call in grpc_bench.desk.calls] == seen
    assert await grpc_bench.call(GET_KEY, get_key("x"))


async def raw_call(port: int, value: bytes) -> None:
    """Call ``GetKey`` over HTTP/2 by hand, with a header that no client library would send; wait for any answer."""
    headers = {
        b":method": b"POST",
        b":scheme": b"http",
        b":path": GET_KEY.encode(),
        b":authority": b"localhost",
        b"content-type": b"application/grpc",
        b"te": b"trailers",
        b"x-note": value,
    }
    block = b"".join(bytes((0, len(name))) + name + bytes((len(text),)) + text for name, text in headers.items())
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b""))
    writer.write(frame(1, 4, 1, block) + frame(0, 1, 1, b"\0\0\0\0\0"))
    with contextlib.suppress(ConnectionResetError, asyncio.IncompleteReadError):
        stream = 0
        while stream != 1:
            head = await asyncio.wait_for(reader.readexactly(9), 10)
            stream = int.from_bytes(head[5:], "big")
            await reader.readexactly(int.from_bytes(head[:3], "big"))
    await hang_up(writer)


async def hang_up(writer: asyncio.StreamWriter) -> None:
    """Close a connection, whatever state the other end left it in."""
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """Write an HTTP/2 frame."""
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


async def test_a_batch_answers_for_each_call(start_grpc: Any) -> None:
    """A batch may answer, refuse or pass on each call by itself; both engines then answer alike."""

    def batch(calls: list[tuple[Call, verification_pb2.VerifyKeyRequest]]) -> list[object]:
        chosen = {
            "message": verification_pb2.VerifyKeyResponse(name="batch"),
            "bytes": verification_pb2.VerifyKeyResponse(name="batch").SerializeToString(),
            "refuse": KeyRevokedError("key_2"),
            "pass": None,
        }
        return [chosen[request.key] for _, request in calls]

    bench = await start_grpc(batches={VERIFY_KEY: batch})
    for word in ("message", "bytes", "pass"):
        request = verification_pb2.VerifyKeyRequest(key=word)
        reply = verification_pb2.VerifyKeyResponse.FromString(await bench.call(VERIFY_KEY, request))
        assert reply.name in {"batch", ""}
    assert bench.desk.calls[-1].method.path == VERIFY_KEY
    malformed = await refused(bench, VERIFY_KEY, b"\xff")
    assert info_of(malformed).reason == "MALFORMED_MESSAGE"


async def test_a_batch_may_leave_a_rest_to_be_awaited(methods: Any, desk: Any) -> None:
    """What is awaited is answered when it ends, refused when it raises, and shed when too much waits already."""
    let_go = asyncio.Event()

    async def rest(word: str) -> bytes:
        if word == "refuse":
            raise KeyRevokedError("key_2")
        await let_go.wait()
        return verification_pb2.VerifyKeyResponse(name=word).SerializeToString()

    def batch(calls: Sequence[tuple[Call, Any]]) -> list[Outcome]:
        return [rest(request.key) for _, request in calls]

    settings = GrpcSettings(address=Address("127.0.0.1", 0), concurrent_calls_maximum=2)
    server = GrpcServer(methods, desk, settings, batches={VERIFY_KEY: batch})
    port = await server.start()

    async def ask(word: str) -> str:
        request = verification_pb2.VerifyKeyRequest(key=word).SerializeToString()
        try:
            return verification_pb2.VerifyKeyResponse.FromString(await channel.unary_unary(VERIFY_KEY)(request)).name
        except aio.AioRpcError as error:
            return error.code().name

    async with channel_to(f"127.0.0.1:{port}") as channel:
        assert await ask("refuse") == "FAILED_PRECONDITION"
        calls = [asyncio.create_task(ask(f"call {number}")) for number in range(3)]
        done, waiting = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        assert [call.result() for call in done] == ["UNAVAILABLE"]
        let_go.set()
        assert {await call for call in waiting} < {f"call {number}" for number in range(3)}
    await server.stop(0)


async def test_a_fault_in_a_batch_fails_its_calls_alone(methods: Any, desk: Any) -> None:
    """A batch that raises costs the calls in it an internal error, and the server goes on."""

    def batch(calls: Sequence[tuple[Call, Message]]) -> list[Outcome]:
        raise RuntimeError(f"{SECRET} {len(calls)}")

    settings = GrpcSettings(address=Address("127.0.0.1", 0))
    server = GrpcServer(methods, desk, settings, batches={VERIFY_KEY: batch})
    port = await server.start()
    async with channel_to(f"127.0.0.1:{port}") as channel:
        with pytest.raises(aio.AioRpcError) as caught:
            await channel.unary_unary(VERIFY_KEY)(b"")
        assert caught.value.code() is grpc.StatusCode.INTERNAL
        assert SECRET not in str(caught.value)
        await channel.unary_unary(GET_KEY)(b"")
    await server.stop(0)


async def test_tls_is_served_by_the_engine_that_has_it(start_grpc: Any, tls_files: TlsFiles) -> None:
    """With a certificate the listener speaks TLS and nothing else, whichever engine is set."""
    bench = await start_grpc(tls=tls_files)
    credentials = grpc.ssl_channel_credentials(tls_files.certificate.read_bytes())
    secure: Any = aio.secure_channel(f"localhost:{bench.port}", credentials)
    async with secure as channel:
        reply = await channel.unary_unary(GET_KEY)(get_key("x").SerializeToString())
    assert keys_pb2.GetKeyResponse.FromString(reply).key.id == "x"
    error = await refused(bench, GET_KEY, get_key("x"))
    assert error.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_bad_certificate_is_an_error_that_names_it(start_grpc: Any, tls_files: TlsFiles) -> None:
    """A server that was asked for TLS and cannot have it does not start."""
    swapped = TlsFiles(tls_files.key, tls_files.certificate)
    with pytest.raises(ListenError, match=r"key\.pem"):
        await start_grpc(tls=swapped)
    with pytest.raises(ListenError, match="No such file"):
        await start_grpc(tls=TlsFiles(tls_files.certificate.with_name("absent.pem"), tls_files.key))
