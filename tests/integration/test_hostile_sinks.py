"""Bad input to ``SinkService``: what cannot be a sink is refused by its field, and no sink reaches into the network."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from google.protobuf import json_format

from tests.clients import METHODS, Client, client_for
from tests.databases import ask, demand_order
from tests.integration.hostile import INT32_MAX, INT64_MAX, TEXTS
from tests.servers import KeysteadServer, ServerFarm

WAYS = ("grpc", "json")
SINKS = sorted(name for name, method in METHODS.items() if method.service.endswith(".SinkService"))
URL = "https://audit.example.com/events"
INSIDE = (
    "https://127.0.0.1/",
    "https://127.1/",
    "https://0x7f.1/",
    "https://2130706433/",
    "https://[::1]/",
    "https://[::ffff:127.0.0.1]/",
    "https://[64:ff9b::7f00:1]/",
    "https://[fe80::1%25eth0]/",
    "https://169.254.169.254/latest/meta-data",
    "https://10.0.0.1/",
    "https://0.0.0.0/",
)
URLS = (
    "",
    "events",
    "//audit.example.com",
    "http://audit.example.com/",
    "file:///etc/passwd",
    "gopher://audit.example.com/",
    "https://",
    "https://me:secret@audit.example.com/",
    "https://audit.example.com:99999/",
    "https://audit.example.com:0/",
    "https://audit.example.com/ x",
    "https://audit.example.com/#a",
    "https://audit.exa\r\nmple.com/",
    "https://[::1/",
    "https://audit.example.com/" + "x" * 2_000,
)
SPANS: tuple[Any, ...] = tuple(
    {"seconds": seconds, "nanos": nanos}
    for seconds, nanos in ((-1, 0), (0, -1), (INT64_MAX, 0), (86_401, 0), (0, 999_999), (1, INT32_MAX))
)
LINES = ("NUL", "escape", "newline", "DEL", "C1", "line separator", "override", "long")


def http(**fields: Any) -> dict[str, Any]:
    """Say what a sink over HTTP is."""
    return {"name": "Audit", "http": {"url": URL, **fields}}


def file(**fields: Any) -> dict[str, Any]:
    """Say what a sink to a file is."""
    return {"name": "Audit", "file": {"name": "audit.jsonl", **fields}}


def bad_sinks() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what cannot be a sink, with the field that says why."""
    yield from (("sink.name", {"name": TEXTS[kind], "http": {"url": URL}}) for kind in LINES)
    yield from (("sink.name", {"name": name, "http": {"url": URL}}) for name in ("", "x" * 101))
    yield "sink", {"name": "Audit"}
    yield from (("sink.http.url", http(url=url)) for url in (*URLS, *INSIDE))
    yield from (("sink.http.batch_max", http(batch_max=number)) for number in (-1, 1_001, INT32_MAX))
    yield from (("sink.http.timeout", http(timeout=span)) for span in SPANS)
    yield from (("sink.http.bearer_token", http(bearer_token=TEXTS[kind])) for kind in LINES)
    yield from (("sink.http.authorities", http(authorities=text)) for text in ("no PEM", "x" * 70_000, "ä"))
    yield "sink.http.client_certificate", http(client_certificate="x" * 70_000)
    yield "sink.http.client_certificate", http(client_key="no PEM")
    yield "sink.http.client_certificate", http(client_certificate="no PEM")
    yield (
        "sink.http.client_key",
        http(client_certificate="-----BEGIN CERTIFICATE-----\nQUJD\n-----END CERTIFICATE-----"),
    )
    for name in ("", ".", "..", "../a", "a/b", "/etc/passwd", ".hidden", "a\0b", "x" * 101, "a\\b", "ä"):
        yield "sink.file.name", file(name=name)
    yield from (("sink.file.rotate_bytes", file(rotate_bytes=number)) for number in (-1, 1, 65_535, INT64_MAX))
    yield from (("sink.file.keep_files", file(keep_files=number)) for number in (-1, INT32_MAX))
    yield from (("sink.payload", {**http(), "payload": number}) for number in (3, -1, INT32_MAX))
    yield from (("sink.state", {**http(), "state": number}) for number in (3, -1, INT32_MAX))
    yield from (("sink.strict_lag", {**http(), "strict_lag": span}) for span in SPANS)


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeysteadServer]:
    """Lend a server for this module, which allows files and the public internet."""
    farm = ServerFarm(tmp_path_factory.mktemp("hostile"))
    files = tmp_path_factory.mktemp("files")
    yield farm.start(flags=("--first-run", "--operator"), sink_files=files)
    farm.end()


@pytest.fixture(params=WAYS)
async def client(attacked: KeysteadServer, request: pytest.FixtureRequest) -> AsyncIterator[Client]:
    """Lend a client over each way in."""
    async with client_for(attacked, request.param) as made:
        yield made


async def state(server: KeysteadServer) -> tuple[Any, ...]:
    """Say what would be left behind."""
    return tuple((await ask(server, "SELECT (SELECT count(*) FROM sinks), (SELECT count(*) FROM events)"))[0])


