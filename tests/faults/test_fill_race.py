"""P3: a read that began before a change never outlives it, whichever of the two ends first."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.cores import bench, watch


async def test_a_revocation_here_beats_a_read_under_way(tmp_path: Path) -> None:
    """A key is read as good, then revoked in the same process before the read is used: the call that was reading is
    told that it is revoked, and so is every later one.
    """
    async with bench(tmp_path / "data") as one:
        key, secret = await one.make()
        store = watch(one.core)
        store.let_go.clear()
        filling = asyncio.create_task(one.verify(secret))
        await asyncio.wait_for(store.has_read.wait(), 10)
        await one.revoke(key)
        assert not filling.done()
        store.let_go.set()
        assert await filling == "REVOKED"
        assert store.reads == 2
        assert await one.verify(secret) == "REVOKED"


async def test_a_revocation_elsewhere_beats_a_read_under_way(tmp_path: Path) -> None:
    """The same when another process revokes, and this one hears of it by the log while the read is under way."""
    async with bench(tmp_path / "data") as other, bench(tmp_path / "data", joins=other) as one:
        key, secret = await other.make()
        store = watch(one.core)
        store.let_go.clear()
        filling = asyncio.create_task(one.verify(secret))
        await asyncio.wait_for(store.has_read.wait(), 10)
        await other.revoke(key)
        await one.follower.turn()
        store.let_go.set()
        assert await filling == "REVOKED"
        assert await one.verify(secret) == "REVOKED"


async def test_a_read_that_ends_before_the_log_is_heard_does_not_last(tmp_path: Path) -> None:
    """When the read ends first, the key is good until the log is heard, as every cached key is, and not longer."""
    async with bench(tmp_path / "data") as other, bench(tmp_path / "data", joins=other) as one:
        key, secret = await other.make()
        store = watch(one.core)
        store.let_go.clear()
        filling = asyncio.create_task(one.verify(secret))
        await asyncio.wait_for(store.has_read.wait(), 10)
        await other.revoke(key)
        store.let_go.set()
        assert await filling == "VALID"
        await one.follower.turn()
        assert await one.verify(secret) == "REVOKED"


async def test_a_caller_who_comes_after_the_revocation_is_not_told_what_an_earlier_read_saw(tmp_path: Path) -> None:
    """Callers of one secret share a read; one who calls after RevokeKey has returned here is refused, also when a read
    from before is still under way.
    """
    async with bench(tmp_path / "data") as one:
        key, secret = await one.make()
        store = watch(one.core)
        store.let_go.clear()
        early = asyncio.create_task(one.verify(secret))
        await asyncio.wait_for(store.has_read.wait(), 10)
        await one.revoke(key)
        late = [asyncio.create_task(one.verify(secret)) for _ in range(5)]
        store.let_go.set()
        assert await asyncio.gather(*late) == ["REVOKED"] * 5
        assert await early == "REVOKED"
