"""The question how long answers took, as SQL: the sketches of hours, added up bucket by bucket.

Days of a time zone are mostly 24 hours long, so runs of such days are one piece of arithmetic, and only the few days in
which clocks change are named one by one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise
from typing import Any

from sqlalchemy import ColumnElement, Select, case, func, literal, select

from keystead.adapters.spans import Part
from keystead.adapters.sql import usage_schema
from keystead.adapters.sql.usage_queries import Question
from keystead.usage.model import INTERVAL_MS, Dimension, Interval, LatencyPoint

_LATENCIES = usage_schema.latencies
_DAY_MS = INTERVAL_MS[Interval.DAY]
_COLUMN_OF = {
    Dimension.KEY: _LATENCIES.c.key_id,
    Dimension.SECRET: _LATENCIES.c.secret_id,
    Dimension.OWNER: _LATENCIES.c.owner_id,
    Dimension.OPERATION: _LATENCIES.c.operation,
    Dimension.CODE: _LATENCIES.c.code,
    Dimension.ENVIRONMENT: _LATENCIES.c.environment,
}


class LatencyQuestion(Question):
    """What is asked of one workspace's latencies. Labels are none of their dimensions, and filter nothing."""

    def sketches(
        self, interval: Interval, *, by: Dimension | None, limit: int, days: Sequence[int] = ()
    ) -> Select[Any]:
        """Ask for begin, group, bucket and count, in order."""
        begins = _begins(interval, days)
        group: ColumnElement[Any] = literal("") if by is None else _COLUMN_OF[by]
        keys = [begins] if by is None else [begins, group]
        keys.append(_LATENCIES.c.bucket)
        statement = self._inside(select(begins, group, keys[-1], func.sum(_LATENCIES.c.calls)), _LATENCIES)
        hours = Part(Interval.HOUR, max(self.wanted.from_ms, *days[:1], 0), self.wanted.to_ms)
        return statement.where(self._during(hours, _LATENCIES)).group_by(*keys).order_by(*keys).limit(limit)


def _begins(interval: Interval, days: Sequence[int]) -> ColumnElement[int]:
    """Write when the interval begins that an hour is in."""
    hour = _LATENCIES.c.begins_at_ms
    if interval is not Interval.DAY:
        return hour
    if not days:
        return hour - hour % _DAY_MS
    cases = [*_cases(hour, days)]
    return case(*cases, else_=literal(days[-1])) if cases else literal(days[-1])


def _cases(hour: ColumnElement[int], days: Sequence[int]) -> Iterator[tuple[ColumnElement[bool], ColumnElement[int]]]:
    """Yield, for each run of days of 24 hours and each other day but the last, before when it is and what it begins."""
    for is_whole, run in groupby(pairwise(days), key=lambda day: day[1] - day[0] == _DAY_MS):
        members = [*run]
        if is_whole:
            yield hour < members[-1][1], hour - (hour - members[0][0]) % _DAY_MS
        else:
            yield from [(hour < end_ms, literal(begin_ms)) for begin_ms, end_ms in members]


def latency_points_of(rows: Sequence[Any]) -> list[LatencyPoint]:
    """Make points of rows that say begin, group, bucket and count; a code is its number, as text."""
    return [
        LatencyPoint(begins_at_ms, str(group), {row[2]: int(row[3]) for row in buckets})
        for (begins_at_ms, group), buckets in groupby(rows, key=lambda row: (row[0], row[1]))
    ]