async def test_what_cannot_be_a_sink_is_refused_by_its_field(attacked: KeysteadServer, client: Client) -> None:
    """Names, URLs, tokens, certificates, file names, numbers and times that cannot be are refused by their field, and
    nothing is left behind.
    """
    before, wrong, sent = await state(attacked), [], 0
    for field, sink in bad_sinks():
        try:
            answer = await client.call("CreateSink", sink=sink)
        except (json_format.SerializeToJsonError, ValueError):
            continue  # cannot be said in JSON at all
        sent += 1
        if answer.refusal != ("INVALID_ARGUMENT", "INVALID_REQUEST") or field not in answer.fields:
            wrong.append((field, str(sink)[:120], str(answer)[:200]))
    assert wrong == []
    assert sent > 80
    assert await state(attacked) == before


async def test_a_sink_cannot_be_changed_into_what_it_cannot_be(attacked: KeysteadServer, client: Client) -> None:
    """The same for changing one, and for masks that name what nobody may change; what it was it stays."""
    made = (await client.call("CreateSink", sink={**file(name="kept.jsonl"), "state": 2})).must().sink
    before, wrong = await state(attacked), []
    masks: dict[str, list[str]] = {
        "sink.http.url": ["http"], "sink.file.name": ["file"], "sink.name": ["name"], "sink.strict_lag": ["strict_lag"],
        "sink.payload": ["payload"], "sink.state": ["state"],
    }  # fmt: skip
    for field, sink in bad_sinks():
        if field not in masks:
            continue
        try:
            answer = await client.call("UpdateSink", sink={**sink, "id": made.id}, update_mask={"paths": masks[field]})
        except (json_format.SerializeToJsonError, ValueError):
            continue
        if answer.refusal != ("INVALID_ARGUMENT", "INVALID_REQUEST") or field not in answer.fields:
            wrong.append((field, str(sink)[:120], str(answer)[:200]))
    for paths in (["id"], ["progress"], ["created_at"], ["*"], [""], ["http.url"], ["etag"], []):
        answer = await client.call("UpdateSink", sink={"id": made.id, "name": "n"}, update_mask={"paths": paths})
        if answer.status != "INVALID_ARGUMENT":
            wrong.append(("update_mask", str(paths), str(answer)[:200]))
    assert wrong == []
    assert await state(attacked) == before
    assert (await client.call("GetSink", sink_id=made.id)).must().sink.etag == made.etag
    (await client.call("DeleteSink", sink_id=made.id)).must()


async def test_no_id_finds_what_is_not_there(attacked: KeysteadServer, client: Client) -> None:
    """Ids that are none, and ids of nothing, are refused by every method that takes one."""
    before, wrong = await state(attacked), []
    for name in SINKS:
        if "sink_id" not in METHODS[name].request.DESCRIPTOR.fields_by_name:
            continue
        for text in ("", "snk_", "snk_1", "key_01h455vb4pex5vsknk084sn02q", *TEXTS.values()):
            more: dict[str, Any] = {"from_index": 0} if name == "ReplaySink" else {}
            answer = await client.call(name, sink_id=text, **more)
            if (answer.refusal, answer.fields) != (("INVALID_ARGUMENT", "INVALID_REQUEST"), ("sink_id",)):
                wrong.append((name, text[:30], str(answer)[:200]))
        answer = await client.call(name, sink_id="snk_01h455vb4pex5vsknk084sn02q", **more)
        if answer.status != "NOT_FOUND":
            wrong.append((name, "of nothing", str(answer)[:200]))
    assert wrong == []
    assert await state(attacked) == before


async def test_a_replay_goes_nowhere_else(client: Client) -> None:
    """A replay from beyond where the sink is, from two places at once or from nowhere is refused by its field."""
    made = (await client.call("CreateSink", sink={**file(name="back.jsonl"), "state": 2})).must().sink
    bad: dict[str, list[dict[str, Any]]] = {
        "from_index": [{"from_index": 10_000}, {"from_index": 2**64 - 1}, {"from_index": 2**63}],
        "from_time": [{"from_time": {"seconds": 4_000_000_000, "nanos": -1}}],
        "from": [{}, {"dead_letters": False}],
    }
    wrong = []
    for field, requests in bad.items():
        for fields in requests:
            try:
                answer = await client.call("ReplaySink", sink_id=made.id, **fields)
            except json_format.SerializeToJsonError:
                continue
            if answer.refusal != ("INVALID_ARGUMENT", "INVALID_REQUEST") or field not in answer.fields:
                wrong.append((field, str(fields), str(answer)[:200]))
    (await client.call("DeleteSink", sink_id=made.id)).must()
    assert wrong == []


@asynccontextmanager
async def listener() -> AsyncIterator[tuple[int, list[str]]]:
    """Lend a port on this machine, and whoever connected to it."""
    met: list[str] = []

    def meet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        met.append(str(writer.get_extra_info("peername")))
        writer.close()

    server = await asyncio.start_server(meet, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], met


async def test_a_name_that_leads_inside_is_not_connected_to(client: Client) -> None:
    """A name can only be judged when it is resolved: a sink to one that leads to this machine is made, and whatever it
    is asked to carry, nobody is connected to.
    """
    async with listener() as (port, met):
        made = (await client.call("CreateSink", sink=http(url=f"https://localhost:{port}/"))).must().sink
        tried = (await client.call("TestSink", sink_id=made.id)).must()
        (await client.call("DeleteSink", sink_id=made.id)).must()
    assert (tried.delivered, tried.http_status, met) == (False, 0, [])
    assert tried.error


async def test_everything_that_was_done_is_told(attacked: KeysteadServer) -> None:
    """After all that the log has no gap."""
    assert await demand_order(attacked) > 0
