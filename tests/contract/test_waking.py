"""Wake-ups by a real PostgreSQL: heard by the others, few however much there is to tell, and never needed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import asyncpg
import pytest

from keystead.adapters.sql.engines import DatabaseSettings
from keystead.adapters.sql.waking import APART_S, CHANNEL, PostgresWaker
from tests.polling import eventually
from tests.services import PrivatePostgres

LISTENERS = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'"


class Process:
    """A waker, and when it was woken."""

    def __init__(self, url: str, name: str) -> None:
        """Listen to nobody yet."""
        self.woken = 0
        self.waker = PostgresWaker(url, DatabaseSettings(), name=name, on_wake=self._wake)

    def _wake(self) -> None:
        self.woken += 1

    async def listening(self) -> bool:
        """Say whether it hears others."""
        return self.waker.listening


@asynccontextmanager
async def processes(url: str, count: int) -> AsyncIterator[list[Process]]:
    """Lend processes that listen."""
    made = [Process(url, f"nod_{number}") for number in range(count)]
    async with AsyncExitStack() as stack:
        for process in made:
            process.waker.start()
            stack.push_async_callback(process.waker.close)
            await eventually(process.listening, within_s=10)
        yield made


@pytest.fixture
def url(postgres: PrivatePostgres) -> str:
    """Lend a database of PostgreSQL; its schema does not matter."""
    return postgres.create_database(f"waking_{time.monotonic_ns()}")


async def test_whoever_has_news_wakes_the_others_and_not_itself(url: str) -> None:
    """One word is heard by everybody else, once; each has been woken once before, when it began to listen."""
    async with processes(url, 3) as (one, two, three):
        one.waker.tell()

        async def heard() -> bool:
            return (two.woken, three.woken) == (2, 2)

        await eventually(heard, within_s=10)
        assert (one.woken, one.waker.received, one.waker.sent) == (1, 0, 1)
        assert two.waker.received == 1


async def test_many_words_are_few_wake_ups(url: str) -> None:
    """However many changes are told of, others are woken at most once in ten milliseconds, and after the last one."""
    async with processes(url, 2) as (one, two):
        began_s = time.monotonic()
        for _ in range(2_000):
            one.waker.tell()
            await asyncio.sleep(0)
        sent_before = one.waker.sent
        one.waker.tell()

        async def told() -> bool:
            return one.waker.sent > sent_before and two.waker.received == one.waker.sent

        await eventually(told, within_s=10)
        assert one.waker.sent <= (time.monotonic() - began_s) / APART_S + 2


async def test_a_lost_connection_is_made_again(url: str) -> None:
    """Killed by the server, it comes back by itself, wakes its process for what it may have missed, and hears again."""
    async with processes(url, 2) as (one, two):
        before = one.woken
        admin = await asyncpg.connect(url)
        try:
            assert await admin.fetchval(f"SELECT count(pg_terminate_backend(pid)) FROM ({LISTENERS}) AS it") >= 1  # noqa: S608 -- a constant
        finally:
            await admin.close()

        async def again() -> bool:
            return one.waker.listening and two.waker.listening and one.woken > before

        await eventually(again, within_s=10)
        received = one.waker.received
        two.waker.tell()

        async def heard() -> bool:
            return one.waker.received > received

        await eventually(heard, within_s=10)


async def test_telling_without_a_database_is_no_harm(own_postgres: PrivatePostgres) -> None:
    """While the database is away nothing is told and nothing fails; it is heard of again when it is back."""
    url = own_postgres.create_database("away")
    async with processes(url, 1) as (one,):
        own_postgres.kill()

        async def lost() -> bool:
            return not one.waker.listening

        await eventually(lost, within_s=10)
        one.waker.tell()
        await asyncio.to_thread(own_postgres.restart)
        await eventually(one.listening, within_s=20)


async def test_anybody_may_say_anything_on_the_channel(url: str) -> None:
    """What others say there, long, empty or in words nobody knows, wakes the process and does nothing else."""
    async with processes(url, 1) as (one,):
        stranger = await asyncpg.connect(url)
        try:
            for word in ("", "nod_9", "x" * 7_000, "{not json", "\N{FOX FACE}"):
                await stranger.execute("SELECT pg_notify($1, $2)", CHANNEL, word)
        finally:
            await stranger.close()

        async def heard() -> bool:
            return one.waker.received == 5

        await eventually(heard, within_s=10)
        assert one.waker.listening
