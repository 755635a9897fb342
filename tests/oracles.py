"""What limits ought to decide, told from nothing but the list of all that was ever admitted.

This is the other way to the same answers. What is missing from a bucket is the greatest excess over all intervals that
end now, in exact fractions of a token; what a window holds is counted anew from the list at each call. Nothing is kept
up to date, so nothing can be kept wrong; it is slow, and for tests alone.

Two rules are the stores' own and are told here as well: time is the latest of ``now_us`` and of what the counter was
last spent at; and only an admitted call that costs something leaves a trace (a free one, a denied one and a peek do
not). When a bucket's rate changes to one that is counted in other units, what was missing after the latest admission
is rounded up to whole tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from keystead.kernel.limit import EXACT_MAX, Kind, Limit, On, SlidingWindow, TokenBucket
from keystead.limits.compiling import Subject
from keystead.limits.model import NEVER_US, Decision, Level

NEVER = Level(0, 0, NEVER_US)


@dataclass(frozen=True, slots=True)
class Call:
    """One question: at ``now_us``, may ``cost`` be spent of all ``limits`` (buckets and windows alone)?"""

    now_us: int
    subject: Subject
    limits: tuple[Limit, ...]
    cost: int = 1
    peek: bool = False


class Oracle:
    """Knows every admission of every counter and answers from these."""

    def __init__(self) -> None:
        """Begin with nothing spent."""
        self.buckets: dict[tuple[str, ...], BucketPast] = {}
        self.windows: dict[tuple[str, ...], WindowPast] = {}

    def decide(self, call: Call) -> Decision:
        """Answer as ``RateStore.decide`` must: all or nothing, the levels in the order of the limits."""
        before = [self._level(limit, call, call.cost) for limit in call.limits]
        admitted = all(level.wait_us == 0 for level in before)
        if not admitted or call.peek:
            return Decision(admitted, tuple(before))
        if call.cost:
            for limit in call.limits:
                self._spend(limit, call)
        return Decision(admitted, tuple(self._level(limit, call, 0) for limit in call.limits))

    def reset(self, limit: Limit, subject: Subject) -> None:
        """Forget what was spent of a limit."""
        self.buckets.pop(identity(limit, subject), None)
        self.windows.pop(identity(limit, subject), None)

    def _level(self, limit: Limit, call: Call, cost: int) -> Level:
        at = identity(limit, call.subject)
        if isinstance(limit.kind, TokenBucket):
            return self.buckets.get(at, BucketPast()).level(limit.kind, call.now_us, cost)
        return self.windows.get(at, WindowPast()).level(window_of(limit.kind), call.now_us, cost)

    def _spend(self, limit: Limit, call: Call) -> None:
        at = identity(limit, call.subject)
        if isinstance(limit.kind, TokenBucket):
            self.buckets.setdefault(at, BucketPast()).spend(limit.kind, call.now_us, call.cost)
        else:
            self.windows.setdefault(at, WindowPast()).spend(window_of(limit.kind), call.now_us, call.cost)


def identity(limit: Limit, subject: Subject) -> tuple[str, ...]:
    """Say what a limit is counted as: whose it is, its name, its algorithm and its length, and none of its numbers."""
    whose = {
        On.WORKSPACE: (),
        On.OWNER: (subject.owner_id,),
        On.KEY: (subject.owner_id, subject.key_id),
    }[limit.on]
    kind = limit.kind
    length = f"bucket {kind.per_ms}" if isinstance(kind, TokenBucket) else f"window {window_of(kind).window_ms}"
    return (subject.workspace_id, subject.environment, limit.on, *whose, limit.name, length)


def window_of(kind: Kind) -> SlidingWindow:
    """Narrow a kind to the one that is left when it is no bucket."""
    assert isinstance(kind, SlidingWindow)
    return kind


@dataclass(slots=True)
class BucketPast:
    """Everything that was admitted by one bucket: ``(at_us, tokens)``, in order."""

    admissions: list[tuple[int, Fraction]] = field(default_factory=list)
    speed: Fraction = Fraction(0)
    """Tokens that came back in a microsecond when the latest was admitted."""

    def level(self, kind: TokenBucket, now_us: int, cost: int) -> Level:
        """Say where the bucket stands for a call of ``cost``."""
        if not kind.rate or not kind.burst:
            return NEVER
        speed = speed_of(kind)
        missing = greatest_excess(self.told_in(speed), self.time(now_us), speed)
        left = kind.burst - missing
        if cost == 0 or cost <= left:
            wait_us = 0
        elif cost > kind.burst:
            wait_us = NEVER_US
        else:
            wait_us = math.ceil((cost - left) / speed)
        return Level(max(0, math.floor(left)), math.ceil(missing / speed), wait_us)

    def spend(self, kind: TokenBucket, now_us: int, cost: int) -> None:
        """Remember that ``cost`` was admitted."""
        at_us = self.time(now_us)
        speed = speed_of(kind)
        self.admissions = [*self.told_in(speed), (at_us, Fraction(cost))]
        self.speed = speed

    def time(self, now_us: int) -> int:
        """Return this counter's own time, which never goes back."""
        return max([now_us, *(at_us for at_us, _ in self.admissions[-1:])])

    def told_in(self, speed: Fraction) -> list[tuple[int, Fraction]]:
        """Return the admissions as they count at another speed: as one, of all that was missing after the latest."""
        if not self.admissions or speed == self.speed:
            return self.admissions
        latest_us = self.admissions[-1][0]
        missing = greatest_excess(self.admissions, latest_us, self.speed)
        if speed.denominator != self.speed.denominator:
            missing = min(Fraction(math.ceil(missing)), Fraction(EXACT_MAX, speed.denominator))
        return [(latest_us, missing)]


