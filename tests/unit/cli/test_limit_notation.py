"""Limits as people write them: what is written is what is meant, and what is not understood is pointed at."""

from __future__ import annotations

import re
from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st

from keystead.cli.limits.explaining import explained
from keystead.cli.limits.notation import NotationError, limit_of, notation, rule
from keystead.gen.v1 import limits_pb2

COUNTS = st.integers(0, 2**32 - 1)


def window(limit: int, length: str) -> dict[str, Any]:
    """Make a window as the contract's JSON has it."""
    return {"slidingWindow": {"limit": limit, "window": length}}


def bucket(rate: int, per: str, burst: int) -> dict[str, Any]:
    """Make a bucket."""
    return {"tokenBucket": {"rate": rate, "per": per, "burst": burst}}


@pytest.mark.parametrize(
    ("text", "kind", "meaning"),
    (
        ("requests=100/min", window(100, "60s"), "at most 100 in any minute, each key"),
        ("requests=window:100/m@key", {"on": "KEY", **window(100, "60s")}, "at most 100 in any minute, each key"),
        ("r=0/s", window(0, "1s"), "nothing at all, each key"),
        ("r=10k/15min", window(10_000, "900s"), "at most 10,000 in any 15min, each key"),
        (
            "r=2_000/hour@workspace",
            {"on": "WORKSPACE", **window(2_000, "3600s")},
            "at most 2,000 in any hour, all keys of the workspace together",
        ),
        ("r=5M/30d", window(5_000_000, "2592000s"), "at most 5,000,000 in any 30d, each key"),
        ("r=5/1h30m", window(5, "5400s"), "at most 5 in any 90min, each key"),
        ("burst=bucket:10/s:burst=50", bucket(10, "1s", 50), "10 each second, up to 50 at once, each key"),
        ("burst=bucket:10/100ms", bucket(10, "0.100s", 10), "10 each 100ms, up to 10 at once, each key"),
        ("burst=bucket:0/week,burst=5", bucket(0, "604800s", 5), "nothing at all, each key"),
        (
            "daily=quota:10000/day@owner",
            {"on": "OWNER", "quota": {"limit": 10_000, "period": "DAY"}},
            "10,000 each day, all keys of an owner together",
        ),
        ("none=quota:0/month", {"quota": {"limit": 0, "period": "MONTH"}}, "nothing at all, each key"),
        (
            "monthly=soft-quota:1000000/month",
            {"quota": {"limit": 1_000_000, "period": "MONTH", "soft": True}},
            "told at 1,000,000 a month, never refused, each key",
        ),
        (
            "bills=quota:5/month:from=2027-01-15T12:30:00+02:00",
            {"quota": {"limit": 5, "period": "MONTH", "anchor": "2027-01-15T10:30:00.000Z"}},
            "5 each month, each key",
        ),
        ("c=credits:500", {"credits": {"balance": 500}}, "500 to begin with, each key"),
        (
            "c=credits:500,refill=100/day,max=900",
            {"credits": {"balance": 500, "refill": 100, "refillEvery": "86400s", "maximum": 900}},
            "500 to begin with, 100 more each day, never above 900, each key",
        ),
    ),
)
def test_a_limit_is_what_is_written(text: str, kind: dict[str, Any], meaning: str) -> None:
    """Every form of the notation becomes that limit of the contract, and is explained in words."""
    found = limit_of(text)
    assert found == {"name": text.partition("=")[0], **kind}
    json_format.ParseDict(found, limits_pb2.Limit())
    assert explained(found) == meaning


