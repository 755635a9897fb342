"""Keeps a server busy, over real sockets: so many calls at once (closed loop), or so many a second (open loop).

Closed loops ask how much a server can do; their latencies are of a server that is never idle. Open loops ask how long a
caller waits: a call counts from the moment it was due, not from when this process came to send it.
"""

from __future__ import annotations

import itertools
import select
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

from bench.conversation import Conversation, ProtocolError

_RECEIVE_BYTES = 1 << 18
_NS = 1_000_000_000
_TURN_S = 0.1
_QUIET_S = 10.0
"""How long a server may leave every call unanswered."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What came of a load: good calls' latencies in ascending order, the others, and how long it was measured."""

    latencies_ns: list[int]
    failed: int
    failure: str
    ended: int
    """All calls that ended, those before and after the measurement included."""
    lasted_ns: int
    busy_ns: int
    """Processor time of this process while it measured: near ``lasted_ns``, it was not the server that was measured."""


class Lines:
    """Connections with the conversations on them."""

    def __init__(self, port: int, conversations: Sequence[Conversation]) -> None:
        """Connect to ``port`` on this machine."""
        self._poll = select.epoll()
        self._lines: dict[int, tuple[socket.socket, Conversation]] = {}
        self.conversations = conversations
        for conversation in conversations:
            line = socket.create_connection(("127.0.0.1", port), timeout=_QUIET_S)
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._lines[line.fileno()] = (line, conversation)
            self._poll.register(line.fileno(), select.EPOLLIN)

    def __enter__(self) -> Self:
        """Lend the lines."""
        return self

    def __exit__(self, *_: object) -> None:
        """Hang up."""
        self._poll.close()
        for line, _conversation in self._lines.values():
            line.close()

    def turn(self, timeout_s: float, refill: Callable[[Conversation, int], None]) -> None:
        """Wait for data for up to ``timeout_s``, take it in, let ``refill`` make calls, and send them."""
        for descriptor, _ in self._poll.poll(timeout_s):
            line, conversation = self._lines[descriptor]
            data = line.recv(_RECEIVE_BYTES)
            if not data:
                raise ProtocolError("the server hung up")
            at_ns = time.perf_counter_ns()
            conversation.received(data, at_ns)
            refill(conversation, at_ns)
            if out := conversation.to_send():
                line.sendall(out)

    def send(self) -> None:
        """Send what waits."""
        for line, conversation in self._lines.values():
            if out := conversation.to_send():
                line.sendall(out)

    @property
    def under_way(self) -> int:
        """How many calls wait for their end."""
        return sum(conversation.under_way for conversation in self.conversations)

    @property
    def ended(self) -> int:
        """How many calls have ended, those aside whose latencies were thrown away."""
        return sum(len(one.latencies_ns) + one.failed for one in self.conversations)

    @property
    def latencies_ns(self) -> list[int]:
        """How long each good call took, in ascending order."""
        return sorted(itertools.chain.from_iterable(one.latencies_ns for one in self.conversations))

    def heard(self, latencies_ns: list[int], *, ended: int, lasted_ns: int, busy_ns: int) -> Heard:
        """Sum up, with the failures of all connections."""
        failed = sum(one.failed for one in self.conversations)
        failure = next((one.failure for one in self.conversations if one.failure), "")
        return Heard(latencies_ns, failed, failure, ended, lasted_ns, busy_ns)

    def finish(self) -> None:
        """Wait for the calls under way; raise ``ProtocolError`` when they take too long."""
        ends_at_s = time.monotonic() + _QUIET_S
        while self.under_way:
            if time.monotonic() >= ends_at_s:
                raise ProtocolError(f"{self.under_way} calls were never answered")
            self.turn(_TURN_S, lambda _conversation, _at_ns: None)


def closed_loop(lines: Lines, bodies: Sequence[bytes], *, at_once: int, warm_up_s: float, seconds: float) -> Heard:
    """Keep ``at_once`` calls under way on each connection, with ``bodies`` in turn; measure after ``warm_up_s``."""
    supply = itertools.cycle(bodies)

    def refill(conversation: Conversation, at_ns: int) -> None:
        while conversation.under_way < at_once and conversation.room:
            conversation.call(next(supply), at_ns)

    for conversation in lines.conversations:
        refill(conversation, time.perf_counter_ns())
    lines.send()
    _keep_turning(lines, refill, warm_up_s)
    warmed_up = lines.ended
    for conversation in lines.conversations:
        conversation.latencies_ns.clear()
    begun_ns, busy_ns = time.perf_counter_ns(), time.process_time_ns()
    _keep_turning(lines, refill, seconds)
    lasted_ns, busy_ns = time.perf_counter_ns() - begun_ns, time.process_time_ns() - busy_ns
    latencies_ns = lines.latencies_ns
    lines.finish()
    return lines.heard(latencies_ns, ended=warmed_up + lines.ended, lasted_ns=lasted_ns, busy_ns=busy_ns)


def _keep_turning(lines: Lines, refill: Callable[[Conversation, int], None], seconds: float) -> None:
    ends_at_s = time.monotonic() + seconds
    heard_at_s = time.monotonic()
    before = -1
    while (now_s := time.monotonic()) < ends_at_s:
        lines.turn(_TURN_S, refill)
        after = lines.ended
        if after != before:
            before, heard_at_s = after, now_s
        elif now_s - heard_at_s > _QUIET_S:
            raise ProtocolError(f"no call was answered for {_QUIET_S:.0f} s")


def open_loop(lines: Lines, bodies: Sequence[bytes], *, per_second: float) -> Heard:
    """Make one call with each of ``bodies``, ``per_second`` of them, whatever becomes of those before."""
    turns = itertools.cycle(lines.conversations)
    begun_ns, busy_ns = time.perf_counter_ns(), time.process_time_ns()
    for number, body in enumerate(bodies):
        due_ns = begun_ns + int(number * _NS / per_second)
        while (wait_ns := due_ns - time.perf_counter_ns()) > 0:
            lines.turn(wait_ns / _NS, lambda _conversation, _at_ns: None)
        _with_room(turns, len(lines.conversations)).call(body, due_ns)
        lines.send()
    lines.finish()
    lasted_ns, busy_ns = time.perf_counter_ns() - begun_ns, time.process_time_ns() - busy_ns
    return lines.heard(lines.latencies_ns, ended=lines.ended, lasted_ns=lasted_ns, busy_ns=busy_ns)


def _with_room(turns: Iterator[Conversation], count: int) -> Conversation:
    for conversation in itertools.islice(turns, count):
        if conversation.room:
            return conversation
    raise ProtocolError("the server lets no connection make another call; it has fallen behind for good")
