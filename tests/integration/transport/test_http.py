"""Connect, gRPC-Web and the plain paths, seen by whoever speaks HTTP."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import json
import re
import ssl
from typing import Any

import httpx2
import pytest
import structlog
from google.rpc import error_details_pb2, status_pb2

from keystead.gen.v1 import keys_pb2
from keystead.transport.listening import Address, ListenError, TlsFiles
from tests.web import web_client

SECRET = "acme_live_THISISASECRET"
GET_KEY = "/keystead.v1.KeyService/GetKey"
JSON = {"content-type": "application/json"}


def reason_of(reply: Any) -> str:
    """Check the form of an error, and return its reason as a person at a terminal reads it."""
    body = reply.json()
    assert set(body) == {"code", "message", "details"}
    info = body["details"][0]
    assert info["type"] == "google.rpc.ErrorInfo"
    assert info["debug"]["domain"] == "keystead"
    return str(info["debug"]["reason"])


def fields_of(reply: Any) -> list[str]:
    """Return the fields that an error names."""
    (bad,) = [detail for detail in reply.json()["details"] if detail["type"] == "google.rpc.BadRequest"]
    return [violation["field"] for violation in bad["debug"]["fieldViolations"]]


@pytest.mark.parametrize("word", ("key_7", "bytes"))
async def test_a_call_is_answered_in_json(http_bench: Any, word: str) -> None:
    """At a terminal one gets lowerCamelCase and every field, false and empty too, whatever the handler returned."""
    reply = await http_bench.json("GetKey", json.dumps({"keyId": word}))
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["x-keystead-test"] == "yes"
    key = reply.json()["key"]
    assert key["id"] == word
    assert key["ownerId"] == ""
    assert key["scopes"] == []
    assert key["environment"] == "ENVIRONMENT_UNSPECIFIED"
    verdict = (await http_bench.client.post("/keystead.v1.VerificationService/VerifyKey", headers=JSON)).json()
    assert verdict["valid"] is False
    assert verdict["httpStatus"] == 0


@pytest.mark.parametrize("body", ("", "{}", " \n"))
async def test_an_empty_body_is_an_empty_object(http_bench: Any, body: str) -> None:
    """A method without arguments is called without a body."""
    assert (await http_bench.json("GetKey", body)).status_code == 200


async def test_names_may_be_written_either_way(http_bench: Any) -> None:
    """Protobuf's JSON mapping takes owner_id as well as ownerId."""
    for name in ("keyId", "key_id"):
        assert (await http_bench.json("GetKey", json.dumps({name: "x"}))).json()["key"]["id"] == "x"


async def test_a_call_is_answered_in_binary(http_bench: Any) -> None:
    """Generated clients may speak binary."""
    for word in ("key_7", "bytes"):
        request = keys_pb2.GetKeyRequest(key_id=word)
        reply = await http_bench.client.post(
            GET_KEY, content=request.SerializeToString(), headers={"content-type": "application/proto"}
        )
        assert reply.headers["content-type"] == "application/proto"
        assert keys_pb2.GetKeyResponse.FromString(reply.content).key.id == word


async def test_the_handler_sees_what_the_wire_said(http_bench: Any) -> None:
    """Headers, credential, peer and deadline reach the dispatcher as they do over gRPC."""
    headers = [*JSON.items(), ("x-note", "a"), ("x-note", "b"), ("connect-timeout-ms", "20000")]
    headers += [("authorization", "Bearer one"), ("x-forwarded-for", "192.0.2.1")]
    await http_bench.client.post(GET_KEY, headers=headers)
    call = http_bench.desk.calls[0]
    assert call.credential() == "Bearer one"
    assert call.header("x-note") == "a, b"
    assert call.peer == "127.0.0.1"
    assert 10_000 < call.remaining_ms <= 20_000
    await http_bench.client.post(GET_KEY, headers=[*JSON.items(), ("authorization", "a"), ("authorization", "b")])
    assert http_bench.desk.calls[1].credential() is None


async def test_an_error_is_connects_with_a_reason_to_read(http_bench: Any) -> None:
    """A person reads the reason, a program unpacks the same details as over gRPC, and Retry-After is there."""
    reply = await http_bench.json("GetKey", '{"keyId":"revoked"}')
    assert reply.status_code == 400
    assert reply.json()["code"] == "failed_precondition"
    assert reason_of(reply) == "KEY_REVOKED"
    away = await http_bench.json("GetKey", '{"keyId":"away"}')
    assert away.status_code == 503
    assert away.headers["retry-after"] == "2"
    assert away.json()["details"][1]["debug"] == {"retryDelay": "1.500s"}
    assert "db-3" not in away.text


