"""Bad input to what reads and looks after the event log: a coded refusal by its field, also of what streams."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.message import Message

from keystead.transport.calls import Method
from tests.clients import METHODS, STREAMS, Answer, Client, client_for
from tests.databases import ask, demand_order
from tests.integration.hostile import INT32_MAX, INT64_MAX, TEXTS, text_paths
from tests.servers import KeysteadServer, ServerFarm
from tests.streams import StreamClient, StreamRefusedError

UINT64_MAX = 2**64 - 1
STREAM_WAYS = ("grpc", "connect+json", "connect+proto", "grpc-web+proto")
TOLD = ("TailEvents", "ExportEvents")
REFUSALS = {"INVALID_ARGUMENT", "NOT_FOUND"}
MOMENTS: tuple[Any, ...] = tuple(
    {"seconds": seconds, "nanos": nanos}
    for seconds, nanos in (
        (INT64_MAX, 0),
        (-(2**63), 0),
        (253_402_300_800, 0),
        (-62_135_596_801, 0),
        (4_000_000_000, -1),
        (1, 2**31 - 1),
    )
)
NO_EVENTS = ("", "evt_", "evt_1", "key_01h455vb4pex5vsknk084sn02q", "evt_01h455vb4pex5vsknk084sn02q", "EVT_" + "0" * 26)


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeysteadServer]:
    """Lend a server for this module."""
    farm = ServerFarm(tmp_path_factory.mktemp("hostile"))
    yield farm.start(flags=("--first-run", "--operator"))
    farm.end()


@pytest.fixture
async def streams(attacked: KeysteadServer) -> AsyncIterator[StreamClient]:
    """Lend a client of streams."""
    async with StreamClient(attacked.grpc, attacked.http, attacked.management_key) as client:
        yield client


async def count(server: KeysteadServer) -> int:
    """Count the events, all of them placed."""
    return int((await ask(server, "SELECT count(*) FROM events"))[0][0])


async def begun(client: StreamClient, way: str, method: Method, request: Message) -> Answer:
    """Open a stream and read its first three messages at most; return how it went."""
    try:
        async with aclosing(client.open(way, method, request, timeout_s=10)) as messages:
            read = 0
            async for _ in messages:
                read += 1
                if read == 3 or method.name == "TailEvents":
                    break
    except StreamRefusedError as refused:
        return refused.answer
    return Answer("OK")


def filled(method: Method, path: tuple[str, ...], value: Any) -> Message:
    """Make a request in which one field is set."""
    request = method.request()
    setattr(request, path[0], value)
    return request


@pytest.mark.parametrize("way", STREAM_WAYS)
async def test_no_text_of_a_stream_is_taken_that_is_none(streams: StreamClient, way: str) -> None:
    """NUL, escapes, line breaks, direction overrides and texts past their bounds, in every text that opens a stream."""
    sent = [
        (f"{name}.{path[0]}: {kind}", await begun(streams, way, STREAMS[name], filled(STREAMS[name], path, text)))
        for name in TOLD
        for path in text_paths(STREAMS[name].request.DESCRIPTOR)
        for kind, text in TEXTS.items()
    ]
    assert len(sent) > 20
    assert [
        (place, answer) for place, answer in sent if answer.refusal != ("INVALID_ARGUMENT", "INVALID_REQUEST")
    ] == []


@pytest.mark.parametrize("way", STREAM_WAYS)
async def test_an_export_of_nothing_that_there_is(streams: StreamClient, way: str) -> None:
    """Formats that there are none of, and places past the end of the log, are refused by their fields."""
    export = STREAMS["ExportEvents"]
    for field, values in (("format", (4, 99, -1, INT32_MAX)), ("from_index", (10_000, INT64_MAX, UINT64_MAX))):
        for value in values:
            answer = await begun(streams, way, export, filled(export, (field,), value))
            assert (answer.refusal, answer.fields) == (("INVALID_ARGUMENT", "INVALID_REQUEST"), (field,)), (
                field,
                value,
            )
    assert (await begun(streams, way, export, export.request())).ok


BAD: dict[tuple[str, str], tuple[Any, ...]] = {
    ("ListEvents", "page_size"): (-1, -(2**31)),
    ("ListEvents", "environment"): (99, -1, INT32_MAX),
    ("ListEvents", "order_by"): ("occurred_at", "seq asc", "occurred_at  asc", "id; DROP TABLE events"),
    ("ListEvents", "page_token"): ("x", "=", "AAAA", "ä", "A" * 100_000, "bnVsbA"),
    ("ListEvents", "action"): ("key.*.*", "*key", "key.%", "KEY.CREATED", "key created", "key._*x", "." * 101),
    ("ListEvents", "from"): MOMENTS,
    ("ListEvents", "to"): MOMENTS,
    ("GetAuditProof", "from_size"): (10_000, INT64_MAX, 2**63, UINT64_MAX),
    ("GetAuditProof", "event_id"): ("evt_", "evt_1", "key_01h455vb4pex5vsknk084sn02q", "EVT_" + "0" * 26),
    ("EraseEventData", "before"): MOMENTS,
    ("EraseEventData", "client_ip"): ("nobody", "203.0.113.7/24", "203.0.113.256", "fe80::1%eth0", "::1, ::2"),
}
"""By method and field, what cannot be answered, and must be refused by that field."""


@pytest.mark.parametrize("way", ("grpc", "json"))
async def test_every_question_about_the_log_is_held_to_its_bounds(attacked: KeysteadServer, way: str) -> None:
    """Pages, orders, filters, moments, sizes, ids and addresses at the edges of their types are refused by their field,
    and nothing came of it.
    """
    before = await count(attacked)
    wrong = []
    async with client_for(attacked, way) as client:
        for (name, field), values in BAD.items():
            for value in values:
                request = METHODS[name].request(**{field: value})
                try:
                    answer = await client.send(name, request)
                except json_format.SerializeToJsonError:
                    continue  # cannot be said in JSON at all
                if (answer.refusal, answer.fields[:1]) != (("INVALID_ARGUMENT", "INVALID_REQUEST"), (field,)):
                    wrong.append((name, field, str(value)[:80], str(answer)[:200]))
    assert wrong == []
    assert await count(attacked) == before


async def test_an_erasure_of_everything_is_none(attacked: KeysteadServer) -> None:
    """An erasure that says nothing of what it means is refused, so that none is ever one of everything by mistake."""
    before = await count(attacked)
    async with client_for(attacked) as client:
        for reason in ("", "all"):
            assert (await client.call("EraseEventData", reason=reason)).status == "INVALID_ARGUMENT"
    assert await count(attacked) == before


async def fuzz(client: Client, seed: int) -> list[str]:
    """Ask about the log with random texts and numbers; return what was answered as a fault of ours."""
    chance = random.Random(seed)
    texts = ["", "*", "key.*", "a", "occurred_at asc", *NO_EVENTS, *TEXTS.values()]
    numbers = [0, 1, -1, 7, 1_000, INT32_MAX, INT64_MAX, UINT64_MAX, -(2**63)]
    wrong = []
    for name in ("ListEvents", "GetCheckpoint", "GetAuditProof", "GetAuditPublicKey", "EraseEventData"):
        request: Any = METHODS[name].request()
        for field in request.DESCRIPTOR.fields:
            if chance.random() < 0.4:
                continue
            if field.type == field.TYPE_STRING:
                setattr(request, field.name, chance.choice(texts))
            elif field.type == field.TYPE_MESSAGE:
                getattr(request, field.name).seconds = chance.choice([it for it in numbers if abs(it) < 2**63])
            elif field.type == field.TYPE_BOOL:
                setattr(request, field.name, chance.random() < 0.5)
            else:
                highest = UINT64_MAX if field.type == field.TYPE_UINT64 else INT32_MAX
                lowest = 0 if field.type == field.TYPE_UINT64 else -(2**31)
                setattr(request, field.name, chance.choice([it for it in numbers if lowest <= it <= highest]))
        try:
            answer = await client.send(name, request)
        except json_format.SerializeToJsonError:
            continue
        if not answer.ok and (answer.status not in REFUSALS or not answer.reason):
            wrong.append(f"{name}: {str(answer)[:200]}\n  {str(request)[:300]}")
    return wrong


@pytest.mark.parametrize("way", ("grpc", "json"))
async def test_random_questions_find_no_fault(attacked: KeysteadServer, way: str) -> None:
    """Random questions about the log are answered or refused, and none is a fault of ours."""
    async with client_for(attacked, way) as client:
        found = await asyncio.gather(*[fuzz(client, seed) for seed in range(60)])
    assert [one for some in found for one in some] == []
    await demand_order(attacked)
