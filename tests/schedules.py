"""Random schedules of calls against limits, and what the oracle says of each: for every store to be held against.

``SCHEDULES`` draws them; ``played`` has the oracle play one and yields every question in the form that stores take,
with the answer that is right. Clocks step back, costs are 0 to more than a limit, numbers change between calls, some
calls only peek, and some clients wait exactly as long as they were told, or a microsecond less.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hypothesis import strategies as st

from keystead.kernel.bounds import Bounds
from keystead.kernel.errors import InvalidRequestError
from keystead.kernel.limit import COUNT_MAX, PER_MAX_MS, Limit, On, SlidingWindow, TokenBucket, check_limits
from keystead.limits.compiling import Subject, compiled
from keystead.limits.model import Decision, Metered
from tests.oracles import Call, Oracle

BEGINNING_US = 1_700_000_000_000_000
PATIENCE_US = 400 * 86_400_000_000
"""No client waits longer, so that no schedule ends in a year whose microseconds are beyond 2^53."""

SUBJECTS = tuple(
    Subject("wsp_1", environment, owner_id, key_id)
    for environment, owner_id, key_id in (
        ("live", "acme", "key_1"),
        ("live", "acme", "key_2"),
        ("live", "", "key_3"),
        ("test", "acme", "key_4"),
    )
)

_SMALL = st.integers(0, 12)
_COUNTS = st.one_of(_SMALL, _SMALL, st.integers(0, 1_000), st.sampled_from((COUNT_MAX - 1, COUNT_MAX)))
_PERS_MS = st.sampled_from((1, 3, 7, 1_000, 3_000, 60_000, 86_400_000, PER_MAX_MS))
_WINDOWS_MS = st.sampled_from((1_000, 1_001, 1_024, 3_000, 60_000, PER_MAX_MS))
_PAUSES_US = st.one_of(
    st.sampled_from((0, 0, 1, 999, 1_000, 31_250, 1_000_000, 1_031_250, 60_000_000)),
    st.integers(0, 300_000),
    st.integers(-2_000_000, 70_000_000),
    st.integers(-PER_MAX_MS * 1_000, PER_MAX_MS * 2_000),
)


def possible(limit: Limit) -> bool:
    """Say whether a limit may be written at all."""
    bounds = Bounds()
    check_limits(bounds, "limits", [limit])
    try:
        bounds.raise_if_any()
    except InvalidRequestError:
        return False
    return True


@st.composite
def limits(draw: st.DrawFn, name: str, like: Limit | None = None) -> Limit:
    """Draw a bucket or a window; with ``like``, one that is counted in the same place with numbers of its own."""
    if like is None:
        on = draw(st.sampled_from(On))
        is_bucket = draw(st.booleans())
        length_ms = draw(_PERS_MS if is_bucket else _WINDOWS_MS)
    else:
        on = like.on
        is_bucket = isinstance(like.kind, TokenBucket)
        length_ms = like.kind.per_ms if isinstance(like.kind, TokenBucket) else length_of(like)
    if not is_bucket:
        return Limit(name, on, SlidingWindow(draw(_COUNTS), length_ms))
    rate = draw(_COUNTS)
    limit = Limit(name, on, TokenBucket(rate, length_ms, max(draw(_COUNTS), min(rate, 1))))
    # A burst that is not exact with this rate is refused when it is written; a small one always is.
    return limit if possible(limit) else Limit(name, on, TokenBucket(rate, length_ms, 3))


def length_of(limit: Limit) -> int:
    """Return the length of a limit's window, in milliseconds."""
    assert isinstance(limit.kind, SlidingWindow)
    return limit.kind.window_ms


@dataclass(frozen=True, slots=True)
class Step:
    """One call of a schedule, ``pause_us`` after the one before it.

    With ``obedient`` the client first waits as long as the call before was told to, when that was denied for a time.
    """

    pause_us: int
    subject: Subject
    limits: tuple[Limit, ...]
    cost: int
    peek: bool
    obedient: bool


@st.composite
def schedules(draw: st.DrawFn, *, limits_max: int = 4, steps_max: int = 40, changing: bool = True) -> tuple[Step, ...]:
    """Draw a schedule: a few limits, whose numbers may change now and then, and calls that meet some or all of them."""
    present = [draw(limits(f"limit_{number}")) for number in range(draw(st.integers(1, limits_max)))]
    steps: list[Step] = []
    for _ in range(draw(st.integers(1, steps_max))):
        if changing and draw(st.integers(0, 7)) == 0:
            changed = draw(st.integers(0, len(present) - 1))
            present[changed] = draw(limits(present[changed].name, present[changed]))
        whole = draw(st.integers(0, 3)) > 0
        met = present if whole else draw(st.lists(st.sampled_from(present), unique=True, max_size=limits_max))
        obedient = draw(st.integers(0, 2)) == 0
        pause_us = draw(st.integers(-1, 1) if obedient else _PAUSES_US)
        cost = draw(st.one_of(st.just(1), st.integers(0, 15), _COUNTS))
        peek = draw(st.integers(0, 5)) == 0
        steps.append(Step(pause_us, draw(st.sampled_from(SUBJECTS)), tuple(met), cost, peek, obedient))
    return tuple(steps)


SCHEDULES = schedules()


@dataclass(frozen=True, slots=True)
class Answered:
    """One question in the form that stores take, and the answer that is right."""

    now_us: int
    metered: Metered
    cost: int
    peek: bool
    expected: Decision


def played(steps: Sequence[Step], *, steady: bool = False) -> Iterator[Answered]:
    """Have the oracle play a schedule from its beginning.

    With ``steady`` the answers are those of a store whose clock as a whole never goes back, whatever ``now_us`` does.
    """
    oracle = Oracle()
    seen_us, now_us = 0, BEGINNING_US
    told_us = 0
    for step in steps:
        now_us = step.pause_us + (max(seen_us, now_us) + told_us if step.obedient else now_us)
        seen_us = max(seen_us, now_us) if steady else now_us
        met = tuple(limit for limit in step.limits if limit.on is not On.OWNER or step.subject.owner_id)
        decision = oracle.decide(Call(seen_us, step.subject, met, step.cost, step.peek))
        told_us = max([0, *(level.wait_us for level in decision.levels if level.wait_us <= PATIENCE_US)])
        yield Answered(now_us, compiled(step.limits, step.subject), step.cost, step.peek, decision)


class SteppingClock:
    """A clock of microseconds that is set by hand, also back."""

    def __init__(self, now_us: int = BEGINNING_US) -> None:
        """Begin at ``now_us``."""
        self.now_us = now_us

    def now_ms(self) -> int:
        """Return milliseconds since the Unix epoch."""
        return self.now_us // 1_000

    def monotonic_ms(self) -> int:
        """Return milliseconds of the same."""
        return self.now_us // 1_000

    def monotonic_ns(self) -> int:
        """Return nanoseconds of the same."""
        return self.now_us * 1_000
