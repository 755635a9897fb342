"""Clients for the tests of a running server: one way to call, over every transport that the server offers.

A call never raises for what the server answers: it returns an ``Answer``, which is the same whatever the transport, so
a test can be run over all of them.
"""

from __future__ import annotations

import base64
import json
import struct
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import unquote

import grpc
import httpx2
from google.protobuf import json_format
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from keystead.transport.calls import Method
from keystead.transport.contract import service_methods
from tests.servers import KeysteadServer
from tests.web import web_client

METHODS: dict[str, Method] = {method.name: method for method in service_methods() if not method.streams}
STREAMS: dict[str, Method] = {method.name: method for method in service_methods() if method.streams}
MUTATIONS = sorted(name for name, method in METHODS.items() if method.access.mutates)
TIMEOUT_S = 30.0
TRANSPORTS = ("grpc", "json", "proto", "grpc-web")
UNREACHABLE = "UNREACHABLE"

CODES = {code.value[0]: code.name for code in grpc.StatusCode}


@dataclass(frozen=True)
class Answer:
    """What came back. ``status`` is gRPC's name for it, ``UNREACHABLE`` when nothing came back at all."""

    status: str
    raw: bytes = field(default=b"", repr=False)
    reply: Any = field(default=None, repr=False)
    reason: str = ""
    text: str = ""
    fields: tuple[str, ...] = ()
    http_status: int = 0

    @property
    def ok(self) -> bool:
        """Whether the call succeeded."""
        return self.status == "OK"

    @property
    def refusal(self) -> tuple[str, str]:
        """What a program branches on."""
        return self.status, self.reason

    def must(self) -> Any:
        """Return the reply of a call that had to succeed."""
        assert self.ok, self
        return self.reply


