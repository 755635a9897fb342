"""Transports and loops on the core: what ``keystead serve`` runs."""

from __future__ import annotations

import asyncio
import gc
import ipaddress
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass

from keystead.adapters.files import data_directory
from keystead.adapters.linux.process import make_undumpable
from keystead.adapters.structlog import logs
from keystead.bootstrap.core import Core, core
from keystead.bootstrap.loops import start_loops
from keystead.bootstrap.observing import metrics_routes, observed, open_tracer
from keystead.bootstrap.watched import Watched
from keystead.config import ConfigError, Settings
from keystead.kernel.errors import StartError
from keystead.transport.contract import service_methods
from keystead.transport.dispatch import VERIFY_KEY, CallDispatcher
from keystead.transport.grpc.server import GrpcServer
from keystead.transport.grpc.settings import Engine, GrpcSettings
from keystead.transport.http.app import HttpApplication
from keystead.transport.http.server import HttpServer
from keystead.transport.http.settings import HttpSettings
from keystead.transport.listening import Address, ListenError, TlsFiles
from keystead.worker.loop import Loop

_HEALTH_INTERVAL_MS = 500
_IN_THE_CLEAR = "give --tls-cert and --tls-key, or --insecure when something in front of it encrypts"
_GARBAGE_THRESHOLDS = (50_000, 20, 100)


class AddressUnusableError(StartError):
    """Raised when a listener's address cannot be had."""

    code = "address_unusable"

    def __init__(self, flag: str, error: ListenError) -> None:
        """Name the flag that says where else to listen."""
        super().__init__(public=f"{flag}: {error}. Give another address with {flag} HOST:PORT.")


@dataclass(frozen=True, slots=True)
class Running:
    """A server that listens: ``grpc`` as HOST:PORT, ``http`` as a URL, both with the port that was bound."""

    grpc: str
    http: str


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Running]:
    """Serve from entry to exit. On entry the log has been read and both listeners listen; on exit calls may finish."""
    logs.configure(level=settings.log_level, form=settings.log_format)
    make_undumpable()
    grpc_settings, http_settings = _listeners(settings)
    grace_s = settings.drain_ms / 1_000
    async with AsyncExitStack() as stack:
        if settings.database:  # nothing but the journal is kept there, so a new node may begin with an empty one
            data_directory.prepare(settings.data_dir)
        stack.enter_context(data_directory.locked(settings.data_dir))
        tracer = await open_tracer(stack, settings)
        served = await stack.enter_async_context(core(settings, serving=True, tracer=tracer))
        watched = Watched(served)
        await start_loops(stack, watched, settings)
        dispatcher = served.dispatcher()
        dispatch, batch, stream = observed(dispatcher, watched, tracer, settings)
        methods, batches = service_methods(), {VERIFY_KEY: batch}
        grpc = GrpcServer(methods, dispatch, grpc_settings, batches=batches, stream_dispatch=stream)
        ready, routes = _Readiness(served), metrics_routes(watched, settings)
        application = HttpApplication(methods, dispatch, ready, http_settings, stream_dispatch=stream, routes=routes)
        http = HttpServer(application, http_settings)
        stack.push_async_callback(_drain, dispatcher, grpc, http, grace_s)
        with _naming("--grpc"):
            grpc_port = await grpc.start()
        with _naming("--http"):
            http_port = await http.start()
        await _tell_health(stack, served, grpc)
        _settle_memory()
        scheme = "https" if settings.tls_cert else "http"
        yield Running(
            grpc=str(Address(grpc_settings.address.host, grpc_port)),
            http=f"{scheme}://{Address(http_settings.address.host, http_port)}",
        )


async def _drain(dispatcher: CallDispatcher, grpc: GrpcServer, http: HttpServer, grace_s: float) -> None:
    """Tell balancers to look away, then end streams and let calls on both listeners finish side by side."""
    await grpc.set_serving(serving=False)
    dispatcher.end_streams()
    await asyncio.gather(grpc.stop(grace_s), http.stop(grace_s))


async def _tell_health(stack: AsyncExitStack, served: Core, grpc: GrpcServer) -> None:
    """Keep gRPC's health service saying whether this process may vouch for keys, until it drains."""

    async def tell() -> None:
        await grpc.set_serving(serving=served.resolver.vouches)

    await tell()
    loop = Loop("tell health", tell, interval_ms=_HEALTH_INTERVAL_MS)
    loop.start()
    stack.push_async_callback(loop.stop)


class _Readiness:
    """Why the server should get no calls now; nothing when it should."""

    def __init__(self, served: Core) -> None:
        self._served = served

    async def __call__(self) -> list[str]:
        if self._served.resolver.vouches:
            return []
        return ["the event log has not been read for longer than staleness_bound_ms"]


def _listeners(settings: Settings) -> tuple[GrpcSettings, HttpSettings]:
    tls = None
    if settings.tls_cert is not None and settings.tls_key is not None:
        tls = TlsFiles(settings.tls_cert, settings.tls_key)
    grpc_address = _address("grpc", settings.grpc, settings)
    http_address = _address("http", settings.http, settings)
    grpc_settings = GrpcSettings(
        address=grpc_address,
        engine=_engine(settings, grpc_address),
        tls=tls,
        reflection=settings.grpc_reflection,
        message_maximum_bytes=settings.message_max_bytes,
    )
    http_settings = HttpSettings(address=http_address, tls=tls, message_maximum_bytes=settings.message_max_bytes)
    return grpc_settings, http_settings


def _engine(settings: Settings, address: Address) -> Engine:
    """Choose the fast engine where only this machine can reach it: it takes a message of any size into memory."""
    if settings.grpc_engine != "auto":
        return settings.grpc_engine
    return "native" if _is_loopback(address.host) else "grpcio"


def _address(name: str, text: str, settings: Settings) -> Address:
    """Read where to listen; off loopback only with TLS or an explicit ``--insecure``."""
    try:
        address = Address.parse(text)
    except ValueError as error:
        raise ConfigError([f"{name} (--{name}, KEYSTEAD_{name.upper()}): {error}"]) from None
    if settings.tls_cert is None and not settings.insecure and not _is_loopback(address.host):
        raise ConfigError([f"{name} (--{name}): {address} would be served in the clear to others; {_IN_THE_CLEAR}"])
    return address


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@contextmanager
def _naming(flag: str) -> Iterator[None]:
    try:
        yield
    except ListenError as error:
        raise AddressUnusableError(flag, error) from None


def _settle_memory() -> None:
    """Spare the collector what lives as long as the process, and let it walk a million cached entries rarely."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GARBAGE_THRESHOLDS)
