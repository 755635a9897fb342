"""uvicorn's HTTP/1.1 protocol, with the two bounds it lacks: how large headers may be, and how long they may take.

Its fast parser takes headers of any size, and a connection that never finishes them stays open for good.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
_COLON_SPACE_NEWLINE_BYTES = 4


class BoundedProtocol(HttpToolsProtocol):
    """One connection. Once it is closing, what the parser still finds in the bytes at hand is dropped."""

    headers_maximum_bytes = 0
    headers_timeout_ms = 0
    _headers_bytes = 0
    _pending_bytes = 0
    _began = False
    _headers_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """Start waiting for headers."""
        super().connection_made(transport)
        self._wait_for_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse, and count what belongs to headers that are not whole yet: the parser keeps a header until it ends."""
        self._began = False
        super().data_received(data)
        if self._headers_timer is None or self._began:
            self._pending_bytes = 0
            return
        self._pending_bytes += len(data)
        if self._pending_bytes > self.headers_maximum_bytes:
            self._refuse()

    def on_message_begin(self) -> None:
        """Count and wait from the start, for each request of the connection."""
        super().on_message_begin()
        self._began = True
        self._headers_bytes = 0
        self._wait_for_headers()

    def on_url(self, url: bytes) -> None:
        """Take a piece of the URL, which counts as a header."""
        if self._fits(len(url)):
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take one header."""
        if self._fits(len(name) + len(value) + _COLON_SPACE_NEWLINE_BYTES):
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Start the request."""
        self._stop_waiting()
        if not self.transport.is_closing():
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        if not self.transport.is_closing():
            super().on_body(body)

    def on_message_complete(self) -> None:
        """End the request's body."""
        if not self.transport.is_closing():
            super().on_message_complete()

    def _fits(self, size_bytes: int) -> bool:
        self._headers_bytes += size_bytes
        if self._headers_bytes <= self.headers_maximum_bytes:
            return True
        self._refuse()
        return False

    def _refuse(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(_TOO_LARGE)
            self.transport.close()

    def _wait_for_headers(self) -> None:
        self._stop_waiting()
        self._headers_timer = self.loop.call_later(self.headers_timeout_ms / 1_000, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._headers_timer is not None:
            self._headers_timer.cancel()
            self._headers_timer = None


def bounded_protocol(*, headers_maximum_bytes: int, headers_timeout_ms: int) -> type[BoundedProtocol]:
    """Make the protocol class for these bounds; uvicorn builds one of it for each connection."""
    bounds = {"headers_maximum_bytes": headers_maximum_bytes, "headers_timeout_ms": headers_timeout_ms}
    return type("ChosenProtocol", (BoundedProtocol,), bounds)
