"""HTTP/1.1 requests on one kept connection, one after the other, with another body each time."""

from __future__ import annotations

import re
from collections.abc import Sequence

from bench.conversation import ProtocolError

_END_OF_HEAD = b"\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
_LAST_CHUNK = b"0\r\n\r\n"
_SHOWN_BYTES = 400


class Http1Conversation:
    """A ``Conversation`` of one request at a time. An answer must be 200 and its body hold ``expected``."""

    def __init__(self, method: str, path: str, headers: Sequence[tuple[str, str]], *, expected: bytes) -> None:
        """Say ``headers`` with each request; the body's length is added."""
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers), "content-length: "]
        self.latencies_ns: list[int] = []
        self.failed = 0
        self.failure = ""
        self._head = "\r\n".join(lines).encode("ascii")
        self._expected = expected
        self._begun_ns: int | None = None
        self._rest = b""
        self._out = b""

    @property
    def under_way(self) -> int:
        """How many requests wait for their answer: none or one."""
        return 0 if self._begun_ns is None else 1

    @property
    def room(self) -> bool:
        """Whether the last request was answered."""
        return self._begun_ns is None

    def call(self, body: bytes, at_ns: int) -> None:
        """Send ``body``."""
        self._begun_ns = at_ns
        self._out = b"%b%d\r\n\r\n%b" % (self._head, len(body), body)

    def to_send(self) -> bytes:
        """Return what must be sent now, and forget it."""
        out, self._out = self._out, b""
        return out

    def received(self, data: bytes, at_ns: int) -> None:
        """Take in an answer or a part of it."""
        data = self._rest + data
        end_of_head = data.find(_END_OF_HEAD)
        if end_of_head < 0:
            self._rest = data
            return
        begin = end_of_head + len(_END_OF_HEAD)
        if not _whole(data, begin):
            self._rest = data
            return
        self._rest = b""
        self._answered(data, begin, at_ns)

    def _answered(self, data: bytes, begin: int, at_ns: int) -> None:
        if self._begun_ns is None:
            raise ProtocolError(f"an answer that nobody asked for: {data[:_SHOWN_BYTES]!r}")
        begun_ns, self._begun_ns = self._begun_ns, None
        if data.startswith(b"HTTP/1.1 200") and data.find(self._expected, begin) >= 0:
            self.latencies_ns.append(at_ns - begun_ns)
            return
        self.failed += 1
        self.failure = self.failure or repr(data[:_SHOWN_BYTES])


def _whole(data: bytes, begin: int) -> bool:
    """Say whether the body that begins at ``begin`` has come to its end; nothing can follow it, since nobody asked."""
    if length := _LENGTH.search(data, 0, begin):
        return len(data) - begin >= int(length[1])
    if _CHUNKED.search(data, 0, begin):
        return data.endswith(_LAST_CHUNK, begin)
    raise ProtocolError(f"an answer without a length: {data[:_SHOWN_BYTES]!r}")
