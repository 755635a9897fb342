"""A process that counts stretches in ClickHouse's engine, and dies in the way it is told to.

``python -m tests.clickhouse_counter DIRECTORY SEED WAY`` goes on where the journal ends. Ways: ``between`` dies after
an insert and before the journal's place is written, ``partly`` after an insert that reached some tables alone, a number
after so many seconds wherever it is, and ``never`` not at all; then it prints what is counted, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from keystead.adapters.clickhouse.connection import ClickHouse, Lane, Target
from keystead.adapters.clickhouse.schema import CALLS_TARGET, SUM_TARGETS, make
from keystead.adapters.clickhouse.usage import ClickHouseUsage
from keystead.usage.model import Call, Stretch, Subject

JOURNAL = "jrn_1"
STRETCHES = 40
CALLS = 300
TAGS = ("eu", "beta")
_T0 = 1_700_006_400_000
_DAY_MS = 86_400_000


class DyingLane(Lane):
    """A lane whose process ends at one of its inserts."""

    def __init__(self, target: Target, way: str, random: Random) -> None:
        """Die at the insert that ``random`` chooses."""
        super().__init__(target)
        self._way = way
        self._left = random.randrange(1, 6)
        self._subset = random.randrange(1, CALLS_TARGET + sum(SUM_TARGETS.values()))

    def insert(
        self, table: str, columns: Mapping[str, Sequence[Any]], types: Mapping[str, str], *, token: str = ""
    ) -> None:
        """Insert, or not, or in part."""
        self._left -= table == "arrivals"
        if self._left == 0 and table == "journals" and self._way == "between":
            os.kill(os.getpid(), signal.SIGKILL)
        if self._left == 0 and table == "arrivals" and self._way == "partly":
            columns = {**columns, "targets": [it & self._subset for it in columns["targets"]]}
            super().insert(table, columns, types, token=token)
            os.kill(os.getpid(), signal.SIGKILL)
        super().insert(table, columns, types, token=token)


def stretch(number: int) -> Stretch:
    """Make a stretch, the same in every process; some reach over midnight."""
    begin, random = number * CALLS, Random(number)
    subject = Subject("wsp_ours", "live", "key_a", "sec_a", "customer-1")
    calls = []
    for place in range(begin, begin + CALLS):
        mine = replace(subject, key_id=f"key_{random.randrange(5)}")
        at_ms = _T0 + _DAY_MS * (number // 20) - 150 + place - begin
        calls.append(Call(f"ver_{place:08d}", at_ms, mine, 1, 2, "read", "192.0.2.1", "read:a", TAGS))
    return Stretch(JOURNAL, begin, begin + CALLS, tuple(calls), None)


async def count(clickhouse: ClickHouse) -> None:
    """Count what is not counted yet."""
    usage = ClickHouseUsage(clickhouse)
    while (place := await usage.counted_to(JOURNAL)) < STRETCHES * CALLS:
        if not await usage.count(stretch(place // CALLS)):
            message = "a stretch that begins where the journal ends was refused"
            raise AssertionError(message)


def told(lane: Lane) -> dict[str, int]:
    """Return how many calls each table has."""
    ours = "WHERE workspace_id = 'wsp_ours'"
    tables = {name: f"SELECT sum(calls) FROM @{name} {ours}" for name in SUM_TARGETS}  # noqa: S608 -- constants
    tables |= {
        "cost": f"SELECT sum(cost) FROM @usage_days {ours}",  # noqa: S608 -- constants
        "calls": f"SELECT count() FROM @calls {ours}",  # noqa: S608 -- constants
        "ids": f"SELECT uniqExact(verification_id) FROM @calls {ours}",  # noqa: S608 -- constants
    }
    return {name: int(lane.rows(statement)[0][0]) for name, statement in tables.items()}


async def main(folder: str, seed: str, way: str) -> None:
    """Open, count and tell."""
    target = Target.parse("chdb:", Path(folder))
    clickhouse = ClickHouse(target)
    await clickhouse.writer.run(lambda lane: make(lane, target, None))
    if way in {"between", "partly"}:
        clickhouse.writer = DyingLane(target, way, Random(int(seed)))
    elif way != "never":
        signal.setitimer(signal.ITIMER_REAL, float(way))  # its signal ends the process at once, like SIGKILL
    await count(clickhouse)
    signal.setitimer(signal.ITIMER_REAL, 0)
    print(json.dumps(await clickhouse.writer.run(told)))  # noqa: T201 -- its answer
    await clickhouse.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
