"""The loop that joins outcomes: everything that can be joined, in bounded steps."""

from __future__ import annotations

from keystead.usage.model import Joined
from keystead.worker.outcomes import STEP_OUTCOMES, OutcomeJoiner
from tests.fakes import BEGINNING_MS, ManualClock


class Waiting:
    """Stands in for a store in which so many outcomes wait whose calls have come, and so many are overdue."""

    def __init__(self, *, come: int = 0, overdue: int = 0) -> None:
        """Begin with those."""
        self.come = come
        self.overdue = overdue
        self.asked: list[int] = []

    async def join(self, *, at_most: int, now_ms: int) -> Joined:
        """Join, and drop, at most so many."""
        self.asked.append(now_ms)
        joined = min(self.come, at_most)
        dropped = min(self.overdue, at_most - joined)
        self.come -= joined
        self.overdue -= dropped
        return Joined(joined, 0, dropped)


async def test_a_turn_joins_everything_that_can_be() -> None:
    """What came since the last turn is joined in this one, and what was joined and dropped is counted for good."""
    store = Waiting(come=2 * STEP_OUTCOMES + 5, overdue=3)
    joiner = OutcomeJoiner(store, ManualClock())
    await joiner.turn()
    assert (store.come, store.overdue, joiner.joined, joiner.repeated, joiner.dropped) == (0, 0, 2_005, 0, 3)
    assert set(store.asked) == {BEGINNING_MS}
    store.come = 1
    await joiner.turn()
    assert joiner.joined == 2_006


async def test_a_turn_is_bounded() -> None:
    """However much waits, a turn ends, and the next one goes on."""
    store = Waiting(come=10**6)
    joiner = OutcomeJoiner(store, ManualClock())
    await joiner.turn()
    assert 0 < joiner.joined < 10**6
    assert len(store.asked) <= 100


async def test_an_idle_turn_asks_once() -> None:
    """With nothing to do, one question is all that a turn costs."""
    store = Waiting()
    await OutcomeJoiner(store, ManualClock()).turn()
    assert len(store.asked) == 1
