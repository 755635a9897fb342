"""Loops that can be woken: at once, once for many wake-ups, and never more often than allowed."""

from __future__ import annotations

import asyncio
import time

from keystead.worker.loop import Loop

NEVER_MS = 3_600_000


class Steps:
    """Steps that say when they ran, and can be held up."""

    def __init__(self) -> None:
        """Hold up nobody."""
        self.began_at_s: list[float] = []
        self.began = asyncio.Event()
        self.may_end = asyncio.Event()
        self.may_end.set()

    async def step(self) -> None:
        """Run one."""
        self.began_at_s.append(time.monotonic())
        self.began.set()
        await self.may_end.wait()

    async def next(self) -> None:
        """Wait for the next one to begin."""
        self.began.clear()
        async with asyncio.timeout(10):
            await self.began.wait()


async def test_a_wake_up_runs_the_next_step_at_once() -> None:
    """Whoever has news does not wait for the interval."""
    steps = Steps()
    loop = Loop("try", steps.step, interval_ms=NEVER_MS)
    loop.start()
    await steps.next()
    loop.wake()
    await steps.next()
    await loop.stop()
    assert len(steps.began_at_s) == 2


async def test_many_wake_ups_during_a_step_make_one_more() -> None:
    """A step that began before the news may have missed it, and one after it cannot: one is enough."""
    steps = Steps()
    steps.may_end.clear()
    loop = Loop("try", steps.step, interval_ms=NEVER_MS)
    loop.start()
    await steps.next()
    for _ in range(100):
        loop.wake()
    steps.may_end.set()
    await steps.next()
    await loop.stop()
    assert len(steps.began_at_s) == 2


async def test_a_flood_of_wake_ups_runs_steps_no_faster_than_allowed() -> None:
    """Whoever floods a process with wake-ups costs it a bounded number of steps."""
    steps = Steps()
    loop = Loop("try", steps.step, interval_ms=NEVER_MS, apart_ms=20)
    loop.start()
    while len(steps.began_at_s) < 6:
        loop.wake()
        await asyncio.sleep(0)
    await loop.stop()
    between_s = [after - before for before, after in zip(steps.began_at_s, steps.began_at_s[1:], strict=False)]
    assert min(between_s) >= 0.019


async def test_a_loop_that_is_woken_and_stopped_ends() -> None:
    """Stopping waits for no interval and for no distance between steps."""
    steps = Steps()
    loop = Loop("try", steps.step, interval_ms=NEVER_MS, apart_ms=NEVER_MS)
    loop.start()
    await steps.next()
    loop.wake()
    async with asyncio.timeout(10):
        await loop.stop()
    assert len(steps.began_at_s) == 1
