"""One limiter, asked as fast as it answers: ``python -m bench.limits NAME URL AT_ONCE SECONDS`` prints its figures.

Each is asked about one limit that always admits, since that is the answer that costs most. What is told is decisions a
second, and the processor time that this process took for each; the time of Redis itself is measured by who started us.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import asdict, dataclass

import limits
import throttled
import throttled.asyncio
import uvloop
from limits.aio.storage import RedisStorage as AsyncRedisStorage
from limits.aio.strategies import FixedWindowRateLimiter as AsyncFixedWindow
from limits.aio.strategies import SlidingWindowCounterRateLimiter as AsyncSlidingWindow
from limits.storage import RedisStorage
from limits.strategies import FixedWindowRateLimiter, SlidingWindowCounterRateLimiter

from keystead.adapters.memory.rates import MemoryRates
from keystead.adapters.redis.address import RedisAddress
from keystead.adapters.redis.rates import RedisRates
from keystead.kernel.clock import SystemClock
from keystead.kernel.limit import Limit, On, SlidingWindow, TokenBucket
from keystead.limits.compiling import Subject, compiled
from keystead.limits.model import Metered

PER_SECOND = 1_000_000
_WARM_UP_S = 0.3
_CHUNK = 64
_PATIENT_MS = 5_000

Now = Callable[[], object]
"""Decides once, and returns something true when the call is admitted."""
Later = Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Figures:
    """What one run found; ``client_us`` is this process's processor time for each decision.

    ``asked`` counts those of the warm-up as well.
    """

    per_second: float
    client_us: float
    asked: int


def metered(*kinds: TokenBucket | SlidingWindow) -> Metered:
    """Compile limits of one key."""
    subject = Subject("wsp_bench", "live", "owner", "key_bench")
    return compiled([Limit(f"limit_{place}", On.KEY, kind) for place, kind in enumerate(kinds)], subject)


BUCKET = TokenBucket(PER_SECOND, 1_000, PER_SECOND)
WINDOW = SlidingWindow(PER_SECOND, 1_000)


def _in_process(*kinds: TokenBucket | SlidingWindow) -> Callable[[str], Now]:
    def make(_: str) -> Now:
        store, asked = MemoryRates(SystemClock()), metered(*kinds)
        return lambda: store.decide_now(asked, cost=1, peek=False).admitted

    return make


def _shared(*kinds: TokenBucket | SlidingWindow) -> Callable[[str], AbstractAsyncContextManager[Later]]:
    @asynccontextmanager
    async def make(url: str) -> AsyncIterator[Later]:
        store, asked = RedisRates(RedisAddress.parse(url), timeout_ms=_PATIENT_MS), metered(*kinds)

        async def decide() -> bool:
            return (await store.decide(asked, cost=1, peek=False)).admitted

        await store.start()
        yield decide
        await store.close()

    return make


def _limits(strategy: Callable[[RedisStorage], limits.strategies.RateLimiter]) -> Callable[[str], Now]:
    def make(url: str) -> Now:
        limiter, item = strategy(RedisStorage(url)), limits.RateLimitItemPerSecond(PER_SECOND)
        return lambda: limiter.hit(item, "key_bench")

    return make


def _limits_later(
    strategy: Callable[[AsyncRedisStorage], limits.aio.strategies.RateLimiter],
) -> Callable[[str], AbstractAsyncContextManager[Later]]:
    @asynccontextmanager
    async def make(url: str) -> AsyncIterator[Later]:
        storage = AsyncRedisStorage(f"async+{url}", implementation="redispy")
        limiter, item = strategy(storage), limits.RateLimitItemPerSecond(PER_SECOND)
        yield lambda: limiter.hit(item, "key_bench")

    return make


def _throttled(using: throttled.RateLimiterType) -> Callable[[str], Now]:
    def make(url: str) -> Now:
        quota = throttled.per_sec(PER_SECOND, burst=PER_SECOND)
        made = throttled.Throttled("key_bench", using=using.value, quota=quota, store=throttled.RedisStore(url))
        return lambda: not made.limit().limited

    return make


def _throttled_later(using: throttled.RateLimiterType) -> Callable[[str], AbstractAsyncContextManager[Later]]:
    @asynccontextmanager
    async def make(url: str) -> AsyncIterator[Later]:
        made = throttled.asyncio.Throttled(
            "key_bench",
            using=using.value,
            quota=throttled.asyncio.per_sec(PER_SECOND, burst=PER_SECOND),
            store=throttled.asyncio.RedisStore(url),
        )

        async def decide() -> bool:
            return not (await made.limit()).limited

        yield decide

    return make


NOW: dict[str, Callable[[str], Now]] = {
    "keystead, in process, bucket": _in_process(BUCKET),
    "keystead, in process, window": _in_process(WINDOW),
    "keystead, in process, both": _in_process(BUCKET, WINDOW),
    "limits, fixed window": _limits(FixedWindowRateLimiter),
    "limits, sliding window": _limits(SlidingWindowCounterRateLimiter),
    "throttled-py, GCRA": _throttled(throttled.RateLimiterType.GCRA),
    "throttled-py, token bucket": _throttled(throttled.RateLimiterType.TOKEN_BUCKET),
}
LATER: dict[str, Callable[[str], AbstractAsyncContextManager[Later]]] = {
    "keystead, Redis, bucket": _shared(BUCKET),
    "keystead, Redis, window": _shared(WINDOW),
    "keystead, Redis, both": _shared(BUCKET, WINDOW),
    "limits (async), fixed window": _limits_later(AsyncFixedWindow),
    "limits (async), sliding window": _limits_later(AsyncSlidingWindow),
    "throttled-py (async), GCRA": _throttled_later(throttled.RateLimiterType.GCRA),
    "throttled-py (async), token bucket": _throttled_later(throttled.RateLimiterType.TOKEN_BUCKET),
}


def timed_now(decide: Now, seconds: float) -> Figures:
    """Ask for ``seconds``, one after the other."""
    asked = 0
    for counted_s in (_WARM_UP_S, seconds):
        decisions = 0
        begun_s, used_s = time.perf_counter(), time.process_time()
        while time.perf_counter() - begun_s < counted_s:
            for _ in range(_CHUNK):
                _must_admit(decide())
            decisions += _CHUNK
        asked += decisions
        figures = _figures(decisions, asked, begun_s, used_s)
    return figures


async def timed_later(decide: Later, at_once: int, seconds: float) -> Figures:
    """Ask for ``seconds``, ``at_once`` in one turn of the event loop each time."""
    asked = 0
    for counted_s in (_WARM_UP_S, seconds):
        decisions = 0
        begun_s, used_s = time.perf_counter(), time.process_time()
        while time.perf_counter() - begun_s < counted_s:
            if at_once == 1:
                _must_admit(await decide())
            else:
                for admitted in await asyncio.gather(*[decide() for _ in range(at_once)]):
                    _must_admit(admitted)
            decisions += at_once
        asked += decisions
        figures = _figures(decisions, asked, begun_s, used_s)
    return figures


def _figures(decisions: int, asked: int, begun_s: float, used_s: float) -> Figures:
    wall_s, cpu_s = time.perf_counter() - begun_s, time.process_time() - used_s
    return Figures(decisions / wall_s, cpu_s / decisions * 1_000_000, asked)


def _must_admit(admitted: object) -> None:
    if not admitted:
        raise AssertionError("a limit that nobody can reach has denied")


async def _run_later(name: str, url: str, at_once: int, seconds: float) -> Figures:
    async with LATER[name](url) as decide:
        return await timed_later(decide, at_once, seconds)


def main() -> int:
    """Measure what the command line says."""
    name, url, at_once, seconds = sys.argv[1:]
    if name in NOW:
        found = timed_now(NOW[name](url), float(seconds))
    else:
        found = uvloop.run(_run_later(name, url, int(at_once), float(seconds)))
    print(json.dumps(asdict(found)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
