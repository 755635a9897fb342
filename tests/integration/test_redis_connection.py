"""One connection to Redis, shared by all callers of a process, survives whatever its callers and the other side do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import pytest

from keystead.adapters.redis.address import RedisAddress
from keystead.adapters.redis.pipeline import REPLY_BYTES_MAX, WAITING_MAX
from keystead.adapters.redis.rates import RedisRates
from keystead.kernel.limit import Limit, On, SlidingWindow
from keystead.limits.compiling import Subject, compiled
from keystead.limits.errors import LimiterAwayError
from keystead.limits.model import Decision
from tests.fake_redis import FakeRedis, answer, fake_redis
from tests.polling import eventually

ASKED = compiled((Limit("any", On.KEY, SlidingWindow(100, 60_000)),), Subject("wsp_1", "live", "acme", "key_1"))
PATIENT_MS = 10_000


@pytest.fixture
async def fake() -> AsyncIterator[FakeRedis]:
    """Lend a Redis that does what it is told."""
    async with fake_redis() as made:
        yield made


@asynccontextmanager
async def connected(
    fake: FakeRedis, *, timeout_ms: int = PATIENT_MS, stall_ms: int = PATIENT_MS
) -> AsyncIterator[RedisRates]:
    """Lend a store that is connected to it."""
    rates = RedisRates(RedisAddress.parse(fake.url), timeout_ms=timeout_ms, stall_ms=stall_ms)
    await rates.start()
    assert rates.measures.connected
    try:
        yield rates
    finally:
        await rates.close()


class MoodyRedis(FakeRedis):
    """Answers each question with its own cost: at once, late, after rubbish, by half, or not at all."""

    def __init__(self, random: Random) -> None:
        """Choose by ``random``."""
        super().__init__()
        self._random = random

    async def take_question(self, words: list[bytes], writer: asyncio.StreamWriter) -> None:
        """Do as the mood is."""
        reply = answer(int(words[-2]))
        mood = self._random.random()
        if mood < 0.005:
            await asyncio.sleep(self._random.uniform(0.01, 0.08))
        elif mood < 0.007:
            writer.write(self._random.randbytes(8))
        elif mood < 0.009:
            writer.write(reply[: self._random.randrange(len(reply))])
            writer.close()
        if not writer.is_closing():
            writer.write(reply)


def ask(rates: RedisRates, *, cost: int = 1) -> asyncio.Task[Decision]:
    """Begin to ask."""
    return asyncio.create_task(rates.decide(ASKED, cost=cost, peek=False))


async def left(asked: asyncio.Task[Decision]) -> int:
    """Return what a caller was told is left."""
    decision = await asked
    return decision.levels[0].remaining


async def refusal(asked: asyncio.Task[Decision]) -> LimiterAwayError:
    """Return what a caller was told in place of an answer."""
    with pytest.raises(LimiterAwayError) as told:
        await asked
    return told.value


async def again(rates: RedisRates, fake: FakeRedis) -> None:
    """See that a new connection comes by itself, and that it answers."""

    async def is_back() -> bool:
        return rates.measures.connected

    await eventually(is_back, within_s=10)
    before = len(fake.asked)
    asked = ask(rates, cost=9)
    await fake.until_asked(before + 1)
    fake.send(answer(77))
    assert await left(asked) == 77


@pytest.mark.parametrize("seed", range(4))
async def test_nobody_ever_gets_anothers_answer(seed: int) -> None:
    """Whatever goes wrong, and whoever gives up: each caller gets the answer to its own question, or none."""
    random = Random(seed)
    fake = MoodyRedis(random)
    await fake.open()
    rates = RedisRates(RedisAddress.parse(fake.url), timeout_ms=30, stall_ms=200)
    await rates.start()
    answered = away = number = 0
    async with asyncio.timeout(60):
        while answered < 1_000 or away < 100 or fake.connections < 4:
            all_asked = [ask(rates, cost=number + place) for place in range(40)]
            for _ in range(random.randrange(4)):
                await asyncio.sleep(0)
            for one in random.sample(all_asked, 4):
                one.cancel()
            for told in await asyncio.gather(*all_asked, return_exceptions=True):
                if isinstance(told, Decision):
                    assert told.levels[0].remaining == number
                    answered += 1
                else:
                    assert isinstance(told, LimiterAwayError | asyncio.CancelledError)
                    away += isinstance(told, LimiterAwayError)
                number += 1
            await asyncio.sleep(0.002)
    await rates.close()
    await fake.close()


async def test_one_turn_is_one_write(fake: FakeRedis) -> None:
    """All that is asked in one turn of the event loop leaves together, and each caller gets the answer to its own."""
    async with connected(fake) as rates:
        before = rates.measures.batches
        all_asked = [ask(rates, cost=cost) for cost in range(128)]
        await fake.until_asked(128)
        assert [int(words[-2]) for words in fake.asked] == list(range(128))
        assert rates.measures.batches == before + 1
        fake.send(b"".join(answer(cost) for cost in range(128)))
        assert [await left(one) for one in all_asked] == list(range(128))
        assert rates.measures.decisions == 128


async def test_replies_may_come_in_any_pieces(fake: FakeRedis) -> None:
    """A reply that comes byte by byte is read like one that comes whole."""
    async with connected(fake) as rates:
        all_asked = [ask(rates) for _ in range(3)]
        await fake.until_asked(3)
        for byte in b"".join(answer(number) for number in range(3)):
            fake.send(bytes([byte]))
            await asyncio.sleep(0)
        assert [await left(one) for one in all_asked] == [0, 1, 2]


@pytest.mark.parametrize("stall_ms", (PATIENT_MS, 1))
async def test_a_late_reply_is_nobody_elses(fake: FakeRedis, stall_ms: int) -> None:
    """Whoever gave up is told so in time, and may have spent; the reply that comes after all is dropped.

    A stall shorter than the patience of one question does not end the connection at the first that is late.
    """
    async with connected(fake, timeout_ms=200, stall_ms=stall_ms) as rates:
        first = ask(rates)
        error = await refusal(first)
        assert error.spent
        assert rates.measures.timeouts == 1
        second = ask(rates)
        await fake.until_asked(2)
        fake.send(answer(1) + answer(2))
        assert await left(second) == 2
        assert fake.connections == 1


@pytest.mark.parametrize("before_it_is_sent", (True, False))
async def test_a_cancelled_caller_harms_nobody(fake: FakeRedis, *, before_it_is_sent: bool) -> None:
    """Callers that are cancelled, or end by an exception of their own, leave their places; the others get their own."""
    async with connected(fake) as rates:
        all_asked = [ask(rates, cost=number) for number in range(5)]
        if before_it_is_sent:
            await asyncio.sleep(0)
        else:
            await fake.until_asked(5)
        all_asked[0].cancel()
        all_asked[3].cancel()
        await fake.until_asked(5)
        fake.send(b"".join(answer(number) for number in range(5)))
        assert [await left(all_asked[number]) for number in (1, 2, 4)] == [1, 2, 4]
        assert all_asked[0].cancelled()
        assert all_asked[3].cancelled()
        await again(rates, fake)
        assert fake.connections == 1


@pytest.mark.parametrize(
    "garbage",
    (
        pytest.param(b"*2\r\n:1\r\n:9\r\n", id="too short"),
        pytest.param(b"*5\r\n:1\r\n:9\r\n:9\r\n:0\r\n:1\r\n", id="too long"),
        pytest.param(b"*4\r\n:1\r\n$1\r\n9\r\n:9\r\n:0\r\n", id="a text among the numbers"),
        pytest.param(b"*4\r\n:7\r\n:9\r\n:9\r\n:0\r\n", id="neither yes nor no"),
        pytest.param(b"*4\r\n:1\r\n*1\r\n:9\r\n:9\r\n:0\r\n", id="a list among the numbers"),
        pytest.param(b"$-1\r\n", id="nothing"),
        pytest.param(b"+OK\r\n", id="another command's"),
        pytest.param(b"*-1\r\n", id="no list"),
        pytest.param(b"#f\r\n", id="a boolean"),
        pytest.param(b">2\r\n+message\r\n+hello\r\n", id="a message"),
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n\r\n", id="another protocol"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01", id="TLS"),
        pytest.param(b"\x00" * 64, id="zeros"),
        pytest.param(b"$500000000\r\n" + b"x" * 3 * REPLY_BYTES_MAX, id="without end"),
    ),
)
async def test_what_cannot_be_an_answer_ends_the_connection(fake: FakeRedis, garbage: bytes) -> None:
    """After a reply that cannot be one nothing on that connection is believed: those before it have their answers, all
    others are told that there is none; nothing is asked twice, and a new connection is made.
    """
    async with connected(fake) as rates:
        all_asked = [ask(rates, cost=number) for number in range(4)]
        await fake.until_asked(4)
        fake.send(answer(5) + garbage + answer(6) + answer(7) + answer(8))
        assert await left(all_asked[0]) == 5
        for one in all_asked[1:]:
            assert (await refusal(one)).spent
        await again(rates, fake)
        assert fake.connections == 2
        assert [int(words[-2]) for words in fake.asked] == [0, 1, 2, 3, 9]


async def test_an_answer_that_nobody_asked_for_ends_the_connection(fake: FakeRedis) -> None:
    """One reply too many would be taken for the next caller's: the connection ends before that."""
    async with connected(fake) as rates:
        asked = ask(rates)
        await fake.until_asked(1)
        fake.send(answer(1) + answer(2))
        assert await left(asked) == 1
        await again(rates, fake)
        assert fake.connections == 2


