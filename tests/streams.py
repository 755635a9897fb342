"""Clients of methods that stream, over every transport that has streams, for servers and for bare listeners.

Iterating yields the messages; an end that is not a good one raises ``StreamRefusedError`` with what the server said.
"""

from __future__ import annotations

import json
import struct
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote

import grpc
import httpx2
from google.protobuf import json_format
from google.protobuf.message import Message
from google.rpc import status_pb2

from keystead.transport.calls import Method
from tests.clients import CODES, UNREACHABLE, Answer, connect_refused, refused, value_bytes
from tests.web import web_client

HTTP_STREAMS = ("connect+json", "connect+proto", "grpc-web+proto")
STREAM_TRANSPORTS = ("grpc", *HTTP_STREAMS)
_FRAME_BYTES = 5
_CONNECT_END, _WEB_END = 0x02, 0x80


class StreamRefusedError(Exception):
    """Raised when a stream ends otherwise than well; ``answer`` is what the server said."""

    def __init__(self, answer: Answer) -> None:
        """Keep what was said."""
        super().__init__(str(answer))
        self.answer = answer


class StreamClient:
    """Opens streams to one gRPC address (HOST:PORT) and one HTTP URL."""

    def __init__(self, grpc_address: str, http_url: str, token: str = "") -> None:
        """Present ``token`` with every stream, or nothing when it is empty."""
        self.token = token
        self.http_url = http_url
        options = (("grpc.use_local_subchannel_pool", 1),)
        self._channel: Any = grpc.aio.insecure_channel(grpc_address, options=options)
        limits = httpx2.Limits(max_connections=None)
        self._http = web_client(base_url=http_url or "http://unused", timeout=30, limits=limits)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._stack.push_async_callback(self._http.aclose)
        self._stack.push_async_callback(self._channel.close)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def open(
        self, transport: str, method: Method, request: Message, *, token: str | None = None, timeout_s: float = 30
    ) -> AsyncGenerator[Any, None]:
        """Open a stream whose client sends one message; closing the generator cancels it."""
        headers = {"authorization": f"Bearer {token or self.token}"}
        if transport == "grpc":
            return self._over_grpc(method, request, headers, timeout_s)
        return self._over_http(transport, method, [request], headers, timeout_s)

    def talk(
        self, method: Method, requests: AsyncIterator[bytes], *, timeout_s: float = 30
    ) -> AsyncGenerator[Any, None]:
        """Open a stream both ways, over gRPC; ``requests`` are messages as bytes, good or bad."""
        call = self._channel.stream_stream(method.path, response_deserializer=method.reply.FromString)(
            requests, metadata=(("authorization", f"Bearer {self.token}"),), timeout=timeout_s
        )
        return _replies(call)

    def send_all(self, transport: str, method: Method, requests: Sequence[Message]) -> AsyncGenerator[Any, None]:
        """Open a stream over HTTP with another number of messages than one."""
        return self._over_http(transport, method, requests, {"authorization": f"Bearer {self.token}"}, 30)

    def _over_grpc(
        self, method: Method, request: Message, headers: Mapping[str, str], timeout_s: float
    ) -> AsyncGenerator[Any, None]:
        stub = self._channel.unary_stream(method.path, response_deserializer=method.reply.FromString)
        return _replies(stub(request.SerializeToString(), metadata=tuple(headers.items()), timeout=timeout_s))

    async def _over_http(
        self,
        transport: str,
        method: Method,
        requests: Sequence[Message],
        headers: Mapping[str, str],
        timeout_s: float,
    ) -> AsyncGenerator[Any, None]:
        in_json = transport == "connect+json"
        timeout_ms = int(timeout_s * 1_000)
        limit = {"grpc-timeout": f"{timeout_ms}m"} if "grpc" in transport else {"connect-timeout-ms": str(timeout_ms)}
        body = b"".join([_frame(_encoded(request, in_json=in_json)) for request in requests])
        kind = {"content-type": f"application/{transport}"}
        async with self._http.stream("POST", method.path, content=body, headers={**headers, **limit, **kind}) as got:
            if got.status_code != httpx2.codes.OK:
                raise StreamRefusedError(connect_refused(json.loads(await got.aread()), got.status_code))
            if "grpc-status" in got.headers:
                raise StreamRefusedError(_web_ending(got.headers))
            async with aclosing(_frames(got)) as frames:
                async for flags, frame in frames:
                    if flags & (_CONNECT_END | _WEB_END):
                        _demand_good(flags, frame)
                        return
                    yield json_format.Parse(frame, method.reply()) if in_json else method.reply.FromString(frame)
        raise StreamRefusedError(Answer(UNREACHABLE))


async def _replies(call: Any) -> AsyncGenerator[Any, None]:
    try:
        async for reply in call:
            yield reply
    except grpc.aio.AioRpcError as error:
        details = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin", b"")
        known = refused(status_pb2.Status.FromString(value_bytes(details))) if details else None
        raise StreamRefusedError(known or Answer(error.code().name, text=error.details() or "")) from None
    finally:
        call.cancel()


def _encoded(request: Message, *, in_json: bool) -> bytes:
    return json_format.MessageToJson(request, indent=None).encode() if in_json else request.SerializeToString()


def _frame(payload: bytes) -> bytes:
    return struct.pack(">BI", 0, len(payload)) + payload


async def _frames(got: httpx2.Response) -> AsyncGenerator[tuple[int, bytes], None]:
    held = b""
    async for chunk in got.aiter_bytes():
        held += chunk
        while len(held) >= _FRAME_BYTES:
            flags, size = struct.unpack_from(">BI", held)
            if len(held) < _FRAME_BYTES + size:
                break
            yield flags, held[_FRAME_BYTES : _FRAME_BYTES + size]
            held = held[_FRAME_BYTES + size :]


def _demand_good(flags: int, frame: bytes) -> None:
    if flags & _CONNECT_END:
        if error := json.loads(frame).get("error"):
            raise StreamRefusedError(connect_refused(error))
        return
    trailers = dict(line.split(": ", 1) for line in frame.decode().split("\r\n") if line)
    if trailers["grpc-status"] != "0":
        raise StreamRefusedError(_web_ending(trailers))


def _web_ending(found: Mapping[str, str]) -> Answer:
    if "grpc-status-details-bin" in found:
        return refused(status_pb2.Status.FromString(value_bytes(found["grpc-status-details-bin"])))
    return Answer(CODES[int(found["grpc-status"])], text=unquote(found.get("grpc-message", "")))