async def test_an_unexpected_error_says_nothing_but_an_id(http_bench: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Neither the caller nor any log sees an exception's text, which may quote a secret (P1)."""
    with structlog.testing.capture_logs() as logs:
        reply = await http_bench.json("GetKey", '{"keyId":"crash"}')
    assert reply.status_code == 500
    assert reason_of(reply) == "INTERNAL"
    error_id = reply.json()["details"][0]["debug"]["metadata"]["error_id"]
    assert error_id in reply.json()["message"]
    assert [entry["error_id"] for entry in logs] == [error_id]
    for text in (reply.text, str(logs), caplog.text):
        assert SECRET not in text


async def test_a_header_that_cannot_be_sent_is_a_fault(http_bench: Any) -> None:
    """A handler cannot split an answer in two by a header, whatever it puts into one."""
    reply = await http_bench.json("GetKey", json.dumps({"keyId": "header a\r\nx-injected: b"}))
    assert reply.status_code == 500
    assert reason_of(reply) == "INTERNAL"
    assert "x-injected" not in reply.headers


@pytest.mark.parametrize(
    ("body", "reason", "fields"),
    (
        ('{"ownerIx":"x"}', "UNKNOWN_FIELD", ["ownerIx"]),
        ('{"limits":[{"nam":"x"}]}', "UNKNOWN_FIELD", ["limits[0].nam"]),
        ('{"scopes":["a",5]}', "INVALID_REQUEST", ["scopes[1]"]),
        ('{"scopes":"a"}', "INVALID_REQUEST", ["scopes"]),
        ('{"limits":[{"name":3}]}', "INVALID_REQUEST", ["limits[0].name"]),
        ('{"expiresAt":"soon"}', "INVALID_REQUEST", ["expires_at"]),
        ('{"environment":"PROD"}', "INVALID_REQUEST", ["environment"]),
        ('{"metadata":{"a":1}}', "INVALID_REQUEST", ["metadata[…]"]),
        ('{"createOwner":1,"name":2}', "INVALID_REQUEST", ["create_owner", "name"]),
        ('{"ownerId":"a","owner_id":"b"}', "INVALID_REQUEST", ["owner_id"]),
    ),
)
async def test_a_wrong_field_is_named(http_bench: Any, body: str, reason: str, fields: list[str]) -> None:
    """Each field that is unknown or of the wrong type is named by its path, and nothing is half-done."""
    reply = await http_bench.json("CreateKey", body)
    assert reply.status_code == 400
    assert reason_of(reply) == reason
    assert fields_of(reply) == fields
    assert http_bench.desk.calls == []


@pytest.mark.parametrize(
    "body",
    (
        b"{",
        b"[]",
        b"null",
        b'"x"',
        b'{"name":"a","name":"b"}',
        b'{"x":NaN}',
        b'{"x":-Infinity}',
        b'{"x":1e999}',
        b'{"x":' + b"9" * 10_000 + b"}",
        b'{"name":"\xff"}',
        b"\xef\xbb\xbf{}",
        '{"name":"a"}'.encode("utf-16"),
        b'{"a":' * 100 + b"1" + b"}" * 100,
        b"[" * 100_000,
        b'{"a":' * 100_000,
    ),
    ids=lambda body: repr(body[:20]),
)
async def test_a_body_that_is_no_object_is_refused(http_bench: Any, body: bytes) -> None:
    """What is not one JSON object, strictly read, is refused as such, however it is nested, encoded or repeated."""
    reply = await http_bench.json("CreateKey", body)
    assert reply.status_code == 400
    assert reason_of(reply) == "MALFORMED_MESSAGE"
    assert http_bench.desk.calls == []


@pytest.mark.parametrize("field", ("name", "scopes", "limits", "environment", "expiresAt", "createOwner", "nothing"))
async def test_a_value_is_never_echoed(http_bench: Any, field: str) -> None:
    """A secret in the wrong field comes back in no error text (P1)."""
    for value in (SECRET, [SECRET], {"a": SECRET}, [{"name": [SECRET]}]):
        reply = await http_bench.json("CreateKey", json.dumps({field: value}))
        assert SECRET not in reply.text


@pytest.mark.parametrize(
    ("payload", "reason"), ((b"\xff", "MALFORMED_MESSAGE"), (b"\xf8\x7f\x01", "UNKNOWN_FIELD")), ids=repr
)
async def test_binary_bodies_are_read_as_strictly(http_bench: Any, payload: bytes, reason: str) -> None:
    """Binary over HTTP is refused for the same reasons as over gRPC."""
    reply = await http_bench.client.post(GET_KEY, content=payload, headers={"content-type": "application/proto"})
    assert reply.status_code == 400
    assert reason_of(reply) == reason


@pytest.mark.parametrize(
    "content_type",
    (None, "text/plain", "application/x-www-form-urlencoded", "application/grpc", "application/connect+json"),
)
async def test_another_content_type_is_told_which_to_send(http_bench: Any, content_type: str | None) -> None:
    """Whoever calls curl without a content type is told what to write, rather than nothing."""
    headers = {"content-type": content_type} if content_type else {}
    reply = await http_bench.client.post(GET_KEY, content=b"{}", headers=headers)
    assert reply.status_code == 415
    assert reason_of(reply) == "UNSUPPORTED_MEDIA_TYPE"
    assert "content-type: application/json" in reply.json()["message"]
    with_parameter = {"content-type": "Application/JSON; charset=utf-8"}
    assert (await http_bench.client.post(GET_KEY, content=b"{}", headers=with_parameter)).status_code == 200


@pytest.mark.parametrize(
    ("name", "value", "status"),
    (
        ("content-encoding", "br", 415),
        ("connect-timeout-ms", "-5", 400),
        ("connect-timeout-ms", "99999999999", 400),
        ("connect-protocol-version", "2", 400),
    ),
)
async def test_a_header_that_is_not_understood_is_named(http_bench: Any, name: str, value: str, status: int) -> None:
    """A header that would change how the call is read is refused by name, and its value is not echoed."""
    reply = await http_bench.client.post(GET_KEY, content=b"{}", headers=JSON | {name: value})
    assert reply.status_code == status
    assert reason_of(reply) in {"UNSUPPORTED_MEDIA_TYPE", "INVALID_REQUEST"}
    assert name in reply.json()["message"]
    assert http_bench.desk.calls == []


async def test_a_large_body_is_refused_before_it_is_read(start_http: Any) -> None:
    """A body past the limit costs its announcement, or the limit, and no more."""
    bench = await start_http(message_maximum_bytes=1_000)
    announced = await raw(
        bench.port,
        b"POST %s HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        b"content-length: 10000000\r\n\r\n" % GET_KEY.encode(),
    )
    assert announced.startswith(b"HTTP/1.1 429")
    assert b"MESSAGE_TOO_LARGE" in announced

    async def endless() -> Any:
        for _ in range(10_000):
            yield b" " * 1_000

    with contextlib.suppress(httpx2.TransportError):  # the server may hang up while the client still sends
        reply = await bench.client.post(GET_KEY, content=endless(), headers=JSON)
        assert reply.status_code == 429
        assert reason_of(reply) == "MESSAGE_TOO_LARGE"
    assert bench.desk.calls == []


async def test_a_compressed_body_is_read_and_a_bomb_refused(start_http: Any) -> None:
    """A gzipped body works, and a small body that unpacks past the limit is refused without being unpacked whole."""
    bench = await start_http(message_maximum_bytes=10_000)
    headers = JSON | {"content-encoding": "gzip"}
    fine = await bench.client.post(GET_KEY, content=gzip.compress(b'{"keyId":"x"}'), headers=headers)
    assert fine.json()["key"]["id"] == "x"
    bomb = gzip.compress(b" " * 5_000_000)
    assert len(bomb) < 10_000
    reply = await bench.client.post(GET_KEY, content=bomb, headers=headers)
    assert reply.status_code == 429
    assert reason_of(reply) == "MESSAGE_TOO_LARGE"
    broken = await bench.client.post(GET_KEY, content=b"no gzip", headers=headers)
    assert broken.status_code == 400
    assert reason_of(broken) == "MALFORMED_MESSAGE"


async def test_a_body_that_never_ends_is_given_up(start_http: Any) -> None:
    """A client that announces a body and sends none holds its connection for a bounded time."""
    bench = await start_http(body_timeout_ms=50)
    head = b"POST %s HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 5\r\n\r\n{"
    reply = await raw(bench.port, head % GET_KEY.encode())
    assert reply.startswith(b"HTTP/1.1 408")
    assert b"REQUEST_TIMEOUT" in reply


async def test_headers_that_never_end_are_given_up(start_http: Any) -> None:
    """A connection that sends no request, or half of one, is closed after a bounded time."""
    bench = await start_http(headers_timeout_ms=50)
    for start in (b"", b"POST / HTTP/1.1\r\nx: y"):
        assert await raw(bench.port, start) == b""


@pytest.mark.parametrize(
    "head",
    (
        b"GET /livez HTTP/1.1\r\nhost: x\r\nx-large: " + b"y" * 40_000 + b"\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nhost: x\r\n" + b"x-note: y\r\n" * 4_000 + b"\r\n",
        b"GET /livez?" + b"y" * 40_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nhost: x\r\nx-endless: " + b"y" * 2_000_000,
    ),
    ids=("one", "many", "url", "endless"),
)
async def test_large_headers_are_refused(http_bench: Any, head: bytes) -> None:
    """Headers of more than 16 KiB end the connection, whether in one line, in many, or without an end."""
    reply = await raw(http_bench.port, head)
    assert reply == b"" or reply.startswith(b"HTTP/1.1 431")
    assert (await http_bench.client.get("/livez")).status_code == 200


@pytest.mark.parametrize("value", (b"a\x00b", b"a\x01b", b"a\x7fb", b"\xff\xfe", b"a\rb"), ids=repr)
async def test_control_characters_in_headers_are_refused(http_bench: Any, value: bytes) -> None:
    """A header cannot smuggle control characters, or bytes that are no text, into a log or a store."""
    reply = await raw(
        http_bench.port,
        b"POST %s HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n"
        b"content-length: 2\r\nx-note: %s\r\n\r\n{}" % (GET_KEY.encode(), value),
    )
    assert reply.startswith(b"HTTP/1.1 400")
    assert http_bench.desk.calls == []


async def test_garbage_on_the_port_harms_nobody(http_bench: Any) -> None:
    """Bytes that are no HTTP end that connection and no other."""
    for garbage in (
        b"\x00" * 4_096 + b"\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01" * 100,
    ):
        reply = await raw(http_bench.port, garbage)
        assert reply == b"" or reply.startswith(b"HTTP/1.1 400")
    assert (await http_bench.client.get("/livez")).status_code == 200


@pytest.mark.parametrize("verb", ("GET", "PUT", "DELETE", "OPTIONS", "HEAD"))
async def test_methods_are_called_by_post_alone(http_bench: Any, verb: str) -> None:
    """No call can be made by a URL, which would put a secret into logs and histories (P1)."""
    reply = await http_bench.client.request(verb, GET_KEY, params={"encoding": "json", "message": "{}"})
    assert reply.status_code == 405
    assert reply.headers["allow"] == "POST"
    assert http_bench.desk.calls == []


async def test_a_method_that_is_not_there_is_said_not_to_be(http_bench: Any) -> None:
    """A client that is newer than the server learns so, with the same reason as over gRPC."""
    reply = await http_bench.json("Nope", "{}")
    assert reply.status_code == 404
    assert reply.json()["code"] == "unimplemented"
    assert reason_of(reply) == "METHOD_NOT_FOUND"


async def test_a_deadline_stops_the_handler(http_bench: Any) -> None:
    """No request hangs past its deadline, and nothing goes on working for it (P10)."""
    reply = await http_bench.json("GetKey", '{"keyId":"wait"}', connect_timeout_ms="100")
    assert reply.status_code == 504
    assert reason_of(reply) == "DEADLINE_EXCEEDED"
    await asyncio.wait_for(http_bench.desk.cancelled.wait(), 10)


async def test_a_client_that_leaves_stops_its_handler(http_bench: Any) -> None:
    """A client that hangs up stops the work it asked for."""
    call = asyncio.create_task(http_bench.json("GetKey", '{"keyId":"wait"}'))
    await http_bench.desk.started.wait()
    call.cancel()
    await asyncio.wait_for(http_bench.desk.cancelled.wait(), 10)


async def test_grpc_web_works_without_http2(http_bench: Any) -> None:
    """A browser's gRPC-Web client is served, reply and trailers in the body, an error with the same details."""
    headers = {"content-type": "application/grpc-web+proto", "x-grpc-web": "1"}
    request = keys_pb2.GetKeyRequest(key_id="key_7").SerializeToString()
    reply = await http_bench.client.post(GET_KEY, content=frame(request), headers=headers)
    assert reply.status_code == 200
    (flags, message), (end, trailers) = frames(reply.content)
    assert (flags, end) == (0, 0x80)
    assert keys_pb2.GetKeyResponse.FromString(message).key.id == "key_7"
    assert b"grpc-status: 0" in trailers
    request = keys_pb2.GetKeyRequest(key_id="revoked").SerializeToString()
    failed = await http_bench.client.post(GET_KEY, content=frame(request), headers=headers)
    ((_, trailers),) = frames(failed.content)
    assert b"grpc-status: 9" in trailers
    assert status_of(dict(line.split(": ", 1) for line in trailers.decode().split("\r\n") if line)) == "KEY_REVOKED"


@pytest.mark.parametrize(
    ("path", "body", "status", "reason"),
    (
        ("Nope", b"", "12", "METHOD_NOT_FOUND"),
        ("GetKey", b"\0\0\0\0\x01\xff", "3", "MALFORMED_MESSAGE"),
        ("GetKey", b"\0\0\0", "3", "MALFORMED_MESSAGE"),
        ("GetKey", b"\0\0\0\0\0" * 2, "3", "MALFORMED_MESSAGE"),
        ("GetKey", b"\0" * 2_000_000, "8", "MESSAGE_TOO_LARGE"),
    ),
    ids=("path", "protobuf", "frame", "two", "large"),
)
async def test_grpc_web_refusals_are_grpcs(http_bench: Any, path: str, body: bytes, status: str, reason: str) -> None:
    """Whoever speaks gRPC-Web reads every refusal as a gRPC status with details, also those before the call."""
    headers = {"content-type": "application/grpc-web+proto"}
    reply = await http_bench.client.post(f"/keystead.v1.KeyService/{path}", content=body, headers=headers)
    assert reply.status_code == 200
    found = dict(reply.headers)
    for _, trailers in frames(reply.content):
        found |= dict(line.split(": ", 1) for line in trailers.decode().split("\r\n") if line)
    assert found["grpc-status"] == status
    assert status_of(found) == reason


async def test_plain_paths_answer(http_bench: Any) -> None:
    """A load balancer, a person and a tool each find what they look for without a credential."""
    client = http_bench.client
    assert (await client.get("/livez")).json() == {"live": True}
    assert (await client.get("/readyz")).json() == {"ready": True, "reasons": []}
    http_bench.unready.append("the database is out of reach")
    reply = await client.get("/readyz")
    assert reply.status_code == 503
    assert reply.json()["reasons"] == ["the database is out of reach"]
    assert (await client.get("/")).json()["docs"] == "/docs"
    assert (await client.get("/openapi.json")).json()["openapi"].startswith("3.")


async def test_the_page_to_try_it_needs_nothing_from_elsewhere(http_bench: Any) -> None:
    """The page loads from this server alone, which its policy enforces, and holds no inline script or style."""
    page = await http_bench.client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert "unsafe" not in page.headers["content-security-policy"]
    assert "://" not in page.text
    assert "<style" not in page.text
    for path, kind in (("/docs/docs.js", "text/javascript"), ("/docs/docs.css", "text/css")):
        assert f'"{path}"' in page.text
        part = await http_bench.client.get(path)
        assert part.headers["content-type"].startswith(kind)
        assert "innerHTML" not in part.text
        assert "://" not in part.text.replace("`", "")


async def test_unknown_paths_are_problems(http_bench: Any) -> None:
    """Outside of the services an error is RFC 9457's, with the status and what to do."""
    for verb, path, status in (("GET", "/nope", 404), ("POST", "/livez", 405), ("GET", "/%00%0d%0a", 404)):
        reply = await http_bench.client.request(verb, path)
        assert reply.status_code == status
        assert reply.headers["content-type"] == "application/problem+json"
        assert {"type", "title", "status", "detail"} == set(reply.json())


@pytest.mark.parametrize("path", ("/", "/docs", "/nope", GET_KEY))
async def test_every_answer_is_guarded(http_bench: Any, path: str) -> None:
    """No answer is kept by a cache, sniffed, framed or given away in a referrer, and none names the server's make."""
    reply = await http_bench.client.post(path, headers=JSON) if path == GET_KEY else await http_bench.client.get(path)
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["cache-control"] == "no-store"
    assert reply.headers["x-frame-options"] == "DENY"
    assert reply.headers["referrer-policy"] == "no-referrer"
    assert "default-src 'none'" in reply.headers["content-security-policy"]
    assert "server" not in reply.headers
    assert "date" in reply.headers


async def test_requests_past_the_bound_are_shed(start_http: Any) -> None:
    """More connections than the bound get 503 at once instead of a place in a queue."""
    bench = await start_http(concurrency_maximum=2)
    waiting = asyncio.create_task(bench.json("GetKey", '{"keyId":"wait"}'))
    await bench.desk.started.wait()
    assert (await bench.client.get("/livez")).status_code == 503
    bench.desk.release.set()
    assert (await waiting).status_code == 200


async def test_stopping_lets_requests_finish(http_bench: Any) -> None:
    """A request that was taken is answered, if it ends within the grace; then nobody listens."""
    waiting = asyncio.create_task(http_bench.json("GetKey", '{"keyId":"wait"}'))
    await http_bench.desk.started.wait()
    stopping = asyncio.create_task(http_bench.server.stop(10))
    http_bench.desk.release.set()
    assert (await waiting).status_code == 200
    await stopping
    with pytest.raises(httpx2.ConnectError):
        await http_bench.client.get("/livez")


async def test_stopping_without_grace_cancels_what_runs(http_bench: Any) -> None:
    """A handler that does not end in time is cancelled, so a stop always ends."""
    waiting = asyncio.create_task(http_bench.json("GetKey", '{"keyId":"wait"}'))
    await http_bench.desk.started.wait()
    await http_bench.server.stop(0)
    await asyncio.wait_for(http_bench.desk.cancelled.wait(), 10)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)


