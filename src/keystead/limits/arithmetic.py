"""The decision about one rate, as whole-number arithmetic; every store computes exactly this.

A bucket is remembered as what is missing from it and when that was so. What comes back in a microsecond is a whole
number of units (``kernel.limit.bucket_units``), so nothing is ever rounded and steady traffic at exactly its rate
passes for ever (a leaky bucket as a meter: ITU-T I.371, GCRA).

A window of length W is counted in sub-windows of W / 32, and a call sees the 33 that can hold anything of the last W:
never too few, so never over; and at most a thirty-second too many, so steady traffic up to 96 % always passes.

Time is the store's own and never goes back: what was remembered later than ``now`` counts as now. A denied call and a
peek leave everything as it was.
"""

from __future__ import annotations

from dataclasses import dataclass

from keystead.kernel.limit import EXACT_MAX
from keystead.limits.model import NEVER_US, PARTS, BucketRate, Level, WindowRate

SLOTS = PARTS + 1


@dataclass(slots=True)
class Bucket:
    """What is missing from a bucket, in units of which a token had ``token_units``, at ``at_us``."""

    missing_units: int = 0
    token_units: int = 1
    at_us: int = 0


def refilled(state: Bucket, rate: BucketRate, now_us: int) -> Bucket:
    """Return what ``state`` has become by ``now_us``, in the units of ``rate``."""
    missing = _in_units_of(rate.token_units, state)
    at_us = max(now_us, state.at_us)
    return Bucket(max(0, missing - (at_us - state.at_us) * rate.gain_units), rate.token_units, at_us)


def spent_from_bucket(current: Bucket, rate: BucketRate, cost: int) -> Bucket:
    """Return a refilled bucket without ``cost`` more tokens."""
    return Bucket(current.missing_units + cost * rate.token_units, rate.token_units, current.at_us)


def bucket_level(current: Bucket, rate: BucketRate, cost: int) -> Level:
    """Say where a refilled bucket stands, and how long a call of ``cost`` would have to wait for it."""
    left_units = rate.size_units - current.missing_units
    remaining = max(0, left_units // rate.token_units)
    if not rate.gain_units or not rate.size_units:
        return Level(0, 0, NEVER_US)
    reset_us = _divided_up(current.missing_units, rate.gain_units)
    need_units = cost * rate.token_units
    if cost == 0 or need_units <= left_units:
        return Level(remaining, reset_us)
    if need_units > rate.size_units:
        return Level(remaining, reset_us, NEVER_US)
    return Level(remaining, reset_us, _divided_up(need_units - left_units, rate.gain_units))


def _in_units_of(token_units: int, state: Bucket) -> int:
    """Count what is missing in the units of a rate that has changed: in whole tokens, so that all stores agree."""
    if state.token_units == token_units:
        return state.missing_units
    return min(_divided_up(state.missing_units, state.token_units) * token_units, EXACT_MAX)


def _divided_up(dividend: int, divisor: int) -> int:
    return -(-dividend // divisor)


@dataclass(slots=True)
class Window:
    """What was spent in each of the last ``SLOTS`` sub-windows; ``counts[index % SLOTS]`` is that of number ``index``.

    ``index`` is the latest one in which anything was spent; -1 when nothing ever was.
    """

    index: int
    counts: list[int]

    @classmethod
    def empty(cls) -> Window:
        """Make one in which nothing was spent."""
        return cls(-1, [0] * SLOTS)


def slid(state: Window, rate: WindowRate, now_us: int) -> Window:
    """Return ``state`` as it is at ``now_us``: ``index`` is the present sub-window, what left the window is gone."""
    index = max(now_us // rate.width_us, state.index)
    counts = list(state.counts)
    for passed in range(max(state.index + 1, index - PARTS), index + 1):
        counts[passed % SLOTS] = 0
    return Window(index, counts)


def spent_from_window(current: Window, cost: int) -> Window:
    """Return a slid window with ``cost`` more spent in its present sub-window."""
    counts = list(current.counts)
    counts[current.index % SLOTS] += cost
    return Window(current.index, counts)


def window_level(current: Window, rate: WindowRate, now_us: int, cost: int) -> Level:
    """Say where a slid window stands, and how long a call of ``cost`` would have to wait for it."""
    spent = sum(current.counts)
    remaining = max(0, rate.limit - spent)
    if not rate.limit:
        return Level(0, 0, NEVER_US)
    now_us = max(now_us, current.index * rate.width_us)
    wait_us = 0 if cost == 0 or cost <= rate.limit - spent else NEVER_US
    reset_us = 0
    for index in range(current.index - PARTS, current.index + 1):
        count = current.counts[index % SLOTS]
        if count:
            spent -= count
            reset_us = (index + SLOTS) * rate.width_us - now_us
            if wait_us == NEVER_US and cost <= rate.limit - spent:
                wait_us = reset_us
    return Level(remaining, reset_us, wait_us)