class Client(ABC):
    """Calls one server; ``token`` is the management key that goes with every call."""

    def __init__(self, token: str = "") -> None:
        """Present ``token``, or nothing when it is empty."""
        self.token = token

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def call(
        self, name: str, /, *, token: str | None = None, headers: Mapping[str, str] | None = None, **fields: Any
    ) -> Answer:
        """Call the method ``name`` with a message of ``fields``."""
        return await self.send(name, METHODS[name].request(**fields), token=token, headers=headers)

    async def send(
        self, name: str, request: Message, *, token: str | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Call the method ``name`` with ``request``."""
        return await self.send_bytes(name, self.encode(request), token=token, headers=headers)

    async def send_bytes(
        self, name: str, payload: bytes, *, token: str | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Call the method ``name`` with whatever ``payload`` is."""
        token = self.token if token is None else token
        sent = {"authorization": f"Bearer {token}"} if token else {}
        return await self.exchange(METHODS[name], payload, sent | dict(headers or {}))

    async def verify(self, key: str, *, environment: str = "LIVE", **fields: Any) -> str:
        """Verify ``key`` and return the verdict's code, or the reason why there is none."""
        answer = await self.call("VerifyKey", key=key, environment=environment, **fields)
        if not answer.ok:
            return answer.status
        return str(
            METHODS["VerifyKey"].reply.DESCRIPTOR.enum_types_by_name["Code"].values_by_number[answer.reply.code].name
        )

    def encode(self, request: Message) -> bytes:
        """Write a request as this transport does."""
        return request.SerializeToString()

    @abstractmethod
    async def exchange(self, method: Method, payload: bytes, headers: Mapping[str, str]) -> Answer:
        """Send one payload and read what comes back."""

    @abstractmethod
    async def close(self) -> None:
        """End every connection."""


class GrpcClient(Client):
    """grpcio's client."""

    def __init__(self, address: str, token: str = "", *, credentials: grpc.ChannelCredentials | None = None) -> None:
        """Call ``address``, with TLS when ``credentials`` are given."""
        super().__init__(token)
        options = (("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1))
        self.channel = (
            grpc.aio.insecure_channel(address, options=options)
            if credentials is None
            else grpc.aio.secure_channel(address, credentials, options=options)
        )

    async def exchange(self, method: Method, payload: bytes, headers: Mapping[str, str]) -> Answer:
        """Send one payload and read what comes back."""
        metadata = tuple(headers.items())
        try:
            raw: bytes = await self._stub(method.path)(payload, metadata=metadata, timeout=TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            details = dict(error.trailing_metadata()).get("grpc-status-details-bin", b"")
            if not details:
                return Answer(UNREACHABLE if error.code().name == "UNAVAILABLE" else error.code().name)
            return refused(status_pb2.Status.FromString(value_bytes(details)))
        return Answer("OK", raw, method.reply.FromString(raw))

    async def close(self) -> None:
        """End every connection."""
        await self.channel.close()

    def _stub(self, path: str) -> Any:
        return self.channel.unary_unary(path)


class _HttpClient(Client):
    content_type = ""

    def __init__(self, url: str, token: str = "", **options: Any) -> None:
        """Call ``url``; ``options`` are httpx2's."""
        super().__init__(token)
        self.http = web_client(base_url=url, timeout=TIMEOUT_S, **options)

    async def close(self) -> None:
        """End every connection."""
        await self.http.aclose()

    async def exchange(self, method: Method, payload: bytes, headers: Mapping[str, str]) -> Answer:
        """Send one payload and read what comes back."""
        try:
            got = await self.http.post(
                method.path, content=payload, headers={"content-type": self.content_type, **headers}
            )
        except httpx2.TransportError:
            return Answer(UNREACHABLE)
        return self.read(method, got)

    @abstractmethod
    def read(self, method: Method, got: httpx2.Response) -> Answer:
        """Read what came back."""


class JsonClient(_HttpClient):
    """Connect with JSON, as ``curl`` would."""

    content_type = "application/json"

    def encode(self, request: Message) -> bytes:
        """Write JSON."""
        return json_format.MessageToJson(request, indent=None).encode()

    def read(self, method: Method, got: httpx2.Response) -> Answer:
        """Read what came back."""
        if got.status_code != httpx2.codes.OK:
            return _connect_refused(got)
        reply = json_format.Parse(got.content, method.reply())
        return Answer("OK", got.content, reply, http_status=got.status_code)


class ProtoClient(_HttpClient):
    """Connect with binary messages."""

    content_type = "application/proto"

    def read(self, method: Method, got: httpx2.Response) -> Answer:
        """Read what came back."""
        if got.status_code != httpx2.codes.OK:
            return _connect_refused(got)
        return Answer("OK", got.content, method.reply.FromString(got.content), http_status=got.status_code)


class GrpcWebClient(_HttpClient):
    """gRPC-Web, as a browser would."""

    content_type = "application/grpc-web+proto"

    async def exchange(self, method: Method, payload: bytes, headers: Mapping[str, str]) -> Answer:
        """Send one framed payload and read what comes back."""
        return await super().exchange(method, struct.pack(">BI", 0, len(payload)) + payload, headers)

    def read(self, method: Method, got: httpx2.Response) -> Answer:
        """Read what came back."""
        message, found = b"", {name.lower(): value for name, value in got.headers.items()}
        content = got.content
        while content:
            flags, size = struct.unpack_from(">BI", content)
            frame, content = content[5 : 5 + size], content[5 + size :]
            if flags & 0x80:
                found |= dict(line.split(": ", 1) for line in frame.decode().split("\r\n") if line)
            else:
                message = frame
        if found.get("grpc-status") == "0":
            return Answer("OK", message, method.reply.FromString(message), http_status=got.status_code)
        if "grpc-status-details-bin" in found:
            return refused(status_pb2.Status.FromString(value_bytes(found["grpc-status-details-bin"])))
        return Answer(CODES.get(int(found.get("grpc-status", "2")), "?"), text=unquote(found.get("grpc-message", "")))


def client_for(server: KeysteadServer, transport: str = "grpc", token: str | None = None) -> Client:
    """Make a client of ``server`` for ``transport``, one of ``TRANSPORTS``; with its first management key, unless
    told.
    """
    token = server.management_key if token is None else token
    if transport == "grpc":
        return GrpcClient(server.grpc, token)
    kinds: dict[str, type[_HttpClient]] = {"json": JsonClient, "proto": ProtoClient, "grpc-web": GrpcWebClient}
    return kinds[transport](server.http, token)


def value_bytes(value: str | bytes) -> bytes:
    """Read a binary header, which HTTP carries as base64."""
    return value if isinstance(value, bytes) else base64.b64decode(value + "=" * (-len(value) % 4))


def refused(status: status_pb2.Status, http_status: int = 0) -> Answer:
    """Read what refused a call."""
    reason, fields = "", []
    for packed in status.details:
        info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        if packed.Unpack(info):
            reason = info.reason
        elif packed.Unpack(bad):
            fields = [violation.field for violation in bad.field_violations]
    return Answer(CODES[status.code], b"", None, reason, status.message, tuple(fields), http_status)


def _connect_refused(got: httpx2.Response) -> Answer:
    try:
        body = json.loads(got.content)
    except ValueError:
        return Answer("?", got.content, text=got.text, http_status=got.status_code)
    return connect_refused(body, got.status_code)


def connect_refused(body: Mapping[str, Any], http_status: int = 0) -> Answer:
    """Read an error as Connect writes it."""
    status = status_pb2.Status(message=body.get("message", ""))
    name = body["code"].upper().replace("CANCELED", "CANCELLED")
    status.code = next(number for number, known in CODES.items() if known == name)
    for detail in body.get("details", ()):
        packed = status.details.add()
        packed.type_url = "type.googleapis.com/" + detail["type"]
        packed.value = value_bytes(detail["value"])
    return refused(status, http_status)
