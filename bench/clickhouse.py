"""How many calls a second ClickHouse's engine counts: ``python -m bench.clickhouse [CALLS_PER_STRETCH]``.

Stretches are made beforehand, as a busy node's would be: 1,000 keys, 5 operations, a label on every tenth call, 50,000
calls a second. What is timed is the store's own work, to the last table and to the disk, with the journal's place.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path
from random import Random

from keystead.adapters.clickhouse.connection import ClickHouse, Target
from keystead.adapters.clickhouse.schema import make
from keystead.adapters.clickhouse.usage import ClickHouseUsage
from keystead.usage.model import Call, Stretch, Subject

CALLS = 1_000_000
CALLS_PER_STRETCH = 50_000
_KEYS = 1_000
_CALLS_PER_MS = 50
_T0 = 1_700_006_400_000


def stretches(size: int) -> list[Stretch]:
    """Make all that will be counted."""
    random = Random(1)
    subjects = [
        Subject("wsp_bench", "live", f"key_01hf7yat00{it:016d}", f"sec_01hf7yat00{it:016d}", f"customer-{it % 300}")
        for it in range(_KEYS)
    ]
    operations = [f"GET /v1/things/{it}" for it in range(5)]
    addresses = [f"192.0.2.{it}" for it in range(250)]
    made = []
    for begin in range(0, CALLS, size):
        calls = tuple(
            Call(
                f"ver_01hf7yat00{it:016d}",
                _T0 + it // _CALLS_PER_MS,
                random.choice(subjects),
                1 if it % 20 else 11,
                1,
                random.choice(operations),
                random.choice(addresses),
                "read:things",
                () if it % 10 else ("eu",),
            )
            for it in range(begin, begin + size)
        )
        made.append(Stretch("jrn_bench", begin, begin + size, calls, None))
    return made


async def measure(size: int) -> float:
    """Return calls counted per second."""
    made = stretches(size)
    with tempfile.TemporaryDirectory() as folder:
        target = Target.parse("chdb:", Path(folder))
        clickhouse = ClickHouse(target)
        await clickhouse.writer.run(lambda lane: make(lane, target, None))
        usage = ClickHouseUsage(clickhouse)
        await usage.count(made[0])
        began_s = time.perf_counter()
        for stretch in made[1:]:
            await usage.count(stretch)
        took_s = time.perf_counter() - began_s
        await clickhouse.close()
    return (CALLS - size) / took_s


if __name__ == "__main__":
    per_stretch = int(sys.argv[1]) if len(sys.argv) > 1 else CALLS_PER_STRETCH
    rate = asyncio.run(measure(per_stretch))
    print(f"{rate:,.0f} calls/s counted, {per_stretch:,} to a stretch")
