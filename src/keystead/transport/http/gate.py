"""What is settled before anybody decodes a request: path, method, headers, content type, and a whole body in bounds.

connectrpc answers these with empty bodies, or not at all; here each gets a refusal that says what to send. The body is
read to its end before the call starts, so a client that sends slowly holds a connection and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from base64 import b64encode
from collections.abc import Iterable
from typing import NoReturn
from urllib.parse import quote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from keystead.kernel.errors import KeysteadError, UnavailableError, invalid
from keystead.transport.calls import Method
from keystead.transport.errors import (
    GrpcOnlyError,
    MessageTooLargeError,
    MethodNotAllowedError,
    MethodNotFoundError,
    RequestTimeoutError,
    UnsupportedMediaTypeError,
)
from keystead.transport.http.refusing import connect_body
from keystead.transport.refusals import Refusal, refusal_of

_GRPC_WEB = "application/grpc-web"
_CONTENT_TYPES = frozenset(
    {"application/json", "application/proto", _GRPC_WEB, "application/grpc-web+proto", "application/grpc-web+json"}
)
_STREAM_CONTENT_TYPES = frozenset(
    {
        "application/connect+json",
        "application/connect+proto",
        _GRPC_WEB,
        "application/grpc-web+proto",
        "application/grpc-web+json",
    }
)
_INSTEAD = {"StreamOutcomes": "; over HTTP call ReportOutcomes"}
_ENCODINGS = frozenset({"", "identity", "gzip"})
_FORMS = {
    "connect-timeout-ms": (re.compile(r"[0-9]{1,10}"), "must be milliseconds, at most 10 digits"),
    "connect-protocol-version": (re.compile("1"), "must be 1"),
    "grpc-timeout": (re.compile(r"[0-9]{1,8}[HMSmun]"), "must be at most 8 digits and a unit, for example 500m"),
    "content-length": (re.compile(r"[0-9]{1,12}"), "must be a number of bytes"),
}


_DISCARDED_MAXIMUM_BYTES = 16 * 1_048_576
_DISCARDING_S = 2.0
_PATIENCE_MS = 30_000
"""How long the client of a stream may take for one message: a stream that nobody reads holds one of few places."""


class _GoneError(Exception):
    """Raised when the client left before its request was whole: nobody is there to answer."""


class Gate:
    """Lets through to ``inner`` what is a call of one of ``methods``, with its body read."""

    def __init__(
        self,
        inner: ASGIApp,
        methods: Iterable[Method],
        *,
        message_maximum_bytes: int,
        body_timeout_ms: int,
        patience_ms: int = _PATIENCE_MS,
    ) -> None:
        """Keep the bounds."""
        self._inner = inner
        self._methods = {method.path: method for method in methods}
        self._message_maximum_bytes = message_maximum_bytes
        self._body_timeout_ms = body_timeout_ms
        self._patience_s = patience_ms / 1_000

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        try:
            headers = _checked_headers(scope)
            method = self._check(scope, headers)
            body = await self._body(receive, headers)
        except _GoneError:
            return
        except MessageTooLargeError as error:
            await _discard(scope, receive)
            await _refuse(refusal_of(error, scope["path"][:200]), scope, send)
            return
        except KeysteadError as error:
            await _refuse(refusal_of(error, scope["path"][:200]), scope, send)
            return
        if not method.streams:
            await self._inner(scope, _replay(body, receive), send)
            return
        patient = _PatientSend(send, self._patience_s)
        try:
            await self._inner(scope, _replay(body, receive), patient)
        except Exception:
            if not patient.gave_up:
                raise

    def _check(self, scope: Scope, headers: dict[str, str]) -> Method:
        path = scope["path"]
        method = self._methods.get(path)
        if method is None:
            raise MethodNotFoundError(path)
        if method.client_streaming:
            raise GrpcOnlyError(path, _INSTEAD.get(method.name, ""))
        if scope["method"] != "POST":
            raise MethodNotAllowedError
        _check_content_type(method, headers)
        for name, (form, description) in _FORMS.items():
            if name in headers and not form.fullmatch(headers[name]):
                raise invalid(f"header {name}", description)
        return method

    async def _body(self, receive: Receive, headers: dict[str, str]) -> bytes:
        if int(headers.get("content-length", "0")) > self._message_maximum_bytes:
            raise MessageTooLargeError(self._message_maximum_bytes)
        try:
            async with asyncio.timeout(self._body_timeout_ms / 1_000):
                return await self._read(receive)
        except TimeoutError:
            raise RequestTimeoutError(self._body_timeout_ms) from None

    async def _read(self, receive: Receive) -> bytes:
        chunks: list[bytes] = []
        size_bytes = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _GoneError
            chunk = message.get("body", b"")
            size_bytes += len(chunk)
            if size_bytes > self._message_maximum_bytes:
                raise MessageTooLargeError(self._message_maximum_bytes)
            chunks.append(chunk)
            if not message.get("more_body", False):
                return b"".join(chunks)


class _PatientSend:
    """Waits for a client to take a message, but not for ever."""

    def __init__(self, send: Send, patience_s: float) -> None:
        self._send = send
        self._patience_s = patience_s
        self.gave_up = False

    async def __call__(self, message: Message) -> None:
        try:
            async with asyncio.timeout(self._patience_s):
                await self._send(message)
            # To a client that is gone uvicorn sends nothing, without a pause in which the news of it could come.
            await asyncio.sleep(0)
        except TimeoutError:
            self.gave_up = True
            raise UnavailableError(f"The client took no message for {self._patience_s:g} s.") from None


async def _discard(scope: Scope, receive: Receive) -> None:
    """Take in what is left of a body, within bounds: most clients look for an answer when they have sent it all."""
    if any(name == b"expect" for name, _ in scope["headers"]):
        return  # this client asks before it sends
    left_bytes = _DISCARDED_MAXIMUM_BYTES
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_DISCARDING_S):
            while left_bytes > 0:
                message = await receive()
                left_bytes -= len(message.get("body", b""))
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return


def _replay(body: bytes, receive: Receive) -> Receive:
    waiting = [body]

    async def replay() -> Message:
        if waiting:
            return {"type": "http.request", "body": waiting.pop(), "more_body": False}
        return await receive()

    return replay


def _checked_headers(scope: Scope) -> dict[str, str]:
    """Read the headers; the first of a name counts, as it does for connectrpc."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name = raw_name.decode("ascii", "replace")
        try:
            value = raw_value.decode("utf-8")
        except UnicodeDecodeError:
            _refuse_header(name)
        if not name.isascii() or not value.replace("\t", " ").isprintable():
            _refuse_header(name)
        headers.setdefault(name, value)
    return headers


