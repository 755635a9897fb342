"""What goes over the wire to a sink's service, who it goes to, and what comes back."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_http_event
from standardwebhooks import Webhook

from keystead.adapters.outbound.sinks import SinkDestinations, signature
from keystead.kernel.clock import SystemClock
from keystead.kernel.secret import Secret
from keystead.sinks.addresses import is_public
from keystead.sinks.drafts import Outbound
from keystead.sinks.envelopes import Envelope
from keystead.sinks.model import FileDestination, HttpDestination, Kind, Sink, SinkSecrets
from keystead.sinks.ports import Delivery, Reception
from tests.certificates import Identity, authority, issued
from tests.fakes import BEGINNING_MS, WORKSPACE_ID
from tests.polling import eventually

TOKEN = "t0ken-of-the-sink"
SIGNING = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OK = b"HTTP/1.1 204 No Content\r\n\r\n"
BATCH = [Envelope(f"evt_{number}", json.dumps({"id": f"evt_{number}", "specversion": "1.0"})) for number in range(2)]


class Service:
    """A server that answers every request with the same bytes, or not at all."""

    def __init__(self, answer: bytes) -> None:
        """Answer with ``answer``; empty is no answer."""
        self._answer = answer
        self.requests: list[bytes] = []
        self.connections = 0
        self.open: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read one request and answer it."""
        self.connections += 1
        self.open.add(writer)
        with suppress(OSError, asyncio.IncompleteReadError):
            await self._answered(reader, writer)
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
        self.open.discard(writer)

    async def _answered(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
        self.requests.append(head + await reader.readexactly(length))
        if self._answer:
            writer.write(self._answer)
            await writer.drain()
        else:
            await reader.read()

    def headers(self) -> dict[str, str]:
        """Return the headers of the last request."""
        lines = self.requests[-1].partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
        return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}

    def body(self) -> bytes:
        """Return the body of the last request."""
        return self.requests[-1].partition(b"\r\n\r\n")[2]


@asynccontextmanager
async def serving(answer: bytes = OK, context: ssl.SSLContext | None = None) -> AsyncIterator[tuple[Service, int]]:
    """Serve on a free port."""
    service = Service(answer)
    server = await asyncio.start_server(service.serve, "127.0.0.1", 0, ssl=context)
    async with server:
        yield service, server.sockets[0].getsockname()[1]
    await eventually(_nobody_there(service), within_s=5)


def _nobody_there(service: Service) -> Callable[[], Awaitable[bool]]:
    async def nobody() -> bool:
        return not service.open

    return nobody


def secrets(token: str = TOKEN, key: str = "", signing: str = "") -> SinkSecrets:
    """Give a sink secrets."""
    return SinkSecrets(Secret(token), Secret(key), Secret(signing))


def sink_to(url: str, **fields: Any) -> Sink:
    """Make a sink that carries to ``url``."""
    destination = HttpDestination(url, **({"timeout_ms": 1_000} | fields))
    return Sink("snk_1", WORKSPACE_ID, "siem", destination, BEGINNING_MS, BEGINNING_MS)


async def send(sink: Sink, given: SinkSecrets | None = None, destinations: SinkDestinations | None = None) -> Delivery:
    """Send a batch."""
    destinations = destinations or SinkDestinations(outbound=Outbound.ANY, clock=SystemClock(), files=None)
    async with destinations.open(sink, given or secrets()) as channel:
        return await channel.send(BATCH)


async def test_a_batch_of_cloud_events_with_the_token() -> None:
    """The request is the CloudEvents binding for HTTP in batches; the specification's library reads each event."""
    async with serving() as (service, port):
        delivery = await send(sink_to(f"http://127.0.0.1:{port}/events?x=1"))
    assert delivery == Delivery(Reception.ACCEPTED, http_status=204)
    assert service.requests[0].startswith(b"POST /events?x=1 HTTP/1.1\r\n")
    headers = service.headers()
    assert headers["content-type"].partition(";")[0] == "application/cloudevents-batch+json"
    assert headers["authorization"] == f"Bearer {TOKEN}"
    assert "webhook-signature" not in headers
    for event in json.loads(service.body()):
        whole = {**event, "source": "urn:x", "type": "t"}
        read = from_http_event(
            HTTPMessage({"content-type": "application/cloudevents+json"}, json.dumps(whole).encode())
        )
        assert read.get_id() == event["id"]


