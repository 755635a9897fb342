"""Making checkpoints: one chain, by construction, whatever happened to the log and whoever else makes them (P6)."""

from __future__ import annotations

import asyncio

import pytest

from keystead.events.checkpointing import CONFIRM_EVERY_MS
from keystead.events.checkpoints import KeptCheckpoint, open_checkpoint, verifier_key
from keystead.events.errors import LogRewrittenError
from keystead.events.merkle import Tree, leaf_hash
from keystead.kernel.errors import UnavailableError
from tests.unit.events.signers import FakeSigner, FakeVerifier
from tests.unit.events.trees import WORKSPACE, Log

KEY = verifier_key(WORKSPACE, FakeSigner(b"log").public_key)


@pytest.mark.parametrize("count", (0, 1, 999, 1_000, 1_001, 2_500))
async def test_a_checkpoint_is_of_the_whole_tree(count: int) -> None:
    """Size and root are those of all leaves, however many batches they take, and the note says so, signed."""
    log = Log()
    log.leaves.add(count)
    made = await log.make()
    read = open_checkpoint(made.note, KEY, FakeVerifier())
    assert (read.size, read.root_hash) == (count, Tree(log.leaves.leaves[WORKSPACE]).root(count))
    assert (made.size, made.root_hash, made.made_at_ms) == (count, read.root_hash, log.clock.now_ms())
    assert await log.store.latest(WORKSPACE) == made


async def test_each_extends_the_one_before() -> None:
    """The next is computed from the last and what came since; without news there is no next."""
    log = Log()
    for count in (3, 0, 1, 40, 1_200):
        log.leaves.add(count)
        made = await log.make()
        assert made.root_hash == Tree(log.leaves.leaves[WORKSPACE]).root(made.size)
    reads = log.leaves.reads
    assert await log.make() == made
    assert log.leaves.reads == reads


async def test_without_news_it_is_confirmed_once_an_hour() -> None:
    """The same checkpoint is stated again after an hour, not before."""
    log = Log()
    log.leaves.add(2)
    made = await log.make()
    log.clock.advance(CONFIRM_EVERY_MS - 1)
    await log.make()
    assert await log.store.latest(WORKSPACE) == made
    log.clock.advance(1)
    await log.make()
    confirmed = await log.store.latest(WORKSPACE)
    assert confirmed is not None
    assert confirmed.made_at_ms == made.made_at_ms + CONFIRM_EVERY_MS
    assert confirmed.note == made.note


async def test_what_covers_an_event_is_made_when_there_is_none() -> None:
    """The last checkpoint serves for what it covers; a later event makes one."""
    log = Log()
    log.leaves.add(2)
    first = await log.checkpointer.covering(WORKSPACE, 0)
    log.leaves.add(2)
    assert await log.checkpointer.covering(WORKSPACE, 2) == first
    assert (await log.checkpointer.covering(WORKSPACE, 3)).size == 4


async def test_a_log_that_was_cut_is_not_signed() -> None:
    """Fewer events than were signed, or fewer than there are said to be, are refused, and nothing is kept."""
    log = Log()
    log.leaves.add(5)
    made = await log.make()
    own = log.leaves.leaves[WORKSPACE]
    del own[3:]
    with pytest.raises(LogRewrittenError, match="3 events, and 5 were signed"):
        await log.make()
    assert await log.store.latest(WORKSPACE) == made


async def test_a_log_with_another_past_is_not_signed() -> None:
    """A tree whose signed part was changed does not follow from the last checkpoint; leaves that are gone are told."""
    log = Log()
    log.leaves.add(5)
    made = await log.make()
    log.leaves.leaves[WORKSPACE][2] = leaf_hash(b"another past")
    log.leaves.add(3)
    with pytest.raises(LogRewrittenError, match="8 events are not those"):
        await log.make()

    async def head(workspace_id: str) -> tuple[int, bytes]:
        return 9, workspace_id.encode()

    log.leaves.head = head  # type: ignore[method-assign]  # a head that says more than there is
    with pytest.raises(LogRewrittenError, match="event 8 of 9 is missing"):
        await log.make()
    assert await log.store.latest(WORKSPACE) == made


async def test_of_two_that_race_one_extends_the_other() -> None:
    """Whoever comes too late begins again at what the other has kept; all end with the same checkpoint."""
    log = Log()
    log.leaves.add(1_500)
    made = await asyncio.gather(*[log.make() for _ in range(5)])
    assert set(made) == {await log.store.latest(WORKSPACE)}


async def test_one_that_is_always_too_late_says_so() -> None:
    """It does not try for ever."""
    log = Log()
    log.leaves.add(1)

    async def keep(made: KeptCheckpoint, *, after: KeptCheckpoint | None) -> bool:
        return made.size == -1 and after is None

    log.store.keep = keep  # type: ignore[method-assign]  # a store in which another is always first
    with pytest.raises(UnavailableError):
        await log.make()


@pytest.mark.parametrize(("waiting", "placings"), ((0, 1), (999, 1), (1_000, 2), (2_500, 3), (1_000_000, 100)))
async def test_placing_is_bounded(waiting: int, placings: int) -> None:
    """What waits for its place gets one first, a hundred thousand events at most."""
    log = Log(waiting)
    await log.checkpointer.place()
    assert log.sequencer.placings == placings
