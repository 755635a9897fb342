"""Streams in turns: who is let in, what ends one, and that its handler always ends with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest
from google.protobuf.message import Message
from google.protobuf.wrappers_pb2 import Int32Value

from keystead.kernel.errors import KeysteadError, UnavailableError
from keystead.keys.errors import RefusedFor, UnauthenticatedError
from keystead.transport.errors import OverloadedError
from keystead.transport.streaming import OpenStreams


class Handler:
    """Yields numbers, then waits for ever when told to, and knows when it was closed."""

    def __init__(self, *, numbers: int = 3, waits: bool = False, fails: Exception | None = None) -> None:
        """Yield 0 to ``numbers`` - 1."""
        self.closed = False
        self.waiting = asyncio.Event()
        self._numbers = numbers
        self._waits = waits
        self._fails = fails

    async def run(self) -> AsyncGenerator[Message, None]:
        """Serve one stream."""
        try:
            for number in range(self._numbers):
                yield Int32Value(value=number)
            if self._fails:
                raise self._fails
            if self._waits:
                self.waiting.set()
                await asyncio.get_running_loop().create_future()
        finally:
            self.closed = True


class Check:
    """Lets a caller in ``times`` times, then no more."""

    def __init__(self, times: int = 1_000_000) -> None:
        """Count down from ``times``."""
        self.left = times

    async def __call__(self) -> None:
        """Refuse when it has run out."""
        self.left -= 1
        if self.left < 0:
            raise UnauthenticatedError(RefusedFor.REVOKED)


async def carried(streams: OpenStreams, handler: Handler, check: Check | None = None) -> list[int]:
    """Carry a stream to its end, and return its numbers."""
    async with aclosing(streams.carry(handler.run(), check or Check())) as messages:
        return [message.value async for message in messages if isinstance(message, Int32Value)]


async def test_a_stream_that_ends_frees_its_place() -> None:
    """Messages come in order, and then nothing is held."""
    streams, handler = OpenStreams(), Handler()
    assert await carried(streams, handler) == [0, 1, 2]
    assert handler.closed
    assert len(streams) == 0


@pytest.mark.parametrize("error", (UnavailableError("x"), RuntimeError("x")))
async def test_what_a_handler_raises_ends_its_stream(error: Exception) -> None:
    """An error of the handler is the end of the stream, and frees its place."""
    streams, handler = OpenStreams(), Handler(fails=error)
    with pytest.raises(type(error)):
        await carried(streams, handler)
    assert handler.closed
    assert len(streams) == 0


async def test_a_caller_who_loses_his_right_is_shown_out() -> None:
    """A stream that sends nothing ends as soon as a check fails, though its handler waits for ever (P3)."""
    streams, handler = OpenStreams(turn_maximum_ms=1), Handler(waits=True)
    with pytest.raises(UnauthenticatedError):
        await carried(streams, handler, Check(times=3))
    assert handler.closed
    assert len(streams) == 0


async def test_a_busy_stream_is_checked_as_well() -> None:
    """A stream that never pauses does not outrun the check."""
    streams, check = OpenStreams(turn_maximum_ms=0), Check(times=2)
    with pytest.raises(UnauthenticatedError):
        await carried(streams, Handler(numbers=1_000_000), check)
    assert check.left == -1


async def test_who_leaves_takes_the_handler_along() -> None:
    """Closing the stream, or cancelling who reads it, closes the handler before anything else goes on."""
    streams, read, cancelled = OpenStreams(), Handler(waits=True), Handler(waits=True)
    messages = streams.carry(read.run(), Check())
    assert await anext(messages) == Int32Value(value=0)
    await messages.aclose()
    reading = asyncio.create_task(carried(streams, cancelled))
    await cancelled.waiting.wait()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert (read.closed, cancelled.closed, len(streams)) == (True, True, 0)


async def test_so_many_and_no_more() -> None:
    """Past the bound a stream is refused with a code, those that are open go on, and a freed place is given again."""
    streams = OpenStreams(at_most=2)
    opened = [streams.carry(Handler(waits=True).run(), Check()) for _ in range(2)]
    for messages in opened:
        await anext(messages)
    with pytest.raises(OverloadedError):
        await carried(streams, Handler())
    assert await anext(opened[0]) == Int32Value(value=1)
    await opened[1].aclose()
    assert await carried(streams, Handler()) == [0, 1, 2]
    await opened[0].aclose()


async def test_the_end_is_told_to_all() -> None:
    """When the server stops, waiting streams end with UNAVAILABLE at once, and no new one begins."""
    streams, handlers = OpenStreams(turn_maximum_ms=3_600_000), [Handler(waits=True) for _ in range(3)]
    reading = [asyncio.create_task(carried(streams, handler)) for handler in handlers]
    for handler in handlers:
        await handler.waiting.wait()
    streams.end()
    streams.end()
    for ended in await asyncio.wait_for(asyncio.gather(*reading, return_exceptions=True), 10):
        assert isinstance(ended, KeysteadError)
        assert ended.code == "unavailable"
    assert all(handler.closed for handler in handlers)
    with pytest.raises(UnavailableError):
        await carried(streams, Handler())