@pytest.mark.parametrize("url", ("http://999.1.1.1/", "http://[v1.a]/", "http://[1::]x/"))
async def test_a_url_that_leads_nowhere_is_a_failure(url: str) -> None:
    """A URL that can be said but not connected to is a delivery that failed, like any other, and says why."""
    delivery = await send(sink_to(url))
    assert delivery.reception is Reception.FAILED
    assert delivery.reason.startswith("InvalidURL: ")


@pytest.mark.parametrize("characters", (1, 10_000))
async def test_a_long_body_is_written_beside_the_loop(characters: int) -> None:
    """Whether it is long or short, a body is joined, encoded and signed alike; a long one by another thread."""
    batch = [Envelope(f"evt_{number}", json.dumps({"text": "x" * characters})) for number in range(9)]
    clock = _ThreadedClock()
    destinations = SinkDestinations(outbound=Outbound.ANY, clock=clock, files=None)
    async with serving() as (service, port):
        sink = sink_to(f"http://127.0.0.1:{port}/", signed=True)
        async with destinations.open(sink, secrets(signing=SIGNING)) as channel:
            assert (await channel.send(batch)).reception is Reception.ACCEPTED
    assert service.body().decode() == "[" + ",".join(it.text for it in batch) + "]"
    Webhook(SIGNING).verify(service.body(), service.headers())
    assert (clock.threads == {threading.get_ident()}) == (characters == 1)


class _ThreadedClock(SystemClock):
    """Notes who asks for the time, which is whoever signs."""

    def __init__(self) -> None:
        self.threads: set[int] = set()

    def now_ms(self) -> int:
        """Return the time."""
        self.threads.add(threading.get_ident())
        return super().now_ms()


@pytest.mark.parametrize(
    ("status", "reception"),
    (
        *[(status, Reception.REFUSED) for status in (400, 409, 413, 422)],
        *[(status, Reception.FAILED) for status in (301, 302, 307, 308, 401, 403, 404, 408, 410, 429, 500, 502, 503)],
        *[(status, Reception.ACCEPTED) for status in (200, 201, 202, 204)],
    ),
)
async def test_an_answer_is_taken_for_what_it_says(status: int, reception: Reception) -> None:
    """Only what is about the events counts as a refusal, and only 2xx as taken: a redirect is followed nowhere."""
    answer = f"HTTP/1.1 {status} X\r\nlocation: /other\r\ncontent-length: 0\r\n\r\n".encode()
    async with serving(answer) as (service, port):
        delivery = await send(sink_to(f"http://127.0.0.1:{port}/"))
    assert (delivery.reception, delivery.http_status) == (reception, status)
    assert len(service.requests) == 1


@pytest.mark.parametrize(
    ("header", "waits_ms"),
    (
        ("7", 7_000),
        ("0", 0),
        ("999999", 3_600_000),
        ("9999999", None),
        ("-1", None),
        ("Wed, 21 Oct", None),
        ("٣", None),
    ),
)
async def test_how_long_to_wait_is_read_with_care(header: str, waits_ms: int | None) -> None:
    """A service says when to come back, and cannot send anybody away for good."""
    answer = f"HTTP/1.1 503 X\r\nretry-after: {header}\r\ncontent-length: 0\r\n\r\n".encode()
    async with serving(answer) as (_, port):
        assert (await send(sink_to(f"http://127.0.0.1:{port}/"))).retry_after_ms == waits_ms


@pytest.mark.parametrize("answer", (b"", b"no HTTP at all\r\n\r\n", b"HTTP/1.1 20", b"HTTP/1.1 200 OK\r\ncontent-le"))
async def test_silence_and_nonsense_are_failures(answer: bytes) -> None:
    """A service that hangs, hangs up or babbles has not taken anything, and is waited for no longer than was said."""
    async with serving(answer) as (_, port):
        delivery = await send(sink_to(f"http://127.0.0.1:{port}/", timeout_ms=200))
    assert delivery.reception is Reception.FAILED
    assert delivery.reason


