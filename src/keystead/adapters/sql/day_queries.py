"""Sums by the days of a time zone, as SQL.

Days are given as runs of one length (``usage.calendar``): inside a run the day of an interval is plain arithmetic, so
each run is one range of a table, grouped as any other series is, and a year of days is about three of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, CompoundSelect, Select, Table, func, literal, select, union_all

from keystead.adapters.spans import Part
from keystead.adapters.sql import usage_schema
from keystead.adapters.sql.usage_queries import COLUMN_OF, SUMS, Question
from keystead.usage.calendar import Run, runs
from keystead.usage.model import Dimension, Interval

_DAY, _GROUP = "day", "of"


class DayQuestion(Question):
    """What is asked of one workspace's usage by the days of a time zone."""

    def by_days(
        self, interval: Interval, *, by: Dimension | None, limit: int, days: Sequence[int]
    ) -> CompoundSelect[Any]:
        """Ask for the day's beginning, group and sums, in order; each ``interval`` belongs to where it begins."""
        table = self.table(interval, by)
        if table is usage_schema.usage_tags:
            interval = Interval.HOUR
        pieces = [self._run(run, interval, table, by) for run in runs(days, self.wanted.to_ms)]
        return union_all(*pieces).order_by(_DAY, _GROUP).limit(limit)

    def _run(self, run: Run, interval: Interval, table: Table, by: Dimension | None) -> Select[Any]:
        begins = table.c.begins_at_ms
        day = (begins - (begins - run.begin_ms) % run.width_ms).label(_DAY)
        group: ColumnElement[Any] = literal("").label(_GROUP) if by is None else table.c[COLUMN_OF[by]].label(_GROUP)
        statement = self._inside(select(day, group, *[func.sum(table.c[name]).label(name) for name in SUMS]), table)
        statement = statement.where(self._during(Part(interval, run.begin_ms, run.end_ms), table))
        return statement.group_by(_DAY) if by is None else statement.group_by(_DAY, _GROUP)
