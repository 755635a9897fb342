"""Waiting for several things at once, within bounds, and for none in vain."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

AT_ONCE = 100  # a batch of first uses must neither fill the lane of all others nor be shed by it


async def side_by_side(ways: Sequence[Any]) -> list[Any]:
    """Await what is a coroutine among ``ways``, some at once, and return everything in order.

    When one raises, those beside it are awaited all the same and those after it never begin; then it is raised.
    """
    results = list(ways)
    waiting = [index for index, way in enumerate(ways) if isinstance(way, Coroutine)]
    try:
        while waiting:
            some, waiting = waiting[:AT_ONCE], waiting[AT_ONCE:]
            ended = await asyncio.gather(*[ways[index] for index in some], return_exceptions=True)
            for index, result in zip(some, ended, strict=True):
                if isinstance(result, BaseException):
                    raise result
                results[index] = result
    finally:
        for index in waiting:
            ways[index].close()
    return results
