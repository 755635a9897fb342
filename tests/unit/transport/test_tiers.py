"""Limits and plans as messages: the same after a journey there and back, and what is no limit is named."""

from __future__ import annotations

from dataclasses import replace

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from keystead.gen.v1 import limits_pb2, plans_pb2
from keystead.kernel.errors import InvalidRequestError
from keystead.kernel.limit import (
    LIMITS_MAX,
    Credits,
    Limit,
    On,
    OutagePolicy,
    Quota,
    SlidingWindow,
    TokenBucket,
)
from keystead.kernel.limit import Period as Each
from keystead.limits.model import Plan
from keystead.transport.services import tiers

PLAN_ID = "pln_01h455vb4pex5vsknk084sn02q"
WINDOW = limits_pb2.SlidingWindow(limit=1, window=Duration(seconds=60))


@pytest.mark.parametrize("on", tuple(On))
@pytest.mark.parametrize(
    "kind",
    (
        TokenBucket(rate=10, per_ms=1_001, burst=20),
        TokenBucket(rate=0, per_ms=1, burst=0),
        SlidingWindow(limit=2**32 - 1, window_ms=31 * 86_400_000),
        Quota(limit=0, period=Each.DAY),
        Quota(limit=7, period=Each.MONTH, anchor_ms=1_700_000_000_123, soft=True),
        Credits(balance=5),
        Credits(balance=5, refill=1, refill_every_ms=1_000, maximum=10),
    ),
)
def test_a_limit_comes_back_as_it_was(on: On, kind: TokenBucket | SlidingWindow | Quota | Credits) -> None:
    """Nothing of it is lost or rounded on its way into a message and out of it, nor in its bytes."""
    limit = Limit("name", on, kind)
    sent = limits_pb2.Limit.FromString(tiers.limit_message(limit).SerializeToString())
    assert tiers.limits_of("limits", [sent]) == (limit,)


def test_what_is_not_said_means_the_plainest() -> None:
    """A limit is on the key, an outage denies, unless something else is said."""
    (limit,) = tiers.limits_of("limits", [limits_pb2.Limit(name="x", sliding_window=WINDOW)])
    assert limit == Limit("x", On.KEY, SlidingWindow(1, 60_000))
    assert tiers.outage_policy("on_limiter_outage", 0) is OutagePolicy.DENY


@pytest.mark.parametrize(
    ("message", "field"),
    (
        (limits_pb2.Limit(name="x"), "l[1]"),
        (limits_pb2.Limit(name="x", on=9, sliding_window=WINDOW), "l[1].on"),  # type: ignore[arg-type] # a number that nobody knows
        (limits_pb2.Limit(quota=limits_pb2.Quota(limit=1)), "l[1].quota.period"),
        (limits_pb2.Limit(quota=limits_pb2.Quota(limit=1, period=9)), "l[1].quota.period"),  # type: ignore[arg-type] # likewise
        (
            limits_pb2.Limit(quota=limits_pb2.Quota(limit=1, period=1, anchor=Timestamp(seconds=-1))),  # type: ignore[arg-type] # DAY
            "l[1].quota.anchor",
        ),
        *[
            (limits_pb2.Limit(sliding_window=limits_pb2.SlidingWindow(window=wrong)), "l[1].sliding_window.window")
            for wrong in (Duration(seconds=-1), Duration(nanos=-1), Duration(nanos=1), Duration(nanos=10**9))
        ],
        (
            limits_pb2.Limit(token_bucket=limits_pb2.TokenBucket(per=Duration(nanos=999_999))),
            "l[1].token_bucket.per",
        ),
        (
            limits_pb2.Limit(credits=limits_pb2.Credits(refill_every=Duration(seconds=-1))),
            "l[1].credits.refill_every",
        ),
    ),
)
def test_what_is_no_limit_is_named(message: limits_pb2.Limit, field: str) -> None:
    """A limit without a kind, with a number nobody knows or a time finer than a millisecond is refused by its path."""
    good = limits_pb2.Limit(name="good", sliding_window=WINDOW)
    with pytest.raises(InvalidRequestError) as caught:
        tiers.limits_of("l", [good, message, good, message])
    assert [item.field for item in caught.value.violations] == [field, field.replace("[1]", "[3]")]


def test_too_many_limits_are_refused_before_any_is_read() -> None:
    """Twenty may be given, not one more."""
    many = [limits_pb2.Limit(name=f"x{number}", sliding_window=WINDOW) for number in range(LIMITS_MAX + 1)]
    assert len(tiers.limits_of("limits", many[:-1])) == LIMITS_MAX
    with pytest.raises(InvalidRequestError, match="at most 20"):
        tiers.limits_of("limits", many)


@pytest.mark.parametrize("policy", tuple(OutagePolicy))
def test_a_plan_is_written_whole(policy: OutagePolicy) -> None:
    """Every field, times as moments and spans, and what is not bounded absent."""
    limits = (Limit("x", On.KEY, SlidingWindow(1, 60_000)),)
    plan = Plan(PLAN_ID, "wsp_1", "gold", 1_001, 2_002, "d", limits, 3, 3_600_500, suspend_overdue=True, version=4)
    message = tiers.plan_message(replace(plan, on_limiter_outage=policy))
    assert message == plans_pb2.Plan(
        id=PLAN_ID,
        name="gold",
        description="d",
        limits=tiers.limit_messages(limits),
        max_keys_per_owner=3,
        rotate_every=Duration(seconds=3_600, nanos=500_000_000),
        suspend_overdue=True,
        on_limiter_outage=tiers.OUTAGE_NUMBERS[policy],
        created_at=Timestamp(seconds=1, nanos=1_000_000),
        updated_at=Timestamp(seconds=2, nanos=2_000_000),
        etag='"4"',
    )
    assert tiers.outage_policy("x", message.on_limiter_outage) is policy
    assert not tiers.plan_message(Plan(PLAN_ID, "wsp_1", "gold", 1, 1)).HasField("rotate_every")


@pytest.mark.parametrize("reference", (PLAN_ID, "gold", "a" * 40, "-", "0"))
def test_a_plan_is_referred_to_by_id_or_name(reference: str) -> None:
    """Both are taken as they are."""
    assert tiers.demand_plan_reference("plan_id", reference) == reference


@pytest.mark.parametrize("reference", ("Gold", "a" * 41, "a b", "gold\n", "pln-Ü", PLAN_ID.upper()))
def test_what_can_be_neither_is_refused(reference: str) -> None:
    """Also where no plan at all may be meant, by an empty text; elsewhere that is refused as well."""
    for read in (tiers.plan_reference, tiers.demand_plan_reference):
        with pytest.raises(InvalidRequestError) as caught:
            read("plan_id", reference)
        assert caught.value.violations[0].field == "plan_id"
    assert tiers.plan_reference("plan_id", "") == ""
    with pytest.raises(InvalidRequestError):
        tiers.demand_plan_reference("plan_id", "")
