"""Bad input, on every method and every way in: a coded refusal that says what to change, and nothing half-done."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.message import Message

from tests.clients import METHODS, Answer, Client, JsonClient, client_for
from tests.databases import ask, demand_order, events_by_target
from tests.integration.hostile import INT32_MAX, INT64_MAX, VERDICTS, Fuzz, Known, base_of, hostile_texts, read_only
from tests.servers import KeysteadServer, ServerFarm

WAYS = ("grpc, native", "grpc, grpcio", "json", "proto", "grpc-web")
CALLERS_FAULT = {
    "INVALID_ARGUMENT",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "FAILED_PRECONDITION",
    "ABORTED",
    "PERMISSION_DENIED",
    "UNAUTHENTICATED",
    "RESOURCE_EXHAUSTED",
    "UNIMPLEMENTED",
}
_COUNTS = """
SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM keys), (SELECT count(*) FROM owners),
       (SELECT count(*) FROM plans)
"""


@dataclass
class Target:
    """A server under attack, and what is on it."""

    server: KeysteadServer
    client: Client
    known: Known

    async def counts(self) -> Sequence[Any]:
        """Count what a change would leave behind."""
        return tuple((await ask(self.server, _COUNTS))[0])

    def token_for(self, name: str) -> str:
        """Return the credential with which the method gets as far as it can."""
        operator = METHODS[name].access.operator_only
        return str(self.server.told["operator_key"]) if operator else self.server.management_key


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, KeysteadServer]]:
    """Lend a server with each gRPC engine for this module."""
    farm = ServerFarm(tmp_path_factory.mktemp("hostile"))
    flags = ("--first-run", "--operator")
    try:
        yield {engine: farm.start(flags=flags, grpc_engine=engine) for engine in ("native", "grpcio")}
    finally:
        farm.end()


@pytest.fixture
async def target(engines: dict[str, KeysteadServer], request: pytest.FixtureRequest) -> AsyncIterator[Target]:
    """Lend a target for the way in that the test is parametrised with; the native engine's over gRPC when it is not."""
    way = getattr(request, "param", WAYS[0])
    server = engines["grpcio" if way.endswith("grpcio") else "native"]
    told = server.told
    async with client_for(server, way.partition(",")[0]) as client:
        sink_id = await sink_of(client)
        known = Known(told["sample_key_id"], "sample-customer", told["workspace_id"], told["sample_key"], sink_id)
        yield Target(server, client, known)


async def sink_of(client: Client) -> str:
    """Return the id of a sink that carries nothing, which is made when there is none."""
    found = (await client.call("ListSinks")).must().sinks
    if not found:
        sink = {"name": "Paused", "http": {"url": "https://audit.invalid/"}, "state": "PAUSED"}
        found = [(await client.call("CreateSink", sink=sink)).must().sink]
    return str(found[0].id)


def complaint(name: str, answer: Answer) -> str:
    """Say what is wrong with the refusal of a bad request, if anything."""
    if answer.status not in CALLERS_FAULT or not answer.reason:
        return f"{name}: {answer}"
    if answer.http_status and not 400 <= answer.http_status < 500 and answer.reason != "NOT_AVAILABLE_YET":
        return f"{name}: HTTP {answer.http_status}"
    return ""


async def attack(target: Target, requests: Sequence[tuple[str, str, Message]]) -> None:
    """Send requests that must all be refused, and hold that nothing came of them."""
    before = await target.counts()
    wrong = []
    for name, place, request in requests:
        try:
            answer = await target.client.send(name, request, token=target.token_for(name))
        except json_format.SerializeToJsonError:
            continue  # cannot be said in JSON at all
        if found := complaint(name, answer):
            wrong.append(f"{place}: {found[:300]}")
    assert not wrong, "\n".join(wrong)
    assert await target.counts() == before


