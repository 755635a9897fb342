"""bcrypt off the event loop, in bounded lanes: no flood of first uses delays minting or another kind of first use.

A lane is a small pool of threads (bcrypt releases the GIL) and a bounded queue; a full one sheds at once with a delay
that matches how long its queue takes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import bcrypt

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


class _Pool:
    def __init__(self, lane: Lane, size: LaneSize) -> None:
        self._lane = lane
        self._room = size.threads + size.waiting
        self._busy = 0
        self._threads = size.threads
        self._executor = ThreadPoolExecutor(max_workers=size.threads, thread_name_prefix=f"bcrypt-{lane}")

    async def run(self, work: Callable[[], Result]) -> Result:
        if self._busy >= self._room:
            raise OverloadedError(self._lane, retry_after_ms=max(100, 5 * self._busy // self._threads))
        self._busy += 1
        future = asyncio.get_running_loop().run_in_executor(self._executor, work)
        future.add_done_callback(self._done)
        return await asyncio.shield(future)

    def _done(self, _: asyncio.Future[Result]) -> None:
        self._busy -= 1

    def close(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)


class BcryptHasher:
    """``SecretHasher`` by bcrypt; ``calls`` counts what was asked of it, so that tests can prove there was nothing."""

    def __init__(self, *, cost: int, lanes: Mapping[Lane, LaneSize]) -> None:
        """Hash at ``cost`` (4 to 14, each step doubling the work)."""
        if not COST_MIN <= cost <= COST_MAX:
            message = f"bcrypt cost must be {COST_MIN} to {COST_MAX}, not {cost}"
            raise ValueError(message)
        self._cost = cost
        self._pools = {lane: _Pool(lane, size) for lane, size in lanes.items()}
        self.calls = 0

    async def hash(self, material: bytes) -> str:
        """Hash ``material`` in the lane for minting."""
        self.calls += 1
        stored = await self._pools[Lane.MINT].run(lambda: bcrypt.hashpw(material, bcrypt.gensalt(self._cost)))
        return stored.decode()

    async def check(self, material: bytes, stored: str, lane: Lane) -> bool:
        """Compare ``material`` with ``stored``."""
        self.calls += 1
        return await self._pools[lane].run(lambda: bcrypt.checkpw(material, stored.encode()))

    def close(self) -> None:
        """Stop the threads; what waits is cancelled."""
        for pool in self._pools.values():
            pool.close()
