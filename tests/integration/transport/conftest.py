"""A dispatcher that does what the request says, behind each transport, on the real descriptors."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from google.protobuf.message import Message
from grpc import aio

from keystead.gen.v1 import keys_pb2, verification_pb2
from keystead.kernel.errors import UnavailableError
from keystead.keys.errors import KeyRevokedError
from keystead.transport.calls import Call, Method, methods_of
from keystead.transport.grpc.server import GrpcServer
from keystead.transport.grpc.settings import Engine, GrpcSettings
from keystead.transport.http.app import HttpApplication
from keystead.transport.http.server import HttpServer
from keystead.transport.http.settings import HttpSettings
from keystead.transport.listening import Address, TlsFiles
from tests.web import web_client

SECRET = "acme_live_THISISASECRET"  # what must never come back, nor reach a log
LOOPBACK = Address("127.0.0.1", 0)


class Desk:
    """Answers ``GetKey`` by what its ``key_id`` says, everything else with an empty reply, and remembers."""

    def __init__(self) -> None:
        """Start with nothing seen."""
        self.calls: list[Call] = []
        self.requests: list[Message] = []
        self.started = asyncio.Event()
        self.waiting: asyncio.Queue[Call] = asyncio.Queue()
        self.finished = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.release = asyncio.Event()

    async def __call__(self, call: Call, request: Message) -> Message | bytes:
        """Answer one call."""
        _ = call.header("x-note"), call.credential()  # as any handler would: a bad header refuses the call
        self.calls.append(call)
        self.requests.append(request)
        if not isinstance(request, keys_pb2.GetKeyRequest):
            return call.method.reply()
        return await self._get_key(call, request.key_id)

    async def _get_key(self, call: Call, word: str) -> Message | bytes:
        if word == "revoked":
            raise KeyRevokedError("key_1")
        if word == "away":
            raise UnavailableError("The store is out of reach.", internal="host db-3", retry_after_ms=1_500)
        if word == "crash":
            raise RuntimeError(f"cannot handle {SECRET}")
        if word.startswith("header "):
            call.response_headers["x-bad"] = word.removeprefix("header ")
        if word == "wait":
            self.waiting.put_nowait(call)
            await self._wait()
        call.response_headers["x-keystead-test"] = "yes"
        reply = keys_pb2.GetKeyResponse(key=keys_pb2.Key(id=word))
        return reply.SerializeToString() if word == "bytes" else reply

    async def _wait(self) -> None:
        self.started.set()
        try:
            await self.release.wait()
            self.finished.set()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


@dataclass
class GrpcBench:
    """A running gRPC server and a channel to it."""

    desk: Desk
    server: GrpcServer
    port: int
    channel: Any  # grpc's stubs know no channel without serialisers, which is what hostile bytes need

    async def call(self, path: str, request: Message | bytes, **options: object) -> bytes:
        """Call ``path`` with ``request``, and return the reply's bytes."""
        payload = request if isinstance(request, bytes) else request.SerializeToString()
        reply: bytes = await self.channel.unary_unary(path)(payload, **options)
        return reply


@dataclass
class HttpBench:
    """A running HTTP server and a client of it."""

    desk: Desk
    server: HttpServer
    port: int
    client: httpx2.AsyncClient
    unready: list[str]

    async def json(self, method: str, body: str | bytes, **headers: str) -> httpx2.Response:
        """Call ``KeyService``'s ``method`` with a JSON body."""
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.client.post(
            f"/keystead.v1.KeyService/{method}", content=body, headers={"content-type": "application/json"} | names
        )


@pytest.fixture
def methods() -> list[Method]:
    """Bind two services of the real contract."""
    services = [
        keys_pb2.DESCRIPTOR.services_by_name["KeyService"],
        verification_pb2.DESCRIPTOR.services_by_name["VerificationService"],
    ]
    return [method for service in services for method in methods_of(service)]


@pytest.fixture
def desk() -> Desk:
    """Make the dispatcher behind every server of a test."""
    return Desk()


@pytest.fixture(params=["native", "grpcio"])
def engine(request: pytest.FixtureRequest) -> Engine:
    """Run the test once on each engine."""
    chosen: Engine = request.param
    return chosen


StartGrpc = Callable[..., Awaitable[GrpcBench]]


@pytest.fixture
async def start_grpc(methods: list[Method], desk: Desk, engine: Engine) -> AsyncIterator[StartGrpc]:
    """Start gRPC servers with settings of the test's own, and stop them after it."""
    benches: list[GrpcBench] = []

    async def start(*, batches: dict[str, object] | None = None, **settings: object) -> GrpcBench:
        chosen = GrpcSettings(**({"address": LOOPBACK, "engine": engine} | settings))  # type: ignore[arg-type]  # a test knows its settings
        server = GrpcServer(methods, desk, chosen, batches=batches)  # type: ignore[arg-type]  # and its batches
        port = await server.start()
        await server.set_serving(serving=True)
        bench = GrpcBench(desk, server, port, aio.insecure_channel(f"127.0.0.1:{port}"))
        benches.append(bench)
        return bench

    yield start
    for bench in benches:
        await bench.channel.close()
        await bench.server.stop(0)


@pytest.fixture
async def grpc_bench(start_grpc: StartGrpc) -> GrpcBench:
    """Start a gRPC server with the default settings."""
    return await start_grpc()


StartHttp = Callable[..., Awaitable[HttpBench]]


@pytest.fixture
async def start_http(methods: list[Method], desk: Desk) -> AsyncIterator[StartHttp]:
    """Start HTTP servers with settings of the test's own, and stop them after it."""
    benches: list[HttpBench] = []

    async def start(**settings: object) -> HttpBench:
        chosen = HttpSettings(**({"address": LOOPBACK} | settings))  # type: ignore[arg-type]  # see start_grpc
        unready: list[str] = []

        async def ready() -> Sequence[str]:
            return unready

        server = HttpServer(HttpApplication(methods, desk, ready, chosen), chosen)
        port = await server.start()
        client = web_client(base_url=f"http://127.0.0.1:{port}", timeout=10)
        benches.append(HttpBench(desk, server, port, client, unready))
        return benches[-1]

    yield start
    for bench in benches:
        await bench.client.aclose()
        await bench.server.stop(1)


@pytest.fixture
async def http_bench(start_http: StartHttp) -> HttpBench:
    """Start an HTTP server with the default settings."""
    return await start_http()


@pytest.fixture(scope="session")
def tls_files(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    """Make a certificate for localhost that vouches for itself."""
    directory = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    files = TlsFiles(directory / "certificate.pem", directory / "key.pem")
    files.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files.key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return files


@pytest.fixture
def trusting(tls_files: TlsFiles) -> ssl.SSLContext:
    """Make a client's context that trusts it."""
    return ssl.create_default_context(cafile=str(Path(tls_files.certificate)))