@pytest.mark.parametrize("target", WAYS, indirect=True)
async def test_no_text_field_takes_what_ends_in_a_terminal(target: Target) -> None:
    """NUL, escapes, line breaks, direction overrides and texts past their bounds, in every text of every method."""
    sent = [
        (name, place, request)
        for name in METHODS
        for place, request in hostile_texts(name, target.known)
        if (name, place.partition(":")[0]) not in VERDICTS and not read_only(name, place) and "client_ip" not in place
    ]
    assert len(sent) > 300
    await attack(target, sent)


async def test_an_address_is_an_address(target: Target) -> None:
    """A client address that is none is refused as such, also for keys that may be used from anywhere: a gateway that
    sends the wrong thing learns of it before it binds the first key.
    """
    texts = ("a\0b", "\x1b[31m", "\u202e", "nonsense", "127.0.0.1\r\nx: y", "127.0.0.1, 10.0.0.1", "127.0.0.1:80")
    for text in texts:
        answer = await target.client.call("VerifyKey", key=target.known.secret, environment="LIVE", client_ip=text)
        assert (answer.refusal, answer.fields) == (("INVALID_ARGUMENT", "INVALID_REQUEST"), ("client_ip",)), text


def bad_masks_and_pages(known: Known) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield masks, page sizes and page tokens that are none."""
    key = {"id": known.key_id, "name": "n"}
    paths: list[list[str]] = [["id"], ["state"], ["kind"], ["name.x"], ["*"], [""], ["Name"], ["secrets"]]
    for mask in (*paths, [], ["a\0b"], ["name"] * 2 + ["x"] * 10_000):
        yield "UpdateKey", f"mask {mask[:2]}", {"key": key, "update_mask": {"paths": mask}}
    for mask in (["suspended"], ["owner_id"], ["*"], []):
        yield "UpdateOwner", f"mask {mask}", {"owner": {"owner_id": known.owner_id}, "update_mask": {"paths": mask}}
    for size in (-1, -(2**31)):
        for name in ("ListKeys", "ListOwners", "ListWorkspaces"):
            yield name, f"page_size {size}", {"page_size": size}
    for token in ("x", "=", "AAAA", "ä", "A" * 100_000, "../../x", "bnVsbA"):
        yield "ListKeys", f"page_token {token[:9]}", {"page_token": token}


def bad_values(known: Known) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield numbers, moments and durations at the edges of their types."""
    new: dict[str, Any] = {"owner_id": known.owner_id, "name": "n", "environment": 1}
    for number in (99, -1, INT32_MAX, 3):
        yield "CreateKey", f"environment {number}", {**new, "environment": number}
        yield "ListKeys", f"environment {number}", {"environment": 98 if number == 3 else number}
    for number in (99, -1, INT32_MAX):
        yield "CreateKey", f"kind {number}", {**new, "kind": number}
        yield "ListKeys", f"state {number}", {"state": number}
        yield "VerifyKey", f"environment {number}", {"key": known.secret, "environment": number}
    for seconds, nanos in ((-1, 0), (INT64_MAX, 0), (-(2**63), 0), (253_402_300_800, 0), (1, 0), (4e9, -1), (4e9, 2e9)):
        moment = {"seconds": int(seconds), "nanos": int(nanos)}
        yield "CreateKey", f"expires_at {moment}", {**new, "expires_at": moment}
        if seconds != 1:
            yield "ListKeys", f"unused_since {moment}", {"unused_since": moment}
    for seconds, nanos in ((-1, 0), (INT64_MAX, 0), (-(2**63), 0), (1, -1), (1, INT32_MAX), (0, -5), (7_776_001, 0)):
        yield (
            "RotateKey",
            f"overlap {seconds}",
            {"key_id": known.key_id, "overlap": {"seconds": seconds, "nanos": nanos}},
        )


