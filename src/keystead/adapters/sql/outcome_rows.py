"""What outcomes that were joined to their calls leave in the sums: counts by interval and label, and sketches.

The call's own row names the sums that it is in, as the flush named them when it was counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from keystead.adapters.sql.usage_rows import Cell, Row
from keystead.adapters.texts import countable
from keystead.usage.latency import bucket_of
from keystead.usage.model import ERROR_STATUS, INTERVAL_MS, Interval
from keystead.usage.records import split_tags

_Labelled = tuple[str, int, str, str, str, str, str, str, int]


class OutcomeTally:
    """The sums of outcomes, each added once."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._sums: dict[Interval, dict[Cell, list[int]]] = {interval: {} for interval in Interval}
        self._tags: dict[_Labelled, list[int]] = {}
        self._latencies: Counter[tuple[Cell, int]] = Counter()

    def add(self, call: Any, *, http_status: int, latency_us: int | None) -> None:
        """Add how ``call``, a row with the columns of raw calls, ended."""
        error = http_status >= ERROR_STATUS
        for interval, sums in self._sums.items():
            _count(sums, _cell(call, interval), error=error)
        hour = _cell(call, Interval.HOUR)
        for tag in split_tags(call.tags):
            _count(self._tags, (*hour[:2], countable(tag), *hour[2:]), error=error)
        if latency_us is not None:
            self._latencies[hour, bucket_of(latency_us)] += 1

    def rows(self) -> Iterator[tuple[Interval, list[Row]]]:
        """Yield the rows of each interval in the order in which calls are counted: no calls, no cost, the outcomes."""
        for interval, sums in self._sums.items():
            yield interval, [(*cell, 0, 0, *sums[cell]) for cell in sorted(sums)]

    def tag_rows(self) -> list[Row]:
        """Return the rows of labels, by hour, in order."""
        return [(*cell, 0, 0, *self._tags[cell]) for cell in sorted(self._tags)]

    def latency_rows(self) -> list[Row]:
        """Return the rows of sketches, by hour, in order: the cell, the bucket and its count."""
        return [(*cell, bucket, self._latencies[cell, bucket]) for cell, bucket in sorted(self._latencies)]


def _count(sums: dict[Any, list[int]], cell: Any, *, error: bool) -> None:
    counts = sums.setdefault(cell, [0, 0])
    counts[0] += 1
    counts[1] += error


def _cell(call: Any, interval: Interval) -> Cell:
    return (
        call.workspace_id,
        call.at_ms - call.at_ms % INTERVAL_MS[interval],
        call.key_id,
        call.environment,
        call.secret_id,
        call.owner_id,
        call.operation,
        call.code,
    )
