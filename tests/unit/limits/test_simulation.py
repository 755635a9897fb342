"""What limits would have denied: the same rules as at the time, spent by nothing but the calls themselves."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keystead.kernel.limit import Credits, Kind, Limit, On, Period, Quota, SlidingWindow, TokenBucket
from keystead.limits.simulation import PastCall, Simulation

DAY_MS = 86_400_000
BEGIN_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z
MONTH_MS = 31 * DAY_MS


def call(at_ms: int, *, cost: int = 1, key: str = "key_a", owner: str = "own", environment: str = "live") -> PastCall:
    """Make a call so long after the beginning."""
    return PastCall(BEGIN_MS + at_ms, environment, owner, key, cost)


def limit(kind: Kind, on: On = On.KEY, name: str = "it") -> Limit:
    """Make a limit."""
    return Limit(name, on, kind)


def denials(limits: Sequence[Limit], calls: Sequence[PastCall]) -> list[bool]:
    """Replay calls and say of each whether it would have been denied."""
    simulation = Simulation(limits, "wsp")
    found = []
    for one in calls:
        before = simulation.denied
        simulation.replay([one])
        found.append(simulation.denied > before)
    assert simulation.calls == len(calls)
    return found


@pytest.mark.parametrize(
    ("kind", "calls", "denied"),
    (
        (SlidingWindow(2, 32_000), [(0, 1), (0, 1), (0, 1), (33_000, 1)], [False, False, True, False]),
        (SlidingWindow(2, 32_000), [(0, 3), (0, 2), (0, 0)], [True, False, False]),
        (SlidingWindow(0, 32_000), [(0, 0), (0, 1)], [True, True]),
        (TokenBucket(1, 1_000, 2), [(0, 2), (0, 1), (999, 1), (1_000, 1)], [False, True, True, False]),
        (TokenBucket(0, 1_000, 2), [(0, 0)], [True]),
        (Quota(2, Period.DAY), [(0, 2), (0, 0), (DAY_MS - 1, 1), (DAY_MS, 1)], [False, False, True, False]),
        (Quota(2, Period.MONTH), [(0, 3), (0, 2), (MONTH_MS - 1, 1), (MONTH_MS, 2)], [True, False, True, False]),
        (Quota(0, Period.DAY), [(0, 0)], [True]),
        (Quota(0, Period.DAY, soft=True), [(0, 5)], [False]),
        (Credits(2), [(0, 2), (0, 0), (MONTH_MS, 1)], [False, False, True]),
        (Credits(0, 1, 1_000), [(0, 1), (999, 1), (1_000, 1), (1_000, 1)], [True, True, False, True]),
        (Credits(0, 5, 1_000, 6), [(0, 1), (9_000, 7), (9_000, 6), (9_000, 1)], [True, True, False, True]),
        (Credits(9, 1, 1_000, 0), [(0, 9), (1_500, 1), (1_999, 1), (2_000, 1)], [False, False, True, False]),
    ),
)
def test_a_kind_denies_what_it_would_have_denied(
    kind: Kind, calls: Sequence[tuple[int, int]], denied: Sequence[bool]
) -> None:
    """Each kind of limit by its own rules; a denied call spends nothing, a free one passes unless the limit is 0."""
    assert denials([limit(kind)], [call(at_ms, cost=cost) for at_ms, cost in calls]) == denied


def test_a_limit_is_counted_on_what_it_says() -> None:
    """On the key, the owner or the workspace's environment; what is on an owner is not met by a key without one."""
    calls = [
        call(0, key="a", owner="x"),
        call(0, key="b", owner="x"),
        call(0, key="c", owner="y"),
        call(0, key="d", owner=""),
        call(0, key="e", owner=""),
        call(0, key="a", owner="x", environment="test"),
    ]
    found = {on: denials([limit(SlidingWindow(1, 60_000), on)], calls) for on in On}
    assert found == {
        On.KEY: [False] * 6,
        On.OWNER: [False, True, False, False, False, False],
        On.WORKSPACE: [False, True, True, True, True, False],
    }


def test_several_limits_are_all_or_nothing() -> None:
    """A call that one limit denies spends of none, and counts for the one that it would have waited for longest."""
    simulation = Simulation(
        [
            limit(TokenBucket(1, 1_000, 1), name="bucket"),
            limit(SlidingWindow(3, 60_000), name="window"),
            limit(Credits(4), name="credits"),
        ],
        "wsp",
    )
    simulation.replay(call(at_ms) for at_ms in (0, 0, 1_000, 2_000, 3_000, 3_100))
    # The second waits for the bucket alone; the fifth and the sixth for the window, longer than for the bucket.
    assert simulation.denied_by_limit == {"bucket": 1, "window": 2}
    simulation.replay([call(70_000), call(70_000)])
    assert simulation.denied_by_limit == {"bucket": 1, "window": 2, "credits": 1}
    assert (simulation.calls, simulation.denied) == (8, 4)


def test_a_limit_that_never_admits_is_the_longest_wait() -> None:
    """Whatever stands before or behind it."""
    for order in (1, -1):
        limits = [limit(SlidingWindow(0, 1_000), name="never"), limit(TokenBucket(1, 1_000, 1), name="later")][::order]
        simulation = Simulation(limits, "wsp")
        simulation.replay([call(0), call(0)])
        assert simulation.denied_by_limit == {"never": 2}


def test_the_keys_that_were_denied_most_come_first() -> None:
    """At most so many, keys of which nothing was denied never, those denied equally by id."""
    calls = [call(0, key=key) for key in ("b", "a", "b", "a", "c", "d", "d", "d")]
    simulation = Simulation([limit(SlidingWindow(1, 60_000))], "wsp")
    simulation.replay(calls)
    found = [(key.key_id, key.owner_id, key.calls, key.denied) for key in simulation.most_denied(10)]
    assert found == [("d", "own", 3, 2), ("a", "own", 2, 1), ("b", "own", 2, 1)]
    assert [key.key_id for key in simulation.most_denied(1)] == ["d"]


def test_without_limits_nothing_is_denied() -> None:
    """An unlimited plan admits everything, and still counts it."""
    assert denials([], [call(0), call(0, owner="")]) == [False, False]


@given(
    st.integers(1, 5),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 3)), max_size=60),
)
def test_what_it_admits_keeps_to_the_window(most: int, steps: Sequence[tuple[int, int]]) -> None:
    """Over any interval of the window's length, what a simulation admits is never over the limit."""
    at_ms, calls = 0, []
    for step_ms, cost in steps:
        at_ms += step_ms
        calls.append(call(at_ms, cost=cost))
    denied = denials([limit(SlidingWindow(most, 1_000))], calls)
    admitted = [one for one, no in zip(calls, denied, strict=True) if not no]
    for first in admitted:
        inside = [one.cost for one in admitted if first.at_ms <= one.at_ms < first.at_ms + 1_000]
        assert sum(inside) <= most
