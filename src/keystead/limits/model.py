"""A plan, the limits that apply to one key, and what was decided about a call.

Who applies limits to a key compiles them once: every limit gets the name of its counter, and the numbers that the
arithmetic needs. The name holds what must not change without a fresh start (subject, algorithm, length) and none of
the numbers that may: changing those keeps what was spent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from keystead.kernel.limit import Credits, Limit, OutagePolicy, Period, Quota

PLAN_ID_PREFIX = "pln"
FREE = "free"
ENTERPRISE = "enterprise"

PARTS = 32
"""How many sub-windows a sliding window is cut into."""
_US_PER_S = 1_000_000
_PERIOD_S = {Period.DAY: 86_400, Period.MONTH: 31 * 86_400}


@dataclass(frozen=True, slots=True)
class Plan:
    """A tier: limits by reference. Times are milliseconds since the epoch; 0 is no bound.

    ``rotate_every_ms`` is how old a current secret may get; its key is then warned of by an event and, when
    ``suspend_overdue``, suspended.
    """

    id: str
    workspace_id: str
    name: str
    created_at_ms: int
    updated_at_ms: int
    description: str = ""
    limits: tuple[Limit, ...] = ()
    max_keys_per_owner: int = 0
    rotate_every_ms: int = 0
    suspend_overdue: bool = False
    on_limiter_outage: OutagePolicy = OutagePolicy.DENY
    version: int = 1


@dataclass(frozen=True, slots=True)
class PlanUses:
    """Who refers to a plan: keys that are not revoked, owners by choice or entitlement, the workspace by default."""

    keys: int = 0
    owners: int = 0
    is_default: bool = False

    def __bool__(self) -> bool:
        """Say whether anybody does."""
        return bool(self.keys or self.owners or self.is_default)


@dataclass(frozen=True, slots=True)
class PlanReach:
    """How many keys that are not revoked a plan applies to, whoever refers to it, and some of their owners."""

    affected_keys: int
    sample_owner_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BucketRate:
    """A token bucket, ready to be counted in units.

    A token has ``token_units`` of them, ``gain_units`` come back each microsecond, ``size_units`` make a full bucket.
    A size or gain of 0 denies always.
    """

    name: str
    counter: str
    limit: int
    token_units: int
    gain_units: int
    size_units: int

    @property
    def window_s(self) -> int:
        """In how many seconds an empty one is whole again, rounded up; 0 for never."""
        return -(-self.size_units // (self.gain_units * _US_PER_S)) if self.gain_units else 0


@dataclass(frozen=True, slots=True)
class WindowRate:
    """A sliding window, ready to be counted: in sub-windows of ``width_us``. A ``limit`` of 0 denies always."""

    name: str
    counter: str
    limit: int
    width_us: int

    @property
    def window_s(self) -> int:
        """How long the window is, in seconds rounded up."""
        return -(-self.width_us * PARTS // _US_PER_S)


Rate = BucketRate | WindowRate


@dataclass(frozen=True, slots=True)
class Allowance:
    """A quota or credits, ready to be counted: durable, in blocks. ``owner_id`` is for events alone."""

    name: str
    counter: str
    workspace_id: str
    environment: str
    owner_id: str
    kind: Quota | Credits

    @property
    def limit(self) -> int:
        """What it admits in a whole period, or the most that credits come back to."""
        kind = self.kind
        return kind.limit if isinstance(kind, Quota) else kind.maximum or kind.balance

    @property
    def window_s(self) -> int:
        """How long its period is at most, or the time between two refills, in seconds; 0 for never."""
        kind = self.kind
        return _PERIOD_S[kind.period] if isinstance(kind, Quota) else kind.refill_every_ms // 1_000


@dataclass(frozen=True, slots=True)
class AllowanceRow:
    """What is stored of one counter: of a quota one row for each period, of credits one for ever.

    ``amount`` is what was taken out of a quota, or the balance of credits; what processes hold in blocks is taken.
    ``resets`` counts how often it was reset: what was taken before is never given back after. ``told`` is the highest
    threshold that was told of, in percent. ``refilled_at_ms`` is up to when refills are in the balance.
    """

    counter: str
    begins_at_ms: int
    ends_at_ms: int
    workspace_id: str
    environment: str
    owner_id: str
    name: str
    amount: int
    resets: int = 0
    told: int = 0
    refilled_at_ms: int = 0


class Taken(NamedTuple):
    """What was handed out of an allowance, and how it stands now.

    ``left`` is what nobody has taken; of a quota it is below 0 by what was taken beyond the limit. ``refills_at_ms`` is
    when the next refill is due, 0 for never. ``resets`` names the time since the last reset.
    """

    granted: int
    left: int
    begins_at_ms: int
    ends_at_ms: int
    resets: int = 0
    refills_at_ms: int = 0


class Metered:
    """The limits of one key, compiled.

    ``heads`` are what is told of ``[*rates, *allowances]`` beside their levels (name, limit, window in seconds), and
    ``order`` says in which order they are told. ``memo`` belongs to the store of rates, for what it writes the same
    way for every call. ``share`` belongs to ``limits.local``: what one node may admit of it alone.
    """

    __slots__ = ("allowances", "heads", "memo", "on_outage", "order", "rates", "share")

    def __init__(
        self,
        rates: Sequence[Rate],
        allowances: Sequence[Allowance],
        *,
        order: Sequence[int],
        on_outage: OutagePolicy = OutagePolicy.DENY,
    ) -> None:
        """Keep them; ``order[i]`` is the place among ``[*rates, *allowances]`` of what is answered as number i."""
        self.rates = tuple(rates)
        self.allowances = tuple(allowances)
        self.heads = tuple([(it.name, it.limit, it.window_s) for it in (*rates, *allowances)])
        self.order = tuple(order)
        self.on_outage = on_outage
        self.memo: object = None
        self.share: Metered | None = None

    def same_as(self, other: Metered | None) -> bool:
        """Say whether the same counters are asked for the same numbers, and the same is done in an outage."""
        if other is None:
            return False
        mine, theirs = (self.rates, self.allowances, self.on_outage), (other.rates, other.allowances, other.on_outage)
        return mine == theirs


NEVER_US = -1
"""A wait that does not end: the call costs more than the limit ever admits, or the limit is 0."""


class Level(NamedTuple):
    """Where one limit stands after a decision. ``reset_after_us`` is until it is whole again if nothing more is spent.

    ``wait_us`` is how long the call would have to wait for this limit alone: 0 when it passes, ``NEVER_US`` for ever.
    """

    remaining: int
    reset_after_us: int
    wait_us: int = 0


class Decision(NamedTuple):
    """What was decided about all limits of one call, all or nothing: nothing was spent unless ``admitted``."""

    admitted: bool
    levels: tuple[Level, ...]
    degraded: bool = False
    receipt: object = None
    """Belongs to who decided, for undoing it."""
