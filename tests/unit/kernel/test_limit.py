"""What a limit must be to be written, and that stores keep it as it was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keystead.kernel.bounds import Bounds
from keystead.kernel.errors import InvalidRequestError
from keystead.kernel.limit import (
    COUNT_MAX,
    EXACT_MAX,
    LIMITS_MAX,
    PER_MAX_MS,
    Credits,
    Kind,
    Limit,
    On,
    Period,
    Quota,
    SlidingWindow,
    TokenBucket,
    bucket_units,
    check_limits,
    limit_of,
    limit_record,
)

DAY_MS = 86_400_000
REQUESTS = Limit("requests", On.KEY, SlidingWindow(100, 60_000))


def wrong(*limits: Limit) -> list[tuple[str, str]]:
    """Return what is wrong with limits: fields and descriptions."""
    bounds = Bounds()
    check_limits(bounds, "limits", limits)
    try:
        bounds.raise_if_any()
    except InvalidRequestError as error:
        return [(violation.field, violation.description) for violation in error.violations]
    return []


@pytest.mark.parametrize(
    "kind",
    (
        TokenBucket(1, 1, 1),
        TokenBucket(0, 1, 0),
        TokenBucket(0, PER_MAX_MS, COUNT_MAX),
        TokenBucket(COUNT_MAX, 1, COUNT_MAX),
        TokenBucket(1, PER_MAX_MS, EXACT_MAX // (PER_MAX_MS * 1_000)),
        SlidingWindow(0, 1_000),
        SlidingWindow(COUNT_MAX, PER_MAX_MS),
        Quota(0, Period.DAY),
        Quota(COUNT_MAX, Period.MONTH, 253_402_300_799_999, soft=True),
        Credits(0),
        Credits(COUNT_MAX, 1, 1_000, COUNT_MAX),
        Credits(10, COUNT_MAX, 400 * DAY_MS),
        Credits(10, 0, 0, 10),
    ),
)
def test_limits_at_their_bounds_are_accepted(kind: Kind) -> None:
    """What the contract allows can be written, up to its last value."""
    assert wrong(Limit("a", On.KEY, kind), Limit("z0_-" * 10, On.WORKSPACE, kind)) == []


@pytest.mark.parametrize(
    ("kind", "field"),
    (
        (TokenBucket(-1, 1_000, 1), "token_bucket.rate"),
        (TokenBucket(COUNT_MAX + 1, 1, 1), "token_bucket.rate"),
        (TokenBucket(1, 1_000, -1), "token_bucket.burst"),
        (TokenBucket(1_000, 1, COUNT_MAX + 1), "token_bucket.burst"),
        (TokenBucket(1, 0, 1), "token_bucket.per"),
        (TokenBucket(1, PER_MAX_MS + 1, 1), "token_bucket.per"),
        (TokenBucket(1, 1_000, 0), "token_bucket.burst"),
        (TokenBucket(1, PER_MAX_MS, EXACT_MAX // (PER_MAX_MS * 1_000) + 1), "token_bucket.burst"),
        (SlidingWindow(-1, 1_000), "sliding_window.limit"),
        (SlidingWindow(COUNT_MAX + 1, 1_000), "sliding_window.limit"),
        (SlidingWindow(1, 0), "sliding_window.window"),
        (SlidingWindow(1, 999), "sliding_window.window"),
        (SlidingWindow(1, PER_MAX_MS + 1), "sliding_window.window"),
        (Quota(-1, Period.DAY), "quota.limit"),
        (Quota(COUNT_MAX + 1, Period.DAY), "quota.limit"),
        (Quota(1, Period.DAY, -1), "quota.anchor"),
        (Quota(1, Period.DAY, 253_402_300_800_000), "quota.anchor"),
        (Credits(-1), "credits.balance"),
        (Credits(0, -1, 1_000), "credits.refill"),
        (Credits(0, 0, 0, COUNT_MAX + 1), "credits.maximum"),
        (Credits(0, 1), "credits.refill_every"),
        (Credits(0, 1, 999), "credits.refill_every"),
        (Credits(0, 1, 400 * DAY_MS + 1), "credits.refill_every"),
        (Credits(0, 0, 1_000), "credits.refill"),
        (Credits(11, 0, 0, 10), "credits.maximum"),
    ),
)
def test_a_limit_that_cannot_be_is_refused_where_it_is_wrong(kind: Kind, field: str) -> None:
    """Nobody finds out at the busiest hour: the field that must change is named when the limit is written."""
    assert [at for at, _ in wrong(REQUESTS, Limit("it", On.KEY, kind))] == [f"limits[1].{field}"]


@pytest.mark.parametrize("name", ("", "a" * 41, "Requests", "a b", "a:b", "a}b", "é", "a\n"))
def test_names_are_short_words(name: str) -> None:
    """A name is part of a counter's name and of a header, so it holds nothing that means something there."""
    assert wrong(replace(REQUESTS, name=name)) == [("limits[0].name", "must be 1 to 40 of [a-z0-9_-]")]


def test_names_are_said_once() -> None:
    """A name says which limit replaces which, so there cannot be two of it."""
    assert wrong(REQUESTS, replace(REQUESTS, on=On.OWNER)) == [("limits", "must not name anything twice")]


def test_there_are_not_too_many() -> None:
    """What one call has to decide is bounded."""
    many = [replace(REQUESTS, name=f"limit-{number}") for number in range(LIMITS_MAX + 1)]
    assert wrong(*many[1:]) == []
    assert wrong(*many) == [("limits", "must have at most 20 entries, not 21")]


@given(st.integers(0, COUNT_MAX), st.integers(1, PER_MAX_MS))
def test_a_bucket_is_counted_in_units_that_are_never_rounded(rate: int, per_ms: int) -> None:
    """What comes back in a microsecond is a whole number of units, exactly the rate, and no more units than needed."""
    token_units, gain_units = bucket_units(TokenBucket(rate, per_ms, 1))
    speed = Fraction(rate, per_ms * 1_000)
    assert (gain_units, token_units) == (speed.numerator, speed.denominator)


@pytest.mark.parametrize("on", On)
@pytest.mark.parametrize(
    "kind",
    (
        TokenBucket(7, 3_000, 9),
        SlidingWindow(5, 60_000),
        Quota(5, Period.MONTH, 86_400_000, soft=True),
        Credits(1, 2, 3_000, 4),
    ),
)
def test_a_record_is_read_back_as_it_was(on: On, kind: Kind) -> None:
    """Stores and events keep a limit whole, as plain values."""
    limit = Limit("it", on, kind)
    record = limit_record(limit)
    assert limit_of(record) == limit
    assert {type(value) for value in record.values()} == {str, dict}


@pytest.mark.parametrize(
    "record",
    (
        {},
        {"name": "it", "on": "key"},
        {"name": "it", "on": "key", "quota": {"limit": 1}},
        {"name": "it", "on": "key", "quota": {"limit": 1, "period": "year"}},
        {"name": "it", "on": "nobody", "sliding_window": {"limit": 1, "window_ms": 1_000}},
        {"name": "it", "on": "key", "sliding_window": {"limit": 1, "length": 1_000}},
        {"name": "it", "on": "key", "sliding_window": {}, "credits": {}},
    ),
)
def test_what_is_no_record_is_not_read(record: Mapping[str, Any]) -> None:
    """A store that holds something else is noticed, and not taken for another limit."""
    with pytest.raises((KeyError, TypeError, ValueError)):
        limit_of(record)
