"""What a process holds of one allowance, and where that stands."""

from __future__ import annotations

from keystead.kernel.limit import COUNT_MAX, Credits, Quota
from keystead.limits.model import NEVER_US, Allowance, Level, Taken
from keystead.limits.periods import span_of

Key = tuple[str, int, bool]

_US_PER_MS = 1_000


def key_of(allowance: Allowance) -> Key:
    """Return under what an allowance is held: its counter and, of a quota, the number and the rule it is taken by."""
    kind = allowance.kind
    return (allowance.counter, kind.limit, kind.soft) if isinstance(kind, Quota) else (allowance.counter, 0, False)


class Held:
    """A block of one period, between two resets of its counter.

    ``unspent`` may be spent here; ``left`` is what nobody had taken at ``seen_ms`` by the monotonic clock. Where the
    limit is 0, ``closed``, it is below any cost. ``used`` says that somebody asked since it was last looked at.
    """

    __slots__ = (
        "allowance",
        "begins_at_ms",
        "closed",
        "ends_at_ms",
        "key",
        "left",
        "refills_at_ms",
        "resets",
        "seen_ms",
        "soft",
        "unspent",
        "used",
    )

    def __init__(self, key: Key, allowance: Allowance, taken: Taken) -> None:
        """Begin with nothing to spend, in the period that ``taken`` is of."""
        self.key = key
        self.allowance = allowance
        self.begins_at_ms = taken.begins_at_ms
        self.ends_at_ms = taken.ends_at_ms
        self.resets = taken.resets
        self.refills_at_ms = taken.refills_at_ms
        self.soft = key[2]
        self.closed = False
        self.unspent = 0
        self.left = taken.left
        self.seen_ms = 0
        self.used = True

    @property
    def place(self) -> tuple[int, int]:
        """What tells it from another block of the same counter: the period, and how often it was reset."""
        return self.begins_at_ms, self.resets

    def passes(self, cost: int) -> bool:
        """Say whether there is enough, here and where nobody has taken it."""
        return self.soft or cost <= self.unspent or cost <= self.unspent + self.left


def nothing_of(key: Key, allowance: Allowance, now_ms: int) -> Held:
    """Make the block of a quota of 0, of which nothing can be had in any period."""
    span = span_of(allowance.kind, now_ms)
    held = Held(key, allowance, Taken(0, 0, span.begins_at_ms, span.ends_at_ms))
    held.closed = True
    held.unspent = -1
    return held


def level_of(held: Held, now_ms: int, cost: int | None = None) -> Level:
    """Say where an allowance stands, and how long a call of ``cost`` waits for it; of None, which is admitted, 0."""
    remaining = held.unspent + held.left
    remaining = 0 if remaining < 0 else min(remaining, COUNT_MAX)
    kind = held.allowance.kind
    if isinstance(kind, Quota):
        reset_us = (held.ends_at_ms - now_ms) * _US_PER_MS
        if cost is None or (held.passes(cost) and not held.closed):
            return Level(remaining, reset_us)
        return Level(remaining, reset_us, NEVER_US if held.closed or cost > kind.limit else reset_us)
    reset_us = (_next_refill_ms(held, kind, now_ms) - now_ms) * _US_PER_MS if kind.refill_every_ms else 0
    if cost is None or held.passes(cost):
        return Level(remaining, reset_us)
    return Level(remaining, reset_us, _wait_for_refills_us(kind, cost, remaining, reset_us))


def _next_refill_ms(held: Held, kind: Credits, now_ms: int) -> int:
    """Return when the next refill is due, also when one has been due since the database was asked."""
    if now_ms < held.refills_at_ms:
        return held.refills_at_ms
    times = (now_ms - held.refills_at_ms) // kind.refill_every_ms + 1
    return held.refills_at_ms + times * kind.refill_every_ms


def _wait_for_refills_us(kind: Credits, cost: int, remaining: int, reset_us: int) -> int:
    """Return how long it takes until refills make up for what is missing; never when they do not come so far."""
    if not kind.refill_every_ms or cost > (kind.maximum or COUNT_MAX):
        return NEVER_US
    further = -(-(cost - remaining) // kind.refill) - 1
    return reset_us + further * kind.refill_every_ms * _US_PER_MS
