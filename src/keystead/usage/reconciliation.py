"""Proves that what was told is what was used, by summing both anew.

A difference that is not on its way already makes the feed look at those windows once more, however old they are.
"""

from __future__ import annotations

from dataclasses import dataclass

from keystead.kernel.errors import invalid
from keystead.kernel.walls import TenantScope
from keystead.usage.feed_ports import Ledger
from keystead.usage.meters import Comparison, KnownMeter, window_of
from keystead.usage.model import INTERVAL_MS, Interval

DEFAULT_SPAN_MS = 30 * INTERVAL_MS[Interval.DAY]
SPAN_MAX_MS = 400 * INTERVAL_MS[Interval.DAY]
COMPARISONS_MAX = 10_000


@dataclass(frozen=True, slots=True)
class ReconcileQuestion:
    """What to compare; empty texts mean all owners and all meters, a time of None what the contract says."""

    from_ms: int | None = None
    to_ms: int | None = None
    owner_id: str = ""
    meter: str = ""
    include_equal: bool = False


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """The comparison of whole windows between two times."""

    equal: bool
    comparisons: tuple[Comparison, ...]
    from_ms: int
    to_ms: int
    pending_events: int


async def reconcile(
    ledger: Ledger,
    scope: TenantScope,
    question: ReconcileQuestion,
    *,
    now_ms: int,
    at_most: int = COMPARISONS_MAX,
) -> Reconciliation:
    """Compare inside the walls; raise ``InvalidRequestError`` for a bad span, an unknown meter or too many sums."""
    known = _meant(await ledger.meters(), question.meter)
    from_ms, to_ms = _span(known, question, now_ms)
    found: list[Comparison] = []
    for meter in known:
        begin_ms, end_ms = max(from_ms, meter.since_ms), min(to_ms, meter.told_to_ms)
        if begin_ms >= end_ms:
            continue
        compared = await ledger.compare(
            scope,
            meter,
            from_ms=begin_ms,
            to_ms=end_ms,
            owner_id=question.owner_id,
            equal=question.include_equal,
            limit=at_most + 1 - len(found),
        )
        # A look that is under way goes on to its end: whoever asks in a loop would hold it at its beginning.
        if meter.again_from_ms is None and any(it.used > it.acknowledged + it.pending for it in compared):
            await ledger.look_again(meter.name, from_ms=begin_ms)
        found += compared
        if len(found) > at_most:
            raise invalid("owner_id", f"there are more than {at_most} sums; ask for one meter or one owner")
    return Reconciliation(
        equal=all(it.used == it.acknowledged for it in found),
        comparisons=tuple(found),
        from_ms=from_ms,
        to_ms=to_ms,
        pending_events=await ledger.count_pending(scope),
    )


def _meant(known: list[KnownMeter], name: str) -> list[KnownMeter]:
    meant = [meter for meter in known if name in {"", meter.name}]
    if name and not meant:
        raise invalid("meter", "is no meter that was ever told")
    return meant


def _span(known: list[KnownMeter], question: ReconcileQuestion, now_ms: int) -> tuple[int, int]:
    asked_to_ms = window_of(now_ms if question.to_ms is None else question.to_ms)
    asked_from_ms = asked_to_ms - DEFAULT_SPAN_MS if question.from_ms is None else window_of(question.from_ms)
    if asked_from_ms > asked_to_ms:
        raise invalid("from", "must be before `to`")
    if asked_to_ms - asked_from_ms > SPAN_MAX_MS:
        raise invalid("from", f"must be at most {SPAN_MAX_MS // INTERVAL_MS[Interval.DAY]} days before `to`")
    to_ms = min(asked_to_ms, max((meter.told_to_ms for meter in known), default=asked_from_ms))
    return min(asked_from_ms, to_ms), to_ms