async def test_a_taken_port_is_an_error_that_names_it(http_bench: Any, start_http: Any) -> None:
    """Whoever starts a second server learns which address was taken; nothing exits by itself."""
    with pytest.raises(ListenError, match=re.escape(f"127.0.0.1:{http_bench.port}")):
        await start_http(address=Address("127.0.0.1", http_bench.port))
    with pytest.raises(ListenError, match=r"no-such-host\.invalid:80"):
        await start_http(address=Address("no-such-host.invalid", 80))


async def test_ipv6_is_served(start_http: Any) -> None:
    """An IPv6 address can be listened on, and a peer's is told without brackets."""
    bench = await start_http(address=Address("::1", 0))
    async with web_client() as client:
        reply = await client.post(f"http://[::1]:{bench.port}{GET_KEY}", headers=JSON)
    assert reply.status_code == 200
    assert bench.desk.calls[0].peer == "::1"


async def test_tls_is_served(start_http: Any, tls_files: TlsFiles, trusting: ssl.SSLContext) -> None:
    """With a certificate the listener speaks TLS and tells browsers to stay with it."""
    bench = await start_http(tls=tls_files)
    async with web_client(verify=trusting) as client:
        reply = await client.get(f"https://localhost:{bench.port}/livez")
    assert reply.json() == {"live": True}
    assert reply.headers["strict-transport-security"] == "max-age=31536000"
    with pytest.raises(ListenError, match=r"key\.pem"):
        await start_http(tls=TlsFiles(tls_files.key, tls_files.certificate))


async def raw(port: int, data: bytes) -> bytes:
    """Send bytes as they are and read until the server hangs up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with contextlib.suppress(ConnectionError):
        writer.write(data)
        await writer.drain()
    received = b""
    with contextlib.suppress(ConnectionError):
        received = await asyncio.wait_for(reader.read(), 10)
    await hang_up(writer)
    return received


async def hang_up(writer: asyncio.StreamWriter) -> None:
    """Close a connection, whatever state the other end left it in."""
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


def frame(message: bytes) -> bytes:
    """Write a gRPC-Web frame."""
    return b"\0" + len(message).to_bytes(4, "big") + message


def frames(body: bytes) -> list[tuple[int, bytes]]:
    """Read gRPC-Web frames: their flags and contents."""
    found = []
    while body:
        size = int.from_bytes(body[1:5], "big")
        found.append((body[0], body[5 : 5 + size]))
        body = body[5 + size :]
    return found


def status_of(headers: dict[str, str]) -> str:
    """Return the reason that the details in gRPC trailers give."""
    packed = headers["grpc-status-details-bin"]
    status = status_pb2.Status.FromString(base64.b64decode(packed + "=" * (-len(packed) % 4)))
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return info.reason
