"""Usage at its real size: ten million calls, how fast they are counted, and how fast a question about them is answered.

Numbers are printed; what is demanded is what the documentation states.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from random import Random

import pytest

from keystead.adapters.sql.database import Database
from keystead.adapters.sql.engines import POSTGRESQL
from keystead.adapters.sql.usage import SqlUsage
from keystead.kernel.ids import SequentialIds
from keystead.usage.model import Call, Interval, Stretch, Subject, UsageFilter
from tests.contract.usage_stores import DAY, OURS, T0

CALLS = 10_000_000
STRETCH_CALLS = 5_000
DAYS = 30
KEYS = 1_000
COUNTED_PER_SECOND_MIN = {POSTGRESQL: 20_000, "sqlite": 20_000}
SERIES_MS_MAX = {POSTGRESQL: 200, "sqlite": 50}


def stretches(random: Random) -> Iterator[Stretch]:
    """Make calls in the order of time, as a busy node flushes them: in bursts of a minute, over all the days.

    A few keys make most of them.
    """
    ids = SequentialIds("ver")
    subjects = [
        Subject("wsp_ours", "live", f"key_{number:04}", f"sec_{number:04}", f"customer-{number % 100}")
        for number in range(KEYS)
    ]
    weights = [1 / (number + 1) for number in range(KEYS)]
    burst_ms = DAYS * DAY * STRETCH_CALLS // CALLS
    for begin in range(0, CALLS, STRETCH_CALLS):
        chosen = random.choices(subjects, weights, k=STRETCH_CALLS)
        calls = []
        for number, subject in enumerate(chosen, start=begin):
            at_ms = T0 + begin // STRETCH_CALLS * burst_ms + (number - begin) * 10
            said = (f"op{number % 5}", "192.0.2.1", "read:invoices")
            calls.append(Call(ids.next(at_ms), at_ms, subject, 1 if number % 20 else 9, 1, *said))
        yield Stretch("jrn_volume", begin, begin + STRETCH_CALLS, tuple(calls), calls[-1].at_ms)


@pytest.mark.soak
async def test_ten_million_calls(
    database: Database, record_property: Callable[[str, object], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """Counting keeps up with more than a node answers, and a month of one key by the hour is read at once."""
    kind, usage = database.kind, SqlUsage(database)
    seconds = 0.0
    for stretch in stretches(Random(5)):
        began_s = time.perf_counter()
        assert await usage.count(stretch)
        seconds += time.perf_counter() - began_s
    wanted = UsageFilter(T0, T0 + DAYS * DAY, key_id="key_0000")
    took_ms, points = [], []
    for _ in range(5):
        began_s = time.perf_counter()
        points = await usage.series(OURS, wanted, interval=Interval.HOUR, by=None, limit=1_000)
        took_ms.append((time.perf_counter() - began_s) * 1_000)
    series_ms = statistics.median(took_ms)
    record_property("counted_per_second", CALLS / seconds)
    record_property("series_ms", series_ms)
    with capsys.disabled():
        sys.stdout.write(f"\n{kind}: {CALLS / seconds:,.0f} calls/s; a month of one key in {series_ms:.1f} ms\n")
    assert len(points) == DAYS * 24
    assert CALLS / seconds >= COUNTED_PER_SECOND_MIN[kind]
    assert series_ms <= SERIES_MS_MAX[kind]
