"""A long walk over everything, begun by one node at a time and gone on with a little at each turn of a loop.

So no loop is kept from ending; what a process that stops leaves over waits for the next walk.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable

from keystead.kernel.clock import Clock

STEP_MS = 2_000
"""So long a turn goes on with the walk, and to the next pause of it."""


class Walk:
    """Goes on with the walk under way, or begins one when it is this node's turn."""

    def __init__(
        self, begin: Callable[[], Awaitable[bool]], walk: Callable[[], AsyncGenerator[None, None]], clock: Clock
    ) -> None:
        """``begin`` says whether one is due, and then ``walk`` makes it, which yields wherever it may pause."""
        self._begin = begin
        self._make = walk
        self._clock = clock
        self._under_way: AsyncGenerator[None, None] | None = None

    async def turn(self) -> None:
        """Walk for about two seconds."""
        if self._under_way is None:
            if not await self._begin():
                return
            self._under_way = self._make()
        ends_ms = self._clock.monotonic_ms() + STEP_MS
        walk, self._under_way = self._under_way, None
        async for _ in walk:
            if self._clock.monotonic_ms() >= ends_ms:
                self._under_way = walk
                return
