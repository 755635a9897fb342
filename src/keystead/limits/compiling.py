"""From limits as they are written to counters: which apply to a key, and under which name each is counted.

A key's own limit replaces its owner's of the same name, and that replaces the plan's. Counters of keys and owners carry
the owner between braces, which is what a clustered Redis places them by.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from keystead.kernel.limit import (
    Credits,
    Limit,
    On,
    OutagePolicy,
    Quota,
    SlidingWindow,
    TokenBucket,
    bucket_units,
)
from keystead.limits.model import PARTS, Allowance, BucketRate, Metered, Rate, WindowRate


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose limits are meant: a key in its environment; ``owner_id`` is empty for one that belongs to no owner."""

    workspace_id: str
    environment: str
    owner_id: str
    key_id: str


def merged(plan: Sequence[Limit], owner: Sequence[Limit], key: Sequence[Limit]) -> tuple[Limit, ...]:
    """Return the limits that apply, in order: the plan's, then the owner's further ones, then the key's."""
    by_name = {limit.name: limit for limits in (plan, owner, key) for limit in limits}
    return tuple(by_name.values())


def compiled(limits: Sequence[Limit], subject: Subject, on_outage: OutagePolicy = OutagePolicy.DENY) -> Metered:
    """Prepare the limits of one key; what is on an owner applies to no key without one."""
    rates: list[tuple[int, Rate]] = []
    allowances: list[tuple[int, Allowance]] = []
    for limit in limits:
        if limit.on is On.OWNER and not subject.owner_id:
            continue
        place = len(rates) + len(allowances)
        if isinstance(limit.kind, TokenBucket | SlidingWindow):
            rates.append((place, rate_of(limit.name, limit.kind, counter_lead(limit.on, subject))))
        else:
            allowances.append((place, allowance_of(limit, limit.kind, subject)))
    return Metered(
        [rate for _, rate in rates],
        [allowance for _, allowance in allowances],
        order=_order([place for place, _ in rates] + [place for place, _ in allowances]),
        on_outage=on_outage,
    )


def counter_lead(on: On, subject: Subject) -> str:
    """Return what the names of a subject's counters begin with."""
    world = f"{subject.workspace_id}/{subject.environment}"
    if on is On.WORKSPACE:
        return f"{{{world}}}"
    tag = f"{{{world}/{subject.owner_id or subject.key_id}}}"
    return tag if on is On.OWNER else f"{tag}{subject.key_id}"


def rate_of(name: str, kind: TokenBucket | SlidingWindow, lead: str) -> Rate:
    """Prepare one rate, counted under names that begin with ``lead``."""
    if isinstance(kind, SlidingWindow):
        width_us = -(-kind.window_ms * 1_000 // PARTS)
        return WindowRate(name, f"{lead}:{name}:w{kind.window_ms}", kind.limit, width_us)
    token_units, gain_units = bucket_units(kind)
    return BucketRate(
        name, f"{lead}:{name}:b{kind.per_ms}", kind.burst, token_units, gain_units, kind.burst * token_units
    )


def allowance_of(limit: Limit, kind: Quota | Credits, subject: Subject) -> Allowance:
    """Prepare one quota or credits."""
    way = f"q{kind.period}{kind.anchor_ms}" if isinstance(kind, Quota) else "c"
    counter = f"{counter_lead(limit.on, subject)}:{limit.name}:{way}"
    owner_id = "" if limit.on is On.WORKSPACE else subject.owner_id
    return Allowance(limit.name, counter, subject.workspace_id, subject.environment, owner_id, kind)


def _order(places: Sequence[int]) -> list[int]:
    """Turn the places at which things are answered into what is answered at each place."""
    return sorted(range(len(places)), key=places.__getitem__)
