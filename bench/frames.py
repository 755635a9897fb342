"""As much of HTTP/2 (RFC 9113) and HPACK (RFC 7541) as a client needs that says the same headers all the time.

The first call of a connection puts each header into the server's table, every later call names the places: this is what
gRPC's own clients do, and it makes a call's headers a constant of a few bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEAD_BYTES = 9
HEAD = struct.Struct(">HBBBI")
"""A frame's head: the length's upper 16 bits, its lower 8, kind, flags, stream."""

DATA, HEADERS, _PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8

HEADER_TABLE_SIZE = 1
ENABLE_PUSH = 2
MAX_CONCURRENT_STREAMS = 3
INITIAL_WINDOW_SIZE = 4

FIRST_WINDOW_BYTES = 65_535
WINDOW_MAX_BYTES = (1 << 31) - 1
FRAME_MAX_BYTES = 16_384
TABLE_BYTES = 4_096

_STATIC_ENTRIES = 61
_ENTRY_OVERHEAD_BYTES = 32
_STRING_MAX = 127
_SETTING = struct.Struct(">HI")

Fields = Sequence[tuple[str, str]]


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return one frame; ``payload`` may have up to 16,384 bytes, which every peer accepts."""
    if len(payload) > FRAME_MAX_BYTES:
        raise ValueError(f"a frame holds at most {FRAME_MAX_BYTES} bytes, not {len(payload)}")
    return HEAD.pack(len(payload) >> 8, len(payload) & 0xFF, kind, flags, stream) + payload


def settings(values: dict[int, int]) -> bytes:
    """Return a SETTINGS frame."""
    return frame(SETTINGS, 0, 0, b"".join(_SETTING.pack(name, value) for name, value in values.items()))


def read_settings(payload: bytes) -> dict[int, int]:
    """Read a SETTINGS frame's payload."""
    return dict(_SETTING.iter_unpack(payload))


def window_update(stream: int, increment_bytes: int) -> bytes:
    """Return a WINDOW_UPDATE frame."""
    return frame(WINDOW_UPDATE, 0, stream, increment_bytes.to_bytes(4, "big"))


def opening() -> bytes:
    """Return what a client says first: no pushes, and windows so large that no server ever waits for us."""
    wishes = {ENABLE_PUSH: 0, INITIAL_WINDOW_SIZE: WINDOW_MAX_BYTES}
    return PREFACE + settings(wishes) + window_update(0, WINDOW_MAX_BYTES - FIRST_WINDOW_BYTES)


def first_block(fields: Fields) -> bytes:
    """Return the block that puts ``fields`` into the table, each a literal with incremental indexing (§6.2.1)."""
    if sum(len(name) + len(value) + _ENTRY_OVERHEAD_BYTES for name, value in fields) > TABLE_BYTES:
        raise ValueError(f"the fields do not fit into a table of {TABLE_BYTES} bytes")
    return b"".join(b"\x40" + _string(name) + _string(value) for name, value in fields)


def later_block(fields: Fields) -> bytes:
    """Return the block that names what ``first_block`` put into the table, where the last comes first (§2.3.3)."""
    return bytes(0x80 | (_STATIC_ENTRIES + len(fields) - place) for place in range(len(fields)))


def _string(text: str) -> bytes:
    """Write a string without Huffman coding, its length as an integer with a prefix of 7 bits (§5.1, §5.2)."""
    raw = text.encode("ascii")
    if len(raw) < _STRING_MAX:
        return bytes([len(raw)]) + raw
    rest = len(raw) - _STRING_MAX
    length = [_STRING_MAX]
    while rest >= 0x80:
        length.append(rest & 0x7F | 0x80)
        rest >>= 7
    return bytes([*length, rest]) + raw


def message(body: bytes) -> bytes:
    """Return a gRPC message: not compressed, its length, its bytes."""
    return b"\x00" + len(body).to_bytes(4, "big") + body