async def test_an_endless_answer_is_not_read_to_its_end() -> None:
    """A service that sends without end costs a line."""
    async with serving(b"HTTP/1.1 500 X\r\ncontent-length: 99999999\r\n\r\n" + b"x" * 65_536) as (_, port):
        delivery = await send(sink_to(f"http://127.0.0.1:{port}/"))
    assert len(delivery.reason) <= 300


async def test_no_answer_tells_a_secret() -> None:
    """A service that answers with what it was sent puts no secret into an error that people see."""
    said = f"you sent Bearer {TOKEN} and {SIGNING}; acme_live_0123456789AB{'x' * 46}\x1b[31m\n Basic Zm9vOmJhcg=="
    answer = f"HTTP/1.1 500 X\r\ncontent-length: {len(said)}\r\n\r\n{said}".encode()
    async with serving(answer) as (_, port):
        delivery = await send(sink_to(f"http://127.0.0.1:{port}/"), secrets(signing=SIGNING))
    for secret in (TOKEN, SIGNING, "x" * 46, "Zm9v", "\x1b", "\n"):
        assert secret not in delivery.reason


def test_the_signature_is_that_of_the_standard() -> None:
    """The vectors of Standard Webhooks come out to the byte."""
    made = signature(SIGNING, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, b'{"test": 2432232314}')
    assert made == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    body = b'{"type":"contact.created","timestamp":"2022-11-03T20:26:10.344522Z",'
    body += b'"data":{"id":"1f81eb52-5198-4599-803e-771906343485"}}'
    made = signature(SIGNING, "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W", 1_674_087_231, body)
    assert made["webhook-signature"] == "v1,ARw42xaAApl/nxRo+iPGYwSaMQaOwMo2eyH5JBRA+bQ="


async def test_the_standards_own_library_verifies_what_is_sent() -> None:
    """A receiver with the official library takes what is signed, and nothing that was changed."""
    async with serving() as (service, port):
        await send(sink_to(f"http://127.0.0.1:{port}/", signed=True), secrets(signing=SIGNING))
        first = service.headers()["webhook-id"]
        await send(sink_to(f"http://127.0.0.1:{port}/", signed=True), secrets(signing=SIGNING))
    assert service.headers()["webhook-id"] == first, "the same batch has the same id whenever it is sent"
    verifier = Webhook(SIGNING)
    assert verifier.verify(service.body().decode(), service.headers()) == json.loads(service.body())
    at = datetime.fromtimestamp(int(service.headers()["webhook-timestamp"]), UTC)
    assert abs((datetime.now(UTC) - at).total_seconds()) < 60
    with pytest.raises(Exception, match="signature"):
        verifier.verify(service.body().decode().replace("evt_0", "evt_9"), service.headers())


def server_context(folder: Path, identity: Identity, *, clients_of: Identity | None = None) -> ssl.SSLContext:
    """Secure a server with ``identity``; with ``clients_of`` it lets in only who has a certificate from there."""
    chain, key = folder / "chain.pem", folder / "key.pem"
    chain.write_text(identity.certificate)
    key.write_text(identity.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    if clients_of is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=clients_of.certificate)
    return context


async def test_both_sides_prove_themselves(tmp_path: Path) -> None:
    """With certificates both ways a sink is let in, without one it is not, and it tells nothing to a stranger."""
    root, stranger = authority(), authority("Another")
    client = issued(root, "keystead")
    context = server_context(tmp_path, issued(root, "siem"), clients_of=root)
    async with serving(context=context) as (service, port):
        url = f"https://127.0.0.1:{port}/"
        proven = {"authorities": root.certificate, "client_certificate": client.certificate}
        assert (await send(sink_to(url, **proven), secrets(key=client.key))).reception is Reception.ACCEPTED
        assert len(service.requests) == 1
        bare = await send(sink_to(url, authorities=root.certificate))
        unknown = await send(sink_to(url, **proven | {"authorities": stranger.certificate}), secrets(key=client.key))
        unproven = await send(sink_to(url))
    assert [it.reception for it in (bare, unknown, unproven)] == [Reception.FAILED] * 3
    assert len(service.requests) == 1, "something was told to whom nobody knows"
    assert client.key.splitlines()[1] not in repr((bare, unknown, unproven))


