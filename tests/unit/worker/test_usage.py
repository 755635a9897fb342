"""What the flusher and the loops tell of how far behind they are."""

from __future__ import annotations

from pathlib import Path

from keystead.adapters.memory.usage import MemoryUsage
from keystead.kernel.errors import UnavailableError
from keystead.usage.model import Stretch
from keystead.worker.loop import Loop
from keystead.worker.usage import UsageFlusher
from tests.journals import CountedKey, JournalWorld


class Store(MemoryUsage):
    """A store that can be away."""

    away = False

    async def count(self, stretch: Stretch) -> bool:
        """Count, or fail."""
        if self.away:
            raise UnavailableError("away")
        return await super().count(stretch)


async def turn(flusher: UsageFlusher) -> None:
    """Do one turn as its loop does, which outlives a failure."""
    try:
        await flusher.turn()
    except UnavailableError:
        return


async def test_usage_falls_behind_while_the_store_is_away(tmp_path: Path) -> None:
    """An operator sees how late usage is and how much waits, from the first failure until it is made up for."""
    world, store = JournalWorld(tmp_path), Store()
    assert UsageFlusher(world.stretches, store, world.clock).complete_until_ms is None
    flusher = UsageFlusher(world.stretches, store, world.clock)
    await turn(flusher)
    seen_ms = world.clock.now_ms()
    assert (flusher.complete_until_ms, flusher.journals, world.journal.waiting_bytes) == (seen_ms, 1, 0)
    store.away = True
    world.verdict(CountedKey())
    world.clock.advance(5_000)
    await turn(flusher)
    assert (flusher.complete_until_ms, flusher.calls_counted) == (seen_ms, 0)
    assert world.journal.waiting_bytes > 0
    store.away = False
    await turn(flusher)
    assert (flusher.complete_until_ms, flusher.calls_counted) == (seen_ms + 5_000, 1)
    assert (flusher.took.count, world.journal.waiting_bytes) == (1, 0)


async def test_a_journal_holds_usage_back_from_when_it_is_found(tmp_path: Path) -> None:
    """A journal whose first stretch cannot be counted is late and not unknown."""
    world, store = JournalWorld(tmp_path), Store()
    flusher = UsageFlusher(world.stretches, store, world.clock)
    found_ms = world.clock.now_ms()
    store.away = True
    world.verdict(CountedKey())
    for _ in range(2):
        await turn(flusher)
        world.clock.advance(1_000)
    assert flusher.complete_until_ms == found_ms


async def test_room_is_told_as_it_is_taken(tmp_path: Path) -> None:
    """What the journal takes of the disk is its segments, the one in reserve among them, and never more than it may."""
    world = JournalWorld(tmp_path, segment_bytes=65_536, segments_max=4)
    assert (world.journal.reserved_bytes, world.journal.reserved_bytes_max) == (65_536, 4 * 65_536)
    assert world.journal.reserve_ahead(at_once=True)
    assert world.journal.reserved_bytes == 2 * 65_536


async def test_a_loop_that_fails_falls_behind() -> None:
    """Only a step that came to a good end counts as one."""
    steps: list[str] = []

    async def step() -> None:
        steps.append("")
        if len(steps) < 2:
            raise UnavailableError("away")

    loop = Loop("try", step, interval_ms=1)
    made_at_s = loop.succeeded_at_s
    await loop._turn()
    assert loop.succeeded_at_s == made_at_s
    await loop._turn()
    assert loop.succeeded_at_s > made_at_s
    assert loop.behind_s >= 0
