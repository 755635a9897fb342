"""P4 against a real Redis: eight processes hammer one limit, and by its clock no interval is ever over."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis as clients

from keystead.kernel.limit import Limit, On, SlidingWindow, TokenBucket
from tests.hammer import Orders
from tests.oracles import bucket_excess, window_excess
from tests.services import DurableRedis, PrivateRedis

pytestmark = pytest.mark.alone

ROOT = Path(__file__).parents[2]
PROCESSES = 8
LOSSES = 4
SECONDS = (pytest.param(4.0), pytest.param(20.0, marks=pytest.mark.soak))
BUCKET = TokenBucket(1_000, 1_000, 500)
WINDOW = SlidingWindow(500, 1_000)
KINDS = (pytest.param(BUCKET, id="bucket"), pytest.param(WINDOW, id="window"))
_END_S = 60.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What all processes together were told: admissions in order of the limiter's time, and when it was asked."""

    admitted: list[tuple[int, int]]
    denied: int
    away: int
    lasted_us: int

    @property
    def spent(self) -> int:
        """The sum of what was admitted."""
        return sum(cost for _, cost in self.admitted)

    def excess(self, kind: TokenBucket | SlidingWindow) -> float:
        """Return by how much the worst of all intervals is over; at most 0 when none is."""
        if isinstance(kind, TokenBucket):
            return float(bucket_excess(kind, self.admitted))
        return window_excess(kind, self.admitted)


def burst_of(kind: TokenBucket | SlidingWindow) -> int:
    """Return what one loss may cost."""
    return kind.burst if isinstance(kind, TokenBucket) else kind.limit


def hammered(url: str, kind: TokenBucket | SlidingWindow, seconds: float, meanwhile: Callable[[], None]) -> Outcome:
    """Have eight processes hammer one limit, all at once, and do ``meanwhile`` beside them."""
    limit = Limit("hammered", On.KEY, kind)
    orders = [Orders.about(limit, url=url, seconds=seconds, seed=seed) for seed in range(PROCESSES)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.hammer", one.to_json()],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for one in orders
    ]
    try:
        for process in processes:
            while "ready" not in (line := said_by(process)):
                assert line, "a process ended before it began"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        meanwhile()
        told = [process.communicate(timeout=seconds + _END_S)[0].splitlines()[-1] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return _together(told)


def said_by(process: subprocess.Popen[str]) -> str:
    """Read the next line of what a process prints."""
    assert process.stdout is not None
    return process.stdout.readline()


def _together(told: list[str]) -> Outcome:
    accounts = [json.loads(one) for one in told]
    return Outcome(
        admitted=sorted((at_us, cost) for one in accounts for at_us, cost in one["admitted"]),
        denied=sum(one["denied"] for one in accounts),
        away=sum(one["away"] for one in accounts),
        lasted_us=max(one["last_us"] for one in accounts) - min(one["first_us"] for one in accounts),
    )


def in_between(seconds: float, act: Callable[[], object]) -> Callable[[], None]:
    """Return what acts a few times, evenly over ``seconds``."""

    def acts() -> None:
        pause = threading.Event()
        for _ in range(LOSSES):
            pause.wait(seconds / (LOSSES + 1))
            act()

    return acts


@pytest.mark.parametrize("seconds", SECONDS)
@pytest.mark.parametrize(("kind", "share"), ((BUCKET, 0.99), (WINDOW, 0.94)), ids=("bucket", "window"))
def test_never_over_and_hardly_under(
    own_redis: PrivateRedis, kind: TokenBucket | SlidingWindow, share: float, seconds: float
) -> None:
    """No interval at all holds more than the limit says, and those who hammer get nearly all of it."""
    outcome = hammered(own_redis.url(), kind, seconds, lambda: None)
    assert outcome.away == 0
    assert outcome.denied > len(outcome.admitted) / 10
    assert outcome.excess(kind) <= 0
    if isinstance(kind, TokenBucket):
        allowed = kind.burst + kind.rate * outcome.lasted_us / (kind.per_ms * 1_000)
    else:
        allowed = kind.limit * outcome.lasted_us / (kind.window_ms * 1_000)
    assert outcome.spent >= share * allowed


@pytest.mark.parametrize("seconds", SECONDS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_redis_that_keeps_what_it_answers_loses_nothing(
    kind: TokenBucket | SlidingWindow, seconds: float
) -> None:
    """With ``appendfsync always``, killed again and again, no interval is over: what was answered had been kept."""
    server = DurableRedis()

    def kill() -> None:
        server.kill()
        server.restart()

    try:
        outcome = hammered(server.url(), kind, seconds, in_between(seconds, kill))
    finally:
        server.remove()
    assert outcome.away > 0
    assert outcome.admitted
    assert outcome.excess(kind) <= 0


@pytest.mark.parametrize("seconds", SECONDS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_flush_costs_one_burst(own_redis: PrivateRedis, kind: TokenBucket | SlidingWindow, seconds: float) -> None:
    """A Redis that was emptied may admit one burst or one window once more for each time, and never more."""
    client = clients.Redis.from_url(own_redis.url())
    outcome = hammered(own_redis.url(), kind, seconds, in_between(seconds, client.flushall))
    assert 0 < outcome.excess(kind) <= LOSSES * burst_of(kind)
