"""Refusals reach the log: pages are carried once, groups told when their minute is over, and old sums forgotten."""

from __future__ import annotations

from keystead.adapters.memory.events import MemoryEventLog
from keystead.adapters.memory.refusals import MemoryRefusals
from keystead.adapters.memory.store import MemoryStore
from keystead.events.refusals import ALERTS_WITHIN_MS, MINUTE_MS, STRETCH_MS, RefusalPage, Refused, Refusing
from keystead.kernel.change import Action
from keystead.kernel.ids import IdSource
from keystead.worker.refusals import RefusalStager, RefusalTeller
from tests.fakes import ManualClock

T0 = 1_700_000_400_000
FAILED = Refusing("wsp_1", "live", Action.AUTHENTICATION_FAILED, "NOT_FOUND", "192.0.2.1")


class Pages:
    """Pages that wait, by journal."""

    def __init__(self, *pages: RefusalPage) -> None:
        """Begin with ``pages``."""
        self.waiting = list(pages)

    def journals(self) -> list[str]:
        """Return the ids of journals."""
        return sorted({page.journal_id for page in self.waiting})

    def next(self, journal_id: str) -> RefusalPage | None:
        """Return the next page of a journal."""
        return next((page for page in self.waiting if page.journal_id == journal_id), None)

    def release(self, page: RefusalPage) -> None:
        """Let go of a page."""
        self.waiting.remove(page)


class World:
    """A store in memory, and who tells what waits in it."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.clock = ManualClock(T0)
        store = MemoryStore()
        self.log = MemoryEventLog(store)
        self.store = MemoryRefusals(store, clock=self.clock, ids=IdSource(self.clock), threshold=10)
        self.teller = RefusalTeller(self.store, self.clock)

    async def events(self) -> int:
        """Return how many events there are."""
        return len((await self.log.poll(await self.log.head(), limit=100_000)).unplaced)


def page(number: int, count: int = 1, *, journal_id: str = "jrn_1") -> RefusalPage:
    """Make a page of one group."""
    return RefusalPage(journal_id, number, (Refused(FAILED, T0, count, T0, T0),))


async def test_pages_are_carried_once() -> None:
    """Two of each journal at a turn, and one that was staged before is let go and not counted again."""
    world = World()
    assert await world.store.stage(page(1, 5))
    pages = Pages(page(1, 5), page(2, 2), page(3, 4), page(1, 1, journal_id="jrn_2"))
    stager = RefusalStager(pages, world.store)
    await stager.turn()
    assert (stager.staged, [it.number for it in pages.waiting]) == (3, [3])
    await stager.turn()
    assert (stager.staged, pages.waiting) == (7, [])


async def test_a_minute_is_told_when_it_is_over() -> None:
    """Fifteen seconds after its end, so that every process has staged what it counted; not a moment before."""
    world = World()
    await world.store.stage(page(1))
    world.clock.advance(MINUTE_MS + 14_999)
    await world.teller.turn()
    assert await world.events() == 0
    world.clock.advance(1)
    await world.teller.turn()
    assert (await world.events(), world.teller.told) == (1, 1)


async def test_however_many_groups_there_are_all_are_told() -> None:
    """In steps of 500, as many as are needed."""
    world = World()
    groups = [Refused(FAILED._replace(reason=f"r{number}"), T0, 1, T0, T0) for number in range(1_001)]
    await world.store.stage(RefusalPage("jrn_1", 1, tuple(groups)))
    world.clock.advance(2 * MINUTE_MS)
    await world.teller.turn()
    assert (world.teller.told, world.store.groups) == (1_001, {})


async def test_what_no_alert_is_raised_for_is_forgotten() -> None:
    """Sums that are held against somebody go an hour after their stretch."""
    world = World()
    await world.store.stage(page(1))
    world.clock.advance(STRETCH_MS + ALERTS_WITHIN_MS)
    await world.teller.turn()
    assert len(world.store.failures) == 1
    world.clock.advance(1)
    await world.teller.turn()
    assert world.store.failures == {}