class Names:
    """Resolves names as it is told, and again differently."""

    def __init__(self, *answers: Sequence[str]) -> None:
        """Answer with each of ``answers`` in turn, and then with the last one."""
        self._answers = list(answers)
        self.asked: list[tuple[str, int]] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """Return the addresses of a host."""
        self.asked.append((host, port))
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


@pytest.mark.parametrize(
    "addresses",
    (
        ("127.0.0.1",),
        ("93.184.215.14", "127.0.0.1"),
        ("::1",),
        ("::ffff:127.0.0.1",),
        ("64:ff9b::7f00:1",),
        ("169.254.169.254",),
        ("fe80::1%lo",),
    ),
)
async def test_a_name_that_leads_inside_is_not_followed(addresses: Sequence[str]) -> None:
    """A name of which any address is not public leads nowhere, and nothing is connected to (SSRF)."""
    async with serving() as (service, port):
        names = Names(addresses)
        destinations = SinkDestinations(outbound=Outbound.PUBLIC, clock=SystemClock(), files=None, resolve=names)
        delivery = await send(sink_to(f"https://siem.example:{port}/"), destinations=destinations)
    assert delivery.reception is Reception.FAILED
    assert "not public" in delivery.reason
    assert names.asked == [("siem.example", port)]
    assert service.connections == 0


async def test_what_was_looked_at_is_what_is_connected_to(tmp_path: Path) -> None:
    """A name is resolved once for each try, so one that changes in between leads nowhere else (DNS rebinding).

    The service still has to prove that it is the one of that name.
    """
    root = authority()
    context = server_context(tmp_path, issued(root, "siem", host="siem.example"))
    async with serving(context=context) as (service, port):
        names = Names(["127.0.0.1"], ["127.0.0.9"])
        destinations = SinkDestinations(
            outbound=Outbound.PUBLIC,
            clock=SystemClock(),
            files=None,
            resolve=names,
            admits=lambda address: address == "127.0.0.1" or is_public(address),
        )
        sink = sink_to(f"https://siem.example:{port}/events", authorities=root.certificate)
        assert (await send(sink, destinations=destinations)).reception is Reception.ACCEPTED
        assert service.headers()["host"] == f"siem.example:{port}"
        again = await send(sink, destinations=destinations)
        assert (again.reception, "not public" in again.reason) == (Reception.FAILED, True)
        other = sink_to(f"https://other.example:{port}/events", authorities=root.certificate)
        admitted = SinkDestinations(
            outbound=Outbound.PUBLIC, clock=SystemClock(), files=None, resolve=Names(["127.0.0.1"]), admits=bool
        )
        assert (await send(other, destinations=admitted)).reception is Reception.FAILED
    assert (len(names.asked), len(service.requests)) == (2, 1)


async def test_another_address_is_tried_when_one_does_not_answer(tmp_path: Path) -> None:
    """A service with several addresses is reached as long as one of them is."""
    root = authority()
    context = server_context(tmp_path, issued(root, "siem", host="siem.example"))
    async with serving(context=context) as (_, port):
        for addresses, reception in ((["127.0.0.2", "127.0.0.1"], Reception.ACCEPTED), ([], Reception.FAILED)):
            destinations = SinkDestinations(
                outbound=Outbound.PUBLIC, clock=SystemClock(), files=None, resolve=Names(addresses), admits=bool
            )
            sink = sink_to(f"https://siem.example:{port}/", authorities=root.certificate)
            assert (await send(sink, destinations=destinations)).reception is reception


async def test_this_machines_own_name_is_refused() -> None:
    """Names are resolved by the machine, and its own leads inside."""
    async with serving() as (service, port):
        destinations = SinkDestinations(outbound=Outbound.PUBLIC, clock=SystemClock(), files=None)
        delivery = await send(sink_to(f"https://localhost:{port}/"), destinations=destinations)
    assert "not public" in delivery.reason
    assert service.connections == 0


def test_a_process_without_a_directory_takes_no_files() -> None:
    """Only who has the directory carries to files."""
    destinations = SinkDestinations(outbound=Outbound.ANY, clock=SystemClock(), files=None)
    assert destinations.kinds() == {Kind.HTTP}
    sink = Sink("snk_1", WORKSPACE_ID, "f", FileDestination("f"), BEGINNING_MS, BEGINNING_MS)
    with pytest.raises(ValueError, match="no directory"):
        destinations.open(sink, secrets())
