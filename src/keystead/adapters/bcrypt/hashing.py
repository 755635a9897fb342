"""bcrypt off the event loop, in bounded lanes: no flood of first uses delays minting or another kind of first use.

A lane is a small pool of threads (bcrypt releases the GIL) and a bounded queue; a full one sheds at once with a delay
that matches how long its queue takes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import bcrypt

from keystead.kernel.measures import SLOW_BOUNDS_NS, Histogram
from keystead.keys.errors import OverloadedError
from keystead.keys.ports import Lane

COST_MIN = 4
COST_MAX = 14

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class LaneSize:
    """How many hashes a lane works on at once, and how many more may wait."""

    threads: int
    waiting: int


class Pool:
    """One lane, and what it counts: calls that were ``shed``, how long hashes ``took`` and how long they ``waited``."""

    def __init__(self, lane: Lane, size: LaneSize) -> None:
        """Start no thread before it is needed."""
        self._lane = lane
        self._room = size.threads + size.waiting
        self._busy = 0
        self._threads = size.threads
        self.shed = 0
        self.took = Histogram(SLOW_BOUNDS_NS)
        self.waited = Histogram(SLOW_BOUNDS_NS)
        self._executor = ThreadPoolExecutor(max_workers=size.threads, thread_name_prefix=f"bcrypt-{lane}")

    async def run(self, work: Callable[[], Result]) -> Result:
        """Do ``work`` on a thread; raise ``OverloadedError`` when the lane is full."""
        if self._busy >= self._room:
            self.shed += 1
            raise OverloadedError(self._lane, retry_after_ms=max(100, 5 * self._busy // self._threads))
        self._busy += 1
        asked_ns = time.perf_counter_ns()

        def timed() -> tuple[Result, int, int]:
            began_ns = time.perf_counter_ns()
            return work(), began_ns - asked_ns, time.perf_counter_ns() - began_ns

        future = asyncio.get_running_loop().run_in_executor(self._executor, timed)
        future.add_done_callback(self._done)
        result, _, _ = await asyncio.shield(future)
        return result

    @property
    def waiting(self) -> int:
        """How many wait for a thread."""
        return max(0, self._busy - self._threads)

    def _done(self, future: asyncio.Future[tuple[Result, int, int]]) -> None:
        """Count on the loop, since the threads share nothing."""
        self._busy -= 1
        if not future.cancelled() and future.exception() is None:
            _, waited_ns, took_ns = future.result()
            self.waited.observe(waited_ns)
            self.took.observe(took_ns)

    def close(self) -> None:
        """Stop the threads; what waits is cancelled."""
        self._executor.shutdown(wait=False, cancel_futures=True)


class BcryptHasher:
    """``SecretHasher`` by bcrypt; ``calls`` counts what was asked of it, so that tests can prove there was nothing."""

    def __init__(self, *, cost: int, lanes: Mapping[Lane, LaneSize]) -> None:
        """Hash at ``cost`` (4 to 14, each step doubling the work)."""
        if not COST_MIN <= cost <= COST_MAX:
            message = f"bcrypt cost must be {COST_MIN} to {COST_MAX}, not {cost}"
            raise ValueError(message)
        self._cost = cost
        self.pools = {lane: Pool(lane, size) for lane, size in lanes.items()}
        self.calls = 0

    async def hash(self, material: bytes) -> str:
        """Hash ``material`` in the lane for minting."""
        self.calls += 1
        stored = await self.pools[Lane.MINT].run(lambda: bcrypt.hashpw(material, bcrypt.gensalt(self._cost)))
        return stored.decode()

    async def check(self, material: bytes, stored: str, lane: Lane) -> bool:
        """Compare ``material`` with ``stored``."""
        self.calls += 1
        return await self.pools[lane].run(lambda: bcrypt.checkpw(material, stored.encode()))

    def close(self) -> None:
        """Stop the threads; what waits is cancelled."""
        for pool in self.pools.values():
            pool.close()
