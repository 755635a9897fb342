"""Buckets and windows counted in this process: the store of a node that stands alone, and the one it falls back on.

It computes exactly what ``limits.arithmetic`` does, changed in place and without copies, since every admitted call
comes through here; a property test holds the two together. One thread decides at a time, so every decision is atomic.

Memory is bounded. A counter that is whole again (its bucket full, its window empty) is worth as much as none at all,
so it may be forgotten without ever granting more; one that is not is never forgotten, however full the store is.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Protocol

from keystead.kernel.clock import Clock
from keystead.limits.arithmetic import SLOTS, Bucket, bucket_level, refilled
from keystead.limits.errors import LimiterAwayError
from keystead.limits.model import NEVER_US, PARTS, BucketRate, Decision, Level, Metered, Rate, WindowRate

CAPACITY = 1_000_000
"""Counters that are held at most by default; a window takes about 450 bytes, a bucket 250, and its name 140."""

_LOOKED_AT = 4  # of the oldest at each insertion: more than the one that comes in, so whole ones do not pile up
# So few are not worth forgetting. While they are remembered, what was spent counts under numbers that change as well.
_FEW = 1_000
_NEVER = Level(0, 0, NEVER_US)
_NOTHING = bytes(4 * SLOTS)


class _Counter(Protocol):
    """What both kinds of counter can do; the name of a counter says which kind it is, so a rate always meets its own.

    ``whole_at_us`` is when nothing is missing any more, by the numbers it was last spent under.
    """

    whole_at_us: int

    def fits(self, rate: Any, now_us: int, cost: int) -> bool:
        """Say whether ``take`` would spend ``cost``, at least 1."""
        ...

    def take(self, rate: Any, now_us: int, cost: int) -> Level | None:
        """Spend ``cost``, at least 1, and say where the counter stands then; None when it does not fit."""
        ...

    def level(self, rate: Any, now_us: int, cost: int) -> Level:
        """Say where the counter stands for a call of ``cost``, and spend nothing."""
        ...

    def empty(self, rate: Any, now_us: int) -> bool:
        """Make a new counter one that has nothing left; False when its limit is 0, which needs no counter."""
        ...


class _Bucket(Bucket):
    """``arithmetic.Bucket``, changed in place."""

    __slots__ = ("whole_at_us",)

    def __init__(self) -> None:
        super().__init__()
        self.whole_at_us = 0

    def fits(self, rate: BucketRate, now_us: int, cost: int) -> bool:
        need_units = self._missing_units(rate, now_us) + cost * rate.token_units
        return need_units <= rate.size_units and rate.gain_units > 0

    def take(self, rate: BucketRate, now_us: int, cost: int) -> Level | None:
        token_units = rate.token_units
        gain_units = rate.gain_units
        missing_units = self._missing_units(rate, now_us) + cost * token_units
        left_units = rate.size_units - missing_units
        if left_units < 0 or not gain_units:
            return None
        self.missing_units = missing_units
        self.token_units = token_units
        self.at_us = now_us
        reset_us = -(-missing_units // gain_units)
        self.whole_at_us = now_us + reset_us
        return Level(left_units // token_units, reset_us)

    def _missing_units(self, rate: BucketRate, now_us: int) -> int:
        if self.token_units == rate.token_units:
            return max(self.missing_units - (now_us - self.at_us) * rate.gain_units, 0)
        return refilled(self, rate, now_us).missing_units

    def level(self, rate: BucketRate, now_us: int, cost: int) -> Level:
        return bucket_level(refilled(self, rate, now_us), rate, cost)

    def empty(self, rate: BucketRate, now_us: int) -> bool:
        if not rate.gain_units or not rate.size_units:
            return False
        self.missing_units = rate.size_units
        self.token_units = rate.token_units
        self.at_us = now_us
        self.whole_at_us = now_us + -(-rate.size_units // rate.gain_units)
        return True


class _Window:
    """``arithmetic.Window``, slid in place, which nobody notices because time never goes back here.

    ``index`` is the sub-window it was last slid to and ``spent`` the sum of ``counts``.
    """

    __slots__ = ("counts", "index", "spent", "whole_at_us")

    def __init__(self) -> None:
        self.index = 0
        self.spent = 0
        self.counts = array("I", _NOTHING)
        self.whole_at_us = 0

    def fits(self, rate: WindowRate, now_us: int, cost: int) -> bool:
        self._slide(now_us // rate.width_us)
        return self.spent + cost <= rate.limit

    def take(self, rate: WindowRate, now_us: int, cost: int) -> Level | None:
        index = now_us // rate.width_us
        self._slide(index)
        left = rate.limit - self.spent - cost
        if left < 0:
            return None
        self.spent += cost
        self.counts[index % SLOTS] += cost
        self.whole_at_us = (index + SLOTS) * rate.width_us
        return Level(left, self.whole_at_us - now_us)

    def level(self, rate: WindowRate, now_us: int, cost: int) -> Level:
        if not rate.limit:
            return _NEVER
        self._slide(now_us // rate.width_us)
        left = rate.limit - self.spent
        wait_us = 0 if cost == 0 or cost <= left else self._wait_us(rate, now_us, cost)
        return Level(max(0, left), self.whole_at_us - now_us if self.spent else 0, wait_us)

    def empty(self, rate: WindowRate, now_us: int) -> bool:
        if not rate.limit:
            return False
        self.index = now_us // rate.width_us
        self.spent = rate.limit
        for number in range(1, SLOTS):
            at = (self.index + 1 + number) % SLOTS
            self.counts[at] = number * rate.limit // PARTS - (number - 1) * rate.limit // PARTS
        self.whole_at_us = (self.index + SLOTS) * rate.width_us
        return True

    def _slide(self, index: int) -> None:
        """Go on to sub-window ``index`` and forget what left the window by that."""
        if index == self.index:
            return
        if index - self.index >= SLOTS:
            self.spent = 0
            self.counts = array("I", _NOTHING)
        else:
            counts = self.counts
            for passed in range(self.index + 1, index + 1):
                at = passed % SLOTS
                self.spent -= counts[at]
                counts[at] = 0
        self.index = index

    def _wait_us(self, rate: WindowRate, now_us: int, cost: int) -> int:
        """Return when enough has left the window, were nothing more spent."""
        excess = self.spent + cost - rate.limit
        oldest = self.index - PARTS
        at = oldest % SLOTS
        for index, count in enumerate(self.counts[at:] + self.counts[:at], oldest + SLOTS):
            excess -= count
            if excess <= 0:
                return index * rate.width_us - now_us
        return NEVER_US


def _new(rate: Rate) -> _Counter:
    return _Bucket() if isinstance(rate, BucketRate) else _Window()


class MemoryRates:
    """A ``RateStore`` of this process, on the monotonic clock; what it counted ends with the process.

    With ``begins_empty`` a counter first seen has nothing left and gains from then on, so that a store that takes over
    from another never starts with a burst: all of a bucket is missing, and a window's limit counts as spent evenly
    over its latest 32 sub-windows, so that what it gains is never ahead of its rate. ``refused`` counts the calls that
    found the store full of counters in use.
    """

    def __init__(self, clock: Clock, *, capacity: int = CAPACITY, begins_empty: bool = False) -> None:
        """Hold at most ``capacity`` counters."""
        self._clock = clock
        self._capacity = capacity
        self._few = min(_FEW, capacity // 2)
        self._begins_empty = begins_empty
        self._counters: OrderedDict[str, _Counter] = OrderedDict()
        self._now_us = 0
        self.refused = 0

    @property
    def held(self) -> int:
        """How many counters are held now."""
        return len(self._counters)

    def decide_now(self, metered: Metered, *, cost: int, peek: bool) -> Decision:
        """Decide at once; raise ``LimiterAwayError`` when the store is full of counters in use."""
        self._now_us = now_us = max(self._clock.monotonic_ns() // 1_000, self._now_us)
        rates = metered.rates
        if cost and not peek:
            quick = self._spent_one(rates[0], now_us, cost) if len(rates) == 1 else self._spent_all(rates, now_us, cost)
            if quick is not None:
                return quick
        return self._decided(rates, now_us, cost, peek=peek)

    async def decide(self, metered: Metered, *, cost: int, peek: bool) -> Decision:
        """Decide as ``decide_now`` does."""
        return self.decide_now(metered, cost=cost, peek=peek)

    async def reset(self, counters: Sequence[str]) -> None:
        """Forget what was spent of these counters."""
        for counter in counters:
            self._counters.pop(counter, None)

    def clear(self) -> None:
        """Forget every counter, as a restart would."""
        self._counters.clear()

    def _spent_one(self, rate: Rate, now_us: int, cost: int) -> Decision | None:
        """Decide about a counter that is held already, the common case; None when it is not."""
        state = self._counters.get(rate.counter)
        if state is None:
            return None
        level = state.take(rate, now_us, cost)
        return Decision(True, (level,)) if level else Decision(False, (state.level(rate, now_us, cost),))

    def _spent_all(self, rates: Sequence[Rate], now_us: int, cost: int) -> Decision | None:
        """Spend from counters that are all held already; None, and nothing spent, when that cannot be."""
        counters = self._counters
        states = []
        for rate in rates:
            state = counters.get(rate.counter)
            if state is None or not state.fits(rate, now_us, cost):
                return None
            states.append(state)
        levels = [state.take(rate, now_us, cost) or _NEVER for state, rate in zip(states, rates, strict=True)]
        return Decision(True, tuple(levels))

    def _decided(self, rates: Sequence[Rate], now_us: int, cost: int, *, peek: bool) -> Decision:
        """Decide any call at all."""
        states = [self._state(rate, now_us) for rate in rates]
        pairs = list(zip(states, rates, strict=True))
        levels = [state.level(rate, now_us, cost) for state, rate in pairs]
        admitted = all(level.wait_us == 0 for level in levels)
        if admitted and cost and not peek:
            self._hold(pairs, now_us)
            levels = [state.take(rate, now_us, cost) or _NEVER for state, rate in pairs]
        return Decision(admitted, tuple(levels))

    def _state(self, rate: Rate, now_us: int) -> _Counter:
        """Return a counter; one that is not held is new, and kept when it is first spent from, or begins empty."""
        state = self._counters.get(rate.counter)
        if state is None:
            state = _new(rate)
            if self._begins_empty and state.empty(rate, now_us):
                self._hold([(state, rate)], now_us)
        return state

    def _hold(self, pairs: Sequence[tuple[_Counter, Rate]], now_us: int) -> None:
        """Hold these counters as the youngest, forgetting whole ones of the oldest for those that are new.

        Raises ``LimiterAwayError`` when they do not all fit, and holds none of the new ones then.
        """
        counters = self._counters
        new = 0
        for _, rate in pairs:
            if rate.counter in counters:
                counters.move_to_end(rate.counter)
            else:
                new += 1
        others = len(counters) - (len(pairs) - new)
        for _ in range(min(new * _LOOKED_AT, others) if others > self._few else 0):
            counter = next(iter(counters))
            if counters[counter].whole_at_us <= now_us:
                del counters[counter]
            else:
                counters.move_to_end(counter)
        if len(counters) + new > self._capacity:
            self.refused += 1
            raise LimiterAwayError(f"all {self._capacity} counters of this process are in use")
        counters.update((rate.counter, state) for state, rate in pairs)
