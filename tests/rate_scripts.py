"""The script of the shared limiter as tests run it: on a real Redis, at a time that they choose."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import redis

from keystead.adapters.redis.connection import command
from keystead.adapters.redis.rates import KEY_PREFIX, SCRIPT, SCRIPT_ID, Prepared, written
from keystead.limits.model import Decision, Metered


def words_of(metered: Metered, *, cost: int, peek: bool) -> list[str | bytes]:
    """Return the command that a store sends, to which a test may add one more word."""
    counters = [KEY_PREFIX + rate.counter for rate in metered.rates]
    numbers = [written(rate) for rate in metered.rates]
    return ["EVALSHA", SCRIPT_ID, str(len(counters)), *counters, *numbers, str(cost), str(int(peek))]


class ScriptedRates:
    """Decides by the script, with ``now_us`` as a parameter."""

    def __init__(self, url: str) -> None:
        """Empty the database at ``url`` and load the script."""
        self.client: redis.Redis = redis.Redis.from_url(url)
        self.client.flushdb()
        self.client.script_load(SCRIPT)

    def decide(self, metered: Metered, *, cost: int, peek: bool, now_us: int) -> Decision:
        """Decide one call."""
        (decision,) = self.decide_all([(metered, cost, peek, now_us)])
        return decision

    def decide_all(self, calls: Iterable[tuple[Metered, int, bool, int]]) -> list[Decision]:
        """Decide many calls, one after the other, in one round trip."""
        pipeline = self.client.pipeline(transaction=False)
        prepared = []
        for metered, cost, peek, now_us in calls:
            words = [*words_of(metered, cost=cost, peek=peek), str(now_us)]
            pipeline.execute_command(*words)  # type: ignore[no-untyped-call]  # the client's own types end here
            prepared.append(Prepared(metered.rates))
        return [_decision(one, reply) for one, reply in zip(prepared, pipeline.execute(), strict=True)]


def _decision(prepared: Prepared, reply: Any) -> Decision:
    decision = prepared.read(reply)
    assert isinstance(decision, Decision), decision
    return decision


def telling(metered: Metered, *, cost: int) -> bytes:
    """Write a call that has the script tell the time it decided at, as the last number of its reply."""
    return command(*words_of(metered, cost=cost, peek=False), "tell")
