"""One of several processes that hammer one shared limit: ``python -m tests.hammer '<JSON of Orders>'``.

It prints a line when it is connected, begins when it is told to, asks in random bursts, and prints what was admitted
by the limiter's own clock, which the script tells with its answer.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import asdict, dataclass, field
from random import Random
from typing import Any

import hiredis
import uvloop

from keystead.adapters.redis.address import RedisAddress
from keystead.adapters.redis.connection import RedisConnection, command
from keystead.adapters.redis.pipeline import UnexpectedReplyError
from keystead.adapters.redis.rates import SCRIPT, Prepared
from keystead.kernel.limit import Limit, limit_of, limit_record
from keystead.limits.compiling import Subject, compiled
from keystead.limits.errors import LimiterAwayError
from keystead.limits.model import Decision
from tests.rate_scripts import telling

SUBJECT = Subject("wsp_1", "live", "acme", "key_1")
BURST_MAX = 40
COST_MAX = 3
PAUSE_MAX_S = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What to hammer, for how long, and how patiently to wait for an answer."""

    url: str
    limit: dict[str, Any]
    seconds: float
    seed: int
    timeout_ms: int = 2_000

    @classmethod
    def about(cls, limit: Limit, **others: Any) -> Orders:
        """Write them about a limit."""
        return cls(limit=limit_record(limit), **others)

    def to_json(self) -> str:
        """Write them for a command line."""
        return json.dumps(asdict(self))


@dataclass(slots=True)
class Account:
    """``admitted`` is ``(at_us, cost)``; ``first_us`` and ``last_us`` are when anything at all was answered."""

    admitted: list[tuple[int, int]] = field(default_factory=list)
    denied: int = 0
    away: int = 0
    first_us: int = 0
    last_us: int = 0


class Hammer:
    """Asks as fast as bursts and pauses let it."""

    def __init__(self, orders: Orders) -> None:
        """Prepare."""
        self.orders = orders
        self.account = Account()
        self._random = Random(orders.seed)
        self._metered = compiled((limit_of(orders.limit),), SUBJECT)
        self._prepared = Prepared(self._metered.rates)
        self._connection = RedisConnection(
            RedisAddress.parse(orders.url), first=[command("SCRIPT", "LOAD", SCRIPT)], timeout_ms=orders.timeout_ms
        )

    async def run(self) -> None:
        """Connect, wait for the word, and hammer."""
        await self._connection.start()
        _say("ready")
        await asyncio.to_thread(sys.stdin.readline)
        ends_s = time.monotonic() + self.orders.seconds
        while time.monotonic() < ends_s:
            await asyncio.gather(*[self._ask(self._random.randint(1, COST_MAX)) for _ in range(self._burst())])
            await asyncio.sleep(self._random.uniform(0, PAUSE_MAX_S))
        await self._connection.close()

    def _burst(self) -> int:
        return self._random.randint(1, BURST_MAX)

    async def _ask(self, cost: int) -> None:
        try:
            at_us, admitted = await self._connection.ask(telling(self._metered, cost=cost), self._read)
        except LimiterAwayError:
            self.account.away += 1
            return
        self.account.first_us = self.account.first_us or at_us
        self.account.last_us = at_us
        if admitted:
            self.account.admitted.append((at_us, cost))
        else:
            self.account.denied += 1

    def _read(self, reply: Any) -> tuple[int, bool]:
        """Read a reply as the store does, but for the time at its end; an error admits nothing."""
        if isinstance(reply, hiredis.ReplyError):
            return 0, False
        if not isinstance(reply, list):
            raise UnexpectedReplyError("no list")
        decision = self._prepared.read(reply[:-1])
        assert isinstance(decision, Decision)
        return reply[-1], decision.admitted


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    """Do as ordered."""
    hammer = Hammer(Orders(**json.loads(sys.argv[1])))
    uvloop.run(hammer.run())
    _say(json.dumps(asdict(hammer.account)))


if __name__ == "__main__":
    main()
