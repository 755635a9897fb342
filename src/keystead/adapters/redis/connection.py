"""Keeps one connection to Redis: made at the start, and again, in the background, whenever it was lost.

Who asks while there is none is told so at once. Between two attempts lies a pause that grows, and that no two processes
choose alike, so that a Redis that comes back is not met by everybody at the same moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from random import SystemRandom
from typing import Any, TypeVar

import hiredis
import structlog

from keystead.adapters.redis.address import RedisAddress
from keystead.adapters.redis.measures import RedisMeasures
from keystead.adapters.redis.pipeline import Pipeline
from keystead.limits.errors import LimiterAwayError

TIMEOUT_MS = 50
STALL_MS = 1_000
CONNECT_MS = 1_000
PAUSE_MIN_S = 0.05
PAUSE_MAX_S = 1.0
_LIVED_S = 1.0
"""A connection that did not last as long does not make the next pause short again."""

_log = structlog.get_logger(__name__)
_random = SystemRandom()

Answer = TypeVar("Answer")


def command(*words: str | bytes) -> bytes:
    """Write a command as Redis reads it."""
    written = [word.encode() if isinstance(word, str) else word for word in words]
    return b"*%d\r\n" % len(written) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in written)


async def introduce(pipeline: Pipeline, address: RedisAddress, first: Sequence[bytes] = ()) -> None:
    """Say who we are and which database is meant, and send what must come first; all in one round trip.

    Raises ``LimiterAwayError`` when any of it is refused.
    """
    named = pipeline.ask(command("CLIENT", "SETNAME", "keystead"), _any)  # may be forbidden, without harm
    replies = await asyncio.gather(*[pipeline.ask(one, _any) for one in [*_entry(address), *first]])
    for reply in replies:
        if isinstance(reply, hiredis.ReplyError):
            raise LimiterAwayError(str(reply))
    await named


class RedisConnection:
    """One connection at a time, for everything that a process asks of one Redis."""

    def __init__(
        self,
        address: RedisAddress,
        *,
        first: Sequence[bytes] = (),
        timeout_ms: int = TIMEOUT_MS,
        stall_ms: int = STALL_MS,
    ) -> None:
        """Ask within ``timeout_ms``; the commands ``first`` are sent on every new connection and must succeed."""
        self._address = address
        self._first = tuple(first)
        self._timeout_ms = timeout_ms
        self._stall_ms = stall_ms
        self._pipeline: Pipeline | None = None
        self._why = "there was no connection to Redis yet"
        self._keeper: asyncio.Task[None] | None = None
        self._tried = asyncio.Event()
        self.measures = RedisMeasures()

    async def start(self) -> None:
        """Connect; return after the first attempt, whether it came off or others follow in the background."""
        self._keeper = asyncio.create_task(self._keep(), name="redis")
        await self._tried.wait()

    async def close(self) -> None:
        """Close the connection and make no other."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            with suppress(asyncio.CancelledError):
                await keeper

    def ask(self, request: bytes, read: Callable[[Any], Answer]) -> asyncio.Future[Answer]:
        """Send ``request`` with all others of this turn (see ``Pipeline.ask``); it is never sent again."""
        pipeline = self._pipeline
        if pipeline is None:
            self.measures.refused += 1
            raise LimiterAwayError(self._why)
        return pipeline.ask(request, read)

    def drop(self, why: str) -> None:
        """End this connection: another may lead to a server that can help."""
        if self._pipeline is not None:
            self._pipeline.close(why)

    async def _keep(self) -> None:
        clock = asyncio.get_running_loop().time
        pause_s = PAUSE_MIN_S
        while True:
            began_s = clock()
            before, self._why = self._why, await self._attempt()
            if self._why != before:
                _log.warning("redis is away", why=self._why)
            self._tried.set()
            if clock() - began_s > _LIVED_S + CONNECT_MS / 1_000:
                pause_s = PAUSE_MIN_S
            await asyncio.sleep(pause_s * _random.uniform(0.5, 1.0))
            pause_s = min(pause_s * 2, PAUSE_MAX_S)

    async def _attempt(self) -> str:
        """Make a connection, lend it to all who ask until it is lost; return why it was, or why there was none."""
        pipeline: Pipeline | None = None
        try:
            async with asyncio.timeout(CONNECT_MS / 1_000):
                pipeline = await self._address.connect(self._new_pipeline)
                await introduce(pipeline, self._address, self._first)
            pipeline.patience(self._timeout_ms)
            self._pipeline = pipeline
            self.measures.connected = True
            self.measures.connections += 1
            _log.info("redis is there", address=str(self._address))
            self._tried.set()
            return await pipeline.lost
        except (OSError, LimiterAwayError) as error:  # a timeout is an OSError
            return f"there is no connection to {self._address}: {str(error) or type(error).__name__}"
        finally:
            self._pipeline = None
            self.measures.connected = False
            if pipeline is not None:
                pipeline.close("the connection to Redis is closed")

    def _new_pipeline(self) -> Pipeline:
        return Pipeline(self.measures, timeout_ms=CONNECT_MS, stall_ms=self._stall_ms)


def _entry(address: RedisAddress) -> list[bytes]:
    said = []
    if password := address.password.reveal():
        said.append(command("AUTH", *([address.user] if address.user else []), password))
    if address.database:
        said.append(command("SELECT", str(address.database)))
    return said


def _any(reply: object) -> object:
    return reply
