"""When a process is gone, and waiting for all that are not (P3)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from keystead.events.errors import NotPropagatedError
from keystead.events.nodes import GONE_AFTER_MS, LogEnd, Node, NodeIdentity
from keystead.events.propagation import Propagation
from keystead.kernel.errors import UnavailableError

BOUND_MS = 1_000
NOTHING = frozenset[str]()


def node(node_id: str, seq: int, *, silent_ms: int = 0, serves_stale: bool = False) -> Node:
    """Make a process that has applied the log up to ``seq``."""
    return Node(NodeIdentity(node_id, f"host-of-{node_id}", "1", BOUND_MS, serves_stale), 0, 0, silent_ms, seq)


class Deployment:
    """What the database says of the log and of the processes; each pause runs the next thing that happens."""

    def __init__(self, *nodes: Node, end: LogEnd | None = None) -> None:
        """Begin with ``nodes`` and a log of nine events."""
        self.nodes: Sequence[Node] = nodes
        self.end = end or LogEnd(9, NOTHING, whole=True)
        self.away = self.away_for_nodes = False
        self.wakes = 0
        self.asked = 0
        self.happens: list[Callable[[], None]] = []

    async def beat(self, identity: NodeIdentity, applied_seq: int) -> None:
        """Do nothing: the tests say what was said."""

    async def leave(self, node_id: str) -> None:
        """Do nothing."""

    async def sweep(self) -> int:
        """Forget nobody."""
        return 0

    async def all(self) -> Sequence[Node]:
        """Return them, when the database answers."""
        if self.away_for_nodes:
            raise UnavailableError("The database does not answer.")
        self._ask()
        return self.nodes

    async def log_end(self) -> LogEnd:
        """Return it, when the database answers."""
        self.asked += 1
        self._ask()
        return self.end

    def _ask(self) -> None:
        if self.away:
            raise UnavailableError("The database does not answer.")

    def wake(self) -> None:
        """Count."""
        self.wakes += 1

    async def pause(self, _seconds: float) -> None:
        """Let the next thing happen, or nothing."""
        if self.happens:
            self.happens.pop(0)()
        await asyncio.sleep(0)

    def waiting(self, remaining_ms: int | None = None) -> Awaitable[None]:
        """Wait for them."""
        return self.propagation().wait(remaining_ms)

    def propagation(self) -> Propagation:
        """Make what waits for them."""
        return Propagation(self, staleness_bound_ms=BOUND_MS, wake=self.wake, pause=self.pause)


@pytest.mark.parametrize(
    ("silent_ms", "serves_stale", "gone", "may_admit"),
    (
        (BOUND_MS + GONE_AFTER_MS, False, False, True),
        (BOUND_MS + GONE_AFTER_MS + 1, False, True, False),
        (BOUND_MS + GONE_AFTER_MS + 1, True, True, True),
    ),
)
def test_a_process_is_gone_a_second_after_its_bound(
    silent_ms: int, *, serves_stale: bool, gone: bool, may_admit: bool
) -> None:
    """Not a millisecond sooner; and one that serves stale answers may admit for as long as it likes."""
    seen = node("a", 1, silent_ms=silent_ms, serves_stale=serves_stale)
    assert (seen.gone, seen.may_admit) == (gone, may_admit)


async def test_the_wait_ends_when_the_last_process_has_applied_it() -> None:
    """Everybody is woken, and the slowest decides."""
    all_of_them = Deployment(node("a", 9), node("b", 8))
    all_of_them.happens = [
        lambda: setattr(all_of_them, "nodes", (node("a", 9), node("b", 8))),
        lambda: setattr(all_of_them, "nodes", (node("a", 12), node("b", 9))),
    ]
    await all_of_them.waiting()
    assert (all_of_them.wakes, all_of_them.asked) == (1, 3)


async def test_an_event_without_a_place_is_waited_for_and_later_ones_are_not() -> None:
    """Only what was committed when the wait began counts, or a busy log would never let anybody go."""
    busy = Deployment(node("a", 11), end=LogEnd(9, frozenset({"evt_1", "evt_2"}), whole=True))
    busy.happens = [
        lambda: setattr(busy, "end", LogEnd(10, frozenset({"evt_2", "evt_3"}), whole=True)),
        lambda: setattr(busy, "end", LogEnd(11, frozenset({"evt_3", "evt_4"}), whole=True)),
    ]
    await busy.waiting()
    assert busy.asked == 3


async def test_what_is_only_partly_seen_is_not_believed() -> None:
    """While more events have no place than are looked at, nobody knows whether the call's own are among them."""
    flooded = Deployment(node("a", 9), end=LogEnd(5, NOTHING, whole=False))
    flooded.happens = [lambda: setattr(flooded, "end", LogEnd(9, NOTHING, whole=True))]
    await flooded.waiting()
    assert flooded.asked == 2


