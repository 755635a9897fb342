"""One Connect application for every method of every service.

connectrpc frames, negotiates, unpacks and watches for the client's leaving; each endpoint here turns its context into a
``Call`` and asks the same dispatcher as gRPC. What connectrpc refuses by itself is dressed like every other refusal.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from connectrpc.method import IdempotencyLevel, MethodInfo, StreamType
from connectrpc.request import RequestContext
from connectrpc.server import ConnectASGIApplication, Endpoint
from google.protobuf.message import Message

from keystead.transport.calls import Call, Dispatcher, HeaderError, Method, StreamDispatcher
from keystead.transport.errors import (
    DeadlineExceededError,
    MalformedMessageError,
    MessageTooLargeError,
    MethodNotFoundError,
)
from keystead.transport.http.codecs import BinaryCodec, JsonCodec, Reply
from keystead.transport.http.refusing import connect_error
from keystead.transport.refusals import refusal_of

_Context = RequestContext[Message, Reply]


class ConnectApplication(ConnectASGIApplication[Sequence[Method]]):
    """Serves ``methods`` by Connect and gRPC-Web, all but those whose client streams."""

    def __init__(
        self,
        methods: Sequence[Method],
        dispatch: Dispatcher,
        stream_dispatch: StreamDispatcher | None,
        *,
        message_maximum_bytes: int,
    ) -> None:
        """Bind every method; GET is offered for none, because a URL is no place for a secret (P1)."""
        super().__init__(
            service=methods,
            endpoints=lambda methods: {
                method.path: (
                    Endpoint.server_stream(_information(method), _streaming(method, stream_dispatch))
                    if method.server_streaming
                    else Endpoint.unary(_information(method), _serving(method, dispatch))
                )
                for method in methods
                if not method.client_streaming
            },
            interceptors=[_DressRefusals(message_maximum_bytes)],
            read_max_bytes=message_maximum_bytes,
            codecs=[BinaryCodec(), JsonCodec()],
        )

    @property
    def path(self) -> str:
        """Where it is mounted: nowhere, the methods' paths are whole."""
        return ""


def _serving(method: Method, dispatch: Dispatcher) -> Callable[[Message, _Context], Awaitable[Reply]]:
    async def serve(request: Message, context: _Context) -> Reply:
        call = _call_of(method, context)
        call.tells_limits = True
        try:
            reply = Reply(method.reply, await dispatch(call, request))
            if not call.keep_legal_headers():
                raise HeaderError  # noqa: TRY301  # it is a fault like any that the handler raises
        except Exception as error:  # noqa: BLE001  # whatever a handler raises becomes a refusal, here and nowhere else
            call.keep_legal_headers()
            refusal = refusal_of(error, method.path)
            _set_headers(context, refusal.http_headers)
            raise connect_error(refusal) from None
        else:
            return reply
        finally:
            _set_headers(context, call.response_headers)

    return serve


def _streaming(
    method: Method, stream_dispatch: StreamDispatcher | None
) -> Callable[[Message, _Context], AsyncGenerator[Reply, None]]:
    async def serve(request: Message, context: _Context) -> AsyncGenerator[Reply, None]:
        try:
            if stream_dispatch is None:
                raise MethodNotFoundError(method.path)  # noqa: TRY301  # refused like what a handler refuses
            async with aclosing(stream_dispatch(_call_of(method, context), request)) as messages:
                async for message in messages:
                    yield Reply(method.reply, message)
        except Exception as error:  # noqa: BLE001  # as above
            refusal = refusal_of(error, method.path)
            _set_headers(context, refusal.http_headers)
            raise connect_error(refusal) from None

    return serve


def _call_of(method: Method, context: _Context) -> Call:
    return Call(
        method,
        tuple(context.request_headers.allitems()),
        context.client_address or "",
        None if context.timeout_ms is None else context.timeout_ms / 1_000,
    )


def _information(method: Method) -> MethodInfo[Message, Reply]:
    return MethodInfo(
        name=method.name,
        service_name=method.service,
        input=method.request,
        output=Reply,
        idempotency_level=IdempotencyLevel.UNKNOWN,
        stream_type=StreamType.SERVER_STREAM if method.server_streaming else StreamType.UNARY,
    )


def _set_headers(context: _Context, headers: Mapping[str, str]) -> None:
    for name, value in headers.items():
        context.response_headers[name] = value


class _DressRefusals:
    """Gives connectrpc's own refusals a code and details; its texts, which may quote a header, stay here."""

    def __init__(self, message_maximum_bytes: int) -> None:
        self._own = {
            Code.DEADLINE_EXCEEDED: DeadlineExceededError(),
            Code.RESOURCE_EXHAUSTED: MessageTooLargeError(message_maximum_bytes),
            Code.INVALID_ARGUMENT: MalformedMessageError("The body cannot be unpacked, or its frames are broken."),
            Code.UNIMPLEMENTED: MalformedMessageError("The body must hold exactly one message."),
            Code.INTERNAL: MalformedMessageError("The body claims to be compressed and the headers do not say how."),
        }

    async def on_start(self, ctx: _Context) -> None:
        """Do nothing yet."""

    async def on_end(self, _token: None, ctx: _Context, error: Exception | None, /) -> None:
        """Replace an error without details by ours."""
        if error is None or (isinstance(error, ConnectError) and (error.details or error.code is Code.CANCELED)):
            return
        path = f"/{ctx.method.service_name}/{ctx.method.name}"
        own: Exception = error
        if isinstance(error, ConnectError):
            own = self._own.get(error.code, error)
        raise connect_error(refusal_of(own, path))