def speed_of(kind: TokenBucket) -> Fraction:
    """Return how many tokens come back in a microsecond."""
    return Fraction(kind.rate, kind.per_ms * 1_000)


def greatest_excess(admissions: Sequence[tuple[int, Fraction]], now_us: int, speed: Fraction) -> Fraction:
    """Return by how much the admissions of any interval that ends now exceed what came back in it; at least 0."""
    total = greatest = Fraction(0)
    for at_us, tokens in reversed(admissions):
        total += tokens
        greatest = max(greatest, total - (now_us - at_us) * speed)
    return greatest


@dataclass(slots=True)
class WindowPast:
    """Everything that was admitted by one window: ``(at_us, cost)``, in order."""

    admissions: list[tuple[int, int]] = field(default_factory=list)

    def level(self, kind: SlidingWindow, now_us: int, cost: int) -> Level:
        """Say where the window stands for a call of ``cost``."""
        if not kind.limit:
            return NEVER
        now_us = self.time(kind, now_us)
        width_us = width_of(kind)
        spent = self.spent(kind, now_us)
        # What is spent changes only when a sub-window is the 33rd before the present one.
        moments = [now_us, *sorted({(at_us // width_us + 33) * width_us for at_us, _ in self.admissions})]
        moments = [moment_us for moment_us in moments if moment_us >= now_us]
        whole_us = next(moment_us for moment_us in moments if not self.spent(kind, moment_us))
        fits = (moment_us for moment_us in moments if not cost or self.spent(kind, moment_us) + cost <= kind.limit)
        fit_us = next(fits, None)
        wait_us = NEVER_US if fit_us is None else fit_us - now_us
        return Level(max(0, kind.limit - spent), whole_us - now_us, wait_us)

    def spend(self, kind: SlidingWindow, now_us: int, cost: int) -> None:
        """Remember that ``cost`` was admitted."""
        self.admissions.append((self.time(kind, now_us), cost))

    def time(self, kind: SlidingWindow, now_us: int) -> int:
        """Return this counter's own time, which never goes back behind the sub-window last spent in."""
        width_us = width_of(kind)
        return max([now_us, *(at_us // width_us * width_us for at_us, _ in self.admissions[-1:])])

    def spent(self, kind: SlidingWindow, now_us: int) -> int:
        """Add up what was admitted in the present sub-window and the 32 before it."""
        width_us = width_of(kind)
        return sum(cost for at_us, cost in self.admissions if at_us // width_us >= now_us // width_us - 32)


def width_of(kind: SlidingWindow) -> int:
    """Return how long a sub-window is, in microseconds."""
    return math.ceil(Fraction(kind.window_ms * 1_000, 32))


def bucket_excess(kind: TokenBucket, admissions: Sequence[tuple[int, int]]) -> Fraction:
    """Return by how many tokens any interval at all exceeds what a bucket allows; more than 0 breaks P4.

    ``admissions`` are ``(at_us, cost)`` in order of time. Exact, over all intervals, in one pass.
    """
    per_us = kind.per_ms * 1_000
    total = 0
    lowest: int | None = None
    worst = -kind.burst * per_us
    for at_us, cost in admissions:
        before = total * per_us - kind.rate * at_us
        lowest = before if lowest is None else min(lowest, before)
        total += cost
        worst = max(worst, total * per_us - kind.rate * at_us - lowest - kind.burst * per_us)
    return Fraction(worst, per_us)


def window_excess(kind: SlidingWindow, admissions: Sequence[tuple[int, int]]) -> int:
    """Return by how much any interval of a window's length exceeds its limit; more than 0 breaks P4.

    ``admissions`` are ``(at_us, cost)`` in order of time. Exact, over all intervals, both ends included.
    """
    window_us = kind.window_ms * 1_000
    first = spent = 0
    worst = -kind.limit
    for at_us, cost in admissions:
        spent += cost
        while admissions[first][0] < at_us - window_us:
            spent -= admissions[first][1]
            first += 1
        worst = max(worst, spent - kind.limit)
    return worst
