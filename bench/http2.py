"""Unary gRPC calls on one HTTP/2 connection, with another body each time.

A call is written as two frames of which only the stream's number and the message differ from call to call. Of the
replies only the frames' heads are read, and each message's beginning, which says whether it is the one that was hoped
for: a call that fails has none.
"""

from __future__ import annotations

from bench import frames
from bench.conversation import ProtocolError

_MESSAGE_HEAD_BYTES = 5
_REFILL_BYTES = 1 << 30
_SHOWN_BYTES = 400


class Http2Conversation:
    """A ``Conversation`` that calls one method. A reply must hold a message that begins with ``expected``."""

    def __init__(self, fields: frames.Fields, *, expected: bytes) -> None:
        """Say ``fields`` (pseudo-headers first) with each call."""
        self.latencies_ns: list[int] = []
        self.failed = 0
        self.failure = ""
        self._expected = expected
        self._later_block = frames.later_block(fields)
        self._block = frames.first_block(fields)
        self._begun_ns: dict[int, int] = {}
        self._messages: dict[int, bytes] = {}
        self._stream = 1
        self._window_bytes = frames.FIRST_WINDOW_BYTES
        self._streams_max = 100
        self._taken_bytes = 0
        self._rest = b""
        self._out = [frames.opening()]

    @property
    def under_way(self) -> int:
        """How many calls wait for their end."""
        return len(self._begun_ns)

    @property
    def room(self) -> bool:
        """Whether the server's window and its number of streams allow one more call."""
        return self._window_bytes >= frames.FRAME_MAX_BYTES and len(self._begun_ns) < self._streams_max

    def call(self, body: bytes, at_ns: int) -> None:
        """Call with the message ``body``, of which a frame must be able to hold all."""
        stream = self._stream
        self._stream = stream + 2
        self._begun_ns[stream] = at_ns
        payload = frames.message(body)
        self._window_bytes -= len(payload)
        self._out.append(frames.frame(frames.HEADERS, frames.END_HEADERS, stream, self._block))
        self._out.append(frames.frame(frames.DATA, frames.END_STREAM, stream, payload))
        self._block = self._later_block

    def to_send(self) -> bytes:
        """Return what must be sent now, and forget it."""
        whole = b"".join(self._out)
        self._out.clear()
        return whole

    def received(self, data: bytes, at_ns: int) -> None:
        """Walk the frames of ``data``; what is left of an unfinished one waits for the rest."""
        if self._rest:
            data = self._rest + data
        self._taken_bytes += len(data)
        place, end = 0, len(data)
        read_head = frames.HEAD.unpack_from
        messages = self._messages
        while end - place >= frames.HEAD_BYTES:
            upper, lower, kind, flags, stream = read_head(data, place)
            begin = place + frames.HEAD_BYTES
            after = begin + (upper << 8 | lower)
            if after > end:
                break
            if kind == frames.DATA:
                messages[stream] = messages.get(stream, b"") + data[begin:after]
            elif kind == frames.HEADERS:
                if flags & frames.END_STREAM:
                    self._ended(stream, at_ns, data[begin:after])
            else:
                self._control(kind, flags, stream, data[begin:after])
            place = after
        self._rest = data[place:]
        self._taken_bytes -= len(self._rest)
        if self._taken_bytes >= _REFILL_BYTES:
            self._out.append(frames.window_update(0, self._taken_bytes))
            self._taken_bytes = 0

    def _ended(self, stream: int, at_ns: int, block: bytes) -> None:
        begun_ns = self._begun_ns.pop(stream, None)
        if begun_ns is None:
            raise ProtocolError(f"stream {stream} ended twice")
        reply = self._messages.pop(stream, b"")
        if len(reply) >= _MESSAGE_HEAD_BYTES and reply.startswith(self._expected, _MESSAGE_HEAD_BYTES):
            self.latencies_ns.append(at_ns - begun_ns)
            return
        self.failed += 1
        self.failure = self.failure or repr((reply or block)[:_SHOWN_BYTES])

    def _control(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        """Do what the protocol asks for in frames that belong to no reply."""
        if kind == frames.SETTINGS and not flags & frames.ACK:
            self._obey(frames.read_settings(payload))
        elif kind == frames.PING and not flags & frames.ACK:
            self._out.append(frames.frame(frames.PING, frames.ACK, 0, payload))
        elif kind == frames.WINDOW_UPDATE and stream == 0:
            self._window_bytes += int.from_bytes(payload, "big")
        elif kind == frames.RST_STREAM and stream in self._begun_ns:
            self._messages.pop(stream, None)
            self._ended(stream, 0, b"reset by code %d" % int.from_bytes(payload, "big"))
        elif kind in {frames.GOAWAY, frames.PUSH_PROMISE}:
            raise ProtocolError(f"frame of kind {kind}: {payload[:_SHOWN_BYTES]!r}")

    def _obey(self, wishes: dict[int, int]) -> None:
        if wishes.get(frames.HEADER_TABLE_SIZE, frames.TABLE_BYTES) < frames.TABLE_BYTES:
            raise ProtocolError("the server's header table is smaller than the usual one")
        if wishes.get(frames.INITIAL_WINDOW_SIZE, frames.FIRST_WINDOW_BYTES) < frames.FRAME_MAX_BYTES:
            raise ProtocolError("the server's windows are too small for one frame")
        self._streams_max = wishes.get(frames.MAX_CONCURRENT_STREAMS, self._streams_max)
        self._out.append(frames.frame(frames.SETTINGS, frames.ACK, 0))
