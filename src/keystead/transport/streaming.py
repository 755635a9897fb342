"""Calls that last: how many there may be at once, and what happens to them while they do.

A stream is carried in turns. At each its caller is looked at again and the server may end it; however it ends, its
handler's generator is closed before the end is told, so nothing works on for a client that is gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable

from google.protobuf.message import Message

from keystead.kernel.errors import UnavailableError
from keystead.transport.errors import OverloadedError

STREAMS_MAXIMUM = 100
TURN_MAXIMUM_MS = 500
"""Half of the second within which a revoked key's stream must end (P3)."""


class OpenStreams:
    """The streams of this process, over every transport."""

    def __init__(self, *, at_most: int = STREAMS_MAXIMUM, turn_maximum_ms: int = TURN_MAXIMUM_MS) -> None:
        """Carry ``at_most`` at once, and check each every ``turn_maximum_ms``."""
        self._at_most = at_most
        self._turn_maximum_s = turn_maximum_ms / 1_000
        self._open: set[asyncio.Future[None]] = set()
        self._ending = False

    def __len__(self) -> int:
        """Return how many are open."""
        return len(self._open)

    def end(self) -> None:
        """End all of them with UNAVAILABLE at their next turn, which is now, and take no more."""
        self._ending = True
        for told in self._open:
            if not told.done():
                told.set_result(None)

    async def carry(
        self, messages: AsyncGenerator[Message, None], check: Callable[[], Awaitable[object]]
    ) -> AsyncGenerator[Message, None]:
        """Yield ``messages`` until they end, ``check`` raises, or ``end`` is called; then close them.

        Raises ``OverloadedError`` when as many are open as may be, and ``UnavailableError`` when the server stops.
        """
        self._demand_room()
        loop = asyncio.get_running_loop()
        told = loop.create_future()
        self._open.add(told)
        coming: asyncio.Task[Message | None] | None = None
        checked_at_s = loop.time()
        try:
            while True:
                coming = coming or loop.create_task(_next(messages))
                await asyncio.wait({coming, told}, timeout=self._turn_maximum_s, return_when=asyncio.FIRST_COMPLETED)
                if told.done():
                    raise _stopping()
                if loop.time() - checked_at_s >= self._turn_maximum_s:
                    await check()
                    checked_at_s = loop.time()
                if coming.done():
                    message, coming = coming.result(), None
                    if message is None:
                        return
                    yield message
        finally:
            self._open.discard(told)
            if coming is not None:
                coming.cancel()
                await asyncio.gather(coming, return_exceptions=True)
            await messages.aclose()

    def _demand_room(self) -> None:
        if self._ending:
            raise _stopping()
        if len(self._open) >= self._at_most:
            raise OverloadedError("The server has as many streams open as it takes; try again.")


async def _next(messages: AsyncGenerator[Message, None]) -> Message | None:
    return await anext(messages, None)


def _stopping() -> UnavailableError:
    return UnavailableError("The server is stopping.")
