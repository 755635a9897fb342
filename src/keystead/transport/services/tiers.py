"""Between the contract's limits and plans and the domain's; what a limit must be to make sense is decided there."""

from __future__ import annotations

import re
from collections.abc import Sequence

from google.protobuf.duration_pb2 import Duration

from keystead.gen.v1 import limits_pb2, plans_pb2
from keystead.kernel.bounds import Bounds
from keystead.kernel.changing import etag_of
from keystead.kernel.errors import InvalidRequestError, invalid
from keystead.kernel.ids import is_id
from keystead.kernel.limit import (
    LIMITS_MAX,
    Credits,
    Kind,
    Limit,
    On,
    OutagePolicy,
    Period,
    Quota,
    SlidingWindow,
    TokenBucket,
)
from keystead.limits.model import PLAN_ID_PREFIX, Plan
from keystead.transport.services import conversions

ON_NUMBERS = {
    On.KEY: limits_pb2.Limit.KEY,
    On.OWNER: limits_pb2.Limit.OWNER,
    On.WORKSPACE: limits_pb2.Limit.WORKSPACE,
}
PERIOD_NUMBERS = {Period.DAY: limits_pb2.Quota.DAY, Period.MONTH: limits_pb2.Quota.MONTH}
OUTAGE_NUMBERS = {
    OutagePolicy.DENY: plans_pb2.Plan.DENY,
    OutagePolicy.ALLOW: plans_pb2.Plan.ALLOW,
    OutagePolicy.LOCAL: plans_pb2.Plan.LOCAL,
}
_ONS = {int(number): value for value, number in ON_NUMBERS.items()}
_PERIODS = {int(number): value for value, number in PERIOD_NUMBERS.items()}
_OUTAGES = {int(number): value for value, number in OUTAGE_NUMBERS.items()}
_NAME = re.compile(r"[a-z0-9_-]{1,40}")


def plan_reference(field: str, text: str) -> str:
    """Return ``text`` when it has the form of a plan's id or name, or is empty; raise otherwise."""
    if text and not is_id(text, PLAN_ID_PREFIX) and not _NAME.fullmatch(text):
        raise invalid(field, "must be the id (pln_…) or the name of a plan")
    return text


def demand_plan_reference(field: str, text: str) -> str:
    """Return ``text`` when it has the form of a plan's id or name; raise otherwise."""
    if not text:
        raise invalid(field, "must be the id (pln_…) or the name of a plan")
    return plan_reference(field, text)


def outage_policy(field: str, number: int) -> OutagePolicy:
    """Read what happens while the limiter's store is away; ``DENY`` when it was not given."""
    return conversions.chosen(field, number, _OUTAGES) or OutagePolicy.DENY


def whole_ms(field: str, value: Duration) -> int:
    """Read a duration in whole milliseconds; 0 when it was not given. Raises when it is negative or finer."""
    if value.seconds < 0 or not 0 <= value.nanos < 1_000_000_000 or value.nanos % 1_000_000:
        raise invalid(field, "must be in whole milliseconds, and not negative")
    return value.seconds * 1_000 + value.nanos // 1_000_000


def limits_of(field: str, messages: Sequence[limits_pb2.Limit]) -> tuple[Limit, ...]:
    """Read limits; raise ``InvalidRequestError`` naming every one that has not exactly one kind, or an odd duration."""
    bounds = Bounds()
    if len(messages) > LIMITS_MAX:
        raise invalid(field, f"must have at most {LIMITS_MAX} entries, not {len(messages)}")
    limits = []
    for index, message in enumerate(messages):
        try:
            limits.append(_limit_of(f"{field}[{index}]", message))
        except InvalidRequestError as error:
            for violation in error.violations:
                bounds.add(violation.field, violation.description)
    bounds.raise_if_any()
    return tuple(limits)


def _limit_of(at: str, message: limits_pb2.Limit) -> Limit:
    on = conversions.chosen(f"{at}.on", message.on, _ONS) or On.KEY
    return Limit(message.name, on, _kind_of(at, message))


def _kind_of(at: str, message: limits_pb2.Limit) -> Kind:
    match message.WhichOneof("kind"):
        case "token_bucket":
            bucket = message.token_bucket
            return TokenBucket(bucket.rate, whole_ms(f"{at}.token_bucket.per", bucket.per), bucket.burst)
        case "sliding_window":
            window = message.sliding_window
            return SlidingWindow(window.limit, whole_ms(f"{at}.sliding_window.window", window.window))
        case "quota":
            return _quota_of(f"{at}.quota", message.quota)
        case "credits":
            credit = message.credits
            every_ms = whole_ms(f"{at}.credits.refill_every", credit.refill_every)
            return Credits(credit.balance, credit.refill, every_ms, credit.maximum)
        case _:
            raise invalid(at, "must have exactly one of token_bucket, sliding_window, quota and credits")


def _quota_of(at: str, quota: limits_pb2.Quota) -> Quota:
    period = conversions.chosen(f"{at}.period", quota.period, _PERIODS)
    if period is None:
        raise invalid(f"{at}.period", "must be DAY or MONTH")
    anchor_ms = conversions.moment_ms(f"{at}.anchor", quota, quota.anchor) or 0
    return Quota(quota.limit, period, anchor_ms, quota.soft)


def limit_message(limit: Limit) -> limits_pb2.Limit:
    """Write a limit."""
    message = limits_pb2.Limit(name=limit.name, on=ON_NUMBERS[limit.on])
    match limit.kind:
        case TokenBucket(rate, per_ms, burst):
            message.token_bucket.CopyFrom(limits_pb2.TokenBucket(rate=rate, per=_span(per_ms), burst=burst))
        case SlidingWindow(count, window_ms):
            message.sliding_window.CopyFrom(limits_pb2.SlidingWindow(limit=count, window=_span(window_ms)))
        case Quota(count, period, anchor_ms, soft):
            anchor = conversions.moment(anchor_ms) if anchor_ms else None
            message.quota.CopyFrom(
                limits_pb2.Quota(limit=count, period=PERIOD_NUMBERS[period], anchor=anchor, soft=soft)
            )
        case Credits(balance, refill, every_ms, maximum):
            every = _span(every_ms) if every_ms else None
            message.credits.CopyFrom(
                limits_pb2.Credits(balance=balance, refill=refill, refill_every=every, maximum=maximum)
            )
    return message


def limit_messages(limits: Sequence[Limit]) -> list[limits_pb2.Limit]:
    """Write limits."""
    return [limit_message(limit) for limit in limits]


def plan_message(plan: Plan) -> plans_pb2.Plan:
    """Write a plan."""
    return plans_pb2.Plan(
        id=plan.id,
        name=plan.name,
        description=plan.description,
        limits=limit_messages(plan.limits),
        max_keys_per_owner=plan.max_keys_per_owner,
        rotate_every=_span(plan.rotate_every_ms) if plan.rotate_every_ms else None,
        suspend_overdue=plan.suspend_overdue,
        on_limiter_outage=OUTAGE_NUMBERS[plan.on_limiter_outage],
        created_at=conversions.timestamp(plan.created_at_ms),
        updated_at=conversions.timestamp(plan.updated_at_ms),
        etag=etag_of(plan.version),
    )


def _span(found_ms: int) -> Duration:
    return Duration(seconds=found_ms // 1_000, nanos=found_ms % 1_000 * 1_000_000)
