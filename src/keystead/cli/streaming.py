"""Connect's streams on the wire: each message in a frame, and a last frame that says how it ended.

A frame is a byte of flags, its length in four bytes (big-endian), and its content.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from keystead.cli.message import Message
from keystead.cli.problems import CommandError

CONTENT_TYPE = "application/connect+json"
FRAME_BYTES_MAX = 64 * 1024 * 1024

_HEADER_BYTES = 5
_LAST = 0x02


class StreamBrokenError(CommandError):
    """Raised when a stream broke off, or could not begin, in a way that may pass: it can be asked for again."""


class FrameError(Exception):
    """Raised when what comes is no frame that was asked for, or is cut off."""


def framed(content: bytes) -> bytes:
    """Put one message into a frame."""
    return b"\0" + len(content).to_bytes(_HEADER_BYTES - 1, "big") + content


def read_frames(parts: Iterable[bytes]) -> Iterator[tuple[bool, Message]]:
    """Yield each frame's object, and whether it is the last; raise ``FrameError`` when there is no last one.

    ``parts`` may cut frames anywhere; a frame holds at most 64 MiB.
    """
    kept = bytearray()
    for part in parts:
        kept += part
        while (size := _frame_bytes(kept)) is not None:
            flags, content = kept[0], bytes(kept[_HEADER_BYTES:size])
            del kept[:size]
            yield flags == _LAST, _object(content)
            if flags == _LAST:
                return
    raise FrameError("it was cut off")


def _frame_bytes(kept: bytearray) -> int | None:
    """Return how many bytes the first frame takes, once it is whole."""
    if len(kept) < _HEADER_BYTES:
        return None
    size = int.from_bytes(kept[1:_HEADER_BYTES], "big")
    if kept[0] not in {0, _LAST} or size > FRAME_BYTES_MAX:
        raise FrameError("it holds a frame that is compressed or too large")
    return _HEADER_BYTES + size if len(kept) >= _HEADER_BYTES + size else None


def _object(content: bytes) -> Message:
    try:
        found = json.loads(content)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise FrameError("it holds a frame that is no JSON object")
    return found
