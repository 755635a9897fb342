"""What goes over the wire to the Entitlements service, read by the specification's own library, and what comes back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime

import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_http_event

from keystead.adapters.outbound.entitlements import CONTENT_TYPE, HttpEntitlements, cloud_event
from keystead.kernel.secret import Secret
from keystead.usage.feed_ports import Delivery, Reception
from keystead.usage.meters import LedgerEntry

TOKEN = "t0ken"
ENTRY = LedgerEntry(
    id="use_1",
    workspace_id="wsp_1",
    environment="live",
    owner_id="cust_1",
    meter="api_calls",
    begins_at_ms=1_700_006_400_000,
    revision=2,
    value=2**63 - 1,
)


def test_an_event_is_a_cloud_event() -> None:
    """The specification's library reads what we write, and finds in it what the receiver needs."""
    event = from_http_event(
        HTTPMessage({"content-type": "application/cloudevents+json"}, json.dumps(cloud_event(ENTRY)).encode())
    )
    assert event.get_id() == "use_1"
    assert event.get_source() == "urn:keystead:wsp_1:live"
    assert (event.get_type(), event.get_subject()) == ("api_calls", "cust_1")
    assert event.get_time() == datetime(2023, 11, 15, 0, 59, 59, 999_000, tzinfo=UTC)
    data = event.get_data()
    assert isinstance(data, dict)
    assert data == {
        "value": "9223372036854775807",
        "workspace": "wsp_1",
        "environment": "live",
        "from": "2023-11-15T00:00:00.000Z",
        "to": "2023-11-15T01:00:00.000Z",
        "revision": 2,
    }


def test_an_event_is_the_same_whenever_it_is_written() -> None:
    """A retry, by whatever process, sends the same bytes: nothing in an event depends on when it is sent."""
    assert cloud_event(ENTRY) == cloud_event(ENTRY)
    assert json.dumps(cloud_event(ENTRY)).encode().isascii()


class Endpoint:
    """An HTTP server that answers every request with the same bytes, or not at all."""

    def __init__(self, answer: bytes) -> None:
        """Answer with ``answer``; empty is no answer."""
        self._answer = answer
        self.requests: list[bytes] = []
        self.ended = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read one request and answer it."""
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
        self.requests.append(head + await reader.readexactly(length))
        with suppress(OSError):
            if self._answer:
                writer.write(self._answer)
                await writer.drain()
            else:
                await reader.read()
            writer.close()
            await writer.wait_closed()
        self.ended.set()


@asynccontextmanager
async def sent(answer: bytes, *, token: str = TOKEN) -> AsyncIterator[tuple[Delivery, Endpoint]]:
    """Send one event to an endpoint that answers with ``answer``."""
    endpoint = Endpoint(answer)
    server = await asyncio.start_server(endpoint.serve, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/api/v1/events"
        async with HttpEntitlements(url, token=Secret(token), timeout_ms=300) as receiver:
            delivery = await receiver.send([ENTRY])
        await asyncio.wait_for(endpoint.ended.wait(), 5)
        yield delivery, endpoint


async def test_a_batch_is_an_array_with_the_token() -> None:
    """The request is what OpenMeter's ingest takes: a batch of events, and a bearer token."""
    async with sent(b"HTTP/1.1 204 No Content\r\n\r\n") as (delivery, endpoint):
        assert delivery == Delivery(Reception.ACCEPTED)
        head, _, body = endpoint.requests[0].partition(b"\r\n\r\n")
        lines = head.decode().lower().split("\r\n")
        assert lines[0] == "post /api/v1/events http/1.1"
        assert f"content-type: {CONTENT_TYPE}" in lines
        assert "authorization: bearer t0ken" in lines
        assert json.loads(body) == [cloud_event(ENTRY)]
    async with sent(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n", token="") as (delivery, endpoint):
        assert delivery.reception is Reception.ACCEPTED
        assert b"authorization" not in endpoint.requests[0].lower()


@pytest.mark.parametrize(
    ("answer", "reception", "reason", "retry_after_ms"),
    (
        (b"HTTP/1.1 500 X\r\ncontent-length: 4\r\n\r\noops", Reception.FAILED, "500 oops", None),
        (b"HTTP/1.1 400 X\r\ncontent-length: 3\r\n\r\nbad", Reception.REFUSED, "400 bad", None),
        (b"HTTP/1.1 413 X\r\ncontent-length: 0\r\n\r\n", Reception.REFUSED, "413", None),
        (b"HTTP/1.1 401 X\r\ncontent-length: 0\r\n\r\n", Reception.FAILED, "401", None),
        (b"HTTP/1.1 429 X\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n", Reception.FAILED, "429", 7_000),
        (b"HTTP/1.1 503 X\r\nretry-after: Wed, 21 Oct\r\ncontent-length: 0\r\n\r\n", Reception.FAILED, "503", None),
        (b"HTTP/1.1 302 X\r\nlocation: /\r\ncontent-length: 0\r\n\r\n", Reception.FAILED, "302", None),
        (b"", Reception.FAILED, "", None),
        (b"no HTTP at all\r\n\r\n", Reception.FAILED, "RemoteProtocolError", None),
    ),
)
async def test_an_answer_is_taken_for_what_it_says(
    answer: bytes, reception: Reception, reason: str, retry_after_ms: int | None
) -> None:
    """Only what is about the events counts as a refusal; a redirect, silence and nonsense are failures like others."""
    async with sent(answer) as (delivery, endpoint):
        assert (delivery.reception, delivery.retry_after_ms) == (reception, retry_after_ms)
        assert delivery.reason.startswith(reason)
        assert delivery.reason
        assert len(endpoint.requests) == 1


async def test_an_endless_answer_is_not_read_to_its_end() -> None:
    """A receiver that sends without end costs a few hundred bytes of log and no memory."""
    async with sent(b"HTTP/1.1 500 X\r\ncontent-length: 99999999\r\n\r\n" + b"x" * 65_536) as (delivery, _):
        assert len(delivery.reason) < 400


async def test_nobody_at_the_address_is_a_failure() -> None:
    """A receiver that is away is tried again like one that fails."""
    async with HttpEntitlements("http://127.0.0.1:1/", token=Secret(""), timeout_ms=300) as receiver:
        assert (await receiver.send([ENTRY])).reception is Reception.FAILED
