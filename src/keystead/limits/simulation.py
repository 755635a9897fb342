"""What limits would have denied of calls that were made: the calls again, one after another, through the same rules.

Rates are decided by ``arithmetic``, as everywhere. Quotas and credits are counted exactly, without the blocks that
processes take: every quota begins unspent, and credits begin as their balance with the first call.

A call that would have been denied spends nothing and is not made again: what its caller would have done then, nobody
knows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from keystead.kernel.limit import COUNT_MAX, Credits, Limit, Quota
from keystead.limits.arithmetic import (
    Bucket,
    Window,
    bucket_level,
    refilled,
    slid,
    spent_from_bucket,
    spent_from_window,
    window_level,
)
from keystead.limits.compiling import Subject, compiled
from keystead.limits.model import NEVER_US, Allowance, BucketRate, Rate, WindowRate
from keystead.limits.periods import Span, span_of

_MS_US = 1_000


class PastCall(NamedTuple):
    """A call that reached the limits: admitted, or denied by a limit alone."""

    at_ms: int
    environment: str
    owner_id: str
    key_id: str
    cost: int


@dataclass(slots=True)
class SimulatedKey:
    """What would have become of one key's calls."""

    key_id: str
    owner_id: str
    calls: int = 0
    denied: int = 0


class Simulation:
    """Replays calls of one workspace in the order of time.

    It takes memory for each key and each counter that the calls name, and none for calls.
    """

    def __init__(self, limits: Sequence[Limit], workspace_id: str) -> None:
        """Begin with nothing spent."""
        self.calls = 0
        self.denied = 0
        self.denied_by_limit: dict[str, int] = {}
        self._limits = limits
        self._workspace_id = workspace_id
        self._keys: dict[tuple[str, str, str], tuple[SimulatedKey, list[_Counter]]] = {}
        self._counters: dict[str, _Counter] = {}

    def replay(self, calls: Iterable[PastCall]) -> None:
        """Decide calls that are not earlier than those before them."""
        for call in calls:
            key, counters = self._key_of(call)
            self.calls += 1
            key.calls += 1
            denied_by, longest_us = "", 0
            for counter in counters:
                wait_us = counter.wait_us(call.at_ms, call.cost)
                if wait_us and (not longest_us or _is_longer(wait_us, longest_us)):
                    denied_by, longest_us = counter.name, wait_us
            if longest_us:
                self.denied += 1
                key.denied += 1
                self.denied_by_limit[denied_by] = self.denied_by_limit.get(denied_by, 0) + 1
                continue
            for counter in counters:
                counter.spend(call.cost)

    def most_denied(self, count: int) -> list[SimulatedKey]:
        """Return at most ``count`` of the keys that would have been denied, those denied most first."""
        denied = [key for key, _ in self._keys.values() if key.denied]
        return sorted(denied, key=lambda key: (-key.denied, key.key_id))[:count]

    def _key_of(self, call: PastCall) -> tuple[SimulatedKey, list[_Counter]]:
        name = (call.environment, call.owner_id, call.key_id)
        found = self._keys.get(name)
        if found is None:
            subject = Subject(self._workspace_id, call.environment, call.owner_id, call.key_id)
            metered = compiled(self._limits, subject)
            counters = [self._counter(limit) for limit in (*metered.rates, *metered.allowances)]
            found = self._keys[name] = (SimulatedKey(call.key_id, call.owner_id), counters)
        return found

    def _counter(self, limit: Rate | Allowance) -> _Counter:
        """Return the counter of a limit, which keys share when it is on their owner or the workspace."""
        found = self._counters.get(limit.counter)
        if found is None:
            found = self._counters[limit.counter] = _counter_of(limit)
        return found


def _is_longer(wait_us: int, than_us: int) -> bool:
    return than_us != NEVER_US and (wait_us == NEVER_US or wait_us > than_us)