@pytest.mark.parametrize("sent", (b"", b"*", answer(3)[:-3]))
async def test_a_lost_connection_is_told_at_once(fake: FakeRedis, sent: bytes) -> None:
    """When Redis hangs up, half a reply sent or none, nobody waits for the deadline, and a new connection is made."""
    async with connected(fake) as rates:
        asked = [ask(rates), ask(rates)]
        await fake.until_asked(2)
        fake.send(sent)
        fake.hang_up()
        for one in asked:
            assert (await refusal(one)).spent
        await again(rates, fake)
        assert len(fake.asked) == 3


async def test_who_asks_after_a_late_one_is_told_in_time(fake: FakeRedis) -> None:
    """A line that only waits for its stall still keeps the time of whoever comes to stand in it."""
    async with connected(fake, timeout_ms=50) as rates, asyncio.timeout(PATIENT_MS / 2_000):
        for _ in range(3):
            assert str(await refusal(ask(rates))) == "Redis takes too long"
        assert rates.measures.timeouts == 3
        assert rates.measures.connected


async def test_a_busy_process_tells_as_well(fake: FakeRedis) -> None:
    """When our own turns take long, what has come is read first; but nobody waits for ever for what has not."""
    async with connected(fake, timeout_ms=20) as rates:
        loop = asyncio.get_running_loop()
        asked = ask(rates)
        await fake.until_asked(1)

        def work() -> None:
            ends_s = loop.time() + 0.03
            while loop.time() < ends_s:
                pass
            if not asked.done():
                loop.call_soon(work)

        work()
        async with asyncio.timeout(5):
            assert (await refusal(asked)).spent


