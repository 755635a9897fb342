"""A process that counts in ClickHouse's engine, and dies in the way it is told to.

It counts stretches, pages of attempts, and outcomes that wait in a database beside it. ``python -m
tests.clickhouse_counter DIRECTORY SEED WAY`` goes on where the one before ended. Ways: ``between`` dies after an insert
and before it is noted that it was done, ``partly`` after an insert that reached some tables alone, a number after so
many seconds wherever it is, and ``never`` not at all; then it prints what is counted, as JSON.
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

from keystead.adapters.clickhouse.attempts import ClickHouseAttempts
from keystead.adapters.clickhouse.connection import ClickHouse, Lane, Target
from keystead.adapters.clickhouse.outcomes import LEASE_MS, ClickHouseOutcomes
from keystead.adapters.clickhouse.schema import ATTEMPT_SUM_TARGETS, CALLS_TARGET, ENDING_SUM_TARGETS, SUM_TARGETS, make
from keystead.adapters.clickhouse.usage import ClickHouseUsage
from keystead.adapters.sql.database import Database
from keystead.adapters.sql.migration import migrate
from keystead.kernel.ids import new_id
from keystead.kernel.walls import BOTH_ENVIRONMENTS, TenantScope
from keystead.usage.model import Attempt, AttemptPage, Call, Outcome, Stretch, Subject

JOURNAL = "jrn_1"
STRETCHES = 24
CALLS = 300
PAGES = 24
ATTEMPTS = 20
OUTCOMES = 20
"""How many of each stretch's calls it is reported for how they ended, half of them as errors."""

TAGS = ("eu", "beta")
_T0 = 1_700_006_400_000
_DAY_MS = 86_400_000


_OURS = TenantScope("wsp_ours", BOTH_ENVIRONMENTS)
# What comes in, and the bits of all the tables it is for.
_ENTRIES = {
    "arrivals": CALLS_TARGET + sum(SUM_TARGETS.values()),
    "attempt_arrivals": sum(ATTEMPT_SUM_TARGETS.values()),
    "ending_arrivals": CALLS_TARGET + sum(ENDING_SUM_TARGETS.values()),
}


class DyingLane(Lane):
    """A lane whose process ends at one of its inserts."""

    def __init__(self, target: Target, way: str, random: Random) -> None:
        """Die at the insert that ``random`` chooses."""
        super().__init__(target)
        self._way = way
        entry = random.choice(sorted(_ENTRIES))
        self._entry = entry
        self._left = random.randrange(1, 5)
        self._subset = random.randrange(1, _ENTRIES[entry])

    def insert(
        self, table: str, columns: Mapping[str, Sequence[Any]], types: Mapping[str, str], *, token: str = ""
    ) -> None:
        """Insert, or not, or in part."""
        self._left -= table == self._entry
        dies = self._left == 0 and table == self._entry
        if dies and self._way == "partly":
            columns = {**columns, "targets": [it & self._subset for it in columns["targets"]]}
        super().insert(table, columns, types, token=token)
        if dies:
            os.kill(os.getpid(), signal.SIGKILL)


