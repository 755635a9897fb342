"""The reference engine, grpcio's asyncio server, and the services that it serves for both engines.

Health, reflection and the answer to unknown methods are the same code whichever engine listens: the native one passes
what it does not know to such a server on a Unix socket.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, NoReturn, cast

import grpc
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import SERVICE_NAME as HEALTH_SERVICE
from grpc_health.v1.health import aio as health_aio
from grpc_reflection.v1alpha import reflection

from keystead.transport.calls import Call, Metadata, Method
from keystead.transport.errors import MethodNotFoundError
from keystead.transport.grpc.answering import Answering
from keystead.transport.grpc.settings import GrpcSettings
from keystead.transport.listening import ListenError
from keystead.transport.refusals import Refusal, refusal_of

_Context = aio.ServicerContext[Any, Any]
_OVERSIZE_FACTOR = 4
_LAST_WORD_S = 0.1


def trailing_metadata(refusal: Refusal, response_headers: Mapping[str, str]) -> list[tuple[str, str | bytes]]:
    """Pack the details the way gRPC clients look for them, after the handler's own headers."""
    return [*response_headers.items(), ("grpc-status-details-bin", refusal.status.SerializeToString())]


class Health:
    """The standard health service: the same state for every service and for the server as a whole ("")."""

    def __init__(self, services: Sequence[str]) -> None:
        """Start as not serving."""
        self._services = ("", *services)
        self.servicer = _HealthServicer()

    async def set_serving(self, *, serving: bool) -> None:
        """Tell whoever checks or watches."""
        states = health_pb2.HealthCheckResponse
        for service in self._services:
            await self.servicer.set(service, states.SERVING if serving else states.NOT_SERVING)

    async def end_watches(self) -> None:
        """End every watch, once it had time to tell its client what it was told last; they would outlast any grace."""
        await self.servicer.end_watches()


class _HealthServicer(health_aio.HealthServicer):
    """The standard one, with watches that the server can end."""

    def __init__(self) -> None:
        super().__init__()
        self._watches: set[asyncio.Task[None]] = set()
        self._ending = False

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: _Context) -> None:  # noqa: N802 -- gRPC's
        watch = asyncio.ensure_future(super().Watch(request, context))
        self._watches.add(watch)
        try:
            await watch
        except asyncio.CancelledError:
            if not self._ending:
                raise
        finally:
            self._watches.discard(watch)

    async def end_watches(self) -> None:
        if not self._watches:
            return
        await asyncio.sleep(_LAST_WORD_S)
        self._ending = True
        for watch in self._watches:
            watch.cancel()


class _Methods(grpc.GenericRpcHandler):
    """Finds the handler of a path, and one that refuses for every other path."""

    def __init__(self, handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]]) -> None:
        self._handlers = handlers

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        path = handler_call_details.method
        return self._handlers.get(path) or grpc.stream_stream_rpc_method_handler(_refusing(path))


def _hide_values(record: logging.LogRecord) -> bool:
    """Keep out of the log the header that grpcio could not decode, and which it would quote: it may be a credential."""
    if str(record.msg).startswith("Invalid encoding"):
        record.msg, record.args, record.exc_info = "a header is not UTF-8", (), None
    return True


def _refusing(path: str) -> Callable[[Any, _Context], Awaitable[None]]:
    async def refuse(_requests: object, context: _Context) -> None:
        await _abort(context, refusal_of(MethodNotFoundError(path), path), {})

    return refuse


def _serving(method: Method, answering: Answering) -> Callable[[bytes, _Context], Awaitable[bytes]]:
    async def serve(payload: bytes, context: _Context) -> bytes:
        call = _call_of(method, context)
        answer = await answering.answer(call, payload)
        if isinstance(answer, Refusal):
            await _abort(context, answer, call.response_headers)
        if call.response_headers:
            await context.send_initial_metadata(tuple(call.response_headers.items()))
        return answer

    return serve


def _streaming(
    method: Method, answering: Answering
) -> Callable[[bytes | AsyncIterator[bytes], _Context], Awaitable[None]]:
    async def serve(payload: bytes | AsyncIterator[bytes], context: _Context) -> None:
        refusal = await answering.stream(_call_of(method, context), payload, context.write)
        if refusal is not None:
            await _abort(context, refusal, {})

    return serve


def _call_of(method: Method, context: _Context) -> Call:
    metadata = cast("Metadata", context.invocation_metadata() or ())
    return Call(method, metadata, context.peer(), context.time_remaining())


def _handler(method: Method, answering: Answering) -> grpc.RpcMethodHandler[Any, Any]:
    if not method.streams:
        return grpc.unary_unary_rpc_method_handler(cast("Any", _serving(method, answering)))
    stream = cast("Any", _streaming(method, answering))
    if method.client_streaming:
        return grpc.stream_stream_rpc_method_handler(stream)
    return grpc.unary_stream_rpc_method_handler(stream)


async def _abort(context: _Context, refusal: Refusal, response_headers: Mapping[str, str]) -> NoReturn:
    trailing = tuple(trailing_metadata(refusal, response_headers))
    await context.abort(refusal.statuses.grpc, refusal.message, trailing)


def make_server(
    methods: Sequence[Method], services: Sequence[str], answering: Answering, health: Health, settings: GrpcSettings
) -> aio.Server:
    """Make a server of ``methods``, which has no port yet; ``services`` are the names that reflection tells."""
    logging.getLogger("grpc._cython.cygrpc").addFilter(_hide_values)
    server = aio.server(
        options=(
            ("grpc.so_reuseport", 0),
            # Somewhat more than the limit, so that the refusal of most oversized messages is ours and says what to do.
            ("grpc.max_receive_message_length", settings.message_maximum_bytes * _OVERSIZE_FACTOR),
            ("grpc.max_metadata_size", settings.metadata_maximum_bytes),
            ("grpc.absolute_max_metadata_size", settings.metadata_maximum_bytes),
            ("grpc.max_concurrent_streams", settings.concurrent_streams_maximum),
        )
    )
    health_pb2_grpc.add_HealthServicer_to_server(health.servicer, server)
    if settings.reflection:
        reflection.enable_server_reflection((*services, HEALTH_SERVICE, reflection.SERVICE_NAME), server)
    handlers = {method.path: _handler(method, answering) for method in methods}
    server.add_generic_rpc_handlers((_Methods(handlers),))
    return server


class ReferenceEngine:
    """grpcio's server on a TCP port, with or without TLS."""

    def __init__(self, server: aio.Server, settings: GrpcSettings) -> None:
        """Take a server from ``make_server``."""
        self._server = server
        self._settings = settings

    async def start(self) -> int:
        """Listen, and return the port; raises ``ListenError``."""
        port = self._bind()
        await self._server.start()
        return port

    async def stop(self, grace_s: float) -> None:
        """Take no new calls, wait ``grace_s`` for those under way, cancel the rest."""
        await self._server.stop(grace_s)

    def _bind(self) -> int:
        address = str(self._settings.address)
        tls = self._settings.tls
        try:
            if tls is None:
                port = self._server.add_insecure_port(address)
            else:
                tls.check(address)
                pair = (tls.key.read_bytes(), tls.certificate.read_bytes())
                port = self._server.add_secure_port(address, grpc.ssl_server_credentials([pair]))
        except RuntimeError as error:
            raise ListenError(address, "the address is taken, or is none of this machine's") from error
        if port == 0:
            raise ListenError(address, "the address is taken, or is none of this machine's")
        return port
