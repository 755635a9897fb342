"""One call, whichever way it came in.

A ``Method`` is read from the service's descriptor, a ``Call`` is what the wire said beside the message, and a
``Dispatcher`` turns the two into a reply. Nothing else passes between the transports and the handlers, so a call is
answered alike on each.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from keystead.gen.v1 import options_pb2
from keystead.kernel.errors import invalid

_HEADER_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*(?<!-bin)")

Metadata = Sequence[tuple[str, str | bytes]]
"""Headers in the order they came, names in lower case; the values of names that end in ``-bin`` are bytes."""


@dataclass(frozen=True, slots=True)
class Access:
    """What a method demands of its caller and promises, as its ``(keystead.v1.access)`` option says."""

    scope: str
    operator: bool
    operator_only: bool
    returns_secret: bool
    mutates: bool


@dataclass(frozen=True, slots=True)
class Method:
    """One method; ``service`` is the full name and ``path`` is what both gRPC and Connect call it by."""

    service: str
    name: str
    path: str
    request: type[Message]
    reply: type[Message]
    access: Access
    client_streaming: bool = False
    server_streaming: bool = False

    @property
    def streams(self) -> bool:
        """Whether either side may send more than one message."""
        return self.client_streaming or self.server_streaming


class Call:
    """What the wire said about one call, read when it is asked for: most calls need one header and no more."""

    __slots__ = ("_address", "_ends_at_s", "_metadata", "method", "response_headers", "tells_limits", "traced")

    def __init__(self, method: Method, metadata: Metadata, address: str, remaining_s: float | None) -> None:
        """Keep what the engine knows: ``address`` in its own spelling, ``remaining_s`` as the deadline leaves it."""
        self.method = method
        self._metadata = metadata
        self._address = address
        self._ends_at_s = None if remaining_s is None else time.monotonic() + remaining_s
        self.response_headers: dict[str, str] = {}
        """Printable ASCII to go with the reply: HTTP headers, or gRPC's initial metadata (trailing with an error)."""
        self.tells_limits = False
        """Whether the reply's limits are told in headers too: where HTTP's own clients look for them."""
        self.traced: bool | None = None
        """Whether the call has a span; None before that was decided."""

    def header(self, name: str) -> str:
        """Return the header ``name`` (lower case), repeated values joined by ", "; "" when it is absent or binary.

        Raises ``InvalidRequestError`` when it is not printable ASCII: not every engine refuses control characters.
        """
        values = [value for key, value in self._metadata if key == name and isinstance(value, str)]
        return _printable(name, ", ".join(values))

    def keep_legal_headers(self) -> bool:
        """Say whether ``response_headers`` can be sent; forget them all when they cannot."""
        legal = all(
            _HEADER_NAME.fullmatch(name) and value.isascii() and value.isprintable()
            for name, value in self.response_headers.items()
        )
        if not legal:
            self.response_headers.clear()
        return legal

    def credential(self) -> str | None:
        """Return the ``authorization`` header, "" without one, and None when there are several different ones.

        Raises as ``header`` does.
        """
        found = ""
        for key, value in self._metadata:
            if key == "authorization" and value != found:
                if found or not isinstance(value, str):
                    return None
                found = value
        return _printable("authorization", found)

    @property
    def peer(self) -> str:
        """The address of the other end of the connection, without its port; "" when it has none (a Unix socket)."""
        return host_of(self._address)

    @property
    def remaining_ms(self) -> int | None:
        """Milliseconds to the deadline, at least 0; None when the caller set none."""
        if self._ends_at_s is None:
            return None
        return max(0, int((self._ends_at_s - time.monotonic()) * 1_000))


Dispatcher = Callable[[Call, Message], Awaitable[Message | bytes]]
"""Answers one call, with a message or with the reply already serialised; refuses by raising a ``KeysteadError``."""

StreamDispatcher = Callable[[Call, Message | AsyncIterator[Message]], AsyncGenerator[Message, None]]
"""Answers one call of a method that streams: with one message when its client sends only one, else with them all.

Refuses by raising a ``KeysteadError``, also in the middle; whoever stops asking for messages closes the generator.
"""

Outcome = Message | bytes | Exception | Coroutine[Any, Any, bytes] | None

Batch = Callable[[Sequence[tuple[Call, Message]]], Sequence[Outcome]]
"""Answers calls of one method that came in together, without awaiting: one outcome for each, in their order.

An exception refuses its call, ``None`` sends it to the dispatcher, and a coroutine is awaited, or closed. What the
batch raises itself fails all of its calls.
"""


def methods_of(service: ServiceDescriptor) -> list[Method]:
    """Bind the methods of ``service``."""
    return [_method(service, method) for method in service.methods]


def host_of(address: str) -> str:
    """Take the host out of ``ipv4:127.0.0.1:80``, ``ipv6:[::1]:80``, ``ipv6:%5B::1%5D:80`` or ``::1:80``."""
    scheme, separator, rest = address.partition(":")
    if separator and scheme in {"ipv4", "ipv6", "unix"}:
        if scheme == "unix":
            return ""
        address = unquote(rest)
    return address.rpartition(":")[0].strip("[]")


class HeaderError(ValueError):
    """Raised when a handler set a response header that cannot be sent: a fault of ours."""


def _printable(name: str, value: str) -> str:
    if value.isascii() and value.isprintable():
        return value
    raise invalid(f"header {name}", "must be printable ASCII")


def _method(service: ServiceDescriptor, method: MethodDescriptor) -> Method:
    access = method.GetOptions().Extensions[options_pb2.access]
    return Method(
        service=service.full_name,
        name=method.name,
        path=f"/{service.full_name}/{method.name}",
        request=GetMessageClass(method.input_type),
        reply=GetMessageClass(method.output_type),
        access=Access(
            scope=access.scope,
            operator=access.operator,
            operator_only=access.operator_only,
            returns_secret=access.returns_secret,
            mutates=access.mutates,
        ),
        client_streaming=method.client_streaming,
        server_streaming=method.server_streaming,
    )
