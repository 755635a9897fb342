"""The handler of ``TailCalls``: it reads the filter, and writes what is counted for as long as the stream lasts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

from keystead.gen.v1 import usage_pb2
from keystead.kernel.clock import Clock
from keystead.kernel.errors import invalid
from keystead.keys.principal import Principal
from keystead.transport.services import conversions
from keystead.transport.services.usage import call_of, walls_of, wanted_of
from keystead.usage.ports import UsageStore
from keystead.usage.tail import Tail

INTERVAL_MS = 500
"""From the end of one reading to the next; each is told, so that a silent stream still shows that it lives."""

BEGINNING_MAX_MS = 3_600_000
_AHEAD_MAX_MS = 60_000


class TailingHandlers:
    """Serves what streams of ``keystead.v1.UsageService``."""

    def __init__(
        self, store: UsageStore, clock: Clock, *, pause: Callable[[float], Awaitable[object]] = asyncio.sleep
    ) -> None:
        """Ask ``store``, and ``pause`` for seconds between readings."""
        self._store = store
        self._clock = clock
        self._pause = pause

    async def tail_calls(
        self, caller: Principal, request: usage_pb2.TailCallsRequest
    ) -> AsyncGenerator[usage_pb2.TailCallsResponse, None]:
        """Tell calls as they are counted, without end."""
        from_ms = self._beginning(request)
        tail = Tail(self._store, walls_of(caller, request.filter), wanted_of(request.filter, from_ms, from_ms))
        while True:
            async with aclosing(tail.read()) as parts:
                async for told in parts:
                    yield usage_pb2.TailCallsResponse(
                        calls=[call_of(call) for call in told.calls],
                        complete_until=conversions.timestamp(told.complete_until_ms),
                    )
            await self._pause(INTERVAL_MS / 1_000)

    def _beginning(self, request: usage_pb2.TailCallsRequest) -> int:
        now_ms = self._clock.now_ms()
        from_ms = conversions.moment_ms("from", request, getattr(request, "from"))
        if from_ms is None:
            return now_ms
        if from_ms < now_ms - BEGINNING_MAX_MS:
            raise invalid("from", "must be at most an hour ago; ListCalls has what came before")
        if from_ms > now_ms + _AHEAD_MAX_MS:
            raise invalid("from", "must not be in the future")
        return from_ms