class _Counter(Protocol):
    """What was spent of one limit: first asked how long a call would have to wait, then told that it is spent."""

    name: str

    def wait_us(self, at_ms: int, cost: int) -> int:
        """Return how long a call would have to wait: 0 when it passes, ``NEVER_US`` for ever."""
        ...

    def spend(self, cost: int) -> None:
        """Spend what was just asked about and passed."""
        ...


class _BucketCounter:
    """A bucket."""

    def __init__(self, rate: BucketRate) -> None:
        self.name = rate.name
        self._rate = rate
        self._bucket = Bucket()

    def wait_us(self, at_ms: int, cost: int) -> int:
        self._bucket = refilled(self._bucket, self._rate, at_ms * _MS_US)
        return bucket_level(self._bucket, self._rate, cost).wait_us

    def spend(self, cost: int) -> None:
        self._bucket = spent_from_bucket(self._bucket, self._rate, cost)


class _WindowCounter:
    """A sliding window."""

    def __init__(self, rate: WindowRate) -> None:
        self.name = rate.name
        self._rate = rate
        self._window = Window.empty()

    def wait_us(self, at_ms: int, cost: int) -> int:
        now_us = at_ms * _MS_US
        rate = self._rate
        if now_us // rate.width_us != self._window.index:
            self._window = slid(self._window, rate, now_us)
        # Most calls pass, and those are not asked how long they would have to wait.
        if 0 < cost <= rate.limit - sum(self._window.counts):
            return 0
        return window_level(self._window, rate, now_us, cost).wait_us

    def spend(self, cost: int) -> None:
        self._window = spent_from_window(self._window, cost)


class _QuotaCounter:
    """A quota."""

    def __init__(self, name: str, quota: Quota) -> None:
        self.name = name
        self._quota = quota
        self._span = Span(0, 0)
        self._spent = 0

    def wait_us(self, at_ms: int, cost: int) -> int:
        if at_ms >= self._span.ends_at_ms:
            self._span = span_of(self._quota, at_ms)
            self._spent = 0
        limit = self._quota.limit
        if self._quota.soft:
            return 0
        if cost > limit or not limit:
            return NEVER_US
        passes = not cost or cost <= limit - self._spent
        return 0 if passes else (self._span.ends_at_ms - at_ms) * _MS_US

    def spend(self, cost: int) -> None:
        self._spent += cost


class _CreditsCounter:
    """A balance; the time between two refills is counted from the first call."""

    def __init__(self, name: str, kind: Credits) -> None:
        self.name = name
        self._credits = kind
        self._balance = kind.balance
        self._refilled_at_ms: int | None = None

    def wait_us(self, at_ms: int, cost: int) -> int:
        kind = self._credits
        refilled_at_ms = self._refill(at_ms)
        if cost <= self._balance:
            return 0
        if not kind.refill or cost > (kind.maximum or COUNT_MAX):
            return NEVER_US
        refills = -(-(cost - self._balance) // kind.refill)
        return (refilled_at_ms + refills * kind.refill_every_ms - at_ms) * _MS_US

    def spend(self, cost: int) -> None:
        self._balance -= cost

    def _refill(self, at_ms: int) -> int:
        """Add the refills that are due; return when the last one was."""
        kind = self._credits
        refilled_at_ms = at_ms if self._refilled_at_ms is None else self._refilled_at_ms
        if kind.refill_every_ms:
            times = (at_ms - refilled_at_ms) // kind.refill_every_ms
            top = max(self._balance, kind.maximum or COUNT_MAX)
            self._balance = min(top, self._balance + times * kind.refill)
            refilled_at_ms += times * kind.refill_every_ms
        self._refilled_at_ms = refilled_at_ms
        return refilled_at_ms


def _counter_of(limit: Rate | Allowance) -> _Counter:
    if isinstance(limit, BucketRate):
        return _BucketCounter(limit)
    if isinstance(limit, WindowRate):
        return _WindowCounter(limit)
    if isinstance(limit.kind, Quota):
        return _QuotaCounter(limit.name, limit.kind)
    return _CreditsCounter(limit.name, limit.kind)
