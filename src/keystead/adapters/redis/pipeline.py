"""One connection to Redis that many callers share: what one turn of the event loop asks leaves in one write.

Redis answers in the order in which it was asked, so what was asked stands in line, and each reply belongs to the first
of the line, whether its caller still waits or not: one that was cancelled, or given up as late, keeps its place until
its reply comes and is dropped. Once the line cannot be trusted (a reply nobody asked for, or of another shape, or none
for long) the connection ends and everybody in it is told so. Nothing is ever sent twice.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice
from time import perf_counter_ns
from typing import Any, TypeVar, cast

import hiredis

from keystead.adapters.redis.measures import RedisMeasures
from keystead.kernel.measures import NS_PER_SECOND
from keystead.limits.errors import LimiterAwayError

WAITING_MAX = 16_384
"""How many may stand in line; who comes then is refused at once."""
WRITE_BUFFER_BYTES_MAX = 1 << 20
REPLY_BYTES_MAX = 1 << 20
"""No reply that we ask for is nearly as long."""
_NS_PER_MS = 1_000_000
_BUSY_NS = 5_000_000
"""A timer that is later than this was kept by our own loop, which must read first what has come meanwhile."""
_NOTHING = object()

Answer = TypeVar("Answer")


class UnexpectedReplyError(Exception):
    """Raised by who reads a reply of another shape than was asked for: the line is out of step."""


class Pipeline(asyncio.Protocol):
    """The life of one connection, from its making to its loss; ``lost`` then says why."""

    def __init__(self, measures: RedisMeasures, *, timeout_ms: int, stall_ms: int) -> None:
        """Give each question ``timeout_ms``; without any answer for ``stall_ms`` the connection ends."""
        self._loop = asyncio.get_running_loop()
        self._measures = measures
        self._timeout_ns = timeout_ms * _NS_PER_MS
        self._stall_ns = stall_ms * _NS_PER_MS
        self._reader = hiredis.Reader(notEnoughData=_NOTHING)
        self._transport: asyncio.WriteTransport | None = None
        self._backed_up = False
        self._requests: list[bytes] = []
        self._asked: list[tuple[asyncio.Future[Any], Callable[[Any], Any]]] = []
        self._line: deque[tuple[asyncio.Future[Any], Callable[[Any], Any]]] = deque()
        self._batches: deque[list[int]] = deque()  # when each was written, and how many of it still stand in line
        self._given_up = 0  # how many at the head of the line have been told that it takes too long
        self._timer: asyncio.TimerHandle | None = None
        self._due_ns = 0
        self._read_first = False
        self.lost: asyncio.Future[str] = self._loop.create_future()

    def ask(self, request: bytes, read: Callable[[Any], Answer]) -> asyncio.Future[Answer]:
        """Send ``request`` at the end of this turn; the future gets what ``read`` makes of the reply.

        ``read`` gets an error reply as a ``hiredis.ReplyError``, and raises ``UnexpectedReplyError`` at what cannot be
        the reply. Raises ``LimiterAwayError``, also in the future: when there is no answer in time, or no connection.
        """
        if self._transport is None or self._backed_up or len(self._line) + len(self._asked) >= WAITING_MAX:
            self._measures.refused += 1
            raise LimiterAwayError("Redis cannot be asked" if self._transport is None else "too many wait for Redis")
        future: asyncio.Future[Answer] = self._loop.create_future()
        if not self._asked:
            self._loop.call_soon(self._flush)
        self._requests.append(request)
        self._asked.append((future, read))
        return future

    def patience(self, timeout_ms: int) -> None:
        """Give what is asked from now on ``timeout_ms``; nobody may be waiting."""
        self._timeout_ns = timeout_ms * _NS_PER_MS
        self._stop_timer()

    def close(self, why: str) -> None:
        """End the connection and tell everybody who waits that there is no answer."""
        if self._transport is None:
            return
        self._transport.abort()
        self._transport = None
        self._stop_timer()
        self._measures.errors += self._tell(self._line, why, spent=True)
        self._measures.errors += self._tell(self._asked, why, spent=False)
        self._line.clear()
        self._asked.clear()
        self._requests.clear()
        self._batches.clear()
        if not self.lost.done():
            self.lost.set_result(why)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.WriteTransport", transport)
        self._transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES_MAX)

    def connection_lost(self, exc: Exception | None) -> None:
        """End, when the other side has."""
        self.close(f"Redis has closed the connection: {exc or 'without a word'}")

    def pause_writing(self) -> None:
        """Refuse what comes while Redis does not even read."""
        self._backed_up = True

    def resume_writing(self) -> None:
        """Ask again."""
        self._backed_up = False

    def data_received(self, data: bytes) -> None:
        """Give each reply to the first of the line."""
        line = self._line
        before = len(line)
        next_reply = self._reader.gets
        try:
            self._reader.feed(data)
            while (reply := next_reply()) is not _NOTHING:
                if not line:
                    self.close("Redis answers what nobody asked")
                    return
                future, read = line[0]
                answer = read(reply)
                if not future.done():
                    future.set_result(answer)
                line.popleft()
        except (hiredis.ProtocolError, UnexpectedReplyError) as error:
            self.close(f"Redis answers what cannot be an answer: {error}")
        else:
            self._note(before - len(line))
            if self._reader.len() > REPLY_BYTES_MAX:
                self.close("Redis answers without end")

    def _note(self, answered: int) -> None:
        """Take what was answered from the batches, and note how long it took."""
        self._given_up = max(0, self._given_up - answered)
        now_ns = perf_counter_ns()
        while answered:
            batch = self._batches[0]
            taken = min(answered, batch[1])
            self._measures.latency.observe(now_ns - batch[0], taken)
            answered -= taken
            batch[1] -= taken
            if not batch[1]:
                self._batches.popleft()

    def _flush(self) -> None:
        if self._transport is None or not self._asked:
            return
        now_ns = perf_counter_ns()
        self._batches.append([now_ns, len(self._asked)])
        self._line.extend(self._asked)
        self._asked.clear()
        request = b"".join(self._requests)
        self._requests.clear()
        self._transport.write(request)
        self._measures.batches += 1
        if self._timer is None or self._due_ns > now_ns + self._timeout_ns:  # it may wait for a stall alone
            self._stop_timer()
            self._look_in(self._timeout_ns)

    def _look_in(self, delay_ns: int) -> None:
        """Look at the line after a while: one timer for all that wait."""
        self._due_ns = perf_counter_ns() + delay_ns
        self._timer = self._loop.call_later(delay_ns / NS_PER_SECOND, self._look)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        """Tell those whose time is over, and end a connection that has stalled."""
        self._timer = None
        if not self._batches:
            return
        now_ns = perf_counter_ns()
        self._read_first = not self._read_first and now_ns - self._due_ns > _BUSY_NS
        if self._read_first:  # once, or a loop that is always busy would never tell anybody
            self._look_in(_NS_PER_MS)
            return
        if now_ns - self._batches[0][0] >= self._stall_ns:
            self.close("Redis has not answered for long")
            return
        late = 0
        next_ns = self._batches[0][0] + self._stall_ns
        for sent_ns, size in self._batches:
            if now_ns - sent_ns < self._timeout_ns:
                next_ns = min(next_ns, sent_ns + self._timeout_ns)
                break
            late += size
        if late > self._given_up:
            told = self._tell(islice(self._line, self._given_up, late), "Redis takes too long", spent=True)
            self._given_up = late
            self._measures.timeouts += told
        self._look_in(next_ns - now_ns)

    def _tell(self, asked: Iterable[tuple[asyncio.Future[Any], Callable[[Any], Any]]], why: str, *, spent: bool) -> int:
        told = 0
        for future, _ in asked:
            if not future.done():
                future.set_exception(LimiterAwayError(why, spent=spent))
                future.exception()  # whoever is cancelled at this moment does not fetch it, and need not
                told += 1
        return told