def stretch(number: int) -> Stretch:
    """Make a stretch, the same in every process; some reach over midnight."""
    begin, random = number * CALLS, Random(number)
    subject = Subject("wsp_ours", "live", "key_a", "sec_a", "customer-1")
    calls = []
    for place in range(begin, begin + CALLS):
        mine = replace(subject, key_id=f"key_{random.randrange(5)}")
        at_ms = _T0 + _DAY_MS * (number // 20) - 150 + place - begin
        identifier = new_id("ver", now_ms=at_ms, random_bits=Random(place).getrandbits)
        calls.append(Call(identifier, at_ms, mine, 1, 2, "read", "192.0.2.1", "read:a", TAGS))
    return Stretch(JOURNAL, begin, begin + CALLS, tuple(calls), None)


def page(number: int) -> AttemptPage:
    """Make a page of attempts, the same in every process."""
    minute_ms = _T0 + number // 10 * _DAY_MS
    addresses = [f"192.0.2.{place}" for place in range(ATTEMPTS)]
    attempts = [
        Attempt("wsp_ours", "live", minute_ms, "", "", 3, address, 2, minute_ms, minute_ms + 1) for address in addresses
    ]
    return AttemptPage(JOURNAL, number, tuple(attempts))


class Counting:
    """Counts what is not counted yet, in turns. Its clock stands still, so that it waits for no lease."""

    def __init__(self, clickhouse: ClickHouse, database: Database, *, now_ms: int) -> None:
        """Count in ``clickhouse``."""
        self._usage = ClickHouseUsage(clickhouse)
        self._attempts = ClickHouseAttempts(clickhouse)
        self._outcomes = ClickHouseOutcomes(clickhouse, database)
        self._now_ms = now_ms

    async def run(self) -> None:
        """Count to the end."""
        more = True
        while more:
            more = await self._count_stretch()
            more = await self._count_page() or more
            more = (await self._outcomes.join(at_most=100, now_ms=self._now_ms)).settled > 0 or more

    async def _count_stretch(self) -> bool:
        """Keep what is reported of a stretch first, so that nothing is lost when the process dies between the two."""
        place = await self._usage.counted_to(JOURNAL)
        if place >= STRETCHES * CALLS:
            return False
        made = stretch(place // CALLS)
        told = [
            Outcome(it.verification_id, 500 if number % 2 else 200, 1_000)
            for number, it in enumerate(made.calls[:OUTCOMES])
        ]
        await self._outcomes.keep(_OURS, told, at_ms=self._now_ms)
        if not await self._usage.count(made):
            message = "a stretch that begins where the journal ends was refused"
            raise AssertionError(message)
        return True

    async def _count_page(self) -> bool:
        number = await self._attempts.attempts_counted_to(JOURNAL)
        if number >= PAGES:
            return False
        if not await self._attempts.count_attempts(page(number + 1)):
            message = "a page that comes next was refused"
            raise AssertionError(message)
        return True


def told(lane: Lane) -> dict[str, int]:
    """Return how many calls each table has, attempts aside, and how many attempts and outcomes."""
    everything = "WHERE workspace_id = 'wsp_ours'"
    ours = f"{everything} AND key_id != ''"
    tables = {name: f"SELECT sum(calls) FROM @{name} {ours}" for name in SUM_TARGETS}  # noqa: S608 -- constants
    tables |= {
        "cost": f"SELECT sum(cost) FROM @usage_days {ours}",  # noqa: S608 -- constants
        "attempts": f"SELECT sum(count) FROM @attempts {everything}",  # noqa: S608 -- constants
        "endings": f"SELECT count() FROM @call_endings {everything}",  # noqa: S608 -- constants
        "ended": f"SELECT uniqExact(verification_id) FROM @call_endings {everything}",  # noqa: S608 -- constants
        "latencies": f"SELECT sum(calls) FROM @latencies {ours}",  # noqa: S608 -- constants
        "calls": f"SELECT count() FROM @calls {ours}",  # noqa: S608 -- constants
        "ids": f"SELECT uniqExact(verification_id) FROM @calls {ours}",  # noqa: S608 -- constants
    }
    for name in SUM_TARGETS:
        tables[f"outcomes of {name}"] = f"SELECT sum(outcomes) FROM @{name} {ours}"  # noqa: S608 -- constants
        tables[f"errors of {name}"] = f"SELECT sum(errors) FROM @{name} {ours}"  # noqa: S608 -- constants
        tables[f"attempts of {name}"] = f"SELECT sum(calls) FROM @{name} {everything} AND key_id = ''"  # noqa: S608 -- constants
    return {name: int(lane.rows(statement)[0][0]) for name, statement in tables.items()}


def runs_before(folder: str) -> int:
    """Return how many processes came before this one, and note that it did."""
    with Path(folder, "runs").open("a+b") as file:
        file.write(b".")
        return file.tell()


async def main(folder: str, seed: str, way: str, *, now_ms: int) -> None:
    """Open, count and tell."""
    target = Target.parse("chdb:", Path(folder))
    clickhouse = ClickHouse(target)
    await clickhouse.writer.run(lambda lane: make(lane, target, None))
    url = f"sqlite:///{folder}/waiting.db"
    await migrate(url)
    database = Database.connect(url)
    if way in {"between", "partly"}:
        clickhouse.writer = DyingLane(target, way, Random(int(seed)))
    elif way != "never":
        signal.setitimer(signal.ITIMER_REAL, float(way))  # its signal ends the process at once, like SIGKILL
    await Counting(clickhouse, database, now_ms=now_ms).run()
    signal.setitimer(signal.ITIMER_REAL, 0)
    print(json.dumps(await clickhouse.writer.run(told)))  # noqa: T201 -- its answer
    await clickhouse.close()
    await database.close()


if __name__ == "__main__":
    # Each process is later than the one before by more than a lease.
    asyncio.run(main(*sys.argv[1:], now_ms=_T0 + 2 * LEASE_MS * runs_before(sys.argv[1])))