async def test_a_busy_process_reads_what_has_come(fake: FakeRedis) -> None:
    """An answer that lies there when a long turn of our own ends is not taken for late."""
    async with connected(fake, timeout_ms=100) as rates:
        asked = ask(rates)
        await fake.until_asked(1)
        fake.send(answer(6))
        ends_s = asyncio.get_running_loop().time() + 0.2
        while asyncio.get_running_loop().time() < ends_s:
            pass
        assert await left(asked) == 6


async def test_a_stalled_connection_is_given_up(fake: FakeRedis) -> None:
    """Without any answer for long the connection is taken for dead, also when nobody waits any more."""
    async with connected(fake, timeout_ms=50, stall_ms=200) as rates:
        assert (await refusal(ask(rates))).spent

        async def is_replaced() -> bool:
            return fake.connections == 2 and rates.measures.connected

        await eventually(is_replaced, within_s=10)
        await again(rates, fake)


async def test_the_line_has_an_end(fake: FakeRedis) -> None:
    """However slow Redis is, only so many stand in line; others are refused at once, and have spent nothing."""
    async with connected(fake, timeout_ms=PATIENT_MS) as rates:
        waiting = [ask(rates) for _ in range(WAITING_MAX)]
        await asyncio.sleep(0)
        error = await refusal(ask(rates))
        assert not error.spent
        assert rates.measures.refused == 1
        for one in waiting:
            one.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def test_without_a_connection_nobody_waits(fake: FakeRedis) -> None:
    """A store may start before its Redis: questions are refused at once, unspent, until there is one."""
    await fake.close()
    rates = RedisRates(RedisAddress.parse(fake.url), timeout_ms=PATIENT_MS)
    await rates.start()
    assert not rates.measures.connected
    error = await refusal(ask(rates))
    assert not error.spent
    assert "127.0.0.1" in str(error)
    with pytest.raises(LimiterAwayError):
        await rates.reset(["any"])
    await fake.open()
    await again(rates, fake)
    await rates.close()
    assert not (await refusal(ask(rates))).spent