def _refuse_header(name: str) -> NoReturn:
    shown = "".join([letter for letter in name if letter.isascii() and letter.isprintable()])
    raise invalid(f"header {shown}", "must be printable text")


def _check_content_type(method: Method, headers: dict[str, str]) -> None:
    content_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if method.streams and content_type not in _STREAM_CONTENT_TYPES:
        raise UnsupportedMediaTypeError(
            "The method streams: send content-type: application/connect+json (or application/connect+proto), in frames."
        )
    if not method.streams and content_type not in _CONTENT_TYPES:
        hint = "; gRPC itself has a port of its own" if content_type.startswith("application/grpc") else ""
        raise UnsupportedMediaTypeError(f"Send content-type: application/json (or application/proto){hint}.")
    for name in ("content-encoding", "connect-content-encoding", "grpc-encoding"):
        if headers.get(name, "") not in _ENCODINGS:
            raise UnsupportedMediaTypeError(f"Send the body plain, or with {name}: gzip.")


async def _refuse(refusal: Refusal, scope: Scope, send: Send) -> None:
    content_types = [value for name, value in scope["headers"] if name == b"content-type"]
    if content_types and content_types[0].startswith(_GRPC_WEB.encode()):
        status, body, headers = 200, b"", _grpc_web_headers(refusal)
    else:
        status, headers = refusal.statuses.http, {"content-type": "application/json"}
        body = json.dumps(connect_body(refusal), ensure_ascii=False).encode()
    headers |= refusal.http_headers | {"content-length": str(len(body))}
    if refusal.code == "method_not_allowed":
        headers["allow"] = "POST"
    if refusal.code in {"message_too_large", "request_timeout"}:
        headers["connection"] = "close"  # the rest of the body may not have been read
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})


def _grpc_web_headers(refusal: Refusal) -> dict[str, str]:
    return {
        "content-type": _GRPC_WEB,
        "grpc-status": str(refusal.statuses.grpc.value[0]),
        "grpc-message": quote(refusal.message, safe=""),
        "grpc-status-details-bin": b64encode(refusal.status.SerializeToString()).decode().rstrip("="),
    }
