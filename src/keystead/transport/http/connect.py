"""One Connect application for every method of every service.

connectrpc frames, negotiates, unpacks and watches for the client's leaving; each endpoint here turns its context into a
``Call`` and asks the same dispatcher as gRPC. What connectrpc refuses by itself is dressed like every other refusal.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from connectrpc.method import IdempotencyLevel, MethodInfo, StreamType
from connectrpc.request import RequestContext
from connectrpc.server import ConnectASGIApplication, Endpoint
from google.protobuf.message import Message

from keystead.transport.calls import Call, Dispatcher, HeaderError, Method
from keystead.transport.errors import DeadlineExceededError, MalformedMessageError, MessageTooLargeError
from keystead.transport.http.codecs import BinaryCodec, JsonCodec, Reply
from keystead.transport.http.refusing import connect_error
from keystead.transport.refusals import refusal_of

_Context = RequestContext[Message, Reply]


class ConnectApplication(ConnectASGIApplication[Sequence[Method]]):
    """Serves ``methods`` by Connect and gRPC-Web."""

    def __init__(self, methods: Sequence[Method], dispatch: Dispatcher, *, message_maximum_bytes: int) -> None:
        """Bind every method; GET is offered for none, because a URL is no place for a secret (P1)."""
        super().__init__(
            service=methods,
            endpoints=lambda methods: {
                method.path: Endpoint.unary(_information(method), _serving(method, dispatch)) for method in methods
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
        call = Call(
            method,
            tuple(context.request_headers.allitems()),
            context.client_address or "",
            None if context.timeout_ms is None else context.timeout_ms / 1_000,
        )
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


def _information(method: Method) -> MethodInfo[Message, Reply]:
    return MethodInfo(
        name=method.name,
        service_name=method.service,
        input=method.request,
        output=Reply,
        idempotency_level=IdempotencyLevel.UNKNOWN,
        stream_type=StreamType.UNARY,
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