def bad_sizes(known: Known) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield lists, maps and texts that are too long, or empty where they must not be."""
    new: dict[str, Any] = {"owner_id": known.owner_id, "name": "n", "environment": 1}
    many = [f"read:a{number}" for number in range(10_000)]
    for field in ("scopes", "tags", "allowed_ips"):
        yield "CreateKey", f"10,000 {field}", {**new, field: many}
        yield "CreateKey", f"twice {field}", {**new, field: ["read:a", "read:a", ""]}
    for count in (51, 10_000):
        yield "CreateKey", f"metadata {count}", {**new, "metadata": {f"k{number}": "v" for number in range(count)}}
    yield "RevokeKeys", "no filter", {}
    yield "RevokeKeys", "10,000 ids", {"key_ids": [known.key_id] * 10_000}
    yield "RevokeKeys", "count", {"owner_id": known.owner_id, "expected_count": -1}
    yield "BatchVerify", "1,001", {"requests": [{"key": "x", "environment": 1}] * 1_001}
    yield "BatchVerify", "one is bad", {"requests": [{"key": "x", "environment": 1}, {"key": "x", "environment": 9}]}
    for text in (
        "(" * 900,
        "a:b AND",
        "a",
        "a:b OR OR c:d",
        "a:*",
        "NOT a:b",
        "a:b " * 240,
        "\0",
        "a:b AND (c:d",
        "x" * 1_001,
    ):
        yield "VerifyKey", f"expression {text[:9]}", {"key": known.secret, "environment": 1, "scope_expression": text}


@pytest.mark.parametrize("target", WAYS, indirect=True)
async def test_every_bound_and_form_is_held(target: Target) -> None:
    """Masks, page sizes and tokens, enum numbers, moments and durations at the edges of their types, lists and maps of
    ten thousand: refused on every way in.
    """
    bad = [*bad_masks_and_pages(target.known), *bad_values(target.known), *bad_sizes(target.known)]
    shapes = [(name, place, METHODS[name].request(**fields)) for name, place, fields in bad]
    await attack(target, shapes)


DEEP = '{"key":' * 5_000 + "1" + "}" * 5_000
JSON_BODIES = {
    "nothing like JSON": b"\xff\xfe",
    "half": b'{"name":"a',
    "two": b"{}{}",
    "list": b"[]",
    "text": b'"a"',
    "number": b"1",
    "NaN": b'{"pageSize":NaN}',
    "comment": b"{} // no",
    "unknown": b'{"colour":"red"}',
    "unknown, nested": b'{"key":{"colour":"red"}}',
    "twice": b'{"name":"a","name":"b"}',
    "deep": DEEP.encode(),
    "deep list": b"[" * 50_000,
    "many members": json.dumps({f"m{number}": 1 for number in range(20_000)}).encode(),
    "not UTF-8": b'{"name":"\xff"}',
    "BOM and more": b"\xef\xbb\xbf{} x",
}
WRONG_VALUES = (
    "1",
    "1.5",
    "true",
    "[]",
    "{}",
    '"text"',
    "1e400",
    "-1",
    '"1e400"',
    r'"\ud800"',
    "[null]",
    "99999999999999999999",
)


@pytest.mark.parametrize("name", sorted(METHODS))
async def test_no_json_body_is_taken_for_another(engines: dict[str, KeysteadServer], name: str) -> None:
    """Bodies that are no JSON, no object, too deep or too large, unknown and repeated members, and for every field
    every value of a wrong type: 4xx with a reason, or, where the value has the field's type after all, a proper
    answer.
    """
    server = engines["native"]
    token = server.told["operator_key"] if METHODS[name].access.operator_only else server.management_key
    wrong = []
    async with JsonClient(server.http, token) as client:
        for kind, bad in JSON_BODIES.items():
            if found := complaint(name, await client.send_bytes(name, bad)):
                wrong.append(f"{kind}: {found[:300]}")
        for field in METHODS[name].request.DESCRIPTOR.fields:
            for value in WRONG_VALUES:
                body = f'{{"{field.json_name}":{value}}}'
                answer = await client.send_bytes(name, body.encode())
                if not answer.ok and (found := complaint(name, answer)):
                    wrong.append(f"{body}: {found[:300]}")
                if answer.ok and value in {r'"\ud800"', "1e400", "99999999999999999999"}:
                    wrong.append(f"{body}: taken")
    assert not wrong, "\n".join(wrong)


BYTES = {
    "no message": b"\xff\xff\xff\xff",
    "cut off": b"\x0a\x7fabc",
    "field 0": b"\x00\x00",
    "unknown field": b"\xfa\x3f\x01a",
    "unclosed group": b"\x0b" * 50,
    "deep": b"\x0a\x80\x01" * 500,
    "not UTF-8": b"\x0a\x02\xff\xfe",
    "varint without end": b"\x80" * 20,
}


@pytest.mark.parametrize("target", [way for way in WAYS if way != "json"], indirect=True)
@pytest.mark.parametrize("kind", sorted(BYTES))
async def test_no_bytes_are_taken_for_a_message(target: Target, kind: str) -> None:
    """Bytes that are no message, hold fields that the contract does not know, or too many of them, for every method."""
    for name in METHODS:
        answer = await target.client.send_bytes(name, BYTES[kind], token=target.token_for(name))
        assert complaint(name, answer) == ""


@pytest.mark.parametrize("target", WAYS, indirect=True)
async def test_a_message_past_the_limit_is_told_so(target: Target) -> None:
    """A client that sends a message past the limit reads that it is too large, also one that writes all of it before
    it reads anything, as most clients do.
    """
    large = b'{"name":"' + b"x" * 1_100_000 + b'"}' if isinstance(target.client, JsonClient) else b"\x0a" * 1_100_000
    for _ in range(5):
        answer = await target.client.send_bytes("CreateKey", large)
        assert answer.refusal == ("RESOURCE_EXHAUSTED", "MESSAGE_TOO_LARGE")


@pytest.mark.parametrize("target", WAYS, indirect=True)
async def test_a_good_request_is_still_taken(target: Target) -> None:
    """The requests that the hostile ones are made of are good: what is refused is refused for what is bad in it."""
    for name in (
        "GetKey",
        "ListKeys",
        "VerifyKey",
        "BatchVerify",
        "GetOwner",
        "GetWorkspace",
        "RevokeKeys",
        "IdentifyKey",
    ):
        assert (await target.client.send(name, base_of(name, target.known), token=target.token_for(name))).ok, name


async def fuzzed(target: Target, *, seed: int, each: int) -> None:
    """Send random messages of the right types; none may be answered as a fault of ours."""
    fuzz = Fuzz(seed, target.known)
    wrong: list[str] = []

    async def one(name: str, request: Message) -> None:
        try:
            answer = await target.client.send(name, request, token=target.token_for(name))
        except json_format.SerializeToJsonError:
            return
        if not answer.ok and (found := complaint(name, answer)):
            wrong.append(f"{found[:300]}\n  {str(request)[:600]}")

    for _ in range(each):
        await asyncio.gather(*[one(name, fuzz.request(name)) for name in METHODS if name != "DeleteWorkspace"])
    assert not wrong, "\n".join(wrong[:10])
    await events_by_target(target.server)
    await demand_order(target.server)


@pytest.mark.parametrize("target", ("grpc, native", "json"), indirect=True)
async def test_random_messages_find_no_fault(target: Target) -> None:
    """Random messages of the right types, half of them good ones with a few fields changed: each is answered or
    refused, none is a fault of ours, and every change they made has its one event.
    """
    await fuzzed(target, seed=20_260_101, each=40)


@pytest.mark.soak
@pytest.mark.parametrize("target", WAYS, indirect=True)
@pytest.mark.parametrize("seed", range(5))
async def test_many_random_messages_find_no_fault(target: Target, seed: int) -> None:
    """The same, for longer and on every way in."""
    await fuzzed(target, seed=seed, each=600)
