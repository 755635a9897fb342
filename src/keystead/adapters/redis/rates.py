"""Buckets and windows in Redis or Valkey: one script decides all rates of a call, in one round trip.

What a call sends is the same each time but for its cost, so it is written once and kept with the compiled limits. The
script is on the server from the connection's first moment; should it be forgotten there (``SCRIPT FLUSH``), the server
says that it did nothing, and only then is a question put a second time.
"""

from __future__ import annotations

import asyncio
import hashlib
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import hiredis

from keystead.adapters.redis.address import RedisAddress
from keystead.adapters.redis.connection import STALL_MS, TIMEOUT_MS, RedisConnection, command
from keystead.adapters.redis.measures import RedisMeasures
from keystead.adapters.redis.pipeline import UnexpectedReplyError
from keystead.kernel.measures import NS_PER_SECOND
from keystead.limits.errors import LimiterAwayError
from keystead.limits.model import BucketRate, Decision, Level, Metered, Rate

KEY_PREFIX = "keystead:"
SCRIPT = Path(__file__).with_name("rates.lua").read_bytes()
SCRIPT_ID = hashlib.sha1(SCRIPT, usedforsecurity=False).hexdigest()
"""Redis names a script by this."""

_LOAD_SCRIPT = command("SCRIPT", "LOAD", SCRIPT)
_BUCKET = struct.Struct("<ddd")
_WINDOW = struct.Struct("<dd")
_TAILS = {cost: b"$%d\r\n%d\r\n$1\r\n0\r\n" % (len(str(cost)), cost) for cost in range(11)}
_NOT_DONE = frozenset({
    "ASK", "BUSY", "CLUSTERDOWN", "CROSSSLOT", "LOADING", "MASTERDOWN", "MISCONF", "MOVED", "NOAUTH", "NOPERM",
    "NOREPLICAS", "NOSCRIPT", "OOM", "READONLY", "TRYAGAIN",
})  # fmt: skip
"""The errors that say, by their first word, that nothing was done."""
_ELSEWHERE = frozenset({"READONLY", "MASTERDOWN", "NOAUTH"})
"""Those of them that a new connection may cure: this one leads to a server that is not, or no longer, the right one."""


class Prepared:
    """What every call about the same limits sends, but for the end; and how to read what comes back."""

    __slots__ = ("_numbers", "head")

    def __init__(self, rates: Sequence[Rate]) -> None:
        """Write the beginning of the command: which script, which counters, and the numbers of each rate."""
        counters = [KEY_PREFIX + rate.counter for rate in rates]
        numbers = [written(rate) for rate in rates]
        whole = command("EVALSHA", SCRIPT_ID, str(len(rates)), *counters, *numbers, "", "")
        self.head = whole.removesuffix(command("", "").removeprefix(b"*2\r\n"))
        self._numbers = 1 + 3 * len(rates)

    def read(self, reply: Any) -> Decision | str:
        """Read a reply: what was decided, or an error's text; raise ``UnexpectedReplyError`` at neither."""
        if type(reply) is not list:
            if isinstance(reply, hiredis.ReplyError):
                return str(reply)
            raise UnexpectedReplyError(f"{type(reply).__name__} in place of a decision")
        if len(reply) != self._numbers or set(map(type, reply)) != {int} or reply[0] not in {0, 1}:
            raise UnexpectedReplyError(f"{len(reply)} values in place of a decision")
        if self._numbers == 4:
            return Decision(reply[0] == 1, (Level(reply[1], reply[2], reply[3]),))
        levels = [Level(*reply[place : place + 3]) for place in range(1, self._numbers, 3)]
        return Decision(reply[0] == 1, tuple(levels))


