"""Which limits apply to a key, under which name each is counted, and in what order they are answered."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise, product

import pytest

from keystead.kernel.limit import Credits, Kind, Limit, On, OutagePolicy, Period, Quota, SlidingWindow, TokenBucket
from keystead.limits.compiling import Subject, compiled, counter_lead, merged
from keystead.limits.model import BucketRate, Metered, WindowRate

SUBJECT = Subject("wsp_1", "live", "acme", "key_1")
WINDOW = SlidingWindow(100, 60_000)
BUCKET = TokenBucket(10, 1_000, 20)
QUOTA = Quota(1_000, Period.MONTH)
CREDITS = Credits(50)


def counters(metered: Metered) -> list[str]:
    """Return the names of all counters."""
    return [one.counter for one in (*metered.rates, *metered.allowances)]


def test_a_name_nearer_to_the_key_replaces_one_further_away() -> None:
    """The key's own limit of a name replaces its owner's, and that the plan's; all others stay, the plan's first."""
    plan = [Limit(name, On.KEY, SlidingWindow(1, 1_000)) for name in ("a", "b", "c")]
    owner = [Limit(name, On.KEY, SlidingWindow(2, 1_000)) for name in ("d", "b", "c")]
    key = [Limit(name, On.KEY, SlidingWindow(3, 1_000)) for name in ("e", "c", "d")]
    assert merged((), (), ()) == ()
    assert merged(plan, owner, key) == (plan[0], owner[1], key[1], key[2], key[0])


def test_limits_are_told_in_the_order_they_were_written_in() -> None:
    """Rates and allowances are decided apart, and still told as one list."""
    kinds: list[Kind] = [QUOTA, WINDOW, CREDITS, BUCKET]
    limits = [Limit(f"limit_{place}", On.KEY, kind) for place, kind in enumerate(kinds)]
    metered = compiled(limits, SUBJECT, OutagePolicy.ALLOW)
    assert metered.on_outage is OutagePolicy.ALLOW
    assert [rate.name for rate in metered.rates] == ["limit_1", "limit_3"]
    assert [allowance.name for allowance in metered.allowances] == ["limit_0", "limit_2"]
    assert [metered.heads[place] for place in metered.order] == [
        ("limit_0", 1_000, 31 * 86_400),
        ("limit_1", 100, 60),
        ("limit_2", 50, 0),
        ("limit_3", 20, 2),
    ]


def test_what_is_on_an_owner_applies_to_no_key_without_one() -> None:
    """A service's own key shares nothing with anybody's keys but what is on the workspace."""
    limits = [Limit(str(on), on, WINDOW) for on in On]
    metered = compiled(limits, replace(SUBJECT, owner_id=""))
    assert [rate.name for rate in metered.rates] == ["key", "workspace"]
    assert metered.order == (0, 1)


def test_rates_are_prepared_exactly() -> None:
    """The numbers of the arithmetic are those of the limit: 20 tokens, each in 100,000 microseconds."""
    assert compiled([Limit("fast", On.KEY, BUCKET), Limit("slow", On.KEY, WINDOW)], SUBJECT).rates == (
        BucketRate("fast", "{wsp_1/live/acme}key_1:fast:b1000", 20, 100_000, 1, 2_000_000),
        WindowRate("slow", "{wsp_1/live/acme}key_1:slow:w60000", 100, 1_875_000),
    )


def test_the_windows_that_are_told_are_whole_seconds() -> None:
    """A header never promises a limit back sooner than it comes."""
    kinds: list[tuple[Kind, int]] = [
        (TokenBucket(0, 1_000, 20), 0),
        (TokenBucket(3, 1_000, 4), 2),
        (TokenBucket(3, 1_000, 3), 1),
        (SlidingWindow(1, 1_001), 2),
        (SlidingWindow(1, 1_000), 1),
        (Quota(1, Period.DAY), 86_400),
        (Credits(1, 1, 5_000), 5),
    ]
    for kind, window_s in kinds:
        assert compiled([Limit("it", On.KEY, kind)], SUBJECT).heads[0][2] == window_s


def test_the_limit_of_credits_is_what_they_come_back_to() -> None:
    """Their maximum, or what they began with when there is none."""
    for credit, limit in ((Credits(5), 5), (Credits(5, 1, 1_000, 9), 9), (Credits(0, 1, 1_000, 9), 9)):
        assert compiled([Limit("it", On.KEY, credit)], SUBJECT).heads[0][1] == limit


SAME = (
    (TokenBucket(1, 1_000, 1), TokenBucket(7, 1_000, 70)),
    (SlidingWindow(1, 60_000), SlidingWindow(0, 60_000)),
    (Quota(1, Period.DAY), Quota(2, Period.DAY, soft=True)),
    (Credits(1), Credits(2, 3, 4_000, 5)),
)


@pytest.mark.parametrize(("before", "after"), SAME)
def test_changing_a_number_keeps_the_counter(before: Kind, after: Kind) -> None:
    """What was spent stays spent, whatever becomes of the numbers, the plan or the secret."""
    assert counters(compiled([Limit("it", On.KEY, before)], SUBJECT)) == counters(
        compiled([Limit("it", On.KEY, after)], SUBJECT)
    )


def test_whatever_else_differs_has_a_counter_of_its_own() -> None:
    """No two subjects, names, algorithms or lengths share one, whichever words they are made of."""
    kinds: list[Kind] = [
        TokenBucket(1, 1_000, 1),
        TokenBucket(1, 60_000, 1),
        SlidingWindow(1, 1_000),
        SlidingWindow(1, 60_000),
        Quota(1, Period.DAY),
        Quota(1, Period.DAY, 1),
        Quota(1, Period.MONTH),
        Credits(1),
    ]
    subjects = [
        SUBJECT,
        replace(SUBJECT, workspace_id="wsp_2"),
        replace(SUBJECT, environment="test"),
        replace(SUBJECT, owner_id="other"),
        replace(SUBJECT, owner_id="key_1"),
        replace(SUBJECT, key_id="key_2"),
    ]
    names = {
        on: [
            name
            for subject, kind, word in product(subjects, kinds, ("one", "two"))
            for name in counters(compiled([Limit(word, on, kind)], subject))
        ]
        for on in On
    }
    assert len(set(names[On.KEY])) == 6 * 8 * 2
    assert len(set(names[On.OWNER])) == 5 * 8 * 2
    assert len(set(names[On.WORKSPACE])) == 3 * 8 * 2
    assert all(not set(names[one]) & set(names[other]) for one, other in pairwise([*On, On.KEY]))


def test_counters_of_an_owner_lie_together() -> None:
    """A clustered Redis places them by what is between braces, so that one step can decide them all."""
    for on, lead in (
        (On.KEY, "{wsp_1/live/acme}key_1"),
        (On.OWNER, "{wsp_1/live/acme}"),
        (On.WORKSPACE, "{wsp_1/live}"),
    ):
        assert counter_lead(on, SUBJECT) == lead
    assert counter_lead(On.KEY, replace(SUBJECT, owner_id="")) == "{wsp_1/live/key_1}key_1"


@pytest.mark.parametrize(("on", "owner_id"), ((On.KEY, "acme"), (On.OWNER, "acme"), (On.WORKSPACE, "")))
def test_an_allowance_knows_whose_it_is(on: On, owner_id: str) -> None:
    """Events about it can name its workspace, environment and owner; what is on a workspace has no owner."""
    (allowance,) = compiled([Limit("month", on, QUOTA)], SUBJECT).allowances
    assert (allowance.workspace_id, allowance.environment, allowance.owner_id) == ("wsp_1", "live", owner_id)


def test_limits_are_the_same_when_nothing_that_decides_differs() -> None:
    """Whoever reads a key again may keep what its limits said, unless a number, a counter or the policy changed."""
    limits = (Limit("a", On.KEY, WINDOW), Limit("b", On.OWNER, QUOTA))
    one = compiled(limits, SUBJECT)
    assert one.same_as(compiled(limits, SUBJECT))
    assert not one.same_as(compiled(limits, SUBJECT, OutagePolicy.ALLOW))
    assert not one.same_as(compiled(limits[:1], SUBJECT))
    assert not one.same_as(compiled(limits, replace(SUBJECT, key_id="key_2")))
    assert not one.same_as(compiled((Limit("a", On.KEY, SlidingWindow(101, 60_000)), limits[1]), SUBJECT))
    assert not one.same_as(None)
