"""Waiting for what must come to pass: short looks with a deadline, never a fixed sleep."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

_TICK_S = 0.01


async def eventually(condition: Callable[[], Awaitable[bool]], *, within_s: float) -> float:
    """Look until ``condition`` holds; return how many seconds it took, and fail when it did not within ``within_s``."""
    began_s = time.monotonic()
    while not await condition():
        took_s = time.monotonic() - began_s
        assert took_s < within_s, f"did not come to pass within {within_s} s"
        await asyncio.sleep(_TICK_S)
    return time.monotonic() - began_s


async def always(condition: Callable[[], Awaitable[bool]], *, for_s: float) -> int:
    """Look for ``for_s`` seconds, and fail at once when ``condition`` does not hold; return how often it was looked."""
    ends_s = time.monotonic() + for_s
    looks = 0
    while time.monotonic() < ends_s:
        assert await condition(), f"held no longer at look {looks}"
        looks += 1
        await asyncio.sleep(_TICK_S)
    return looks