class RedisRates:
    """A ``RateStore`` that all processes on one Redis share. Its clock is that of Redis."""

    def __init__(self, address: RedisAddress, *, timeout_ms: int = TIMEOUT_MS, stall_ms: int = STALL_MS) -> None:
        """Answer within ``timeout_ms`` or not at all; without any answer for ``stall_ms``, connect anew.

        It is taken for stalled no sooner than after twice ``timeout_ms``: one late answer does not end a connection.
        """
        stall_ms = max(stall_ms, 2 * timeout_ms)
        self._connection = RedisConnection(address, first=[_LOAD_SCRIPT], timeout_ms=timeout_ms, stall_ms=stall_ms)
        self._timeout_s = timeout_ms / 1_000
        self._loading: asyncio.Future[str] | None = None

    @property
    def measures(self) -> RedisMeasures:
        """What was counted of the limiter."""
        return self._connection.measures

    async def start(self) -> None:
        """Try to connect; when that fails, go on in the background and raise at each question meanwhile."""
        await self._connection.start()

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.close()

    def decide_now(self, metered: Metered, *, cost: int, peek: bool) -> Decision | None:
        """Return None: what is shared cannot be known without asking."""
        del metered, cost, peek
        return None

    async def decide(self, metered: Metered, *, cost: int, peek: bool) -> Decision:
        """Decide all rates at once (see ``RateStore``)."""
        prepared = metered.memo
        if type(prepared) is not Prepared:
            if not metered.rates:
                return Decision(True, ())
            prepared = metered.memo = Prepared(metered.rates)
        tail = _TAILS[cost] if cost <= 10 and not peek else _tail(cost, peek=peek)
        began_ns = perf_counter_ns()
        answer = await self._connection.ask(prepared.head + tail, prepared.read)
        if isinstance(answer, str):
            left_s = self._timeout_s - (perf_counter_ns() - began_ns) / NS_PER_SECOND
            answer = await self._again(answer, prepared.head + tail, prepared.read, within_s=left_s)
        self._connection.measures.decisions += 1
        return answer

    async def reset(self, counters: Sequence[str]) -> None:
        """Forget what was spent of these counters."""
        if not counters:
            return
        answer = await self._connection.ask(command("DEL", *[KEY_PREFIX + one for one in counters]), _number)
        if isinstance(answer, str):
            raise self._refusal(answer)

    async def _again(
        self, error: str, request: bytes, read: Callable[[Any], Decision | str], *, within_s: float
    ) -> Decision:
        """Bring the script back and ask again when it was missing, since then nothing was done; else raise."""
        if not error.startswith("NOSCRIPT"):
            raise self._refusal(error)
        try:
            async with asyncio.timeout(within_s):
                if self._loading is None or self._loading.done():
                    self._loading = self._connection.ask(_LOAD_SCRIPT, _text)
                    self._loading.add_done_callback(_heard)
                answer = await self._connection.ask(request, read)
        except TimeoutError as late:
            self._connection.measures.timeouts += 1
            raise LimiterAwayError("Redis takes too long", spent=True) from late
        if isinstance(answer, str):
            raise self._refusal(answer)
        return answer

    def _refusal(self, error: str) -> LimiterAwayError:
        self._connection.measures.errors += 1
        word = error.partition(" ")[0]
        if word in _ELSEWHERE:
            self._connection.drop(f"Redis cannot decide: {error}")
        return LimiterAwayError(f"Redis cannot decide: {error}", spent=word not in _NOT_DONE)


def written(rate: Rate) -> bytes:
    """Write the numbers of a rate as the script reads them."""
    if isinstance(rate, BucketRate):
        return _BUCKET.pack(rate.size_units, rate.token_units, rate.gain_units)
    return _WINDOW.pack(rate.limit, rate.width_us)


def _tail(cost: int, *, peek: bool) -> bytes:
    return b"$%d\r\n%d\r\n$1\r\n%d\r\n" % (len(str(cost)), cost, peek)


def _heard(loading: asyncio.Future[str]) -> None:
    """Take note of what became of it, which whoever asked the script then learns anyway."""
    if not loading.cancelled():
        loading.exception()


def _number(reply: Any) -> int | str:
    if type(reply) is int:
        return reply
    return _text(reply)


def _text(reply: Any) -> str:
    """Read a text or an error."""
    if isinstance(reply, bytes):
        return reply.decode(errors="replace")
    if isinstance(reply, hiredis.ReplyError):
        return str(reply)
    raise UnexpectedReplyError(f"{type(reply).__name__} in place of a text")
