"""What a node sees of all journals."""

from __future__ import annotations

from keystead.adapters.memory.usage import MemoryUsage
from keystead.usage.journals import JournalSummary
from keystead.worker.journals import JournalWatch
from tests.fakes import ManualClock


async def test_a_journal_that_stands_still_is_seen() -> None:
    """The silence of the quietest journal of all nodes grows until it is reported or closed, and is known anew."""
    clock = ManualClock()
    usage = MemoryUsage(clock=clock)
    watch = JournalWatch(usage)
    assert JournalWatch(usage).summary is None
    await usage.register("jrn_1", at_ms=clock.now_ms())
    clock.advance(60_000)
    await usage.register("jrn_2", at_ms=clock.now_ms())
    await watch.turn()
    assert watch.summary == JournalSummary(open=2, lost=0, silent_ms=60_000)
    await usage.close("jrn_1")
    clock.advance(1_000)
    await watch.turn()
    assert watch.summary == JournalSummary(open=1, lost=0, silent_ms=1_000)