@pytest.mark.parametrize(
    ("error", "spent", "connections"),
    (
        ("READONLY You can't write against a read only replica.", False, 2),
        ("MASTERDOWN Link with MASTER is down", False, 2),
        ("LOADING Redis is loading the dataset in memory", False, 1),
        ("OOM command not allowed when used memory > 'maxmemory'.", False, 1),
        ("MISCONF Errors writing to the AOF file", False, 1),
        ("BUSY Redis is busy running a script.", False, 1),
        ("ERR something in the script went wrong", True, 1),
        ("WRONGTYPE Operation against a key holding the wrong kind of value", True, 1),
    ),
)
async def test_errors_say_whether_anything_was_done(
    fake: FakeRedis, error: str, connections: int, *, spent: bool
) -> None:
    """An error is one caller's alone. A server that may not be written to is left for a new connection."""
    async with connected(fake) as rates:
        asked, other = ask(rates), ask(rates)
        await fake.until_asked(2)
        fake.send(f"-{error}\r\n".encode() + answer(4))
        assert (await refusal(asked)).spent == spent
        assert await left(other) == 4
        await again(rates, fake)
        assert fake.connections == connections
        assert len(fake.asked) == 3


async def test_a_missing_script_is_brought_once(fake: FakeRedis) -> None:
    """NOSCRIPT says that nothing was done, so those calls, and no others, are asked again behind the script."""
    async with connected(fake) as rates:
        all_asked = [ask(rates, cost=number) for number in (1, 2, 3)]
        await fake.until_asked(3)
        fake.send(b"-NOSCRIPT No matching script.\r\n" + answer(8) + b"-NOSCRIPT No matching script.\r\n")
        await fake.until_asked(5)
        assert fake.loaded == 2
        assert [int(words[-2]) for words in fake.asked] == [1, 2, 3, 1, 3]
        fake.send(answer(7) + b"-NOSCRIPT No matching script.\r\n")
        assert [await left(one) for one in all_asked[:2]] == [7, 8]
        assert not (await refusal(all_asked[2])).spent
        assert len(fake.asked) == 5


async def test_a_second_question_keeps_the_deadline(fake: FakeRedis) -> None:
    """A call whose script was missing has no more time than any other."""
    async with connected(fake, timeout_ms=200) as rates:
        asked = ask(rates)
        await fake.until_asked(1)
        fake.send(b"-NOSCRIPT No matching script.\r\n")
        assert (await refusal(asked)).spent
        assert rates.measures.timeouts == 1
        await fake.until_asked(2)
        fake.send(answer(3))
        await again(rates, fake)


async def test_what_refuses_us_is_told_without_the_password(fake: FakeRedis) -> None:
    """A Redis that does not let us in counts as away, and the reason names no password."""
    fake.greeting = b"-NOAUTH Authentication required.\r\n"
    rates = RedisRates(RedisAddress.parse(fake.url.replace("//", "//:hush-hush@")))
    await rates.start()
    error = await refusal(ask(rates))
    assert "NOAUTH" in str(error)
    assert "hush" not in str(error)
    await rates.close()
