"""How old what is known may be (P3): what was touched since, and how long a process may vouch for it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from keystead.verification.freshness import TOUCHES_KEPT, Lease, Touches


def test_what_was_read_is_good_until_it_is_touched() -> None:
    """A touch of any subject makes what was read before it old, and nothing else; what is read afterwards is good."""
    touches = Touches()
    before = touches.epoch
    assert touches.untouched(before, "key_1", "wsp_1")
    touches.touch(["key_1", "prefix"])
    assert not touches.untouched(before, "wsp_1", "key_1")
    assert touches.untouched(before, "wsp_1", "key_2")
    assert touches.untouched(touches.epoch, "key_1", "prefix")


def test_a_touch_without_subjects_still_counts() -> None:
    """Every change has a number of its own, whatever it touches."""
    touches = Touches()
    before = touches.epoch
    touches.touch([])
    assert touches.epoch == before + 1
    assert touches.untouched(before, "key_1")


def test_a_reset_makes_everything_old() -> None:
    """After a log that was replaced nothing read before is believed, and everything read afterwards is."""
    touches = Touches()
    before = touches.epoch
    touches.touch(["key_1"])
    touches.reset()
    assert not touches.untouched(before, "never touched")
    assert touches.untouched(touches.epoch, "key_1")


@given(
    kept=st.integers(2, 6),
    steps=st.lists(st.one_of(st.lists(st.integers(0, 12), min_size=1, max_size=2), st.none()), max_size=40),
)
def test_forgetting_never_lets_something_old_pass(kept: int, steps: list[list[int] | None]) -> None:
    """However little is remembered: what was touched since its read is never good, and memory stays bounded."""
    touches, last, reads = Touches(kept), dict.fromkeys(range(13), 0), list[tuple[int, int]]()
    for number, step in enumerate(steps, 1):
        reads.append((number, touches.epoch))
        if step is None:
            touches.reset()
            last = dict.fromkeys(last, number)
        else:
            touches.touch([str(subject) for subject in step])
            last.update(dict.fromkeys(step, number))
        assert len(touches._touched) <= kept
        for read_number, epoch in reads:
            for subject, touched in last.items():
                if touched >= read_number:
                    assert not touches.untouched(epoch, str(subject))
        assert all(touches.untouched(touches.epoch, str(subject)) for subject in last)


def test_touches_are_bounded() -> None:
    """A flood of changes costs memory only up to the bound; the newest half is remembered one by one."""
    touches = Touches()
    for number in range(TOUCHES_KEPT):
        touches.touch([str(number)])
    middle = touches.epoch
    touches.touch(["one more"])
    assert len(touches._touched) <= TOUCHES_KEPT
    assert touches.untouched(middle, "0")
    assert not touches.untouched(1, "unheard of")


def test_a_lease_holds_for_its_bound_from_when_the_poll_was_sent() -> None:
    """To the last millisecond and not one longer; before the first poll a process vouches for nothing."""
    lease = Lease(30_000)
    assert lease.bound_ms == 30_000
    assert not lease.holds(0)
    lease.renew(1_000)
    assert lease.holds(30_999)
    assert not lease.holds(31_000)


def test_a_late_answer_never_shortens_a_lease() -> None:
    """Polls that overtake each other leave the latest in force."""
    lease = Lease(10)
    lease.renew(100)
    lease.renew(50)
    assert lease.holds(109)
