"""The share of a limit that one node may admit alone while the shared store is away."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from keystead.kernel.limit import (
    COUNT_MAX,
    EXACT_MAX,
    Limit,
    On,
    OutagePolicy,
    Period,
    Quota,
    SlidingWindow,
    TokenBucket,
)
from keystead.limits.compiling import Subject, compiled
from keystead.limits.local import share_of
from keystead.limits.model import BucketRate, Metered, WindowRate
from tests.schedules import limits

SUBJECT = Subject("wsp_1", "live", "acme", "key_1")


def metered(*some: Limit) -> Metered:
    """Compile limits of one key."""
    return compiled(some, SUBJECT, OutagePolicy.LOCAL)


@given(limits("it"), st.integers(1, 100))
def test_all_shares_together_are_never_more_than_the_limit(limit: Limit, nodes: int) -> None:
    """A share is the limit divided by the nodes, rounded down, and a bucket's comes back at exactly its part."""
    whole = metered(limit).rates[0]
    share = share_of(metered(limit), nodes).rates[0]
    assert (share.name, share.counter) == (whole.name, whole.counter)
    assert share.limit == whole.limit // nodes
    if isinstance(share, WindowRate):
        assert isinstance(whole, WindowRate)
        assert share.width_us == whole.width_us
    else:
        assert isinstance(whole, BucketRate)
        assert Fraction(share.gain_units, share.token_units) * nodes == Fraction(whole.gain_units, whole.token_units)
        assert share.size_units == share.limit * share.token_units <= whole.size_units <= EXACT_MAX


def test_a_share_is_made_once() -> None:
    """The calls of an outage do not pay for it again, and whatever else the limits say stays."""
    asked = metered(
        Limit("month", On.KEY, Quota(100, Period.MONTH)),
        Limit("second", On.KEY, TokenBucket(10, 1_000, 10)),
        Limit("minute", On.OWNER, SlidingWindow(COUNT_MAX, 60_000)),
    )
    share = share_of(asked, 4)
    assert share_of(asked, 4) is share
    assert [rate.limit for rate in share.rates] == [2, COUNT_MAX // 4]
    assert (share.allowances, share.order, share.on_outage) == (asked.allowances, asked.order, OutagePolicy.LOCAL)


def test_a_limit_below_the_number_of_nodes_has_no_share() -> None:
    """Rounded down it is 0, which denies always; rounded up, all nodes together would be over."""
    share = share_of(
        metered(Limit("rare", On.KEY, TokenBucket(3, 1_000, 3)), Limit("few", On.KEY, SlidingWindow(3, 1_000))), 4
    )
    assert [rate.limit for rate in share.rates] == [0, 0]
