"""What a limit is, as words that plans, owners, keys and verdicts share, and what a limit must be to make sense.

A limit that cannot be is refused when it is written, never when it is met: nobody finds out at the busiest hour.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from keystead.kernel.bounds import Bounds

LIMITS_MAX = 20
COUNT_MAX = 2**32 - 1
EXACT_MAX = 2**53
"""Whole numbers up to here are exact in the arithmetic of every store (Redis computes in doubles)."""

_NAME = re.compile(r"[a-z0-9_-]{1,40}")
_DAY_MS = 86_400_000
PER_MAX_MS = 31 * _DAY_MS
_WINDOW_MIN_MS = 1_000
_REFILL_MAX_MS = 400 * _DAY_MS
_NEVER_MS = 253_402_300_800_000  # the year 10,000


class On(StrEnum):
    """What a limit is counted on: each key, all keys of an owner, or all keys of a workspace's environment."""

    KEY = "key"
    OWNER = "owner"
    WORKSPACE = "workspace"


class Period(StrEnum):
    """How long a quota's period is, counted from its anchor."""

    DAY = "day"
    MONTH = "month"


class OutagePolicy(StrEnum):
    """What happens to calls while the limiter's store is away (P10)."""

    DENY = "deny"
    ALLOW = "allow"
    LOCAL = "local"


@dataclass(frozen=True, slots=True)
class TokenBucket:
    """A bucket of ``burst`` tokens that gains ``rate`` tokens every ``per_ms``; a rate or burst of 0 denies always."""

    rate: int
    per_ms: int
    burst: int


@dataclass(frozen=True, slots=True)
class SlidingWindow:
    """At most ``limit`` in every interval of ``window_ms``; 0 denies always."""

    limit: int
    window_ms: int


@dataclass(frozen=True, slots=True)
class Quota:
    """At most ``limit`` in each calendar period; periods begin at ``anchor_ms`` and every day or month from it.

    A ``soft`` quota counts and raises events and denies nothing.
    """

    limit: int
    period: Period
    anchor_ms: int = 0
    soft: bool = False


@dataclass(frozen=True, slots=True)
class Credits:
    """A balance that begins as ``balance`` and gains ``refill`` every ``refill_every_ms`` (0 for never).

    A refill never lifts it above ``maximum``; 0 is no such bound but the greatest count there is.
    """

    balance: int
    refill: int = 0
    refill_every_ms: int = 0
    maximum: int = 0


Kind = TokenBucket | SlidingWindow | Quota | Credits


@dataclass(frozen=True, slots=True)
class Limit:
    """One named limit."""

    name: str
    on: On
    kind: Kind


def check_limits(bounds: Bounds, field: str, limits: Sequence[Limit]) -> None:
    """Note in ``bounds`` everything that keeps ``limits`` from being kept together under ``field``."""
    if len(limits) > LIMITS_MAX:
        bounds.add(field, f"must have at most {LIMITS_MAX} entries, not {len(limits)}")
        return
    for index, limit in enumerate(limits):
        at = f"{field}[{index}]"
        if not _NAME.fullmatch(limit.name):
            bounds.add(f"{at}.name", "must be 1 to 40 of [a-z0-9_-]")
        match limit.kind:
            case TokenBucket() as bucket:
                _check_bucket(bounds, f"{at}.token_bucket", bucket)
            case SlidingWindow() as window:
                _check_window(bounds, f"{at}.sliding_window", window)
            case Quota() as quota:
                _check_quota(bounds, f"{at}.quota", quota)
            case credit:
                _check_credits(bounds, f"{at}.credits", credit)
    names = [limit.name for limit in limits]
    if len(set(names)) != len(names):
        bounds.add(field, "must not name anything twice")


def bucket_units(bucket: TokenBucket) -> tuple[int, int]:
    """Return ``(units of a token, units gained in a microsecond)``, whole numbers without a common divisor.

    A bucket is counted in these, so that it gains a whole number in every microsecond and no rounding ever adds up.
    """
    per_us = bucket.per_ms * 1_000
    common = math.gcd(bucket.rate, per_us) or 1
    return per_us // common, bucket.rate // common


def _count(bounds: Bounds, field: str, value: int) -> None:
    if not 0 <= value <= COUNT_MAX:
        bounds.add(field, f"must be 0 to {COUNT_MAX}")


def _check_bucket(bounds: Bounds, field: str, bucket: TokenBucket) -> None:
    _count(bounds, f"{field}.rate", bucket.rate)
    _count(bounds, f"{field}.burst", bucket.burst)
    if not 1 <= bucket.per_ms <= PER_MAX_MS:
        bounds.add(f"{field}.per", "must be 1 ms to 31 days, in whole milliseconds")
    elif bucket.rate and not bucket.burst:
        bounds.add(f"{field}.burst", "must be at least 1, or no call ever passes; a rate of 0 denies always")
    elif bucket.rate:
        units, _ = bucket_units(bucket)
        if bucket.burst * units > EXACT_MAX:
            bounds.add(f"{field}.burst", f"must be at most {EXACT_MAX // units} to be exact with this rate and per")


def _check_window(bounds: Bounds, field: str, window: SlidingWindow) -> None:
    _count(bounds, f"{field}.limit", window.limit)
    if not _WINDOW_MIN_MS <= window.window_ms <= PER_MAX_MS:
        bounds.add(f"{field}.window", "must be 1 s to 31 days, in whole milliseconds")


def _check_quota(bounds: Bounds, field: str, quota: Quota) -> None:
    _count(bounds, f"{field}.limit", quota.limit)
    if not 0 <= quota.anchor_ms < _NEVER_MS:
        bounds.add(f"{field}.anchor", "must be from 1970 to 9999")


def _check_credits(bounds: Bounds, field: str, credit: Credits) -> None:
    for name in ("balance", "refill", "maximum"):
        _count(bounds, f"{field}.{name}", getattr(credit, name))
    if credit.refill and not _WINDOW_MIN_MS <= credit.refill_every_ms <= _REFILL_MAX_MS:
        bounds.add(f"{field}.refill_every", "must be 1 s to 400 days, in whole milliseconds")
    if credit.refill_every_ms and not credit.refill:
        bounds.add(f"{field}.refill", "must be at least 1 when refill_every is given")
    if credit.maximum and credit.balance > credit.maximum:
        bounds.add(f"{field}.maximum", "must not be below balance")


_KINDS: dict[str, type[Kind]] = {
    "token_bucket": TokenBucket,
    "sliding_window": SlidingWindow,
    "quota": Quota,
    "credits": Credits,
}
_KIND_NAMES = {kind: name for name, kind in _KINDS.items()}


def limit_record(limit: Limit) -> dict[str, object]:
    """Write a limit as plain values, for stores and events; ``limit_of`` reads it back."""
    kind = limit.kind
    values = {name: getattr(kind, name) for name in type(kind).__slots__}
    return {"name": limit.name, "on": str(limit.on), _KIND_NAMES[type(kind)]: values}


def limit_of(record: Mapping[str, Any]) -> Limit:
    """Read what ``limit_record`` wrote; raise ``KeyError``, ``TypeError`` or ``ValueError`` when it is none."""
    (name,) = record.keys() & _KINDS.keys()
    values = dict(record[name])
    if name == "quota":
        values["period"] = Period(values["period"])
    return Limit(record["name"], On(record["on"]), _KINDS[name](**values))
