"""bcrypt in lanes: real hashes at the lowest cost, bounded queues, and no lane that delays another."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator

import pytest

from keystead.adapters.bcrypt.hashing import BcryptHasher, LaneSize, Pool
from keystead.keys.errors import OverloadedError
from keystead.keys.ports import Lane

MATERIAL = b"A" * 44
SMALL = dict.fromkeys(Lane, LaneSize(threads=1, waiting=1))


@pytest.fixture
def hasher() -> Iterator[BcryptHasher]:
    """Lend a hasher at the lowest cost with room for two in each lane."""
    lent = BcryptHasher(cost=4, lanes=SMALL)
    yield lent
    lent.close()


async def test_a_hash_is_bcrypts_and_checks(hasher: BcryptHasher) -> None:
    """60 characters at the cost that was set; the same material is recognised, any other is not."""
    stored = await hasher.hash(MATERIAL)
    assert stored.startswith("$2b$04$")
    assert len(stored) == 60
    assert await hasher.check(MATERIAL, stored, Lane.VERIFY)
    assert not await hasher.check(MATERIAL[:-1] + b"B", stored, Lane.VERIFY)
    assert hasher.calls == 3


async def test_equal_material_is_salted_apart(hasher: BcryptHasher) -> None:
    """Two hashes of one thing differ, and each still checks."""
    one, two = await hasher.hash(MATERIAL), await hasher.hash(MATERIAL)
    assert one != two
    assert await hasher.check(MATERIAL, two, Lane.IMPORT)


async def test_older_hashes_of_another_cost_still_check(hasher: BcryptHasher) -> None:
    """Changing the cost is for new hashes; what is stored says its own."""
    other = BcryptHasher(cost=5, lanes=SMALL)
    stored = await other.hash(MATERIAL)
    other.close()
    assert stored.startswith("$2b$05$")
    assert await hasher.check(MATERIAL, stored, Lane.VERIFY)


@pytest.mark.parametrize("cost", (3, 15))
def test_costs_are_bounded(cost: int) -> None:
    """Below 4 bcrypt refuses, above 14 every restart would be an outage."""
    with pytest.raises(ValueError, match="4 to 14"):
        BcryptHasher(cost=cost, lanes=SMALL)


class Blocked:
    """Work that waits until it is let go."""

    def __init__(self) -> None:
        """Begin held up."""
        self.started = threading.Semaphore(0)
        self.go = threading.Event()

    def __call__(self) -> str:
        """Wait, then be done."""
        self.started.release()
        assert self.go.wait(10)
        return "done"


async def busy(pool: Pool, work: Callable[[], str], count: int) -> list[asyncio.Task[str]]:
    """Begin ``work`` ``count`` times."""
    tasks = [asyncio.create_task(pool.run(work)) for _ in range(count)]
    await asyncio.sleep(0)
    return tasks


async def test_a_full_lane_sheds_at_once_with_a_delay() -> None:
    """What neither runs nor may wait is refused immediately; when there is room again it is taken."""
    pool, work = Pool(Lane.VERIFY, LaneSize(threads=1, waiting=2)), Blocked()
    running = await busy(pool, work, 3)
    with pytest.raises(OverloadedError) as caught:
        await pool.run(work)
    assert caught.value.retry_after_ms == 100
    assert caught.value.internal == "bcrypt lane verify is full"
    work.go.set()
    assert await asyncio.gather(*running) == ["done"] * 3
    assert await pool.run(work) == "done"
    pool.close()


async def test_the_delay_grows_with_the_queue() -> None:
    """Who is shed is told about how long the queue takes."""
    pool, work = Pool(Lane.VERIFY, LaneSize(threads=2, waiting=198)), Blocked()
    running = await busy(pool, work, 200)
    with pytest.raises(OverloadedError) as caught:
        await pool.run(work)
    assert caught.value.retry_after_ms == 500
    work.go.set()
    await asyncio.gather(*running)
    pool.close()


async def test_lanes_do_not_wait_for_one_another(hasher: BcryptHasher) -> None:
    """While verification is full and stuck, minting goes on (P11)."""
    work = Blocked()
    running = await busy(hasher.pools[Lane.VERIFY], work, 2)
    with pytest.raises(OverloadedError):
        await hasher.check(MATERIAL, "$2b$04$" + "x" * 53, Lane.VERIFY)
    assert await hasher.hash(MATERIAL)
    work.go.set()
    await asyncio.gather(*running)


async def test_a_caller_who_goes_away_keeps_his_place_until_the_work_is_done() -> None:
    """A thread that hashes cannot be stopped, so its place counts as taken: who leaves cannot overfill a lane."""
    pool, work = Pool(Lane.VERIFY, LaneSize(threads=1, waiting=0)), Blocked()
    (left,) = await busy(pool, work, 1)
    left.cancel()
    await asyncio.wait([left])
    with pytest.raises(OverloadedError):
        await pool.run(work)
    work.go.set()
    await asyncio.wrap_future(pool._executor.submit(int))  # the one thread has come to the end of what was before
    await asyncio.sleep(0)
    assert await pool.run(work) == "done"
    pool.close()
