"""What a stretch leaves in the tables: its calls as rows, and their sums by minute, hour and day.

Calls of one journal share their subjects, so what is summed up is named by those objects while it is summed, and
spelled out once per sum in the end: a call costs a look into one dictionary.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from keystead.adapters.texts import SCOPES_CHARACTERS_MAX, TAGS_CHARACTERS_MAX, countable
from keystead.usage.model import INTERVAL_MS, VALID_NUMBER, Call, Interval, Subject

CELL = ("workspace_id", "begins_at_ms", "key_id", "environment", "secret_id", "owner_id", "operation", "code")
"""The columns that name a sum, in the order of their primary key."""

CALL_COLUMNS = (
    "workspace_id",
    "environment",
    "at_ms",
    "verification_id",
    "key_id",
    "secret_id",
    "owner_id",
    "operation",
    "code",
    "cost",
    "client_ip",
    "scope_expression",
    "tags",
)

_MINUTE_MS = INTERVAL_MS[Interval.MINUTE]
_HOUR_MS = INTERVAL_MS[Interval.HOUR]

Row = tuple[str | int | None, ...]
Cell = tuple[str, int, str, str, str, str, str, int]
Sums = tuple[int, int]


def raw_row(call: Call) -> Row:
    """Return a call in the order of ``CALL_COLUMNS``."""
    subject = call.subject
    return (
        subject.workspace_id,
        subject.environment,
        call.at_ms,
        call.verification_id,
        subject.key_id,
        subject.secret_id,
        subject.owner_id,
        countable(call.operation),
        call.code,
        call.cost,
        countable(call.client_ip),
        countable(call.scope_expression, SCOPES_CHARACTERS_MAX),
        countable("\n".join(call.tags), TAGS_CHARACTERS_MAX) if call.tags else "",
    )


class Tally:
    """The sums of calls: by minute while they come, by hour and day in the end."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._subjects: dict[int, Subject] = {}
        self._minutes: dict[tuple[int, int, str, int], list[int]] = {}
        self._tags: dict[tuple[int, int, str, int, str], list[int]] = {}
        self._expressions: dict[tuple[int, str], int] = {}

    def add(self, calls: Iterable[Call]) -> None:
        """Sum ``calls`` too."""
        minutes, expressions = self._minutes, self._expressions
        for call in calls:
            subject = call.subject
            name = id(subject)
            place = (name, call.at_ms // _MINUTE_MS, call.operation, call.code)
            sums = minutes.get(place)
            if sums is None:
                self._subjects[name] = subject
                minutes[place] = [1, call.cost]
            else:
                sums[0] += 1
                sums[1] += call.cost
            if call.tags:
                self._add_tags(name, call)
            if call.code == VALID_NUMBER:
                expressions[name, call.scope_expression] = call.at_ms

    def _add_tags(self, name: int, call: Call) -> None:
        for tag in call.tags:
            sums = self._tags.setdefault((name, call.at_ms // _HOUR_MS, call.operation, call.code, tag), [0, 0])
            sums[0] += 1
            sums[1] += call.cost

    def rows(self) -> Iterator[tuple[Interval, list[Row]]]:
        """Yield the rows of each interval: the cell, calls and cost, always in the same order."""
        sums: dict[Cell, Sums] = {}
        for (name, minute, operation, code), (calls, cost) in self._minutes.items():
            _add(sums, _cell(self._subjects[name], minute * _MINUTE_MS, operation, code), calls, cost)
        for interval in Interval:
            sums = _wider(sums, INTERVAL_MS[interval])
            yield interval, [(*cell, *sums[cell], 0, 0) for cell in sorted(sums)]

    def tag_rows(self) -> list[Row]:
        """Return the rows of labels, by hour, in order."""
        sums: dict[tuple[str, int, str, str, str, str, str, str, int], Sums] = {}
        for (name, hour, operation, code, tag), (calls, cost) in self._tags.items():
            cell = _cell(self._subjects[name], hour * _HOUR_MS, operation, code)
            labelled = (*cell[:2], countable(tag), *cell[2:])
            before = sums.get(labelled, (0, 0))
            sums[labelled] = (before[0] + calls, before[1] + cost)
        return [(*cell, *sums[cell], 0, 0) for cell in sorted(sums)]

    def expression_rows(self) -> list[tuple[str, str, str, int]]:
        """Return workspace, key, expression and the hour of its last valid call, in order."""
        latest: dict[tuple[str, str, str], int] = {}
        for (name, expression), at_ms in self._expressions.items():
            subject = self._subjects[name]
            place = (subject.workspace_id, subject.key_id, countable(expression, SCOPES_CHARACTERS_MAX))
            latest[place] = max(latest.get(place, 0), at_ms - at_ms % _HOUR_MS)
        return [(*place, latest[place]) for place in sorted(latest)]


class ExpressionMemory:
    """Which expressions of which keys are noted for an hour already: a busy key is written once an hour, not a second.

    It holds at most ``ENTRIES_MAX`` and begins anew when it is full.
    """

    ENTRIES_MAX = 200_000

    def __init__(self) -> None:
        """Remember nothing yet."""
        self._noted: dict[tuple[str, str, str], int] = {}

    def news(self, rows: Iterable[tuple[str, str, str, int]]) -> list[tuple[str, str, str, int]]:
        """Return the rows of which nothing as late is noted."""
        return [row for row in rows if self._noted.get(row[:3], -1) < row[3]]

    def learn(self, rows: Iterable[tuple[str, str, str, int]]) -> None:
        """Remember rows that were committed."""
        if len(self._noted) >= self.ENTRIES_MAX:
            self._noted.clear()
        for row in rows:
            self._noted[row[:3]] = row[3]


def _cell(subject: Subject, begins_at_ms: int, operation: str, code: int) -> Cell:
    return (
        subject.workspace_id,
        begins_at_ms,
        subject.key_id,
        subject.environment,
        subject.secret_id,
        subject.owner_id,
        countable(operation),
        code,
    )


def _add(sums: dict[Cell, Sums], cell: Cell, calls: int, cost: int) -> None:
    calls_before, cost_before = sums.get(cell, (0, 0))
    sums[cell] = (calls_before + calls, cost_before + cost)


def _wider(sums: dict[Cell, Sums], interval_ms: int) -> dict[Cell, Sums]:
    wide: dict[Cell, Sums] = {}
    for cell, (calls, cost) in sums.items():
        _add(wide, (cell[0], cell[1] - cell[1] % interval_ms, *cell[2:]), calls, cost)
    return wide