async def test_who_is_gone_is_not_waited_for() -> None:
    """A dead process holds nobody up for ever."""
    await Deployment(node("a", 9), node("dead", 2, silent_ms=BOUND_MS + GONE_AFTER_MS + 1)).waiting()


async def test_nobody_serving_is_nobody_to_wait_for() -> None:
    """Without a process that answers calls nothing is admitted."""
    await Deployment().waiting()


async def test_a_database_that_does_not_answer_says_nothing_of_the_change() -> None:
    """The wait goes on when the database is away for a moment, for either of its questions."""
    moment = Deployment(node("a", 9))
    moment.away = moment.away_for_nodes = True
    moment.happens = [lambda: setattr(moment, "away", False), lambda: setattr(moment, "away_for_nodes", False)]
    await moment.waiting()
    assert moment.asked == 3


async def test_when_the_time_is_over_the_change_is_said_to_be_made() -> None:
    """The caller learns how many are behind, and only the log which: their machines are none of a tenant's business."""
    behind = Deployment(node("a", 9), node("b", 8), node("c", 7))
    with pytest.raises(NotPropagatedError) as refused:
        await behind.waiting(20)
    assert "is made" in refused.value.public
    assert "2 of the processes" in refused.value.public
    assert "host-of-b" not in refused.value.public
    assert "host-of-b (b), host-of-c (c)" in refused.value.internal


async def test_without_an_answer_until_the_end_nobody_is_named() -> None:
    """Where nobody could be asked, the error says so and does not count to zero."""
    away = Deployment(node("a", 9))
    away.away = True
    with pytest.raises(NotPropagatedError, match="some processes may not"):
        await away.waiting(20)


async def test_many_who_wait_ask_no_more_often_than_one() -> None:
    """A hundred waiting calls cost the database as much as one: those who came during a look share the next."""
    behind = Deployment(node("a", 9), node("b", 8))
    propagation = behind.propagation()
    behind.happens = [
        lambda: None,
        lambda: setattr(behind, "nodes", (node("a", 9), node("b", 9))),
    ]
    await asyncio.gather(*[propagation.wait(None) for _ in range(100)])
    assert behind.wakes == 100
    assert behind.asked == 3
    await propagation.wait(None)
    assert behind.asked == 4


async def test_a_look_that_began_before_is_not_believed() -> None:
    """What the database was asked before the wait began may not know of the change yet."""
    early = Deployment(node("a", 9))
    propagation = early.propagation()
    answered = asyncio.Event()

    async def slow() -> Sequence[Node]:
        found = early.nodes
        await answered.wait()
        return found

    early.all = slow  # type: ignore[method-assign]  # a database that takes its time
    first = asyncio.create_task(propagation.wait(None))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    early.end = LogEnd(10, NOTHING, whole=True)
    second = asyncio.create_task(propagation.wait(100))
    await asyncio.sleep(0)
    answered.set()
    await first
    with pytest.raises(NotPropagatedError):
        await second
