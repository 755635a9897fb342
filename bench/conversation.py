"""One connection's side of the talk, without any socket: bytes to send come out, bytes received go in.

What is measured is in the plainest form that is quick to write: the latency of each call that was answered as it should
be, and how many were not.
"""

from __future__ import annotations

from typing import Protocol


class ProtocolError(Exception):
    """Raised when the server says what this client does not understand, so nothing can be measured."""


class Conversation(Protocol):
    """A connection that calls can be made on. Times are nanoseconds of one monotonic clock."""

    latencies_ns: list[int]
    """How long each good call took, in the order they ended."""
    failed: int
    """Calls that ended otherwise."""
    failure: str
    """How the first of these ended; "" while there is none."""

    @property
    def under_way(self) -> int:
        """How many calls wait for their end."""
        ...

    @property
    def room(self) -> bool:
        """Whether one more call may be made now."""
        ...

    def call(self, body: bytes, at_ns: int) -> None:
        """Make one call, which began at ``at_ns``; there must be room."""
        ...

    def received(self, data: bytes, at_ns: int) -> None:
        """Take in what came at ``at_ns``; raise ``ProtocolError`` when it makes no sense."""
        ...

    def to_send(self) -> bytes:
        """Return what must be sent now, and forget it."""
        ...
