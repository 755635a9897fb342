"""Transports and loops on the core: what ``keystead serve`` runs."""

from __future__ import annotations

import asyncio
import gc
import ipaddress
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial

from keystead.adapters.files import data_directory
from keystead.adapters.files.attempts_reading import MappedAttemptPages
from keystead.adapters.files.journal_reading import MappedStretches
from keystead.adapters.linux.process import make_undumpable
from keystead.adapters.sql.allowances import SqlAllowanceShelf
from keystead.adapters.sql.replies import SqlReplyKeeper
from keystead.adapters.sql.retention import SqlUsageShelf
from keystead.adapters.sql.rotations import SqlOverdueKeys
from keystead.adapters.structlog import logs
from keystead.bootstrap.core import Core, core
from keystead.bootstrap.feeding import start_feed
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
from keystead.worker.attempts import AttemptFlusher
from keystead.worker.checkpoints import CheckpointKeeper
from keystead.worker.follower import LogFollower
from keystead.worker.housekeeping import Housekeeper
from keystead.worker.journals import JournalWatch
from keystead.worker.last_use import LastUseSaver
from keystead.worker.loop import Loop
from keystead.worker.outcomes import OutcomeJoiner
from keystead.worker.retention import AllowanceKeeper, UsageKeeper
from keystead.worker.rotations import RotationKeeper
from keystead.worker.usage import LARGE_STRETCH_CALLS, STRETCH_CALLS, UsageFlusher

_LAST_USE_INTERVAL_MS = 2_000
_ALLOWANCES_INTERVAL_MS = 10_000
_HOUSEKEEPING_INTERVAL_MS = 60_000
_ROTATIONS_INTERVAL_MS = 10_000
_CHECKPOINTS_INTERVAL_MS = 5_000
_RETENTION_INTERVAL_MS = 300_000
_HEALTH_INTERVAL_MS = 500
_USAGE_INTERVAL_MS = 1_000
_JOURNALS_INTERVAL_MS = 15_000
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
        await _start_loops(stack, watched, settings)
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


async def _start_loops(stack: AsyncExitStack, watched: Watched, settings: Settings) -> None:
    """Read the log once, so that nothing is answered before this process may vouch for it; then begin the loops."""
    served = watched.core
    follower = LogFollower(log=served.log, touches=served.touches, lease=served.lease, clock=served.clock)
    saver = LastUseSaver(served.uses, served.last_uses)
    keeper = Housekeeper(replies=SqlReplyKeeper(served.database), refusals=served.refusals, clock=served.clock)
    rotations = RotationKeeper(SqlOverdueKeys(served.database), served.units, served.clock)
    checkpoints = CheckpointKeeper(served.checkpointer, served.checkpoints, served.clock)
    watched.follower = follower
    await follower.turn()
    quotas = AllowanceKeeper(SqlAllowanceShelf(served.database), served.clock)
    shelves = _usage_keeper(served)
    await shelves.begin()
    flusher, attempts = _flushers(stack, watched, LARGE_STRETCH_CALLS if settings.usage_store else STRETCH_CALLS)
    watched.joiner = joiner = OutcomeJoiner(served.outcomes, served.clock)
    watched.journals = JournalWatch(served.usage)
    await flusher.turn()
    for loop in (
        Loop("count usage", partial(_count, attempts, flusher), interval_ms=_USAGE_INTERVAL_MS, once_more=True),
        Loop("join outcomes", joiner.turn, interval_ms=_USAGE_INTERVAL_MS),
        Loop("watch journals", watched.journals.turn, interval_ms=_JOURNALS_INTERVAL_MS),
        Loop("follow the log", follower.turn, interval_ms=settings.poll_interval_ms),
        Loop("save last uses", saver.turn, interval_ms=_LAST_USE_INTERVAL_MS, once_more=True),
        Loop("forget old quotas", quotas.turn, interval_ms=_RETENTION_INTERVAL_MS),
        Loop("give back allowances", served.limiting.blocks.turn, interval_ms=_ALLOWANCES_INTERVAL_MS),
        Loop("housekeeping", keeper.turn, interval_ms=_HOUSEKEEPING_INTERVAL_MS),
        Loop("sign checkpoints", checkpoints.turn, interval_ms=_CHECKPOINTS_INTERVAL_MS),
        Loop("see to old secrets", rotations.turn, interval_ms=_ROTATIONS_INTERVAL_MS),
        Loop("forget old usage", shelves.turn, interval_ms=_RETENTION_INTERVAL_MS),
    ):
        watched.loops.append(loop)
        loop.start()
        stack.push_async_callback(loop.stop)
    stack.callback(_end_counting, served)  # before the loops go round once more, so that the journal ends with them
    if (told := await start_feed(stack, served, settings)) is not None:
        watched.feed = told.status


def _end_counting(served: Core) -> None:
    """Give no more verdicts: a journal that is counted to its end is closed, and nobody waits for this process."""
    for counting in (served.journal, served.attempts):
        if counting is not None:
            counting.close()


def _usage_keeper(served: Core) -> UsageKeeper:
    return UsageKeeper(SqlUsageShelf(served.database), served.retention, served.clock)


def _flushers(stack: AsyncExitStack, watched: Watched, stretch_calls: int) -> tuple[UsageFlusher, AttemptFlusher]:
    served = watched.core
    if served.journal is None or served.attempts is None:
        message = "a server needs a journal"
        raise ValueError(message)
    watched.pages = pages = MappedAttemptPages(served.attempts, served.clock)
    watched.stretches = MappedStretches(served.journal, served.clock, pages)
    stack.callback(watched.stretches.let_go)
    watched.attempts = AttemptFlusher(pages, served.attempt_store)
    watched.flusher = UsageFlusher(
        watched.stretches, served.usage, served.clock, stretch_calls=stretch_calls, node=socket.gethostname()
    )
    return watched.flusher, watched.attempts


async def _count(attempts: AttemptFlusher, flusher: UsageFlusher) -> None:
    """Count attempts first, so that usage is complete up to now; what one cannot do does not keep the other."""
    try:
        await attempts.turn()
    finally:
        await flusher.turn()


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