@pytest.mark.parametrize(
    ("text", "marked", "said"),
    (
        ("", "", "begins with its name"),
        ("100/min", "100/min", "begins with its name"),
        ("Requests=1/s", "Requests", "begins with its name"),
        ("r=", "", "write a number and a time"),
        ("r=100", "100", "as in 100/min"),
        ("r=-1/s", "-1/s", "write a number and a time"),
        ("r=bukcet:10/s", "bukcet", "bucket:, quota:"),
        ("r=100/mn", "mn", "s, min, h, day or week"),
        ("r=100/", "", "s, min, h, day or week"),
        ("r=100/month", "month", "quota:"),
        ("r=10/s:burst=5", "burst", "burst= belongs to bucket:"),
        ("r=10/s:5", "s:5", "should be a time"),
        ("r=bucket:10/s:bust=5", "bust", "only burst= may follow"),
        ("r=bucket:10/s:burst=", "", "should be a number"),
        ("r=bucket:10/s:burst=1:burst=2", "burst", "given twice"),
        ("r=bucket:ten/s", "ten", "should be a number"),
        ("r=5000000000/s", "5000000000", "4,294,967,295"),
        ("r=5000M/s", "5000M", "4,294,967,295"),
        ("r=quota:5/week", "week", "day or month"),
        ("r=quota:5/day:from=yesterday", "yesterday", "as in 2027-01-15"),
        ("r=quota:5/day:from=2027-01-15T12:00:00", "2027-01-15T12:00:00", "as in 2027-01-15"),
        ("r=credits:", "", "should be a number"),
        ("r=credits:5,refill=5", "5", "as in 5/min"),
        ("r=credits:5,burst=5", "burst", "only refill= and max= may follow"),
        ("r=1/s@owners", "owners", "@key, @owner or @workspace"),
        ("r=٣/s", "٣/s", "write a number and a time"),
    ),
)
def test_what_is_not_understood_is_pointed_at(text: str, marked: str, said: str) -> None:
    """The complaint names what was expected, and the line under the text marks the very part that is meant."""
    with pytest.raises(NotationError, match=re.escape(said)) as caught:
        limit_of(text)
    error = caught.value
    assert text[error.start : error.end] == marked
    pointed = error.pointed().splitlines()
    assert pointed[-2:] == [f"    {text}", f"    {' ' * error.start}{'^' * max(1, len(marked))}"]


@given(st.text(max_size=30) | st.from_regex(r"\A[a-z=:,/@0-9]{0,30}\Z"))
def test_any_text_is_a_limit_or_a_complaint(text: str) -> None:
    """Nothing that can be typed ends in another error, and what is taken can be sent."""
    try:
        read = limit_of(text)
    except NotationError as error:
        refused = error
    else:
        json_format.ParseDict(read, limits_pb2.Limit())
        return
    assert 0 <= refused.start <= refused.end <= len(text)


_LENGTHS_MS = st.integers(1, 400 * 86_400_000)
_WINDOWS = st.builds(lambda limit, ms: {"slidingWindow": {"limit": limit, "window": ms}}, COUNTS, _LENGTHS_MS)
_BUCKETS = st.builds(
    lambda rate, ms, burst: {"tokenBucket": {"rate": rate, "per": ms, "burst": burst}}, COUNTS, _LENGTHS_MS, COUNTS
)
_QUOTAS = st.builds(
    lambda limit, period, anchor, soft: {
        "quota": {"limit": limit, "period": period, **({"anchor": anchor} if anchor else {}), "soft": soft}
    },
    COUNTS,
    st.sampled_from(("DAY", "MONTH")),
    st.none() | st.sampled_from(("2027-01-15T00:00:00Z", "2027-01-15T12:34:56.789Z", "1970-01-01T00:00:00Z")),
    st.booleans(),
)
_CREDITS = st.builds(
    lambda balance, refill, ms, maximum: {
        "credits": {
            "balance": balance,
            "maximum": maximum,
            **({"refill": refill, "refillEvery": ms} if refill else {}),
        }
    },
    COUNTS,
    COUNTS,
    _LENGTHS_MS,
    COUNTS,
)


@given(st.one_of(_WINDOWS, _BUCKETS, _QUOTAS, _CREDITS), st.sampled_from(("KEY", "OWNER", "WORKSPACE")))
def test_what_is_shown_can_be_typed(kind: dict[str, Any], on: str) -> None:
    """A limit that a server tells is written so that typing it makes the same limit again, to the millisecond."""
    for value in kind.values():
        for field in ("window", "per", "refillEvery"):
            if field in value:
                value[field] = f"{value[field] / 1_000:.3f}s"
    told = json_format.ParseDict({"name": "a-limit_1", "on": on, **kind}, limits_pb2.Limit())
    shown = notation(json_format.MessageToDict(told, always_print_fields_with_no_presence=True))
    typed = json_format.ParseDict(limit_of(shown), limits_pb2.Limit())
    typed.on = typed.on or limits_pb2.Limit.KEY
    assert typed == told


def test_a_kind_of_a_later_version_is_shown_as_unknown() -> None:
    """An older command line does not fail on what a newer server knows."""
    unknown = {"name": "x", "on": "OWNER", "leakyFaucet": {"drips": 3}}
    assert rule(unknown) == "?@owner"
    assert explained(unknown) == ""
